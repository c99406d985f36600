//! Lots, counters and claims in SQLite.

use kernel::{Amount, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use store::Result;

use crate::backend::lot_kind;
use crate::counters::{Counter, CounterId, HeldClaim, read_claims, write_claims};
use crate::lots::Burn;
use crate::rows::Account;
use crate::state::{Changes, State};
use crate::{AccountKind, Lot, LotId, LotTerms};

const LOTS: &str = "SELECT op_seq, leg, account_id, kind, priority, expires_at, granted, remaining FROM ledger_lots";

/// A wallet comes with its lots.
pub(super) fn put_account(
    connection: &Connection,
    state: &mut State,
    account: Account,
) -> Result<()> {
    let (id, kind) = (account.id, account.key.kind);
    state.put_account(account);
    if kind == AccountKind::Wallet {
        let sql = format!("{LOTS} WHERE account_id = ? AND remaining > 0 ORDER BY op_seq, leg");
        for lot in read_lots(connection, &sql, &[id])? {
            state.put_lot(lot);
        }
    }
    Ok(())
}

/// A lot comes with its account and what that owes.
pub(super) fn load_by_id(connection: &Connection, state: &mut State, id: LotId) -> Result<()> {
    let sql = format!("{LOTS} WHERE op_seq = ? AND leg = ?");
    for lot in read_lots(connection, &sql, &[id.seq, id.leg])? {
        super::load_account_by_id(connection, state, lot.account)?;
        if let Some(account) = state.account_by_id(lot.account) {
            let breakage = account.key.sibling(AccountKind::Breakage);
            super::load_account(connection, state, &breakage)?;
        }
        state.put_lot(lot);
    }
    Ok(())
}

/// What an operation created and burnt.
pub(super) fn of_operation(
    connection: &Connection,
    state: &mut State,
    seq: i64,
) -> Result<(Vec<Lot>, Vec<Burn>)> {
    let lots = read_lots(connection, &format!("{LOTS} WHERE op_seq = ? ORDER BY leg"), &[seq])?;
    let sql =
        "SELECT lot_seq, lot_leg, amount FROM ledger_burns WHERE op_seq = ? ORDER BY position";
    let mut statement = connection.prepare_cached(sql)?;
    let burns = statement
        .query_map([seq], |row| {
            let lot = LotId { seq: row.get(0)?, leg: row.get(1)? };
            Ok(Burn { lot, amount: row.get(2)? })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    for burn in &burns {
        load_by_id(connection, state, burn.lot)?;
    }
    lots.iter().for_each(|lot| state.put_lot(*lot));
    Ok((lots, burns))
}

fn read_lots(connection: &Connection, sql: &str, args: &[i64]) -> Result<Vec<Lot>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(rusqlite::params_from_iter(args), |row| Ok(read_lot(row)))?;
    rows.map(|row| row?).collect()
}

fn read_lot(row: &Row<'_>) -> Result<Lot> {
    let kind: String = row.get(3)?;
    let expires_at: Option<i64> = row.get(5)?;
    Ok(Lot {
        id: LotId { seq: row.get(0)?, leg: row.get(1)? },
        account: row.get(2)?,
        terms: LotTerms {
            kind: lot_kind(&kind)?,
            priority: row.get(4)?,
            expires_at: expires_at.map(Timestamp::from_micros),
        },
        granted: Amount::from_nanos(row.get(6)?),
        remaining: Amount::from_nanos(row.get(7)?),
    })
}

/// The claims that a hold keeps.
pub(super) fn claims(connection: &Connection, hold: i64) -> Result<Vec<HeldClaim>> {
    let sql = "SELECT claims FROM ledger_claims WHERE hold_seq = ?";
    let text: Option<String> =
        connection.prepare_cached(sql)?.query_row([hold], |row| row.get(0)).optional()?;
    Ok(read_claims(text.as_deref()))
}

pub(super) fn load_counters(
    connection: &Connection,
    state: &mut State,
    ids: &[CounterId],
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let sql = "SELECT ends_at, used, held FROM ledger_counters WHERE counter = ? AND starts_at = ?";
    let mut statement = connection.prepare_cached(sql)?;
    for id in ids {
        let read =
            |row: &Row<'_>| Ok(Counter { end: row.get(0)?, used: row.get(1)?, held: row.get(2)? });
        let found = statement.query_row(params![id.counter.as_ref(), id.start], read).optional()?;
        state.put_counter(id.clone(), found.unwrap_or_default());
    }
    Ok(())
}

pub(super) fn write(connection: &Connection, state: &State, changes: &Changes) -> Result<()> {
    write_lots(connection, state, changes)?;
    write_counters(connection, state, changes)?;
    for hold in &changes.touched_claims {
        let claims = state.holds.get(hold).and_then(|hold| write_claims(&hold.claims));
        match claims {
            Some(claims) => connection
                .prepare_cached(
                    "INSERT INTO ledger_claims (hold_seq, claims) VALUES (?, ?) \
                     ON CONFLICT (hold_seq) DO UPDATE SET claims = excluded.claims",
                )?
                .execute(params![hold, claims])?,
            None => connection
                .prepare_cached("DELETE FROM ledger_claims WHERE hold_seq = ?")?
                .execute([hold])?,
        };
    }
    Ok(())
}

fn write_lots(connection: &Connection, state: &State, changes: &Changes) -> Result<()> {
    for lot in changes.new_lots.iter().filter_map(|(account, id)| state.lot(*account, *id)) {
        connection
            .prepare_cached(
                "INSERT INTO ledger_lots (op_seq, leg, account_id, kind, priority, expires_at, \
                 granted, remaining) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                lot.id.seq,
                lot.id.leg,
                lot.account,
                lot.terms.kind.as_str(),
                lot.terms.priority,
                lot.terms.expires_at.map(Timestamp::micros),
                lot.granted.nanos(),
                lot.remaining.nanos(),
            ])?;
    }
    for lot in changes.touched_lots.iter().filter_map(|(account, id)| state.lot(*account, *id)) {
        connection
            .prepare_cached("UPDATE ledger_lots SET remaining = ? WHERE op_seq = ? AND leg = ?")?
            .execute(params![lot.remaining.nanos(), lot.id.seq, lot.id.leg])?;
    }
    for (seq, position, burn) in &changes.burns {
        connection
            .prepare_cached(
                "INSERT INTO ledger_burns (op_seq, position, lot_seq, lot_leg, amount) \
                 VALUES (?, ?, ?, ?, ?)",
            )?
            .execute(params![seq, position, burn.lot.seq, burn.lot.leg, burn.amount])?;
    }
    Ok(())
}

fn write_counters(connection: &Connection, state: &State, changes: &Changes) -> Result<()> {
    for id in &changes.touched_counters {
        let counter = state.counter(id).unwrap_or_default();
        connection
            .prepare_cached(
                "INSERT INTO ledger_counters (counter, starts_at, ends_at, used, held) \
                 VALUES (?, ?, ?, ?, ?) ON CONFLICT (counter, starts_at) DO UPDATE \
                 SET ends_at = excluded.ends_at, used = excluded.used, held = excluded.held",
            )?
            .execute(params![
                id.counter.as_ref(),
                id.start,
                counter.end,
                counter.used,
                counter.held
            ])?;
    }
    Ok(())
}
