//! One operation's changes to the books, which can be taken back as a whole.

use kernel::Amount;

use crate::counters::{Counter, CounterId, HeldClaim, resets_at};
use crate::lots::{Burn, burns};
use crate::rows::{Account, Hold, HoldLegRow, HoldState, TransferRow};
use crate::state::{Changes, Original, State};
use crate::{
    AccountKey, AccountKind, Balance, Claim, Claimed, Lot, LotId, LotTerms, Measure, Refusal,
};

/// One operation's changes to the books, which can be taken back as a whole.
pub(crate) struct Draft<'a> {
    state: &'a mut State,
    seq: i64,
    undo: Vec<Undo>,
    drafted: Drafted,
    primary: Option<i64>,
}

enum Undo {
    Balance(i64, Balance),
    Created(i64),
    Hold(i64, Option<Hold>),
    Reversed(std::sync::Arc<str>),
    Lots(i64, Vec<Lot>),
    Counter(CounterId, Counter),
}

/// What an operation has drafted.
#[derive(Debug, Default)]
pub(crate) struct Drafted {
    pub(crate) ref_seq: Option<i64>,
    pub(crate) leg: Option<i64>,
    pub(crate) created: Vec<i64>,
    pub(crate) opened_hold: Option<i64>,
    pub(crate) transfers: Vec<TransferRow>,
    touched_accounts: Vec<i64>,
    touched_holds: Vec<i64>,
    reversed: Option<i64>,
    pub(crate) lots: Vec<Lot>,
    pub(crate) burns: Vec<Burn>,
    touched_lots: Vec<(i64, LotId)>,
    touched_counters: Vec<CounterId>,
    touched_claims: Vec<i64>,
    pub(crate) claimed: Vec<Claimed>,
}

impl Drafted {
    /// Adds what was drafted to what is to be written.
    pub(crate) fn record(self, changes: &mut Changes, seq: i64) {
        for (leg, transfer) in (0..).zip(self.transfers) {
            changes.transfers.push((seq, leg, transfer));
        }
        changes.new_accounts.extend(self.created);
        changes.touched_accounts.extend(self.touched_accounts);
        changes.new_holds.extend(self.opened_hold);
        changes.touched_holds.extend(self.touched_holds);
        changes.reversals.extend(self.reversed.map(|original| (original, seq)));
        changes.new_lots.extend(self.lots.iter().map(|lot| (lot.account, lot.id)));
        changes.touched_lots.extend(self.touched_lots);
        changes.burns.extend((0..).zip(self.burns).map(|(position, burn)| (seq, position, burn)));
        changes.touched_counters.extend(self.touched_counters);
        changes.touched_claims.extend(self.touched_claims);
    }
}

impl<'a> Draft<'a> {
    pub(crate) fn new(state: &'a mut State, seq: i64) -> Self {
        Self { state, seq, undo: Vec::new(), drafted: Drafted::default(), primary: None }
    }

    /// Takes everything back, except what the operation referred to.
    pub(crate) fn undo(&mut self) {
        while let Some(step) = self.undo.pop() {
            match step {
                Undo::Balance(id, before) => {
                    if let Some(balance) = self.state.balance_mut(id) {
                        *balance = before;
                    }
                }
                Undo::Created(id) => {
                    self.state.remove_account(id);
                    self.state.head.next_account = id;
                }
                Undo::Hold(id, Some(before)) => drop(self.state.holds.insert(id, before)),
                Undo::Hold(id, None) => drop(self.state.holds.remove(&id)),
                Undo::Lots(account, before) => *self.state.lots_mut(account) = before,
                Undo::Counter(id, before) => self.state.put_counter(id, before),
                Undo::Reversed(id) => {
                    if let Some(original) = self.state.originals.get_mut(&id) {
                        original.reversed = false;
                    }
                }
            }
        }
        let ref_seq = self.drafted.ref_seq;
        self.drafted = Drafted { ref_seq, ..Drafted::default() };
    }

