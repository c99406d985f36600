//! Reading the books.

use kernel::{Amount, Asset, Timestamp};
use store::{Database, Result, Row, Value};

use crate::backend::lot_kind;
use crate::counters::resets_at;
use crate::lots::order;
use crate::rows::{APPLIED, HoldState};
use crate::{AccountKey, AccountKind, Balance, HoldId, Lot, LotId, LotTerms, Window};

/// An account and where the books stood when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Whose, what for, in which asset.
    pub account: AccountKey,
    /// What is on it.
    pub balance: Balance,
    /// The last operation that the balance includes.
    pub as_of_seq: i64,
}

/// An operation as it stands in the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOperation {
    /// Its position.
    pub seq: i64,
    /// It was applied, not refused.
    pub applied: bool,
    /// A few words for whoever reads the books.
    pub memo: Option<String>,
    /// What was moved, held, added or charged.
    pub amount: Amount,
    /// When it was committed.
    pub at: Timestamp,
}

/// An account's balance and the sequence it includes; zero if the account has not begun.
pub async fn balance(database: &Database, account: &AccountKey) -> Result<(Balance, i64)> {
    let sql = "SELECT h.seq, a.posted, a.held FROM ledger_head h LEFT JOIN ledger_accounts a \
               ON a.owner = ? AND a.kind = ? AND a.asset = ? WHERE h.id = 1";
    let args = [
        account.owner.as_ref().into(),
        account.kind.as_str().into(),
        account.asset.as_str().into(),
    ];
    let Some(row) = database.query_one(sql, &args).await? else {
        return Ok((Balance::default(), 0));
    };
    let amount = |column| row.opt_int(column).map(|nanos| Amount::from_nanos(nanos.unwrap_or(0)));
    Ok((Balance { posted: amount(1)?, held: amount(2)? }, row.int(0)?))
}

/// The accounts of one kind that an owner has, by asset.
pub async fn holdings(database: &Database, owner: &str, kind: AccountKind) -> Result<Vec<Holding>> {
    let sql = "SELECT a.owner, a.asset, a.posted, a.held, h.seq FROM ledger_accounts a \
               JOIN ledger_head h ON h.id = 1 WHERE a.owner = ? AND a.kind = ? ORDER BY a.asset";
    let rows = database.query(sql, &[owner.into(), kind.as_str().into()]).await?;
    rows.iter().map(|row| read_holding(row, kind)).collect()
}

/// The position of the last operation.
pub async fn head(database: &Database) -> Result<i64> {
    let row = database.query_one("SELECT seq FROM ledger_head WHERE id = 1", &[]).await?;
    row.map_or(Ok(0), |row| row.int(0))
}

/// The accounts of one kind that operations after this one have moved money on, as they are now.
pub async fn moved(database: &Database, kind: AccountKind, after_seq: i64) -> Result<Vec<Holding>> {
    let sql = "SELECT a.owner, a.asset, a.posted, a.held, h.seq FROM ledger_head h \
               JOIN (SELECT debit_account AS id FROM ledger_transfers WHERE op_seq > ? \
                     UNION SELECT credit_account FROM ledger_transfers WHERE op_seq > ?) m \
               JOIN ledger_accounts a ON a.id = m.id WHERE h.id = 1 AND a.kind = ?";
    let args = [after_seq.into(), after_seq.into(), kind.as_str().into()];
    let rows = database.query(sql, &args).await?;
    rows.iter().map(|row| read_holding(row, kind)).collect()
}

/// Accounts asked for at once.
const AT_ONCE: usize = 100;

/// What is on the accounts of one kind that these owners have in these assets; those that have not
/// begun are left out.
pub async fn holdings_of(
    database: &Database,
    kind: AccountKind,
    accounts: &[(&str, Asset)],
) -> Result<Vec<Holding>> {
    let mut found = Vec::new();
    for some in accounts.chunks(AT_ONCE) {
        let any = vec!["(a.owner = ? AND a.kind = ? AND a.asset = ?)"; some.len()].join(" OR ");
        let sql = format!(
            "SELECT a.owner, a.asset, a.posted, a.held, h.seq FROM ledger_accounts a \
             JOIN ledger_head h ON h.id = 1 WHERE {any}"
        );
        let args: Vec<Value> = some
            .iter()
            .flat_map(|(owner, asset)| {
                [(*owner).into(), kind.as_str().into(), asset.as_str().into()]
            })
            .collect();
        let rows = database.query(&sql, &args).await?;
        found.extend(rows.iter().map(|row| read_holding(row, kind)).collect::<Result<Vec<_>>>()?);
    }
    Ok(found)
}

/// An account of its owner, asset, both figures, and the head.
fn read_holding(row: &Row, kind: AccountKind) -> Result<Holding> {
    let asset = asset(row.text(1)?)?;
    let amount = |column| row.int(column).map(Amount::from_nanos);
    Ok(Holding {
        account: AccountKey::new(row.text(0)?, kind, asset),
        balance: Balance { posted: amount(2)?, held: amount(3)? },
        as_of_seq: row.int(4)?,
    })
}

