//! `/v1`: the OpenAI-compatible surface. Every call is a metered call.
//!
//! Invariants:
//! - nothing is sent upstream before its hold is on disk;
//! - every admitted call is settled or released in a task that outlives its client;
//! - an answer's last frame, or a complete answer, is sent when its settlement is on disk.
//!
//! Tables: `gateway_answers`.

mod ask;
mod cache;
mod call;
mod config;
mod error;
mod guard;
mod http;
mod relay;
mod replay;
mod service;
mod store;
mod trace;

pub use config::{CacheConfig, GuardAction, GuardConfig, GuardOn};
pub use error::Error;
pub use guard::{Guard, GuardError};
pub use http::{document, router};
pub use service::{Gateway, Options};
pub use store::MIGRATIONS;
