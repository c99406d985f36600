//! The state machine: what an operation does to the books. Pure and deterministic.

use std::sync::Arc;

use kernel::{Amount, Timestamp};
use store::Value;

use crate::canon::{self, row_hash, rows_hash};
use crate::draft::{Draft, Drafted};
use crate::lots::Burn;
use crate::rows::{HoldLegRow, HoldState, OperationRow, Written, outcome_figures};
use crate::state::{Changes, State};
use crate::{
    AccountKind, Applied, Attachment, Cell, Charge, Claim, Command, HoldLeg, Leg, Lot, LotId,
    LotTerms, Outcome, Receipt, Refusal, Unit,
};

/// The id was used for another operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict;

type Done = Result<Applied, Refusal>;

/// Applies one unit: changes the state and says what is to be written, or gives the first outcome
/// again. `now` is the clock's; the ledger's own time never goes back.
pub(crate) fn apply(
    state: &mut State,
    changes: &mut Changes,
    unit: &Unit,
    now: Timestamp,
) -> Result<Receipt, Conflict> {
    let operation = &unit.operation;
    let content = canon::content(operation);
    if let Some(known) = state.operations.get(&operation.id) {
        return if known.content == content { Ok(known.receipt(true)) } else { Err(Conflict) };
    }
    let seq = state.head.seq + 1;
    let at = now.micros().max(state.head.at);
    let mut draft = Draft::new(state, seq);
    let done = run(&mut draft, &operation.command, at);
    let outcome = match done {
        Ok(applied) => {
            Outcome::Applied(Applied { available: draft.available_of_primary(), ..applied })
        }
        Err(refusal) => {
            draft.undo();
            Outcome::Refused(refusal)
        }
    };
    let mut drafted = draft.finish();
    if matches!(outcome, Outcome::Refused(refusal) if refusal.is_passing()) {
        let at = Timestamp::from_micros(at);
        return Ok(Receipt { seq: seq - 1, at, replayed: false, outcome, claims: Vec::new() });
    }
    let (number, figures) = outcome_figures(&outcome);
    let mut row = OperationRow {
        seq,
        op_id: Arc::clone(&operation.id),
        kind: canon::kind(&operation.command),
        content,
        memo: operation.memo.clone(),
        outcome: number,
        ref_seq: drafted.ref_seq,
        leg: drafted.leg,
        amount: figures.amount.nanos(),
        debt: figures.debt.nanos(),
        written_off: figures.written_off.nanos(),
        available: figures.available.nanos(),
        late: figures.late,
        at,
        rows_hash: None,
        hash: [0; 32],
    };
    if matches!(outcome, Outcome::Applied(_)) {
        row.rows_hash = attach(changes, &unit.attachments, &row);
    }
    row.hash = chained(state, &row, &drafted);
    let claims = std::mem::take(&mut drafted.claimed);
    drafted.record(changes, seq);
    let receipt = Receipt { claims, ..row.receipt(false) };
    advance(state, &row);
    changes.operations.push(row);
    Ok(receipt)
}

fn chained(state: &State, row: &OperationRow, drafted: &Drafted) -> [u8; 32] {
    let created: Vec<_> =
        drafted.created.iter().filter_map(|id| state.account_by_id(*id)).collect();
    let hold = drafted.opened_hold.and_then(|hold| state.holds.get(&hold));
    let written = Written {
        accounts: &created,
        opened: hold.map_or(&[][..], |hold| &hold.legs),
        transfers: &drafted.transfers,
        lots: &drafted.lots,
        burns: &drafted.burns,
    };
    row.chained(&state.head.hash, &written)
}

fn advance(state: &mut State, row: &OperationRow) {
    state.head.seq = row.seq;
    state.head.at = row.at;
    state.head.hash = row.hash;
    remember(state, row);
}

fn remember(state: &mut State, row: &OperationRow) {
    #[cfg(test)]
    if state.sabotage == Some(crate::state::Sabotage::ForgetIds) {
        return;
    }
    state.operations.insert(Arc::clone(&row.op_id), row.clone());
}

