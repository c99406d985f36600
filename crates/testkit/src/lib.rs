#![expect(clippy::expect_used, reason = "a test that cannot be set up must fail loudly")]
//! For tests only: a database of its own for each test, and a clock that tests turn.

mod clock;
mod databases;

pub use clock::FakeClock;
pub use databases::{TestDatabase, databases, sqlite};
