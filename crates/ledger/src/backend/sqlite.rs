//! The journal's rows in SQLite: prepared statements on the one writing connection.

mod lots;

use std::collections::HashMap;
use std::sync::Arc;

use kernel::Amount;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, params};
use store::{Error, Result, Sqlite, Value, bind_sqlite};

use super::{Backend, Work};
use crate::rows::{Account, Head, Hold, HoldLegRow, HoldState, OperationRow, TransferRow};
use crate::state::{Changes, Need, Original, State};
use crate::{AccountKey, AccountKind, Balance, Sums};

/// The journal's rows in SQLite.
#[derive(Debug)]
pub(crate) struct SqliteBackend {
    sqlite: Sqlite,
    inserts: HashMap<&'static str, String>,
}

impl SqliteBackend {
    pub(crate) fn new(sqlite: Sqlite) -> Self {
        Self { sqlite, inserts: HashMap::new() }
    }
}

impl Backend for SqliteBackend {
    fn is_local(&self) -> bool {
        true
    }

    fn is_free(&self) -> bool {
        self.sqlite.is_free()
    }

    fn read(&mut self, state: &mut State, need: &Need) -> Result<()> {
        let connection = self.sqlite.writer();
        sync_head(&connection, state)?;
        load(&connection, state, need)
    }

    fn batch(&mut self, state: &mut State, need: &Need, work: Work<'_>) -> Result<()> {
        let connection = self.sqlite.writer();
        let transaction = Transaction::begin(&connection)?;
        sync_head(&connection, state)?;
        load(&connection, state, need)?;
        let changes = work(state);
        if changes.is_empty() {
            return Ok(());
        }
        write(&connection, state, &changes)?;
        for insert in &changes.inserts {
            let sql = self
                .inserts
                .entry(insert.table.name)
                .or_insert_with(|| insert_text(insert.table.name, insert.table.columns));
            write_rows(&connection, sql, &insert.rows)?;
        }
        for added in &changes.added() {
            let sql = self.inserts.entry(added.sums.table).or_insert_with(|| add_text(added.sums));
            write_rows(&connection, sql, &added.rows)?;
        }
        for (sql, args) in &changes.runs {
            connection
                .prepare_cached(sql)?
                .execute(rusqlite::params_from_iter(args.iter().map(bind_sqlite)))?;
        }
        transaction.commit()
    }
}

/// A writing transaction, rolled back unless it is committed. Its statements are parsed once: on a cold
/// processor that takes longer than what they do.
struct Transaction<'a>(&'a Connection);

impl<'a> Transaction<'a> {
    fn begin(connection: &'a Connection) -> Result<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(connection))
    }

    fn commit(self) -> Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // After a failure SQLite may have rolled back by itself.
        if !self.0.is_autocommit()
            && let Err(error) = self.0.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a failed batch cannot be rolled back");
        }
    }
}

/// Reads where the books stand, unless that is known: nobody else writes, and `write_head` makes sure.
fn sync_head(connection: &Connection, state: &mut State) -> Result<()> {
    if state.written != Head::default() {
        return Ok(());
    }
    let sql = "SELECT seq, at, hash, next_account FROM ledger_head WHERE id = 1";
    let head = connection.prepare_cached(sql)?.query_row([], |row| {
        Ok(Head { seq: row.get(0)?, at: row.get(1)?, hash: row.get(2)?, next_account: row.get(3)? })
    })?;
    state.restart(head);
    Ok(())
}

fn load(connection: &Connection, state: &mut State, need: &Need) -> Result<()> {
    let mut by_id = connection.prepare_cached(&operations_where("op_id = ?"))?;
    for id in &need.operations {
        if let Some(row) = by_id.query_row([id.as_ref()], read_operation).optional()? {
            state.operations.insert(Arc::clone(id), row);
        }
    }
    for hold in &need.holds {
        if !state.holds.contains_key(hold) {
            load_hold(connection, state, *hold)?;
        }
    }
    for key in &need.accounts {
        load_account(connection, state, key)?;
    }
    for id in &need.originals {
        load_original(connection, state, id)?;
    }
    for lot in &need.lots {
        lots::load_by_id(connection, state, *lot)?;
    }
    lots::load_counters(connection, state, &need.counters(state))
}

/// A hold comes with its accounts and what they owe.
fn load_hold(connection: &Connection, state: &mut State, id: i64) -> Result<()> {
    let sql = "SELECT account_id, opened, amount, lease_until, state FROM ledger_holds \
               WHERE hold_seq = ? ORDER BY leg";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id])?;
    let mut hold: Option<Hold> = None;
    while let Some(row) = rows.next()? {
        let found = hold.get_or_insert(Hold {
            legs: Vec::new(),
            lease_until: row.get(3)?,
            state: HoldState::of(row.get(4)?),
            claims: Vec::new(),
        });
        found.legs.push(HoldLegRow {
            account: row.get(0)?,
            opened: row.get(1)?,
            amount: row.get(2)?,
        });
    }
    let Some(mut hold) = hold else { return Ok(()) };
    hold.claims = lots::claims(connection, id)?;
    for leg in &hold.legs {
        load_account_by_id(connection, state, leg.account)?;
    }
    state.holds.insert(id, hold);
    Ok(())
}