fn run(draft: &mut Draft<'_>, command: &Command, at: i64) -> Done {
    match command {
        Command::Transfer { legs } => transfer(draft, legs),
        Command::Grant { leg, terms } => grant(draft, leg, *terms),
        Command::ExpireLot { lot } => expire_lot(draft, *lot, at),
        Command::Hold { legs, claims, lease_until } => {
            hold(draft, legs, Claims { claims, at }, *lease_until)
        }
        Command::Extend { hold, leg, amount, tokens } => {
            extend(draft, hold.0, *leg, *amount, *tokens)
        }
        Command::Renew { holds, lease_until } => {
            holds.iter().for_each(|hold| draft.renew(hold.0, lease_until.micros()));
            Ok(Applied::default())
        }
        Command::Settle { hold, charges, max_debt, tokens } => {
            settle(draft, hold.0, charges, *max_debt, *tokens)
        }
        Command::Void { hold } => release(draft, hold.0, HoldState::Voided),
        Command::Expire { hold, orphaned } => {
            let due = draft.hold(hold.0).is_none_or(|hold| hold.lease_until <= at);
            if !due && !orphaned {
                return Err(Refusal::HoldNotDue);
            }
            release(draft, hold.0, HoldState::Expired)
        }
        Command::Reverse { original } => reverse(draft, original),
        Command::Note => Ok(Applied::default()),
    }
}

fn transfer(draft: &mut Draft<'_>, legs: &[Leg]) -> Done {
    let first = legs.first().ok_or(Refusal::Malformed)?;
    for leg in legs {
        if !leg.amount.is_positive() || leg.from == leg.to || leg.from.asset != leg.to.asset {
            return Err(Refusal::Malformed);
        }
        let (from, to) = (draft.open_account(&leg.from), draft.open_account(&leg.to));
        draft.move_money(from, to, leg.amount.nanos())?;
    }
    draft.check_floors()?;
    let primary = draft.open_account(&first.to);
    draft.set_primary(primary);
    draft.repay_debts()?;
    Ok(Applied { amount: first.amount, ..Applied::default() })
}

fn grant(draft: &mut Draft<'_>, leg: &Leg, terms: LotTerms) -> Done {
    if leg.to.kind != AccountKind::Wallet {
        return Err(Refusal::Malformed);
    }
    if !leg.amount.is_positive() || leg.from == leg.to || leg.from.asset != leg.to.asset {
        return Err(Refusal::Malformed);
    }
    let (from, to) = (draft.open_account(&leg.from), draft.open_account(&leg.to));
    draft.move_money(from, to, leg.amount.nanos())?;
    draft.check_floors()?;
    draft.open_lot(to, leg.amount, terms);
    draft.set_primary(to);
    draft.repay_debts()?;
    Ok(Applied { amount: leg.amount, ..Applied::default() })
}

/// What running calls have set aside stays, and is expired when they end.
fn expire_lot(draft: &mut Draft<'_>, id: LotId, at: i64) -> Done {
    let lot = draft.find_lot(id).ok_or(Refusal::LotNotFound)?;
    if !lot.remaining.is_positive() {
        return Err(Refusal::LotNotFound);
    }
    let ended = lot.terms.expires_at.is_some_and(|end| end.micros() <= at);
    let amount = lot.remaining.nanos().min(draft.free(lot.account));
    if !ended || amount <= 0 {
        return Err(Refusal::LotNotDue);
    }
    draft.refer_to(id.seq);
    let breakage = draft.key(lot.account)?.sibling(AccountKind::Breakage);
    let breakage = draft.open_account(&breakage);
    draft.move_plain(lot.account, breakage, amount)?;
    draft.burn(lot.account, Burn { lot: id, amount });
    draft.set_primary(lot.account);
    Ok(Applied { amount: Amount::from_nanos(amount), ..Applied::default() })
}

/// Claims, and when they are made.
#[derive(Clone, Copy)]
struct Claims<'a> {
    claims: &'a [Claim],
    at: i64,
}

