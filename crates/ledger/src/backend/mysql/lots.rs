//! Lots, counters and claims on a MySQL-compatible server.

use std::collections::HashSet;

use kernel::{Amount, Timestamp};
use sqlx::mysql::MySqlRow;
use sqlx::{MySqlConnection, Row as _};
use store::{Result, Value};

use super::{fetch, insert, list, load_accounts, load_accounts_by_id, run};
use crate::backend::lot_kind;
use crate::counters::{Counter, CounterId, read_claims, write_claims};
use crate::lots::Burn;
use crate::rows::Account;
use crate::state::{Changes, State};
use crate::{AccountKind, Lot, LotId, LotTerms};

const LOT_COLUMNS: &str = "op_seq, leg, account_id, kind, priority, expires_at, granted, remaining";
const COUNTER_COLUMNS: &str = "counter, starts_at, ends_at, used, held";

/// Wallets come with their lots.
pub(super) async fn put_accounts(
    connection: &mut MySqlConnection,
    state: &mut State,
    accounts: Vec<Account>,
) -> Result<()> {
    let wallets = accounts.iter().filter(|account| account.key.kind == AccountKind::Wallet);
    let wallets: Vec<Value> = wallets.map(|account| account.id.into()).collect();
    accounts.into_iter().for_each(|account| state.put_account(account));
    if wallets.is_empty() {
        return Ok(());
    }
    let condition = format!("account_id IN ({}) AND remaining > 0", list(&wallets));
    for lot in lots_where(connection, &condition).await? {
        state.put_lot(lot);
    }
    Ok(())
}

async fn lots_where(connection: &mut MySqlConnection, condition: &str) -> Result<Vec<Lot>> {
    let sql =
        format!("SELECT {LOT_COLUMNS} FROM ledger_lots WHERE {condition} ORDER BY op_seq, leg");
    fetch(connection, sql).await?.iter().map(read_lot).collect()
}

fn read_lot(row: &MySqlRow) -> Result<Lot> {
    let kind: String = row.try_get(3)?;
    let priority: i64 = row.try_get(4)?;
    let expires_at: Option<i64> = row.try_get(5)?;
    Ok(Lot {
        id: LotId { seq: row.try_get(0)?, leg: row.try_get(1)? },
        account: row.try_get(2)?,
        terms: LotTerms {
            kind: lot_kind(&kind)?,
            priority: i32::try_from(priority).unwrap_or(i32::MAX),
            expires_at: expires_at.map(Timestamp::from_micros),
        },
        granted: Amount::from_nanos(row.try_get(6)?),
        remaining: Amount::from_nanos(row.try_get(7)?),
    })
}

/// Lots come with their accounts.
pub(super) async fn load_by_id(
    connection: &mut MySqlConnection,
    state: &mut State,
    ids: &[LotId],
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let keys = ids.iter().map(|id| format!("({}, {})", id.seq, id.leg)).collect::<Vec<_>>();
    let lots = lots_where(connection, &format!("(op_seq, leg) IN ({})", keys.join(", "))).await?;
    let accounts: HashSet<i64> = lots.iter().map(|lot| lot.account).collect();
    load_accounts_by_id(connection, state, accounts.clone()).await?;
    let known = accounts.iter().filter_map(|id| state.account_by_id(*id));
    let breakage: Vec<_> =
        known.map(|account| account.key.sibling(AccountKind::Breakage)).collect();
    load_accounts(connection, state, &breakage).await?;
    lots.into_iter().for_each(|lot| state.put_lot(lot));
    Ok(())
}

/// What an operation created and burnt.
pub(super) async fn of_operation(
    connection: &mut MySqlConnection,
    state: &mut State,
    seq: i64,
) -> Result<(Vec<Lot>, Vec<Burn>)> {
    let lots = lots_where(connection, &format!("op_seq = {seq}")).await?;
    let sql = format!(
        "SELECT lot_seq, lot_leg, amount FROM ledger_burns WHERE op_seq = {seq} ORDER BY position"
    );
    let mut burns = Vec::new();
    for row in fetch(connection, sql).await? {
        let lot = LotId { seq: row.try_get(0)?, leg: row.try_get(1)? };
        burns.push(Burn { lot, amount: row.try_get(2)? });
    }
    let burnt: Vec<LotId> = burns.iter().map(|burn| burn.lot).collect();
    load_by_id(connection, state, &burnt).await?;
    lots.iter().for_each(|lot| state.put_lot(*lot));
    Ok((lots, burns))
}