const ACCOUNT: &str =
    "SELECT id, owner, kind, asset, created_seq, posted, held FROM ledger_accounts";

fn load_account(connection: &Connection, state: &mut State, key: &AccountKey) -> Result<()> {
    if state.knows(key) {
        return Ok(());
    }
    let mut statement = by_key(connection)?;
    let args = params![key.owner.as_ref(), key.kind.as_str(), key.asset.as_str()];
    let found = statement.query_row(args, |row| Ok(read_account(row))).optional()?;
    if let Some(account) = found {
        return lots::put_account(connection, state, account?);
    }
    state.put_absent(key.clone());
    Ok(())
}

fn by_key(connection: &Connection) -> Result<CachedStatement<'_>> {
    Ok(connection
        .prepare_cached(&format!("{ACCOUNT} WHERE owner = ? AND kind = ? AND asset = ?"))?)
}

fn load_account_by_id(connection: &Connection, state: &mut State, id: i64) -> Result<()> {
    if state.account_by_id(id).is_none() {
        let mut statement = connection.prepare_cached(&format!("{ACCOUNT} WHERE id = ?"))?;
        let account = statement.query_row([id], |row| Ok(read_account(row)))??;
        lots::put_account(connection, state, account)?;
    }
    match state.account_by_id(id).map(|account| account.key.sibling(AccountKind::Debt)) {
        Some(debt) => load_account(connection, state, &debt),
        None => Ok(()),
    }
}

fn read_account(row: &Row<'_>) -> Result<Account> {
    let owner: String = row.get(1)?;
    let kind: String = row.get(2)?;
    let asset: String = row.get(3)?;
    Ok(Account {
        id: row.get(0)?,
        key: account_key(&owner, &kind, &asset)?,
        created_seq: row.get(4)?,
        balance: Balance {
            posted: Amount::from_nanos(row.get(5)?),
            held: Amount::from_nanos(row.get(6)?),
        },
    })
}

/// The key of a stored account.
pub(crate) fn account_key(owner: &str, kind: &str, asset: &str) -> Result<AccountKey> {
    let damaged = |column, wanted| Error::Shape { column, wanted, found: "something else" };
    Ok(AccountKey {
        owner: owner.into(),
        kind: AccountKind::parse(kind).ok_or_else(|| damaged(2, "a kind of account"))?,
        asset: asset.parse().map_err(|_unreadable| damaged(3, "an asset"))?,
    })
}

fn load_original(connection: &Connection, state: &mut State, op_id: &Arc<str>) -> Result<()> {
    let sql = "SELECT seq, EXISTS (SELECT 1 FROM ledger_reversals WHERE original_seq = seq) \
               FROM ledger_operations WHERE op_id = ?";
    let found = connection
        .prepare_cached(sql)?
        .query_row([op_id.as_ref()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?)))
        .optional()?;
    let Some((seq, reversed)) = found else {
        return Ok(());
    };
    let sql = "SELECT debit_account, credit_account, amount FROM ledger_transfers WHERE op_seq = ? ORDER BY leg";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([seq], |row| {
        Ok(TransferRow { debit: row.get(0)?, credit: row.get(1)?, amount: row.get(2)? })
    })?;
    let transfers = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    for transfer in &transfers {
        load_account_by_id(connection, state, transfer.debit)?;
        load_account_by_id(connection, state, transfer.credit)?;
    }
    let (lots, burns) = lots::of_operation(connection, state, seq)?;
    let original = Original { seq, transfers, burns, lots, reversed };
    state.originals.insert(Arc::clone(op_id), original);
    Ok(())
}

fn operations_where(condition: &str) -> String {
    format!(
        "SELECT seq, op_id, kind, content, memo, outcome, ref_seq, leg, amount, debt, written_off, \
         available, late, at, rows_hash, hash FROM ledger_operations WHERE {condition}"
    )
}

fn read_operation(row: &Row<'_>) -> rusqlite::Result<OperationRow> {
    Ok(OperationRow {
        seq: row.get(0)?,
        op_id: row.get::<_, String>(1)?.into(),
        kind: row.get(2)?,
        content: row.get(3)?,
        memo: row.get::<_, Option<String>>(4)?.map(Into::into),
        outcome: row.get(5)?,
        ref_seq: row.get(6)?,
        leg: row.get(7)?,
        amount: row.get(8)?,
        debt: row.get(9)?,
        written_off: row.get(10)?,
        available: row.get(11)?,
        late: row.get(12)?,
        at: row.get(13)?,
        rows_hash: row.get(14)?,
        hash: row.get(15)?,
    })
}