    pub(crate) fn finish(self) -> Drafted {
        self.drafted
    }

    /// The account of this key, which begins now if it does not exist.
    pub(crate) fn open_account(&mut self, key: &AccountKey) -> i64 {
        if let Some(account) = self.state.account(key) {
            return account.id;
        }
        let id = self.state.head.next_account;
        self.state.head.next_account += 1;
        let account =
            Account { id, key: key.clone(), created_seq: self.seq, balance: Balance::default() };
        self.state.put_account(account);
        self.undo.push(Undo::Created(id));
        self.drafted.created.push(id);
        id
    }

    pub(crate) fn key(&self, account: i64) -> Result<AccountKey, Refusal> {
        self.state
            .account_by_id(account)
            .map(|account| account.key.clone())
            .ok_or(Refusal::HoldNotFound)
    }

    fn balance(&self, account: i64) -> Balance {
        self.state.account_by_id(account).map(|account| account.balance).unwrap_or_default()
    }

    pub(crate) fn posted(&self, account: i64) -> i64 {
        self.balance(account).posted.nanos()
    }

    /// What may leave the account: all it has free, or any amount where it has no floor.
    pub(crate) fn free(&self, account: i64) -> i64 {
        match self.floor(account) {
            Some(floor) => self.balance(account).available().saturating_sub(floor).nanos().max(0),
            None => i64::MAX,
        }
    }

    fn floor(&self, account: i64) -> Option<Amount> {
        self.state.account_by_id(account).and_then(|account| account.key.kind.floor())
    }

    fn change(
        &mut self,
        account: i64,
        change: impl FnOnce(Balance) -> Option<Balance>,
    ) -> Result<(), Refusal> {
        let before = self.balance(account);
        let after = change(before).ok_or(Refusal::Malformed)?;
        if let Some(balance) = self.state.balance_mut(account) {
            *balance = after;
        }
        self.undo.push(Undo::Balance(account, before));
        self.drafted.touched_accounts.push(account);
        Ok(())
    }

