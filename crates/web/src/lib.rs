//! The HTTP kit that every surface shares: errors in a surface's dialect, extractors, one cheap
//! layer around every request, the server loop, health and API documentation.
//!
//! Invariants:
//! - every failure is an [`Error`] with a stable code; a 5xx never shows its cause;
//! - every answer carries `x-request-id`;
//! - a stopping server finishes what it has begun, up to a limit, and owns every connection's task.

mod config;
mod cross_origin;
mod dialect;
pub mod docs;
mod error;
mod extract;
mod health;
mod observe;
mod server;

pub use config::Config;
pub use cross_origin::{CrossOriginError, cross_origin};
pub use dialect::{Dialect, speak};
pub use error::Error;
pub use extract::{Body, Json, Path, Query};
pub use health::{Check, health_router};
pub use observe::{Billed, RequestId, observe};
pub use server::serve;

/// What a handler gives.
pub type Result<T> = std::result::Result<T, Error>;
