//! `/admin`: what the operator does. Every route wants an administrator's key.
//!
//! No tables of its own.

mod error;
mod grant;
mod http;

pub use error::Error;
pub use grant::Granted;
pub use http::{Admin, document, router};
