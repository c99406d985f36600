//! The metered call: quote, admit, settle, record.
//!
//! Invariants:
//! - no call runs without a durable hold, and no call costs anything without a pinned price version;
//! - every admitted call ends in one operation, which carries its usage record;
//! - what ends a call never fails for lack of room: it waits, and repeats itself under the same id
//!   until it is on disk;
//! - a hold whose call is alive is renewed; one whose process is gone runs out.
//!
//! Tables: `metering_prices`, `metering_usage`.

mod admit;
mod config;
mod error;
mod leases;
mod prices;
mod service;
mod settle;
mod store;
mod usage;

pub use admit::{Admission, Call, Surface};
pub use config::Config;
pub use error::Error;
pub use leases::Sweeper;
pub use prices::PriceBook;
pub use service::Metering;
pub use settle::{Bill, Charged, Route, Usage, UsageSource};
pub use store::{MIGRATIONS, USAGE};
pub use usage::{UsageFilter, UsageRecord, UsageStatus};

/// What a metering operation gives.
pub type Result<T> = std::result::Result<T, Error>;
