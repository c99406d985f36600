//! What the machine works on: the part of the books that a batch needs, in memory.

use std::collections::HashMap;
use std::sync::Arc;

use store::Value;

use crate::rows::{Account, Head, Hold, HoldState, OperationRow, TransferRow};
use crate::{AccountKey, AccountKind, Balance, Command, Table, Unit};

/// The part of the books in memory. What is not in here but was asked for does not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) head: Head,
    accounts: HashMap<i64, Account>,
    ids: HashMap<AccountKey, Option<i64>>,
    pub(crate) holds: HashMap<i64, Hold>,
    pub(crate) operations: HashMap<Arc<str>, OperationRow>,
    pub(crate) originals: HashMap<Arc<str>, Original>,
    #[cfg(test)]
    pub(crate) sabotage: Option<Sabotage>,
}

/// An operation that may be reversed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Original {
    pub(crate) seq: i64,
    pub(crate) transfers: Vec<TransferRow>,
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

    /// Forgets everything: the books are read again from where they stand.
    pub(crate) fn restart(&mut self, head: Head) {
        self.head = head;
        self.accounts.clear();
        self.ids.clear();
        self.holds.clear();
        self.operations.clear();
        self.originals.clear();
    }

    /// Keeps what the next batches need: accounts and open holds.
    pub(crate) fn end_batch(&mut self) {
        self.operations.clear();
        self.originals.clear();
        self.holds.retain(|_, hold| hold.state == HoldState::Open);
    }

    pub(crate) fn accounts_known(&self) -> usize {
        self.ids.len()
    }
}

/// What a batch needs to know.
#[derive(Debug, Default)]
pub(crate) struct Need {
    pub(crate) operations: Vec<Arc<str>>,
    pub(crate) accounts: Vec<AccountKey>,
    pub(crate) holds: Vec<i64>,
    pub(crate) originals: Vec<Arc<str>>,
}

impl Need {
    /// What these units need; debts come with their wallets.
    pub(crate) fn of(units: &[Unit]) -> Self {
        let mut need = Self::default();
        for unit in units {
            need.operations.push(Arc::clone(&unit.operation.id));
            match &unit.operation.command {
                Command::Transfer { legs } => {
                    legs.iter()
                        .flat_map(|leg| [&leg.from, &leg.to])
                        .for_each(|key| need.account(key));
                }
                Command::Hold { legs, .. } => {
                    legs.iter().for_each(|leg| need.account(&leg.account));
                }
                Command::Settle { hold, charges, .. } => {
                    need.holds.push(hold.0);
                    charges.iter().for_each(|charge| need.account(&charge.to));
                }
                Command::Extend { hold, .. }
                | Command::Void { hold }
                | Command::Expire { hold, .. } => {
                    need.holds.push(hold.0);
                }
                Command::Renew { holds, .. } => need.holds.extend(holds.iter().map(|hold| hold.0)),
                Command::Reverse { original } => need.originals.push(Arc::clone(original)),
            }
        }
        need
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
    pub(crate) inserts: Vec<Insert>,
    pub(crate) runs: Vec<(&'static str, Vec<Value>)>,
}

/// Rows of one table.
#[derive(Debug)]
pub(crate) struct Insert {
    pub(crate) table: &'static Table,
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Changes {
    pub(crate) fn insert(&mut self, table: &'static Table, row: Vec<Value>) {
        match self.inserts.iter_mut().find(|insert| insert.table.name == table.name) {
            Some(insert) => insert.rows.push(row),
            None => self.inserts.push(Insert { table, rows: vec![row] }),
        }
    }

    /// Each account and hold once, in order, new ones apart.
    pub(crate) fn settle_order(&mut self) {
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
