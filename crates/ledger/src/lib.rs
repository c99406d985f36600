//! Money: accounts, double entries, two-phase holds, and the journal they are written by.
//!
//! Invariants:
//! - `posted - held` of an account never falls below the floor of its kind;
//! - entries are immutable; the sum over all accounts of an asset is always zero;
//! - an operation's id is applied at most once, for ever, and a repeat gives the first outcome;
//! - a hold resolves once;
//! - lots are spent in their order; a counter never passes its limit;
//! - a receipt means: on disk, but for a hold that is told to be decided only;
//! - every operation's hash continues the one before, so that a change is found and located.
//!
//! Tables: `ledger_head`, `ledger_accounts`, `ledger_operations`, `ledger_transfers`,
//! `ledger_holds`, `ledger_reversals`, `ledger_lots`, `ledger_burns`, `ledger_counters`, `ledger_claims`.

mod backend;
mod canon;
mod config;
mod counters;
mod draft;
mod error;
mod jobs;
mod journal;
mod lots;
mod machine;
mod metrics;
mod migrations;
mod model;
mod read;
mod replica;
mod rows;
mod state;
mod statement;
mod sums;
mod verify;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod trials;

pub use config::Config;
pub use counters::{Claim, Claimed, Measure, Window};
pub use error::JournalError;
pub use jobs::{SweepError, expire_lots, purge_counters, recover, sweep};
pub use journal::{Decided, HoldRef, Journal};
pub use lots::{BASE_PRIORITY, Lot, LotId, LotKind, LotTerms};
pub use migrations::MIGRATIONS;
pub use model::{
    AccountKey, AccountKind, Applied, Attachment, Balance, Cell, Charge, Command, HoldId, HoldLeg,
    Leg, Operation, Outcome, Receipt, Refusal, Table, Unit,
};
pub use read::{
    FoundHold, Holding, StoredOperation, balance, counter, find_hold, find_operation, head,
    hold_is_open, holdings, holdings_of, lots, moved,
};
pub use replica::measure_replica;
pub use statement::{Entry, Period, STATEMENT_PAGE, entries, period};
pub use sums::{Key, Sum, Sums, verify_sums};
pub use verify::{Finding, Report, verify};