/// Open holds that were just read get the claims they keep.
pub(super) async fn load_claims(
    connection: &mut MySqlConnection,
    state: &mut State,
    holds: &[Value],
) -> Result<()> {
    let sql =
        format!("SELECT hold_seq, claims FROM ledger_claims WHERE hold_seq IN ({})", list(holds));
    for row in fetch(connection, sql).await? {
        let claims: String = row.try_get(1)?;
        if let Some(hold) = state.holds.get_mut(&row.try_get(0)?) {
            hold.claims = read_claims(Some(&claims));
        }
    }
    Ok(())
}

pub(super) async fn load_counters(
    connection: &mut MySqlConnection,
    state: &mut State,
    ids: Vec<CounterId>,
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let key =
        |id: &CounterId| format!("({})", list(&[id.counter.as_ref().into(), id.start.into()]));
    let keys = ids.iter().map(key).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT {COUNTER_COLUMNS} FROM ledger_counters WHERE (counter, starts_at) IN ({keys})"
    );
    for id in ids {
        state.put_counter(id, Counter::default());
    }
    for row in fetch(connection, sql).await? {
        let counter: String = row.try_get(0)?;
        let id = CounterId { counter: counter.into(), start: row.try_get(1)? };
        let counter =
            Counter { end: row.try_get(2)?, used: row.try_get(3)?, held: row.try_get(4)? };
        state.put_counter(id, counter);
    }
    Ok(())
}

pub(super) async fn write(
    connection: &mut MySqlConnection,
    state: &State,
    changes: &Changes,
) -> Result<()> {
    let update = "remaining = VALUES(remaining)";
    insert(connection, "ledger_lots", LOT_COLUMNS, update, lot_rows(state, changes)).await?;
    let columns = "op_seq, position, lot_seq, lot_leg, amount";
    insert(connection, "ledger_burns", columns, "", burn_rows(changes)).await?;
    let update = "ends_at = VALUES(ends_at), used = VALUES(used), held = VALUES(held)";
    let rows = counter_rows(state, changes);
    insert(connection, "ledger_counters", COUNTER_COLUMNS, update, rows).await?;
    write_claims_of(connection, state, changes).await
}

async fn write_claims_of(
    connection: &mut MySqlConnection,
    state: &State,
    changes: &Changes,
) -> Result<()> {
    let (mut kept, mut gone): (Vec<Vec<Value>>, Vec<Value>) = (Vec::new(), Vec::new());
    for hold in &changes.touched_claims {
        match state.holds.get(hold).and_then(|hold| write_claims(&hold.claims)) {
            Some(claims) => kept.push(vec![(*hold).into(), claims.into()]),
            None => gone.push((*hold).into()),
        }
    }
    let update = "claims = VALUES(claims)";
    insert(connection, "ledger_claims", "hold_seq, claims", update, kept).await?;
    if gone.is_empty() {
        return Ok(());
    }
    run(connection, format!("DELETE FROM ledger_claims WHERE hold_seq IN ({})", list(&gone))).await
}

fn lot_rows(state: &State, changes: &Changes) -> Vec<Vec<Value>> {
    let row = |lot: &Lot| {
        vec![
            lot.id.seq.into(),
            lot.id.leg.into(),
            lot.account.into(),
            lot.terms.kind.as_str().into(),
            i64::from(lot.terms.priority).into(),
            lot.terms.expires_at.map(Timestamp::micros).into(),
            lot.granted.nanos().into(),
            lot.remaining.nanos().into(),
        ]
    };
    let ids = changes.new_lots.iter().chain(&changes.touched_lots);
    ids.filter_map(|(account, id)| state.lot(*account, *id)).map(row).collect()
}

fn burn_rows(changes: &Changes) -> Vec<Vec<Value>> {
    let row = |(seq, position, burn): &(i64, i64, Burn)| {
        vec![
            (*seq).into(),
            (*position).into(),
            burn.lot.seq.into(),
            burn.lot.leg.into(),
            burn.amount.into(),
        ]
    };
    changes.burns.iter().map(row).collect()
}

fn counter_rows(state: &State, changes: &Changes) -> Vec<Vec<Value>> {
    let row = |id: &CounterId| {
        let counter = state.counter(id).unwrap_or_default();
        vec![
            id.counter.as_ref().into(),
            id.start.into(),
            counter.end.into(),
            counter.used.into(),
            counter.held.into(),
        ]
    };
    changes.touched_counters.iter().map(row).collect()
}
