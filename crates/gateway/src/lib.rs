//! `/v1`: the OpenAI-compatible surface. Every call is a metered call.
//!
//! Invariants:
//! - nothing is sent upstream before its hold is on disk;
//! - every admitted call is settled or released in a task that outlives its client;
//! - an answer's last frame, or a complete answer, is sent when its settlement is on disk.
//!
//! Tables: `gateway_answers`.

mod call;
mod error;
mod http;
mod relay;
mod replay;
mod service;
mod store;

pub use error::Error;
pub use http::{document, router};
pub use service::Gateway;
pub use store::MIGRATIONS;