fn hold(draft: &mut Draft<'_>, legs: &[HoldLeg], wanted: Claims<'_>, until: Timestamp) -> Done {
    let first = legs.first().ok_or(Refusal::Malformed)?;
    let twice = legs
        .iter()
        .enumerate()
        .any(|(at, leg)| legs.iter().take(at).any(|earlier| earlier.account == leg.account));
    if twice || legs.iter().any(|leg| leg.amount.is_negative()) {
        return Err(Refusal::Malformed);
    }
    let mut claims = Vec::new();
    for (position, claim) in (0..).zip(wanted.claims) {
        claims.extend(draft.claim(position, claim, wanted.at)?);
    }
    let mut rows = Vec::with_capacity(legs.len());
    for leg in legs {
        let account = draft.open_account(&leg.account);
        if rows.is_empty() {
            draft.set_primary(account);
        }
        draft.take(account, leg.amount.nanos())?;
        rows.push(HoldLegRow { account, opened: leg.amount.nanos(), amount: leg.amount.nanos() });
    }
    draft.open_hold(rows, claims, until.micros());
    Ok(Applied { amount: first.amount, ..Applied::default() })
}

fn extend(draft: &mut Draft<'_>, hold: i64, leg: u16, amount: Amount, tokens: i64) -> Done {
    draft.refer_to(hold);
    let found = draft.hold(hold).ok_or(Refusal::HoldNotFound)?;
    let row = *found.legs.get(usize::from(leg)).ok_or(Refusal::HoldNotFound)?;
    if found.state != HoldState::Open {
        return Err(Refusal::HoldResolved);
    }
    if amount.is_negative() {
        return Err(Refusal::Malformed);
    }
    draft.set_primary(row.account);
    draft.grow_claims(hold, amount.nanos(), tokens)?;
    draft.take(row.account, amount.nanos())?;
    draft.grow(hold, leg, amount.nanos())?;
    Ok(Applied { amount, ..Applied::default() })
}

fn settle(
    draft: &mut Draft<'_>,
    hold: i64,
    charges: &[Charge],
    max_debt: Amount,
    tokens: i64,
) -> Done {
    draft.refer_to(hold);
    let found = draft.hold(hold).ok_or(Refusal::HoldNotFound)?;
    let legs = found.legs.clone();
    let late = found.state == HoldState::Expired;
    if !late && !draft.may_resolve(hold) {
        return Err(Refusal::HoldResolved);
    }
    if charges.iter().any(|charge| charge.amount.is_negative()) || max_debt.is_negative() {
        return Err(Refusal::Malformed);
    }
    if charges.iter().any(|charge| usize::from(charge.leg) >= legs.len()) {
        return Err(Refusal::HoldNotFound);
    }
    if !late {
        draft.release_legs(&legs)?;
    }
    draft.resolve(hold, HoldState::Settled);
    let mut first = Applied { late, ..Applied::default() };
    for (at, leg) in legs.iter().enumerate() {
        let mine: Vec<&Charge> =
            charges.iter().filter(|charge| usize::from(charge.leg) == at).collect();
        let paid = pay(draft, leg.account, &mine, max_debt)?;
        if at == 0 {
            draft.set_primary(leg.account);
            first = Applied { late, ..paid };
        }
    }
    draft.end_claims(hold, tokens, first.amount.nanos());
    draft.repay_debts()?;
    Ok(first)
}

/// Pays charges of one account in order: from what it has free, then as debt, and no further.
fn pay(draft: &mut Draft<'_>, account: i64, charges: &[&Charge], max_debt: Amount) -> Done {
    let mut paid = Applied::default();
    for charge in charges {
        let key = draft.key(account)?;
        if charge.to == key || charge.to.asset != key.asset {
            return Err(Refusal::Malformed);
        }
        let wanted = charge.amount.nanos();
        let own = wanted.min(draft.free(account));
        if own > 0 {
            let to = draft.open_account(&charge.to);
            draft.move_money(account, to, own)?;
        }
        let owed = match key.kind {
            AccountKind::Wallet if wanted > own => {
                let debt = draft.open_account(&key.sibling(AccountKind::Debt));
                let room = max_debt.nanos().saturating_add(draft.posted(debt)).max(0);
                let owed = (wanted - own).min(room);
                if owed > 0 {
                    let to = draft.open_account(&charge.to);
                    draft.move_money(debt, to, owed)?;
                }
                owed
            }
            _ => 0,
        };
        let sum = |total: Amount, more: i64| {
            total.checked_add(Amount::from_nanos(more)).ok_or(Refusal::Malformed)
        };
        paid.amount = sum(paid.amount, own + owed)?;
        paid.debt = sum(paid.debt, owed)?;
        paid.written_off = sum(paid.written_off, wanted - own - owed)?;
    }
    Ok(paid)
}

