//! What the machine works on: the part of the books that a batch needs, in memory.

use std::collections::HashMap;
use std::sync::Arc;

use store::Value;

use crate::counters::{Counter, CounterId};
use crate::lots::Burn;
use crate::rows::{Account, Head, Hold, HoldState, OperationRow, TransferRow};
use crate::{AccountKey, AccountKind, Balance, Command, Lot, LotId, Sums, Table, Unit, Window};

/// The part of the books in memory. What is not in here but was asked for does not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) head: Head,
    /// Where the books on disk stand: behind `head` while a batch is in memory only.
    pub(crate) written: Head,
    accounts: HashMap<i64, Account>,
    ids: HashMap<AccountKey, Option<i64>>,
    pub(crate) holds: HashMap<i64, Hold>,
    pub(crate) operations: HashMap<Arc<str>, OperationRow>,
    pub(crate) originals: HashMap<Arc<str>, Original>,
    /// By account: lots with something left, and those that the batch asked for.
    lots: HashMap<i64, Vec<Lot>>,
    counters: HashMap<CounterId, Counter>,
    #[cfg(test)]
    pub(crate) sabotage: Option<Sabotage>,
}

/// An operation that may be reversed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Original {
    pub(crate) seq: i64,
    pub(crate) transfers: Vec<TransferRow>,
    pub(crate) burns: Vec<Burn>,
    pub(crate) lots: Vec<Lot>,
    pub(crate) reversed: bool,
}

/// A guard taken away, to show that the tests notice.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    Overdraft,
    ResolveTwice,
    ForgetIds,
    LoseRelease,
    CreateMoney,
    BurnAtRandom,
    KeepClaims,
    PassLimits,
}

impl State {
    /// The account of this key, if it exists and was asked for.
    pub(crate) fn account(&self, key: &AccountKey) -> Option<&Account> {
        let id = (*self.ids.get(key)?)?;
        self.accounts.get(&id)
    }

    pub(crate) fn account_by_id(&self, id: i64) -> Option<&Account> {
        self.accounts.get(&id)
    }

    pub(crate) fn balance_mut(&mut self, id: i64) -> Option<&mut Balance> {
        self.accounts.get_mut(&id).map(|account| &mut account.balance)
    }

    pub(crate) fn put_account(&mut self, account: Account) {
        self.ids.insert(account.key.clone(), Some(account.id));
        self.accounts.insert(account.id, account);
    }

    pub(crate) fn remove_account(&mut self, id: i64) {
        if let Some(account) = self.accounts.remove(&id) {
            self.ids.insert(account.key, None);
        }
    }

    /// Whether this key was asked for before, whatever the answer was.
    pub(crate) fn knows(&self, key: &AccountKey) -> bool {
        self.ids.contains_key(key)
    }

    /// Notes that there is no such account.
    pub(crate) fn put_absent(&mut self, key: AccountKey) {
        self.ids.entry(key).or_insert(None);
    }

    pub(crate) fn lots(&self, account: i64) -> &[Lot] {
        self.lots.get(&account).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn lot(&self, account: i64, id: LotId) -> Option<&Lot> {
        self.lots(account).iter().find(|lot| lot.id == id)
    }

    /// The account of a lot that the batch asked for.
    pub(crate) fn account_of_lot(&self, id: LotId) -> Option<i64> {
        self.lots.values().flatten().find(|lot| lot.id == id).map(|lot| lot.account)
    }

    /// Adds a lot, unless it is known.
    pub(crate) fn put_lot(&mut self, lot: Lot) {
        if self.lot(lot.account, lot.id).is_none() {
            self.lots.entry(lot.account).or_default().push(lot);
        }
    }

    pub(crate) fn lots_mut(&mut self, account: i64) -> &mut Vec<Lot> {
        self.lots.entry(account).or_default()
    }

    pub(crate) fn counter(&self, id: &CounterId) -> Option<Counter> {
        self.counters.get(id).copied()
    }

    pub(crate) fn put_counter(&mut self, id: CounterId, counter: Counter) {
        self.counters.insert(id, counter);
    }

    /// Forgets everything: the books are read again from where they stand.
    pub(crate) fn restart(&mut self, head: Head) {
        self.head = head;
        self.written = head;
        self.accounts.clear();
        self.ids.clear();
        self.holds.clear();
        self.operations.clear();
        self.originals.clear();
        self.lots.clear();
        self.counters.clear();
    }

    /// The batch is on disk. Keeps what the next ones need: accounts and open holds.
    pub(crate) fn end_batch(&mut self) {
        self.written = self.head;
        self.operations.clear();
        self.originals.clear();
        self.holds.retain(|_, hold| hold.state == HoldState::Open);
        self.lots.retain(|_, lots| {
            lots.retain(|lot| lot.remaining.is_positive());
            !lots.is_empty()
        });
    }

    /// How much is kept.
    pub(crate) fn size(&self) -> usize {
        self.ids.len() + self.counters.len()
    }
}

/// What a batch needs to know.
#[derive(Debug, Default)]
pub(crate) struct Need {
    pub(crate) operations: Vec<Arc<str>>,
    pub(crate) accounts: Vec<AccountKey>,
    pub(crate) holds: Vec<i64>,
    pub(crate) originals: Vec<Arc<str>>,
    pub(crate) lots: Vec<LotId>,
    /// Which window is meant follows from `at`, unless the ledger is ahead of it.
    pub(crate) counters: Vec<(Arc<str>, Window)>,
    pub(crate) at: i64,
}

impl Need {
    /// What units that are applied at this instant need: nothing so far.
    pub(crate) fn at(micros: i64) -> Self {
        Self { at: micros, ..Self::default() }
    }