    /// Moves money, out of lots in their order; floors are checked by whoever calls.
    pub(crate) fn move_money(&mut self, from: i64, to: i64, nanos: i64) -> Result<(), Refusal> {
        let burns = match self.state.lots(from) {
            [] => Vec::new(),
            lots => self.in_order(burns(lots, self.posted(from), nanos)),
        };
        self.move_plain(from, to, nanos)?;
        burns.into_iter().for_each(|burn| self.burn(from, burn));
        Ok(())
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "a test build takes this guard away")]
    const fn in_order(&self, burns: Vec<Burn>) -> Vec<Burn> {
        burns
    }

    #[cfg(test)]
    fn in_order(&self, burns: Vec<Burn>) -> Vec<Burn> {
        match self.state.sabotage {
            Some(crate::state::Sabotage::BurnAtRandom) => Vec::new(),
            _ => burns,
        }
    }

    /// Takes from a lot, or gives back to it.
    pub(crate) fn burn(&mut self, account: i64, burn: Burn) {
        let before = self.state.lots(account).to_vec();
        let amount = Amount::from_nanos(burn.amount);
        let found = self.state.lots_mut(account).iter_mut().find(|lot| lot.id == burn.lot);
        if let Some(lot) = found {
            lot.remaining = lot.remaining.saturating_sub(amount);
            self.undo.push(Undo::Lots(account, before));
            self.drafted.burns.push(burn);
            self.drafted.touched_lots.push((account, burn.lot));
        }
    }

    /// Money that has just reached an account becomes a lot of it.
    pub(crate) fn open_lot(&mut self, account: i64, amount: Amount, terms: LotTerms) {
        let id = LotId { seq: self.seq, leg: 0 };
        let lot = Lot { id, account, terms, granted: amount, remaining: amount };
        self.undo.push(Undo::Lots(account, self.state.lots(account).to_vec()));
        self.state.put_lot(lot);
        self.drafted.lots.push(lot);
    }

    pub(crate) fn find_lot(&self, id: LotId) -> Option<Lot> {
        self.state.lot(self.state.account_of_lot(id)?, id).copied()
    }

    /// Moves money without a look at lots.
    pub(crate) fn move_plain(&mut self, from: i64, to: i64, nanos: i64) -> Result<(), Refusal> {
        let amount = Amount::from_nanos(nanos);
        self.change(from, |balance| {
            Some(Balance { posted: balance.posted.checked_sub(amount)?, ..balance })
        })?;
        let credited = self.credited(amount);
        self.change(to, |balance| {
            Some(Balance { posted: balance.posted.checked_add(credited)?, ..balance })
        })?;
        self.drafted.transfers.push(TransferRow { debit: from, credit: to, amount: nanos });
        Ok(())
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "a test build takes this guard away")]
    const fn credited(&self, amount: Amount) -> Amount {
        amount
    }

    #[cfg(test)]
    fn credited(&self, amount: Amount) -> Amount {
        let more = i64::from(self.state.sabotage == Some(crate::state::Sabotage::CreateMoney));
        amount.saturating_add(Amount::from_nanos(more))
    }

    /// No account that was touched is below its floor.
    pub(crate) fn check_floors(&self) -> Result<(), Refusal> {
        for id in &self.drafted.touched_accounts {
            let Some(floor) = self.floor(*id) else {
                continue;
            };
            let available = self.balance(*id).available();
            if available < floor {
                let before = self.undo.iter().find_map(|step| match step {
                    Undo::Balance(account, before) if account == id => Some(before.available()),
                    _ => None,
                });
                let before = before.unwrap_or_default();
                return Err(Refusal::InsufficientFunds {
                    required: before.saturating_sub(available),
                    available: before,
                });
            }
        }
        Ok(())
    }

    /// Sets money aside, if so much is free.
    pub(crate) fn take(&mut self, account: i64, nanos: i64) -> Result<(), Refusal> {
        let amount = Amount::from_nanos(nanos);
        let available = self.balance(account).available();
        if nanos > self.free(account) && !self.ignores_overdraft() {
            return Err(Refusal::InsufficientFunds { required: amount, available });
        }
        self.change(account, |balance| {
            Some(Balance { held: balance.held.checked_add(amount)?, ..balance })
        })
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "a test build takes this guard away")]
    const fn ignores_overdraft(&self) -> bool {
        false
    }

    #[cfg(test)]
    fn ignores_overdraft(&self) -> bool {
        self.state.sabotage == Some(crate::state::Sabotage::Overdraft)
    }

    pub(crate) fn hold(&self, hold: i64) -> Option<&Hold> {
        self.state.holds.get(&hold)
    }

    pub(crate) fn refer_to(&mut self, seq: i64) {
        self.drafted.ref_seq = Some(seq);
    }

    fn change_hold(&mut self, id: i64, change: impl FnOnce(&mut Hold)) {
        if let Some(hold) = self.state.holds.get_mut(&id) {
            self.undo.push(Undo::Hold(id, Some(hold.clone())));
            change(hold);
            self.drafted.touched_holds.push(id);
        }
    }

    pub(crate) fn open_hold(
        &mut self,
        legs: Vec<HoldLegRow>,
        claims: Vec<HeldClaim>,
        lease_until: i64,
    ) {
        if !claims.is_empty() {
            self.drafted.touched_claims.push(self.seq);
        }
        let hold = Hold { legs, lease_until, state: HoldState::Open, claims };
        self.state.holds.insert(self.seq, hold);
        self.undo.push(Undo::Hold(self.seq, None));
        self.drafted.opened_hold = Some(self.seq);
    }

    pub(crate) fn grow(&mut self, hold: i64, leg: u16, nanos: i64) -> Result<(), Refusal> {
        let present =
            self.hold(hold).and_then(|hold| hold.legs.get(usize::from(leg))).map(|leg| leg.amount);
        let grown =
            present.and_then(|amount| amount.checked_add(nanos)).ok_or(Refusal::Malformed)?;
        self.drafted.leg = Some(i64::from(leg));
        self.change_hold(hold, |hold| {
            if let Some(row) = hold.legs.get_mut(usize::from(leg)) {
                row.amount = grown;
            }
        });
        Ok(())
    }

    /// Postpones the end of an open hold's lease.
    pub(crate) fn renew(&mut self, hold: i64, lease_until: i64) {
        let earlier = self
            .hold(hold)
            .is_some_and(|hold| hold.state == HoldState::Open && hold.lease_until < lease_until);
        if earlier {
            self.change_hold(hold, |hold| hold.lease_until = lease_until);
        }
    }

    pub(crate) fn may_resolve(&self, hold: i64) -> bool {
        #[cfg(test)]
        if self.state.sabotage == Some(crate::state::Sabotage::ResolveTwice) {
            return true;
        }
        self.hold(hold).is_some_and(|hold| hold.state == HoldState::Open)
    }

    pub(crate) fn resolve(&mut self, hold: i64, state: HoldState) {
        self.change_hold(hold, |hold| hold.state = state);
    }

    /// Gives back what was set aside.
    pub(crate) fn release_legs(&mut self, legs: &[HoldLegRow]) -> Result<(), Refusal> {
        #[cfg(test)]
        if self.state.sabotage == Some(crate::state::Sabotage::LoseRelease) {
            return Ok(());
        }
        for leg in legs {
            let amount = Amount::from_nanos(leg.amount);
            self.change(leg.account, |balance| {
                Some(Balance { held: balance.held.checked_sub(amount)?, ..balance })
            })?;
        }
        Ok(())
    }

    /// Counts a claim, if its limit allows; what the hold keeps of it.
    pub(crate) fn claim(
        &mut self,
        position: u16,
        claim: &Claim,
        at: i64,
    ) -> Result<Option<HeldClaim>, Refusal> {
        if claim.amount < 0 {
            return Err(Refusal::Malformed);
        }
        let held = claim.held(at);
        let used = self.count(position, &held, claim.limit)?;
        let (counter, resets_at) = (claim.counter.clone(), resets_at(held.end));
        let (measure, limit) = (claim.measure, claim.limit);
        self.drafted.claimed.push(Claimed { counter, measure, limit, used, resets_at });
        Ok((claim.measure != Measure::Requests).then_some(held))
    }

    /// Adds a claim's amount to its counter; what it shows then.
    fn count(
        &mut self,
        position: u16,
        claim: &HeldClaim,
        limit: Option<i64>,
    ) -> Result<i64, Refusal> {
        let before = self.state.counter(&claim.id).unwrap_or_default();
        let shown = before.used.saturating_add(before.held);
        let after = shown.saturating_add(claim.amount);
        if let Some(limit) = limit.filter(|limit| after > *limit)
            && !self.passes_limits()
        {
            let resets_at = resets_at(claim.end);
            let (wanted, used) = (claim.amount, shown);
            return Err(Refusal::LimitReached { claim: position, limit, used, wanted, resets_at });
        }
        let counter = match claim.measure {
            Measure::Requests => {
                Counter { used: before.used.saturating_add(claim.amount), ..before }
            }
            _ => Counter { held: before.held.saturating_add(claim.amount), ..before },
        };
        self.set_counter(&claim.id, before, Counter { end: claim.end.max(before.end), ..counter });
        Ok(after)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "a test build takes this guard away")]
    const fn passes_limits(&self) -> bool {
        false
    }

    #[cfg(test)]
    fn passes_limits(&self) -> bool {
        self.state.sabotage == Some(crate::state::Sabotage::PassLimits)
    }

    fn set_counter(&mut self, id: &CounterId, before: Counter, after: Counter) {
        self.undo.push(Undo::Counter(id.clone(), before));
        self.drafted.touched_counters.push(id.clone());
        self.state.put_counter(id.clone(), after);
    }

    /// Counts more towards the claims of a hold, as far as the limits allow that bound it.
    pub(crate) fn grow_claims(
        &mut self,
        hold: i64,
        nanos: i64,
        tokens: i64,
    ) -> Result<(), Refusal> {
        let claims = self.hold(hold).map(|hold| hold.claims.clone()).unwrap_or_default();
        let mut grown = claims.clone();
        for (position, (claim, grown)) in (0..).zip(claims.into_iter().zip(&mut grown)) {
            let amount = match claim.measure {
                Measure::Tokens => tokens,
                Measure::Spend => nanos,
                Measure::Requests | Measure::Slots => 0,
            };
            if amount > 0 {
                let limit = claim.limit;
                self.count(position, &HeldClaim { amount, ..claim }, limit)?;
                grown.amount = grown.amount.saturating_add(amount);
            }
        }
        if !grown.is_empty() {
            self.change_hold(hold, |hold| hold.claims = grown);
            self.drafted.touched_claims.push(hold);
        }
        Ok(())
    }

    /// Ends a hold's claims: what was used stays counted.
    pub(crate) fn end_claims(&mut self, hold: i64, tokens: i64, spent: i64) {
        #[cfg(test)]
        if self.state.sabotage == Some(crate::state::Sabotage::KeepClaims) {
            return;
        }
        let claims = self.hold(hold).map(|hold| hold.claims.clone()).unwrap_or_default();
        if claims.is_empty() {
            return;
        }
        for claim in &claims {
            let before = self.state.counter(&claim.id).unwrap_or_default();
            let used = match claim.measure {
                Measure::Tokens => tokens,
                Measure::Spend => spent,
                Measure::Requests | Measure::Slots => 0,
            };
            let after = Counter {
                end: before.end.max(claim.end),
                used: before.used.saturating_add(used.max(0)),
                held: before.held.saturating_sub(claim.amount).max(0),
            };
            self.set_counter(&claim.id, before, after);
        }
        self.change_hold(hold, |hold| hold.claims.clear());
        self.drafted.touched_claims.push(hold);
    }

    pub(crate) fn original(&self, op_id: &str) -> Option<Original> {
        self.state.originals.get(op_id).cloned()
    }

    pub(crate) fn mark_reversed(&mut self, op_id: &str, seq: i64) {
        if let Some((id, original)) = self.state.originals.get_key_value(op_id) {
            let (id, marked) =
                (std::sync::Arc::clone(id), Original { reversed: true, ..original.clone() });
            self.state.originals.insert(std::sync::Arc::clone(&id), marked);
            self.undo.push(Undo::Reversed(id));
        }
        self.drafted.reversed = Some(seq);
    }

    pub(crate) fn set_primary(&mut self, account: i64) {
        self.primary = Some(account);
    }

    pub(crate) fn available_of_primary(&self) -> Amount {
        self.primary.map(|account| self.balance(account).available()).unwrap_or_default()
    }

    /// A wallet that owes pays as soon as it has something free.
    pub(crate) fn repay_debts(&mut self) -> Result<(), Refusal> {
        let mut wallets = self.drafted.touched_accounts.clone();
        wallets.dedup();
        for wallet in wallets {
            let key = self.key(wallet)?;
            if key.kind != AccountKind::Wallet {
                continue;
            }
            let Some(debt) =
                self.state.account(&key.sibling(AccountKind::Debt)).map(|debt| debt.id)
            else {
                continue;
            };
            let due = self.posted(debt).saturating_neg().min(self.free(wallet));
            if due > 0 {
                self.move_money(wallet, debt, due)?;
            }
        }
        Ok(())
    }
}
