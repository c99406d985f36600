//! The journal's rows on a MySQL-compatible server: a few multi-row statements a batch.
//!
//! The head row is locked first, so instances take turns batch by batch and nothing else needs a
//! lock. Statements are sent as text, values as hexadecimal literals: prepared ones would differ
//! with every batch's size, and closing them costs a delayed acknowledgement (40 ms) each.

mod lots;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use kernel::Amount;
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, MySqlConnection, Row as _};
use store::{Error, MySql, Result, Value};
use tokio::runtime::Handle;

use super::{Backend, Work, account_key};
use crate::rows::{Account, Head, Hold, HoldLegRow, HoldState, OperationRow, TransferRow};
use crate::state::{Changes, Insert, Need, Original, State};
use crate::{AccountKey, AccountKind, Balance};

/// A deadlock or lost connection is answered by running the batch again, this often.
const ATTEMPTS: usize = 4;
/// A statement grows no longer than this; servers take 16 MiB and more by default.
const LONGEST_STATEMENT: usize = 4 * 1024 * 1024;

/// The journal's rows on a MySQL-compatible server.
#[derive(Debug)]
pub(crate) struct MySqlBackend {
    mysql: MySql,
    runtime: Handle,
}

impl MySqlBackend {
    pub(crate) const fn new(mysql: MySql, runtime: Handle) -> Self {
        Self { mysql, runtime }
    }

    async fn attempt(&self, state: &mut State, need: &Need, work: Work<'_>) -> Result<()> {
        let mut transaction = self.mysql.pool().begin().await?;
        sync_head(&mut transaction, state).await?;
        load(&mut transaction, state, need).await?;
        let changes = work(state);
        if changes.is_empty() {
            return Ok(transaction.rollback().await?);
        }
        write(&mut transaction, state, &changes).await?;
        Ok(transaction.commit().await?)
    }
}

impl Backend for MySqlBackend {
    fn is_local(&self) -> bool {
        false
    }

    fn is_free(&self) -> bool {
        // Other instances are not seen from here.
        false
    }

    fn read(&mut self, _: &mut State, _: &Need) -> Result<()> {
        // What is read outside of the batch's transaction, another instance may change before it.
        Err(Error::TaskLost)
    }

    fn batch(&mut self, state: &mut State, need: &Need, work: Work<'_>) -> Result<()> {
        let runtime = self.runtime.clone();
        runtime.block_on(async {
            let mut attempt = 1;
            loop {
                match self.attempt(state, need, work).await {
                    // Ids make a second run safe, also when the first was committed unheard.
                    Err(error)
                        if attempt < ATTEMPTS && (error.is_retryable() || is_lost(&error)) =>
                    {
                        state.restart(Head::default());
                        attempt += 1;
                    }
                    outcome => return outcome,
                }
            }
        })
    }
}

fn is_lost(error: &Error) -> bool {
    matches!(
        error,
        Error::MySql(sqlx::Error::Io(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed)
    )
}

async fn sync_head(connection: &mut MySqlConnection, state: &mut State) -> Result<()> {
    let sql = "SELECT seq, at, hash, next_account FROM ledger_head WHERE id = 1 FOR UPDATE";
    let rows = fetch(connection, sql.to_owned()).await?;
    let row = rows.first().ok_or(Error::MySql(sqlx::Error::RowNotFound))?;
    let head = Head {
        seq: row.try_get(0)?,
        at: row.try_get(1)?,
        hash: fixed(&row.try_get::<Vec<u8>, _>(2)?)?,
        next_account: row.try_get(3)?,
    };
    if head != state.written {
        state.restart(head);
    }
    Ok(())
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_length| Error::Shape { column: 0, wanted: "a hash", found: "bytes" })
}

async fn load(connection: &mut MySqlConnection, state: &mut State, need: &Need) -> Result<()> {
    load_operations(connection, state, &need.operations).await?;
    load_holds(connection, state, &need.holds).await?;
    load_originals(connection, state, &need.originals).await?;
    lots::load_by_id(connection, state, &need.lots).await?;
    lots::load_counters(connection, state, need.counters(state)).await?;
    load_accounts(connection, state, &need.accounts).await
}

async fn load_operations(
    connection: &mut MySqlConnection,
    state: &mut State,
    ids: &[Arc<str>],
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<Value> = ids.iter().map(|id| id.as_ref().into()).collect();
    let sql = format!(
        "SELECT {OPERATION_COLUMNS} FROM ledger_operations WHERE op_id IN ({})",
        list(&ids)
    );
    for row in fetch(connection, sql).await? {
        let row = read_operation(&row)?;
        state.operations.insert(Arc::clone(&row.op_id), row);
    }
    Ok(())
}