fn release(draft: &mut Draft<'_>, hold: i64, state: HoldState) -> Done {
    draft.refer_to(hold);
    let legs = draft.hold(hold).ok_or(Refusal::HoldNotFound)?.legs.clone();
    if !draft.may_resolve(hold) {
        return Err(Refusal::HoldResolved);
    }
    draft.release_legs(&legs)?;
    draft.end_claims(hold, 0, 0);
    draft.resolve(hold, state);
    if let Some(leg) = legs.first() {
        draft.set_primary(leg.account);
    }
    draft.repay_debts()?;
    let amount = legs.first().map_or(0, |leg| leg.amount);
    Ok(Applied { amount: Amount::from_nanos(amount), ..Applied::default() })
}

fn reverse(draft: &mut Draft<'_>, original: &str) -> Done {
    let found = draft.original(original).ok_or(Refusal::NothingToReverse)?;
    let first = *found.transfers.first().ok_or(Refusal::NothingToReverse)?;
    if found.reversed {
        return Err(Refusal::AlreadyReversed);
    }
    draft.refer_to(found.seq);
    for transfer in &found.transfers {
        // What came as a lot goes back out of that lot.
        match found.lots.iter().find(|lot| lot.account == transfer.credit) {
            Some(lot) => take_lot_back(draft, *lot, transfer.debit, transfer.amount)?,
            None => draft.move_money(transfer.credit, transfer.debit, transfer.amount)?,
        }
    }
    draft.check_floors()?;
    for burn in &found.burns {
        let lot = draft.find_lot(burn.lot).ok_or(Refusal::LotNotFound)?;
        draft.burn(lot.account, Burn { lot: burn.lot, amount: -burn.amount });
    }
    draft.mark_reversed(original, found.seq);
    draft.set_primary(first.debit);
    draft.repay_debts()?;
    Ok(Applied { amount: Amount::from_nanos(first.amount), ..Applied::default() })
}

fn take_lot_back(draft: &mut Draft<'_>, lot: Lot, to: i64, amount: i64) -> Result<(), Refusal> {
    let available = draft.find_lot(lot.id).map_or(Amount::ZERO, |lot| lot.remaining);
    let required = Amount::from_nanos(amount);
    if available < required {
        return Err(Refusal::InsufficientFunds { required, available });
    }
    draft.move_plain(lot.account, to, amount)?;
    draft.burn(lot.account, Burn { lot: lot.id, amount });
    Ok(())
}

/// Puts the attached rows among the changes; returns the hash over the audited ones.
fn attach(
    changes: &mut Changes,
    attachments: &[Attachment],
    row: &OperationRow,
) -> Option<[u8; 16]> {
    let mut hashes = Vec::new();
    for attachment in attachments {
        match attachment {
            Attachment::Insert { table, cells } | Attachment::Summed { table, cells, .. } => {
                let values: Vec<Value> = cells.iter().map(|cell| resolve(cell, row)).collect();
                if table.audited {
                    hashes.push(row_hash(table.name, &values));
                }
                changes.insert(table, attachment.sums(), values);
            }
            Attachment::Run { sql, cells } => {
                changes.runs.push((sql, cells.iter().map(|cell| resolve(cell, row)).collect()));
            }
        }
    }
    rows_hash(hashes)
}

fn resolve(cell: &Cell, row: &OperationRow) -> Value {
    match cell {
        Cell::Value(value) => value.clone(),
        Cell::Seq => Value::Int(row.seq),
        Cell::At => Value::Int(row.at),
        Cell::Hold => row.ref_seq.into(),
        Cell::Amount => Value::Int(row.amount),
        Cell::Debt => Value::Int(row.debt),
        Cell::WrittenOff => Value::Int(row.written_off),
        Cell::Late => Value::Int(i64::from(row.late)),
    }
}
