//! The ledger as its users see it, on every database there is.
#![cfg(test)]

mod books;
mod instances;
mod lots;
mod tampering;

use std::sync::Arc;

use kernel::{Amount, Timestamp};
use ledger::{
    AccountKey, AccountKind, Applied, Charge, Command, Config, HoldId, HoldLeg, Journal,
    JournalError, Leg, MIGRATIONS, Operation, Outcome, Receipt,
};
use store::Migration;
use testkit::{FakeClock, TestDatabase, databases};

/// A table of the tests' own, audited like usage records.
const NOTES: Migration = Migration {
    name: "9000_notes",
    sqlite: "CREATE TABLE notes (op_seq INTEGER PRIMARY KEY, text TEXT NOT NULL CHECK (text <> 'bad'), cost INTEGER NOT NULL) STRICT;",
    mysql: "CREATE TABLE notes (op_seq BIGINT PRIMARY KEY, text VARCHAR(20) NOT NULL CHECK (text <> 'bad'), cost BIGINT NOT NULL);",
};

fn migrations() -> Vec<Migration> {
    [MIGRATIONS, &[NOTES]].concat()
}

/// A journal on a fresh database of each kind.
async fn journals() -> Vec<(TestDatabase, Journal, FakeClock)> {
    let mut all = Vec::new();
    for test in databases(&migrations()).await {
        let clock = FakeClock::default();
        let journal =
            Journal::start(test.database.clone(), Arc::new(clock.clone()), &Config::default())
                .unwrap();
        all.push((test, journal, clock));
    }
    all
}

fn nanos(amount: i64) -> Amount {
    Amount::from_nanos(amount)
}

fn wallet(owner: &str) -> AccountKey {
    AccountKey::new(owner, AccountKind::Wallet, "CNY".parse().unwrap())
}

fn platform(kind: AccountKind) -> AccountKey {
    AccountKey::new("platform", kind, "CNY".parse().unwrap())
}

fn grant(id: &str, owner: &str, amount: i64) -> Operation {
    let leg = Leg { from: platform(AccountKind::Grant), to: wallet(owner), amount: nanos(amount) };
    Operation::new(id, Command::Transfer { legs: vec![leg] })
}

fn hold(id: &str, owner: &str, amount: i64) -> Operation {
    let legs = vec![HoldLeg { account: wallet(owner), amount: nanos(amount) }];
    Operation::new(
        id,
        Command::Hold { legs, claims: Vec::new(), lease_until: Timestamp::from_micros(i64::MAX) },
    )
}

fn settle(id: &str, hold: i64, amount: i64) -> Operation {
    let charge = Charge { leg: 0, to: platform(AccountKind::Revenue), amount: nanos(amount) };
    let settle = Command::Settle {
        hold: HoldId(hold),
        charges: vec![charge],
        max_debt: nanos(5),
        tokens: 0,
    };
    Operation::new(id, settle)
}

fn applied(receipt: &Receipt) -> Applied {
    match receipt.outcome {
        Outcome::Applied(applied) => applied,
        Outcome::Refused(refusal) => panic!("refused: {refusal}"),
    }
}

/// Submits until the queue has room.
async fn patiently(journal: &Journal, operation: Operation) -> Receipt {
    loop {
        match journal.submit(operation.clone()).await {
            Err(JournalError::Busy) => tokio::task::yield_now().await,
            outcome => return outcome.unwrap(),
        }
    }
}
