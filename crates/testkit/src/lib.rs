#![expect(clippy::expect_used, reason = "a test that cannot be set up must fail loudly")]
//! For tests only: a database of its own for each test, a Redis server that tests stall and kill, and
//! a clock that tests turn.

mod clock;
mod databases;
mod redis;

pub use clock::FakeClock;
pub use databases::{TestDatabase, databases, sqlite};
pub use redis::RedisServer;