    /// What this unit needs, too; debts come with their wallets.
    pub(crate) fn add(&mut self, unit: &Unit) {
        if !unit.fresh {
            self.operations.push(Arc::clone(&unit.operation.id));
        }
        match &unit.operation.command {
            Command::Transfer { legs } => {
                legs.iter().flat_map(|leg| [&leg.from, &leg.to]).for_each(|key| self.account(key));
            }
            Command::Grant { leg, .. } => {
                [&leg.from, &leg.to].into_iter().for_each(|key| self.account(key));
            }
            Command::ExpireLot { lot } => self.lots.push(*lot),
            Command::Hold { legs, claims, .. } => {
                legs.iter().for_each(|leg| self.account(&leg.account));
                let counters =
                    claims.iter().map(|claim| (Arc::clone(&claim.counter), claim.window));
                self.counters.extend(counters);
            }
            Command::Settle { hold, charges, .. } => {
                self.holds.push(hold.0);
                charges.iter().for_each(|charge| self.account(&charge.to));
            }
            Command::Extend { hold, .. }
            | Command::Void { hold }
            | Command::Expire { hold, .. } => {
                self.holds.push(hold.0);
            }
            Command::Renew { holds, .. } => self.holds.extend(holds.iter().map(|hold| hold.0)),
            Command::Reverse { original } => self.originals.push(Arc::clone(original)),
            Command::Note => {}
        }
    }

    /// The counters to know before the batch is applied to these books: those of new claims, and
    /// those that the holds have claims on.
    pub(crate) fn counters(&self, state: &State) -> Vec<CounterId> {
        let at = self.at.max(state.head.at);
        let new = self.counters.iter().map(|(counter, window)| CounterId {
            counter: Arc::clone(counter),
            start: window.at(at).0,
        });
        let holds = self.holds.iter().filter_map(|id| state.holds.get(id));
        let kept = holds.flat_map(|hold| &hold.claims).map(|claim| claim.id.clone());
        let mut all: Vec<CounterId> =
            new.chain(kept).filter(|id| !state.counters.contains_key(id)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn account(&mut self, key: &AccountKey) {
        self.accounts.push(key.clone());
        if key.kind == AccountKind::Wallet {
            self.accounts.push(key.sibling(AccountKind::Debt));
        }
    }
}

/// What a batch wrote, to be put into the database.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) operations: Vec<OperationRow>,
    pub(crate) transfers: Vec<(i64, i64, TransferRow)>,
    pub(crate) new_accounts: Vec<i64>,
    pub(crate) touched_accounts: Vec<i64>,
    pub(crate) new_holds: Vec<i64>,
    pub(crate) touched_holds: Vec<i64>,
    pub(crate) reversals: Vec<(i64, i64)>,
    /// Each with its account.
    pub(crate) new_lots: Vec<(i64, LotId)>,
    pub(crate) touched_lots: Vec<(i64, LotId)>,
    pub(crate) burns: Vec<(i64, i64, Burn)>,
    pub(crate) touched_counters: Vec<CounterId>,
    /// Holds whose claims are new, changed or gone.
    pub(crate) touched_claims: Vec<i64>,
    pub(crate) inserts: Vec<Insert>,
    /// Rows that are summed: the sums, and where the row is among `inserts`.
    pub(crate) summed: Vec<(&'static [Sums], usize, usize)>,
    pub(crate) runs: Vec<(&'static str, Vec<Value>)>,
}

/// Rows of one table.
#[derive(Debug)]
pub(crate) struct Insert {
    pub(crate) table: &'static Table,
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Changes {
    pub(crate) fn insert(&mut self, table: &'static Table, sums: &'static [Sums], row: Vec<Value>) {
        let known = self.inserts.iter().position(|insert| insert.table.name == table.name);
        let at = known.unwrap_or_else(|| {
            self.inserts.push(Insert { table, rows: Vec::new() });
            self.inserts.len() - 1
        });
        let Some(insert) = self.inserts.get_mut(at) else { return };
        if !sums.is_empty() {
            self.summed.push((sums, at, insert.rows.len()));
        }
        insert.rows.push(row);
    }

    /// Nothing was applied or recorded.
    pub(crate) const fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Each row that changed once, in order, new ones apart.
    pub(crate) fn settle_order(&mut self) {
        self.touched_lots.sort_unstable();
        self.touched_lots.dedup();
        self.touched_lots.retain(|lot| !self.new_lots.contains(lot));
        self.touched_counters.sort_unstable();
        self.touched_counters.dedup();
        self.touched_claims.sort_unstable();
        self.touched_claims.dedup();
        for (touched, new) in [
            (&mut self.touched_accounts, &self.new_accounts),
            (&mut self.touched_holds, &self.new_holds),
        ] {
            touched.sort_unstable();
            touched.dedup();
            touched.retain(|id| new.binary_search(id).is_err());
        }
    }
}
