//! The metered call: quote, admit, settle, record.
//!
//! Invariants:
//! - no call runs without a durable hold, and no call costs anything without a pinned price version;
//! - every admitted call ends in one operation, which carries its usage record;
//! - what ends a call never fails for lack of room: it waits, and repeats itself under the same id
//!   until it is on disk;
//! - a hold whose call is alive is renewed; one whose process is gone runs out.
//!
//! Tables: `metering_usage`, its sums `metering_hours`, `metering_days` and `metering_totals`,
//! `metering_attempts`, `metering_steps`, `metering_places`, `metering_limits`, `metering_zones`; of the price book
//! `metering_price_versions`, `metering_price_activations`, `metering_price_terms`,
//! `metering_price_state`, `metering_counts` and `metering_charges`.

mod admit;
mod attempts;
mod config;
mod error;
mod explain;
mod export;
mod leases;
mod limits;
mod metrics;
mod prices;
mod rollups;
mod search;
mod service;
mod settle;
mod simulate;
mod statement;
mod store;
mod summary;
mod trace;
mod turns;
mod usage;

pub use admit::{Admission, Call, RunStep, Surface};
pub use attempts::{Attempt, AttemptRecord, OperatorRecord, Purchase};
pub use config::Config;
pub use error::{Error, PriceBookError};
pub use explain::Explanation;
pub use leases::Sweeper;
pub use limits::{
    Limit, LimitMeasure, LimitScope, LimitSpan, LimitState, LimitView, Pace, Reached,
};
pub use prices::{Activation, Basis, PriceBook, Terms, VersionRecord, VersionState};
pub use rollups::{ROLLUPS, verify_rollups};
pub use search::{UsageFilter, UsageQuery};
pub use service::Metering;
pub use settle::{Bill, Charged, Route, Usage, UsageSource};
pub use simulate::{Simulated, SimulatedRow, Simulation};
pub use statement::{Format, StatementQuery};
pub use store::prices::CHARGES;
pub use store::{ATTEMPTS, MIGRATIONS, PLACES, STEPS, USAGE};
pub use summary::{By, Summary, SummaryQuery, SummaryRow};
pub use usage::{UsageRecord, UsageStatus};

/// What a metering operation gives.
pub type Result<T> = std::result::Result<T, Error>;
