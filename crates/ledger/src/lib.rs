//! Money: accounts, double entries, two-phase holds, and the journal they are written by.
//!
//! Invariants:
//! - `posted - held` of an account never falls below the floor of its kind;
//! - entries are immutable; the sum over all accounts of an asset is always zero;
//! - an operation's id is applied at most once, for ever, and a repeat gives the first outcome;
//! - a hold resolves once;
//! - a receipt means: on disk;
//! - every operation's hash continues the one before, so that a change is found and located.
//!
//! Tables: `ledger_head`, `ledger_accounts`, `ledger_operations`, `ledger_transfers`,
//! `ledger_holds`, `ledger_reversals`.

mod backend;
mod canon;
mod config;
mod draft;
mod error;
mod jobs;
mod journal;
mod machine;
mod model;
mod read;
mod rows;
mod state;
mod verify;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod trials;

pub use config::Config;
pub use error::JournalError;
pub use jobs::{SweepError, recover, sweep};
pub use journal::Journal;
pub use model::{
    AccountKey, AccountKind, Applied, Attachment, Balance, Cell, Charge, Command, HoldId, HoldLeg,
    Leg, Operation, Outcome, Receipt, Refusal, Table, Unit,
};
pub use read::{Holding, StoredOperation, balance, find_operation, hold_is_open, holdings};
pub use verify::{Finding, Report, verify};

/// The tables of this crate.
pub const MIGRATIONS: &[store::Migration] = &[store::Migration {
    name: "0002_ledger",
    sqlite: include_str!("../migrations/sqlite/0002_ledger.sql"),
    mysql: include_str!("../migrations/mysql/0002_ledger.sql"),
}];
