//! Holds whose calls never end are released, lots expire, old counters go.

use kernel::Timestamp;
use store::{Database, Statement, Value};

use crate::{Command, HoldId, Journal, JournalError, LotId, Operation, Outcome};

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

/// Counters are kept for so long after their window, for whoever asks what happened.
const COUNTERS_KEPT: i64 = 24 * 3_600_000_000;

/// Moves what is left of lots that have ended by `now` to breakage, as far as no hold needs it;
/// returns how many lots it took from.
pub async fn expire_lots(
    journal: &Journal,
    database: &Database,
    now: Timestamp,
) -> Result<u64, SweepError> {
    let sql = "SELECT l.op_seq, l.leg, l.remaining FROM ledger_lots l \
               JOIN ledger_accounts a ON a.id = l.account_id \
               WHERE l.remaining > 0 AND l.expires_at IS NOT NULL AND l.expires_at <= ? \
               AND a.posted > a.held ORDER BY l.expires_at LIMIT ?";
    let rows = database.query(sql, &[now.micros().into(), PORTION.into()]).await?;
    let mut expired = 0;
    for row in rows {
        let (lot, left) = (LotId { seq: row.int(0)?, leg: row.int(1)? }, row.int(2)?);
        // A lot may go in several steps; each leaves less than the one before.
        let id = format!("lot:{}:{}:{left}", lot.seq, lot.leg);
        let receipt = journal.submit(Operation::new(id, Command::ExpireLot { lot })).await?;
        expired += u64::from(matches!(receipt.outcome, Outcome::Applied(_)) && !receipt.replayed);
    }
    Ok(expired)
}

/// Deletes counters whose window ended more than a day ago; returns how many.
pub async fn purge_counters(database: &Database, now: Timestamp) -> Result<u64, SweepError> {
    let before = now.micros().saturating_sub(COUNTERS_KEPT);
    let sql = "DELETE FROM ledger_counters WHERE ends_at < ? AND held = 0";
    Ok(database.execute(Statement::new(sql, vec![before.into()])).await?)
}