fn read_operation(row: &MySqlRow) -> Result<OperationRow> {
    let rows_hash: Option<Vec<u8>> = row.try_get(14)?;
    Ok(OperationRow {
        seq: row.try_get(0)?,
        op_id: row.try_get::<String, _>(1)?.into(),
        kind: row.try_get(2)?,
        content: fixed(&row.try_get::<Vec<u8>, _>(3)?)?,
        memo: row.try_get::<Option<String>, _>(4)?.map(Into::into),
        outcome: row.try_get(5)?,
        ref_seq: row.try_get(6)?,
        leg: row.try_get(7)?,
        amount: row.try_get(8)?,
        debt: row.try_get(9)?,
        written_off: row.try_get(10)?,
        available: row.try_get(11)?,
        late: row.try_get::<i64, _>(12)? != 0,
        at: row.try_get(13)?,
        rows_hash: rows_hash.as_deref().map(fixed).transpose()?,
        hash: fixed(&row.try_get::<Vec<u8>, _>(15)?)?,
    })
}

async fn load_holds(
    connection: &mut MySqlConnection,
    state: &mut State,
    ids: &[i64],
) -> Result<()> {
    let missing: Vec<i64> =
        ids.iter().copied().filter(|id| !state.holds.contains_key(id)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<Value> = missing.into_iter().map(Value::from).collect();
    let sql = format!(
        "SELECT hold_seq, account_id, opened, amount, lease_until, state FROM ledger_holds \
         WHERE hold_seq IN ({}) ORDER BY hold_seq, leg",
        list(&missing)
    );
    let mut accounts = HashSet::new();
    for row in fetch(&mut *connection, sql).await? {
        let hold = state.holds.entry(row.try_get(0)?).or_insert(Hold {
            legs: Vec::new(),
            lease_until: row.try_get(4)?,
            state: HoldState::of(row.try_get(5)?),
            claims: Vec::new(),
        });
        let leg = HoldLegRow {
            account: row.try_get(1)?,
            opened: row.try_get(2)?,
            amount: row.try_get(3)?,
        };
        accounts.insert(leg.account);
        hold.legs.push(leg);
    }
    lots::load_claims(connection, state, &missing).await?;
    load_accounts_by_id(connection, state, accounts).await
}

const ACCOUNTS: &str =
    "SELECT id, owner, kind, asset, created_seq, posted, held FROM ledger_accounts WHERE ";

async fn load_accounts_by_id(
    connection: &mut MySqlConnection,
    state: &mut State,
    ids: HashSet<i64>,
) -> Result<()> {
    let missing: Vec<i64> =
        ids.iter().copied().filter(|id| state.account_by_id(*id).is_none()).collect();
    if !missing.is_empty() {
        let missing: Vec<Value> = missing.into_iter().map(Value::from).collect();
        let sql = format!("{ACCOUNTS} id IN ({})", list(&missing));
        let rows = fetch(&mut *connection, sql).await?;
        let accounts = rows.iter().map(read_account).collect::<Result<_>>()?;
        lots::put_accounts(&mut *connection, state, accounts).await?;
    }
    let debts: Vec<AccountKey> = ids
        .iter()
        .filter_map(|id| state.account_by_id(*id))
        .map(|account| account.key.sibling(AccountKind::Debt))
        .collect();
    load_accounts(connection, state, &debts).await
}

async fn load_accounts(
    connection: &mut MySqlConnection,
    state: &mut State,
    keys: &[AccountKey],
) -> Result<()> {
    let missing: HashSet<&AccountKey> = keys.iter().filter(|key| !state.knows(key)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let keys_text = |key: &&AccountKey| {
        let parts =
            [key.owner.as_ref().into(), key.kind.as_str().into(), Value::from(key.asset.as_str())];
        format!("({})", list(&parts))
    };
    let wanted: Vec<String> = missing.iter().map(keys_text).collect();
    let sql = format!("{ACCOUNTS} (owner, kind, asset) IN ({})", wanted.join(", "));
    let rows = fetch(&mut *connection, sql).await?;
    let accounts = rows.iter().map(read_account).collect::<Result<_>>()?;
    lots::put_accounts(connection, state, accounts).await?;
    keys.iter().for_each(|key| state.put_absent(key.clone()));
    Ok(())
}

fn read_account(row: &MySqlRow) -> Result<Account> {
    let (owner, kind, asset): (String, String, String) =
        (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    Ok(Account {
        id: row.try_get(0)?,
        key: account_key(&owner, &kind, &asset)?,
        created_seq: row.try_get(4)?,
        balance: Balance {
            posted: Amount::from_nanos(row.try_get(5)?),
            held: Amount::from_nanos(row.try_get(6)?),
        },
    })
}

/// Reversals are rare: one after the other.
async fn load_originals(
    connection: &mut MySqlConnection,
    state: &mut State,
    ids: &[Arc<str>],
) -> Result<()> {
    for id in ids {
        let sql = "SELECT o.seq, r.op_seq FROM ledger_operations o \
                   LEFT JOIN ledger_reversals r ON r.original_seq = o.seq WHERE o.op_id = ?";
        let Some(row) = sqlx::query(sql).bind(id.as_ref()).fetch_optional(&mut *connection).await?
        else {
            continue;
        };
        let seq: i64 = row.try_get(0)?;
        let reversed = row.try_get::<Option<i64>, _>(1)?.is_some();
        let sql = format!(
            "SELECT debit_account, credit_account, amount FROM ledger_transfers WHERE op_seq = {seq} ORDER BY leg"
        );
        let rows = fetch(&mut *connection, sql).await?;
        let transfers = rows
            .iter()
            .map(|row| {
                Ok(TransferRow {
                    debit: row.try_get(0)?,
                    credit: row.try_get(1)?,
                    amount: row.try_get(2)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let accounts = transfers.iter().flat_map(|row| [row.debit, row.credit]).collect();
        load_accounts_by_id(connection, state, accounts).await?;
        let (lots, burns) = lots::of_operation(connection, state, seq).await?;
        let original = Original { seq, transfers, burns, lots, reversed };
        state.originals.insert(Arc::clone(id), original);
    }
    Ok(())
}

async fn write(connection: &mut MySqlConnection, state: &State, changes: &Changes) -> Result<()> {
    insert(connection, "ledger_operations", OPERATION_COLUMNS, "", operation_rows(changes)).await?;
    insert(connection, "ledger_transfers", TRANSFER_COLUMNS, "", transfer_rows(changes)).await?;
    insert(connection, "ledger_holds", HOLD_COLUMNS, HOLD_UPDATE, hold_rows(state, changes))
        .await?;
    for table in &changes.inserts {
        insert_attached(connection, table).await?;
    }
    for added in changes.added() {
        let columns = added.sums.columns().collect::<Vec<_>>().join(", ");
        let update = added.sums.update(|name| format!("VALUES({name})"));
        insert(connection, added.sums.table, &columns, &update, added.rows).await?;
    }
    run_attached(connection, changes).await?;
    lots::write(connection, state, changes).await?;
    insert(connection, "ledger_reversals", "original_seq, op_seq", "", reversal_rows(changes))
        .await?;
    insert(
        connection,
        "ledger_accounts",
        ACCOUNT_COLUMNS,
        ACCOUNT_UPDATE,
        account_rows(state, changes),
    )
    .await?;
    write_head(connection, &state.head).await
}

async fn run_attached(connection: &mut MySqlConnection, changes: &Changes) -> Result<()> {
    for (sql, args) in &changes.runs {
        let mut text = String::new();
        let mut args = args.iter();
        for piece in sql.split_inclusive('?') {
            match piece.strip_suffix('?').zip(args.next()) {
                Some((before, arg)) => {
                    text.push_str(before);
                    push(&mut text, arg);
                }
                None => text.push_str(piece),
            }
        }
        run(connection, text).await?;
    }
    Ok(())
}

async fn write_head(connection: &mut MySqlConnection, head: &Head) -> Result<()> {
    let sql = format!(
        "UPDATE ledger_head SET seq = {}, at = {}, hash = {}, next_account = {} WHERE id = 1",
        head.seq,
        head.at,
        list(&[head.hash.as_slice().into()]),
        head.next_account
    );
    run(connection, sql).await
}

async fn fetch(connection: &mut MySqlConnection, sql: String) -> Result<Vec<MySqlRow>> {
    Ok(sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await?)
}

async fn run(connection: &mut MySqlConnection, sql: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// Values as literals. Text and bytes are hexadecimal, so nothing in them can end the literal.
fn list(values: &[Value]) -> String {
    let mut text = String::new();
    for value in values {
        if !text.is_empty() {
            text.push_str(", ");
        }
        push(&mut text, value);
    }
    text
}

fn push(text: &mut String, value: &Value) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let mut hexadecimal = |start: &str, bytes: &[u8]| {
        text.push_str(start);
        for byte in bytes {
            let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
            text.push(digit(byte >> 4));
            text.push(digit(byte & 15));
        }
        text.push('\'');
    };
    match value {
        Value::Null => text.push_str("NULL"),
        // Writing to a string cannot fail.
        Value::Int(number) => drop(write!(text, "{number}")),
        Value::Text(words) => hexadecimal("_utf8mb4 X'", words.as_bytes()),
        Value::Bytes(bytes) => hexadecimal("X'", bytes),
    }
}

const OPERATION_COLUMNS: &str = "seq, op_id, kind, content, memo, outcome, ref_seq, leg, amount, debt, \
    written_off, available, late, at, rows_hash, hash";
const TRANSFER_COLUMNS: &str = "op_seq, leg, debit_account, credit_account, amount";
const HOLD_COLUMNS: &str = "hold_seq, leg, account_id, opened, amount, lease_until, state";
const HOLD_UPDATE: &str =
    "amount = VALUES(amount), lease_until = VALUES(lease_until), state = VALUES(state)";
const ACCOUNT_COLUMNS: &str = "id, owner, kind, asset, created_seq, floor, posted, held";
const ACCOUNT_UPDATE: &str = "posted = VALUES(posted), held = VALUES(held)";

fn operation_rows(changes: &Changes) -> Vec<Vec<Value>> {
    let row = |row: &OperationRow| {
        vec![
            row.seq.into(),
            row.op_id.as_ref().into(),
            row.kind.into(),
            row.content.as_slice().into(),
            row.memo.as_deref().into(),
            row.outcome.into(),
            row.ref_seq.into(),
            row.leg.into(),
            row.amount.into(),
            row.debt.into(),
            row.written_off.into(),
            row.available.into(),
            row.late.into(),
            row.at.into(),
            row.rows_hash.as_ref().map(<[u8; 16]>::as_slice).into(),
            row.hash.as_slice().into(),
        ]
    };
    changes.operations.iter().map(row).collect()
}

fn transfer_rows(changes: &Changes) -> Vec<Vec<Value>> {
    let row = |(seq, leg, row): &(i64, i64, TransferRow)| {
        vec![(*seq).into(), (*leg).into(), row.debit.into(), row.credit.into(), row.amount.into()]
    };
    changes.transfers.iter().map(row).collect()
}

fn hold_rows(state: &State, changes: &Changes) -> Vec<Vec<Value>> {
    let ids = changes.new_holds.iter().chain(&changes.touched_holds);
    let found = ids.filter_map(|id| Some((*id, state.holds.get(id)?)));
    let legs = found.flat_map(|(id, hold)| {
        (0_i64..).zip(&hold.legs).map(move |(leg, row)| (id, hold, leg, row))
    });
    let row = |(id, hold, leg, row): (i64, &Hold, i64, &HoldLegRow)| {
        vec![
            id.into(),
            leg.into(),
            row.account.into(),
            row.opened.into(),
            row.amount.into(),
            hold.lease_until.into(),
            hold.state.number().into(),
        ]
    };
    legs.map(row).collect()
}

fn reversal_rows(changes: &Changes) -> Vec<Vec<Value>> {
    changes
        .reversals
        .iter()
        .map(|(original, seq)| vec![(*original).into(), (*seq).into()])
        .collect()
}

fn account_rows(state: &State, changes: &Changes) -> Vec<Vec<Value>> {
    let ids = changes.new_accounts.iter().chain(&changes.touched_accounts);
    let row = |account: &Account| {
        vec![
            account.id.into(),
            account.key.owner.as_ref().into(),
            account.key.kind.as_str().into(),
            account.key.asset.as_str().into(),
            account.created_seq.into(),
            account.key.kind.floor().map(Amount::nanos).into(),
            account.balance.posted.nanos().into(),
            account.balance.held.nanos().into(),
        ]
    };
    ids.filter_map(|id| state.account_by_id(*id)).map(row).collect()
}

async fn insert_attached(connection: &mut MySqlConnection, table: &Insert) -> Result<()> {
    let columns = table.table.columns.join(", ");
    insert(connection, table.table.name, &columns, "", table.rows.clone()).await
}

/// Rows into a table, many at once; `update` says what an existing row takes over.
async fn insert(
    connection: &mut MySqlConnection,
    table: &str,
    columns: &str,
    update: &str,
    rows: Vec<Vec<Value>>,
) -> Result<()> {
    let mut rows = rows.iter().peekable();
    while rows.peek().is_some() {
        let mut sql = format!("INSERT INTO {table} ({columns}) VALUES ");
        let mut first = true;
        while sql.len() < LONGEST_STATEMENT
            && let Some(row) = rows.next()
        {
            sql.push_str(if first { "(" } else { ", (" });
            sql.push_str(&list(row));
            sql.push(')');
            first = false;
        }
        if !update.is_empty() {
            sql.push_str(" ON DUPLICATE KEY UPDATE ");
            sql.push_str(update);
        }
        run(connection, sql).await?;
    }
    Ok(())
}
