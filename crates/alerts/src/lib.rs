//! Low-balance alerts: thresholds of wallets, and signed webhooks that tell of them.
//!
//! Invariants:
//! - an alert is told once for each fall of a wallet to its amount, and again only after the wallet has
//!   been above it;
//! - that a wallet has fallen and what is told of it are in one transaction, whichever instance sees it;
//! - what is told is sent at least once, under an id that stays the same, or marked as failed;
//! - the journal waits for nothing here: wallets are looked at after they have changed.
//!
//! Tables: `alerts_thresholds`, `alerts_deliveries`.

mod alert;
mod config;
mod deliver;
mod delivery;
mod error;
mod metrics;
mod service;
mod signature;
mod store;
mod watch;

pub use alert::{Alert, AlertChange, CreatedAlert, NewAlert};
pub use config::Config;
pub use delivery::{Delivery, DeliveryFilter, DeliveryState};
pub use error::Error;
pub use service::Alerts;
pub use signature::{SigningKey, secret_text};
pub use store::MIGRATIONS;
pub use watch::Watcher;

/// What an operation of this crate gives.
pub type Result<T> = std::result::Result<T, Error>;
