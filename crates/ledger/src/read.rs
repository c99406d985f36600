//! Reading the books.

use kernel::{Amount, Timestamp};
use store::{Database, Result, Value};

use crate::rows::APPLIED;
use crate::{AccountKey, AccountKind, Balance, HoldId};

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
    let sql = "SELECT a.asset, a.posted, a.held, h.seq FROM ledger_accounts a JOIN ledger_head h ON h.id = 1 \
               WHERE a.owner = ? AND a.kind = ? ORDER BY a.asset";
    let rows = database.query(sql, &[owner.into(), kind.as_str().into()]).await?;
    let read = |row: &store::Row| {
        let asset = row.text(0)?.parse().map_err(|_unreadable| store::Error::Shape {
            column: 0,
            wanted: "an asset",
            found: "text",
        })?;
        Ok(Holding {
            account: AccountKey::new(owner, kind, asset),
            balance: Balance {
                posted: Amount::from_nanos(row.int(1)?),
                held: Amount::from_nanos(row.int(2)?),
            },
            as_of_seq: row.int(3)?,
        })
    };
    rows.iter().map(read).collect()
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
