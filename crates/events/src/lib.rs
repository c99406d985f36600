//! Messages between the parts of a process, and, over Redis, between instances: small texts under
//! topics, told to whoever listens at that moment and kept nowhere.
//!
//! Invariants:
//! - a message is a hint that something has changed; what is true is in the database, and nobody
//!   decides about money or rights by a message;
//! - nothing is lost silently: a subscriber that has missed something, because it was slow or
//!   because Redis or the way to it failed, is told [`Event::Gap`] and reads again;
//! - whoever publishes never waits, and without Redis everything goes on within the process.

mod bridge;
mod bus;
mod frame;
mod queue;

pub use bridge::Bridge;
pub use bus::Bus;
pub use queue::{Event, Message, Subscription};
