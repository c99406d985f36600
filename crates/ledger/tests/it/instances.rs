//! Many callers, and many instances on one database.

use std::sync::Arc;

use kernel::SystemClock;
use ledger::{Config, Journal, Outcome, balance, verify};
use store::Database;
use testkit::{FakeClock, databases};

use super::{grant, hold, journals, migrations, nanos, patiently, settle, wallet};

/// Calls one after another until the money is gone; returns what was charged.
async fn spend(journal: Journal, caller: usize, calls: usize) -> i64 {
    let mut spent = 0;
    for call in 0..calls {
        let held = patiently(&journal, hold(&format!("h{caller}:{call}"), "org", 10)).await;
        let Outcome::Applied(applied) = held.outcome else { continue };
        assert!(!applied.available.is_negative());
        let charge = i64::try_from((caller * 7 + call) % 11).unwrap();
        let settled =
            patiently(&journal, settle(&format!("s{caller}:{call}"), held.seq, charge)).await;
        let Outcome::Applied(applied) = settled.outcome else { panic!("{settled:?}") };
        spent += applied.amount.nanos();
    }
    spent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_overdraws_under_concurrency() {
    for (test, journal, _clock) in journals().await {
        journal.submit(grant("g", "org", 2_000)).await.unwrap();
        let callers: Vec<_> =
            (0..64).map(|caller| tokio::spawn(spend(journal.clone(), caller, 15))).collect();
        let mut spent = 0;
        for caller in callers {
            spent += caller.await.unwrap();
        }
        let (now, _) = balance(&test.database, &wallet("org")).await.unwrap();
        assert_eq!((now.posted, now.held), (nanos(2_000 - spent), nanos(0)), "{}", test.kind);
        assert!(spent > 1_900, "the wallet was not used up: {spent}");
        assert!(verify(&test.database, &[]).await.unwrap().ok);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_on_one_server_share_one_wallet() {
    let Some(test) = databases(&migrations()).await.into_iter().find(|test| test.kind == "mysql")
    else {
        return;
    };
    let mut instances = Vec::new();
    for _ in 0..2 {
        let database = Database::open(&test.url, test.folder.path()).await.unwrap();
        instances
            .push(Journal::start(database, Arc::new(SystemClock), &Config::default()).unwrap());
    }
    instances[0].submit(grant("g", "org", 2_000)).await.unwrap();
    let callers: Vec<_> = (0..32)
        .map(|caller| tokio::spawn(spend(instances[caller % 2].clone(), caller, 20)))
        .collect();
    let mut spent = 0;
    for caller in callers {
        spent += caller.await.unwrap();
    }
    // The same id on both instances is one operation.
    let again = instances[1].submit(grant("g", "org", 2_000)).await.unwrap();
    assert!(again.replayed);
    let (now, _) = balance(&test.database, &wallet("org")).await.unwrap();
    assert_eq!((now.posted, now.held), (nanos(2_000 - spent), nanos(0)));
    let report = verify(&test.database, &[]).await.unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

/// The rows of the books that must not differ between databases, as text.
async fn stream(database: &Database) -> Vec<String> {
    let operations = "SELECT op_id, seq, kind, content, outcome, ref_seq, amount, debt, available, late, at, hash \
                      FROM ledger_operations ORDER BY seq";
    let transfers = "SELECT op_seq, leg, debit_account, credit_account, amount FROM ledger_transfers \
                     ORDER BY op_seq, leg";
    let mut lines = Vec::new();
    for row in database.query(operations, &[]).await.unwrap() {
        lines.push(format!("{} {:?}", row.text(0).unwrap(), &row.values()[1..]));
    }
    for row in database.query(transfers, &[]).await.unwrap() {
        lines.push(format!("{:?}", row.values()));
    }
    lines
}

#[tokio::test]
async fn every_database_writes_the_same_books() {
    let mut books = Vec::new();
    for test in databases(&migrations()).await {
        let journal = Journal::start(
            test.database.clone(),
            Arc::new(FakeClock::default()),
            &Config::default(),
        )
        .unwrap();
        let mut holds = Vec::new();
        for number in 0..300_i64 {
            let owner = format!("org{}", number % 5);
            let operation = match number % 4 {
                0 => grant(&format!("g{number}"), &owner, 20 + number % 7),
                1 | 2 => hold(&format!("h{number}"), &owner, number % 31),
                _ => match holds.pop() {
                    Some(hold) => settle(&format!("s{number}"), hold, number % 37),
                    None => grant(&format!("x{number}"), &owner, 1),
                },
            };
            let receipt = journal.submit(operation).await.unwrap();
            if number % 4 == 1 && matches!(receipt.outcome, Outcome::Applied(_)) {
                holds.push(receipt.seq);
            }
        }
        assert!(verify(&test.database, &[]).await.unwrap().ok);
        books.push((test.kind, stream(&test.database).await));
    }
    let (_, first) = &books[0];
    for (kind, other) in &books {
        assert!(first == other, "{kind} differs");
    }
}
