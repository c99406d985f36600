//! What happened on an account in a period: its opening balance, its movements, its closing balance.

use kernel::{Amount, Timestamp};
use store::{Database, Result, Row};

use crate::{AccountKey, AccountKind};

/// A movement on an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The operation it belongs to.
    pub seq: i64,
    /// Its position there.
    pub leg: i64,
    /// When.
    pub at: Timestamp,
    /// The operation's id.
    pub operation: String,
    /// A few words about it.
    pub memo: Option<String>,
    /// Above zero reached the account, below left it.
    pub amount: Amount,
    /// What kind of account is on the other side.
    pub other: String,
}

/// A period of an account, both ends fixed: read again, it is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The last operation before it.
    pub after_seq: i64,
    /// Its last operation.
    pub to_seq: i64,
    /// The balance before it.
    pub opening: Amount,
    /// The balance after it.
    pub closing: Amount,
}

/// Entries read at once.
pub const STATEMENT_PAGE: usize = 1_000;

/// The operations of a time span, and what an account had posted before and after them.
///
/// A span that has ended is fixed for ever; one that has not reaches to the last operation so far.
pub async fn period(
    database: &Database,
    account: &AccountKey,
    from: Timestamp,
    to: Timestamp,
) -> Result<Period> {
    let after_seq = last_before(database, from).await?;
    let to_seq = last_before(database, to).await?;
    let opening = posted_until(database, account, after_seq).await?;
    let closing = posted_until(database, account, to_seq).await?;
    Ok(Period { after_seq, to_seq, opening, closing })
}

/// The last operation before an instant. The ledger's time never goes back, so halving finds it
/// without an index.
async fn last_before(database: &Database, instant: Timestamp) -> Result<i64> {
    let (mut below, mut above) = (0, crate::head(database).await? + 1);
    while above - below > 1 {
        let middle = below + (above - below) / 2;
        let sql = "SELECT at FROM ledger_operations WHERE seq = ?";
        let row = database.query_one(sql, &[middle.into()]).await?;
        if row.map_or(Ok(i64::MAX), |row| row.int(0))? < instant.micros() {
            below = middle;
        } else {
            above = middle;
        }
    }
    Ok(below)
}

/// What an account had posted right after an operation.
async fn posted_until(database: &Database, account: &AccountKey, seq: i64) -> Result<Amount> {
    let sum = |side: &str| {
        format!(
            "SELECT CAST(COALESCE(SUM(t.amount), 0) AS SIGNED) FROM ledger_accounts a \
             JOIN ledger_transfers t ON t.{side}_account = a.id \
             WHERE a.owner = ? AND a.kind = ? AND a.asset = ? AND t.op_seq <= ?"
        )
    };
    let args = [
        account.owner.as_ref().into(),
        account.kind.as_str().into(),
        account.asset.as_str().into(),
        seq.into(),
    ];
    let credit = database.query_one(&sum("credit"), &args).await?;
    let debit = database.query_one(&sum("debit"), &args).await?;
    let nanos = |row: Option<Row>| row.map_or(Ok(0), |row| row.int(0));
    Ok(Amount::from_nanos(nanos(credit)?.saturating_sub(nanos(debit)?)))
}

/// Up to [`STATEMENT_PAGE`] entries of a period, in order, after this operation and leg.
pub async fn entries(
    database: &Database,
    account: &AccountKey,
    period: &Period,
    after: Option<(i64, i64)>,
) -> Result<Vec<Entry>> {
    let (seq, leg) = after.unwrap_or((period.after_seq, i64::MAX));
    let side = |mine: &str, other: &str, sign: &str| {
        format!(
            "SELECT t.op_seq AS seq, t.leg AS leg, o.at AS at, o.op_id AS op_id, o.memo AS memo, \
             {sign}t.amount AS amount, b.kind AS kind FROM ledger_accounts a \
             JOIN ledger_transfers t ON t.{mine}_account = a.id \
             JOIN ledger_operations o ON o.seq = t.op_seq \
             JOIN ledger_accounts b ON b.id = t.{other}_account \
             WHERE a.owner = ? AND a.kind = ? AND a.asset = ? AND t.op_seq >= ? \
             AND t.op_seq <= ? AND (t.op_seq > ? OR t.leg > ?)"
        )
    };
    let sql = format!(
        "{} UNION ALL {} ORDER BY seq, leg LIMIT {STATEMENT_PAGE}",
        side("debit", "credit", "-"),
        side("credit", "debit", "")
    );
    let one = [
        account.owner.as_ref().into(),
        account.kind.as_str().into(),
        account.asset.as_str().into(),
        seq.into(),
        period.to_seq.into(),
        seq.into(),
        leg.into(),
    ];
    let args = [one.clone(), one].concat();
    database.query(&sql, &args).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Entry> {
    Ok(Entry {
        seq: row.int(0)?,
        leg: row.int(1)?,
        at: Timestamp::from_micros(row.int(2)?),
        operation: row.text(3)?.to_owned(),
        memo: row.opt_text(4)?.map(str::to_owned),
        amount: Amount::from_nanos(row.int(5)?),
        other: row.text(6)?.to_owned(),
    })
}

impl Entry {
    /// What it was, in a word.
    pub fn what(&self) -> &'static str {
        let charged = self.amount.is_negative();
        match (AccountKind::parse(&self.other), charged) {
            (Some(AccountKind::Revenue), true) => "charge",
            (Some(AccountKind::Revenue), false) => "refund",
            (Some(AccountKind::Grant), false) => "grant",
            (Some(AccountKind::Grant), true) => "adjustment",
            (Some(AccountKind::External), false) => "top-up",
            (Some(AccountKind::External), true) => "payout",
            (Some(AccountKind::Breakage), _) => "expiry",
            (Some(AccountKind::Debt), _) => "debt repaid",
            _ => "transfer",
        }
    }
}