fn write(connection: &Connection, state: &State, changes: &Changes) -> Result<()> {
    write_operations(connection, changes)?;
    write_accounts(connection, state, changes)?;
    write_holds(connection, state, changes)?;
    let mut transfer = connection.prepare_cached(
        "INSERT INTO ledger_transfers (op_seq, leg, debit_account, credit_account, amount) VALUES (?, ?, ?, ?, ?)",
    )?;
    for (seq, leg, row) in &changes.transfers {
        transfer.execute(params![seq, leg, row.debit, row.credit, row.amount])?;
    }
    lots::write(connection, state, changes)?;
    for (original, seq) in &changes.reversals {
        connection
            .prepare_cached("INSERT INTO ledger_reversals (original_seq, op_seq) VALUES (?, ?)")?
            .execute(params![original, seq])?;
    }
    write_head(connection, state)
}

/// The books stand there now, if they stood where this process left them: what rests on other books is
/// not to be written.
fn write_head(connection: &Connection, state: &State) -> Result<()> {
    let (head, written) = (&state.head, &state.written);
    let sql = "UPDATE ledger_head SET seq = ?, at = ?, hash = ?, next_account = ? \
               WHERE id = 1 AND seq = ? AND hash = ?";
    let args = params![head.seq, head.at, head.hash, head.next_account, written.seq, written.hash];
    if connection.prepare_cached(sql)?.execute(args)? != 1 {
        return Err(Error::ChangedByOthers("ledger_head"));
    }
    Ok(())
}

fn write_operations(connection: &Connection, changes: &Changes) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO ledger_operations (seq, op_id, kind, content, memo, outcome, ref_seq, leg, amount, debt, \
         written_off, available, late, at, rows_hash, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for row in &changes.operations {
        statement.execute(params![
            row.seq,
            row.op_id.as_ref(),
            row.kind,
            row.content,
            row.memo.as_deref(),
            row.outcome,
            row.ref_seq,
            row.leg,
            row.amount,
            row.debt,
            row.written_off,
            row.available,
            row.late,
            row.at,
            row.rows_hash,
            row.hash,
        ])?;
    }
    Ok(())
}

fn write_accounts(connection: &Connection, state: &State, changes: &Changes) -> Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO ledger_accounts (id, owner, kind, asset, created_seq, floor, posted, held) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for account in changes.new_accounts.iter().filter_map(|id| state.account_by_id(*id)) {
        insert.execute(params![
            account.id,
            account.key.owner.as_ref(),
            account.key.kind.as_str(),
            account.key.asset.as_str(),
            account.created_seq,
            account.key.kind.floor().map(Amount::nanos),
            account.balance.posted.nanos(),
            account.balance.held.nanos(),
        ])?;
    }
    let mut update = connection
        .prepare_cached("UPDATE ledger_accounts SET posted = ?, held = ? WHERE id = ?")?;
    for account in changes.touched_accounts.iter().filter_map(|id| state.account_by_id(*id)) {
        update.execute(params![
            account.balance.posted.nanos(),
            account.balance.held.nanos(),
            account.id
        ])?;
    }
    Ok(())
}

fn write_holds(connection: &Connection, state: &State, changes: &Changes) -> Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO ledger_holds (hold_seq, leg, account_id, opened, amount, lease_until, state) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?;
    for (id, hold) in changes.new_holds.iter().filter_map(|id| Some((id, state.holds.get(id)?))) {
        for (leg, row) in (0_i64..).zip(&hold.legs) {
            let state = hold.state.number();
            insert.execute(params![
                id,
                leg,
                row.account,
                row.opened,
                row.amount,
                hold.lease_until,
                state
            ])?;
        }
    }
    let mut update = connection.prepare_cached(
        "UPDATE ledger_holds SET amount = ?, lease_until = ?, state = ? WHERE hold_seq = ? AND leg = ?",
    )?;
    for (id, hold) in changes.touched_holds.iter().filter_map(|id| Some((id, state.holds.get(id)?)))
    {
        for (leg, row) in (0_i64..).zip(&hold.legs) {
            update.execute(params![row.amount, hold.lease_until, hold.state.number(), id, leg])?;
        }
    }
    Ok(())
}

fn insert_text(table: &str, columns: &[&str]) -> String {
    let places = vec!["?"; columns.len()].join(", ");
    format!("INSERT INTO {table} ({}) VALUES ({places})", columns.join(", "))
}

fn add_text(sums: &Sums) -> String {
    let insert = insert_text(sums.table, &sums.columns().collect::<Vec<_>>());
    let keys: Vec<&str> = sums.keys.iter().map(|(name, _)| *name).collect();
    let update = sums.update(|name| format!("excluded.{name}"));
    format!("{insert} ON CONFLICT ({}) DO UPDATE SET {update}", keys.join(", "))
}

fn write_rows(connection: &Connection, sql: &str, rows: &[Vec<Value>]) -> Result<()> {
    let mut statement = connection.prepare_cached(sql)?;
    for row in rows {
        statement.execute(rusqlite::params_from_iter(row.iter().map(bind_sqlite)))?;
    }
    Ok(())
}
