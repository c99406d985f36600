//! Flows by the protocols that others speak: the LangGraph server's API, A2A, MCP.
//!
//! A published definition is an assistant, an agent's skill, a tool. What runs is always a run of
//! the engine: durable, metered, charged to the caller's organization; here it is only told in
//! another language.
//!
//! Invariants:
//! - what belongs to another organization is not there (404);
//! - a run is told from its log, so that a stream cut anywhere can be taken up where it was cut;
//! - of two runs that are started on one thread at once, one is refused;
//! - what a protocol can say and this server cannot do is refused by name, never ignored.
//!
//! Tables: `protocols_threads`, `protocols_runs`.

mod a2a;
mod encode;
mod error;
mod http;
mod mcp;
mod messages;
mod rpc;
mod runs;
mod service;
mod sse;
mod store;
mod threads;

pub use error::Error;
pub use http::{document, router};
pub use service::Protocols;
pub use store::MIGRATIONS;

/// What an operation of the protocols gives.
pub type Result<T> = std::result::Result<T, Error>;
