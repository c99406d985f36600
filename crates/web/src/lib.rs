//! The HTTP kit that every surface shares: errors in a surface's dialect, extractors, one cheap
//! layer around every request, the server loop, health and API documentation.
//!
//! Invariants:
//! - every failure is an [`Error`] with a stable code; a 5xx never shows its cause;
//! - every answer carries `x-request-id`;
//! - a client's address is believed from its connection, and from a header only as far as trusted
//!   proxies wrote it ([`ClientIp`]);
//! - no private address is reached through a URL that others chose ([`Outside`]);
//! - a stopping server finishes what it has begun, up to a limit, and owns every connection's task.

mod client;
mod config;
mod cross_origin;
mod dialect;
pub mod docs;
mod download;
mod envelope;
mod error;
mod extract;
mod health;
mod lanes;
mod observe;
mod outside;
mod routes;
mod server;
mod traffic;

pub use client::{ClientIp, ForwardedHeader, Network, NetworkError};
pub use config::Config;
pub use cross_origin::{CrossOriginError, cross_origin};
pub use dialect::{Dialect, speak, unknown_paths};
pub use download::download;
pub use envelope::{Envelope, Rows};
pub use error::Error;
pub use extract::{Body, Json, Path, Query, from_json};
pub use health::{Check, health_router};
pub use lanes::Lanes;
pub use observe::{Billed, RequestId, UpstreamTime, observe};
pub use outside::{Outside, OutsideError, read_at_most};
pub use routes::{Handlers, Routes};
pub use server::{Stop, listen, serve};
pub use traffic::Traffic;
/// For [`routes!`].
#[doc(hidden)]
pub use utoipa_axum;

/// What a handler gives.
pub type Result<T> = std::result::Result<T, Error>;
