//! Holds whose calls never end are released.

use kernel::Timestamp;
use store::{Database, Value};

use crate::{Command, HoldId, Journal, JournalError, Operation, Outcome};

/// Holds looked at in one go.
const PORTION: i64 = 500;

/// Why holds could not be released.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The database could not be read.
    #[error("open holds cannot be read")]
    Store(#[from] store::Error),
    /// The journal could not write.
    #[error("holds cannot be released")]
    Journal(#[from] JournalError),
}

/// Releases the holds whose leases have ended by `now`; returns how many.
pub async fn sweep(
    journal: &Journal,
    database: &Database,
    now: Timestamp,
) -> Result<u64, SweepError> {
    release(journal, database, Some(now)).await
}

/// Releases every open hold: for the start of the only process that writes to this database, when
/// whoever took them is gone. Returns how many.
pub async fn recover(journal: &Journal, database: &Database) -> Result<u64, SweepError> {
    release(journal, database, None).await
}

async fn release(
    journal: &Journal,
    database: &Database,
    due: Option<Timestamp>,
) -> Result<u64, SweepError> {
    let before = due.map_or(i64::MAX, Timestamp::micros);
    let sql = "SELECT DISTINCT hold_seq FROM ledger_holds \
               WHERE state = 0 AND lease_until <= ? AND hold_seq > ? ORDER BY hold_seq LIMIT ?";
    let (mut released, mut last) = (0, 0);
    loop {
        let rows = database.query(sql, &[before.into(), last.into(), Value::from(PORTION)]).await?;
        if rows.is_empty() {
            return Ok(released);
        }
        for row in &rows {
            last = row.int(0)?;
            let expire = Command::Expire { hold: HoldId(last), orphaned: due.is_none() };
            let receipt = journal.submit(Operation::new(format!("expire:{last}"), expire)).await?;
            released +=
                u64::from(matches!(receipt.outcome, Outcome::Applied(_)) && !receipt.replayed);
        }
    }
}
