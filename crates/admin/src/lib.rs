//! `/admin`: what the operator does. Every route wants an administrator's key.
//!
//! Invariants:
//! - a change and its row in the audit log are in one transaction; no row is ever changed, and none
//!   holds a secret;
//! - a request repeated with its `Idempotency-Key` creates once, and is answered the same for a day.
//!
//! Tables: `admin_audit`, `admin_outcomes`.

mod audit;
mod error;
mod http;
mod movement;
mod store;
mod write;

pub use audit::AuditRecord;
pub use error::Error;
pub use http::{Admin, document, router};
pub use movement::Moved;
pub use store::MIGRATIONS;