/// The lots of a wallet that have something left, in the order in which they are spent.
pub async fn lots(database: &Database, account: &AccountKey) -> Result<Vec<Lot>> {
    let sql = "SELECT l.op_seq, l.leg, l.account_id, l.kind, l.priority, l.expires_at, l.granted, l.remaining \
               FROM ledger_lots l JOIN ledger_accounts a ON a.id = l.account_id \
               WHERE a.owner = ? AND a.kind = ? AND a.asset = ? AND l.remaining > 0";
    let args = [
        account.owner.as_ref().into(),
        account.kind.as_str().into(),
        account.asset.as_str().into(),
    ];
    let rows = database.query(sql, &args).await?;
    let mut lots = rows.iter().map(read_lot).collect::<Result<Vec<_>>>()?;
    lots.sort_unstable_by_key(order);
    Ok(lots)
}

/// A lot of the eight columns of its table.
pub(crate) fn read_lot(row: &Row) -> Result<Lot> {
    Ok(Lot {
        id: LotId { seq: row.int(0)?, leg: row.int(1)? },
        account: row.int(2)?,
        terms: LotTerms {
            kind: lot_kind(row.text(3)?)?,
            priority: i32::try_from(row.int(4)?).unwrap_or(i32::MAX),
            expires_at: row.opt_int(5)?.map(Timestamp::from_micros),
        },
        granted: Amount::from_nanos(row.int(6)?),
        remaining: Amount::from_nanos(row.int(7)?),
    })
}

/// What a counter shows in the window that holds this instant, open holds included, and when that
/// window ends.
pub async fn counter(
    database: &Database,
    counter: &str,
    window: Window,
    now: Timestamp,
) -> Result<(i64, Option<Timestamp>)> {
    let (start, end) = window.at(now.micros());
    let sql = "SELECT used + held FROM ledger_counters WHERE counter = ? AND starts_at = ?";
    let row = database.query_one(sql, &[counter.into(), start.into()]).await?;
    let used = row.map_or(Ok(0), |row| row.int(0))?;
    Ok((used, resets_at(end)))
}

/// The operation of this id, if it was ever applied or refused.
pub async fn find_operation(database: &Database, op_id: &str) -> Result<Option<StoredOperation>> {
    let sql = "SELECT seq, outcome, memo, amount, at FROM ledger_operations WHERE op_id = ?";
    let Some(row) = database.query_one(sql, &[op_id.into()]).await? else {
        return Ok(None);
    };
    Ok(Some(StoredOperation {
        seq: row.int(0)?,
        applied: row.int(1)? == APPLIED,
        memo: row.opt_text(2)?.map(str::to_owned),
        amount: Amount::from_nanos(row.int(3)?),
        at: Timestamp::from_micros(row.int(4)?),
    }))
}

/// Whether a hold still stands.
pub async fn hold_is_open(database: &Database, hold: HoldId) -> Result<bool> {
    let sql = "SELECT 1 FROM ledger_holds WHERE hold_seq = ? AND state = 0 LIMIT 1";
    Ok(database.query_one(sql, &[Value::from(hold.0)]).await?.is_some())
}

/// A hold as it stands in the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundHold {
    /// The operation that took it.
    pub seq: i64,
    /// Whose money.
    pub account: AccountKey,
    /// How much is set aside now.
    pub amount: Amount,
    /// It stands.
    pub open: bool,
    /// What the operation said.
    pub memo: Option<String>,
    /// When it was taken.
    pub at: Timestamp,
}

/// The part of the hold that the operation of this id took, on an account of this kind.
pub async fn find_hold(
    database: &Database,
    op_id: &str,
    kind: AccountKind,
) -> Result<Option<FoundHold>> {
    let sql = "SELECT o.seq, a.owner, a.asset, h.amount, h.state, o.memo, o.at FROM ledger_operations o \
               JOIN ledger_holds h ON h.hold_seq = o.seq JOIN ledger_accounts a ON a.id = h.account_id \
               WHERE o.op_id = ? AND a.kind = ? ORDER BY h.leg LIMIT 1";
    let Some(row) = database.query_one(sql, &[op_id.into(), kind.as_str().into()]).await? else {
        return Ok(None);
    };
    Ok(Some(FoundHold {
        seq: row.int(0)?,
        account: AccountKey::new(row.text(1)?, kind, asset(row.text(2)?)?),
        amount: Amount::from_nanos(row.int(3)?),
        open: HoldState::of(row.int(4)?) == HoldState::Open,
        memo: row.opt_text(5)?.map(str::to_owned),
        at: Timestamp::from_micros(row.int(6)?),
    }))
}

fn asset(text: &str) -> Result<Asset> {
    text.parse().map_err(|_unreadable| store::Error::Shape {
        column: 0,
        wanted: "an asset",
        found: "text",
    })
}
