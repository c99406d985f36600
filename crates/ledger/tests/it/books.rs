//! Operations on one journal.

use std::time::Duration;

use kernel::{Clock as _, Timestamp};
use ledger::{
    AccountKind, Attachment, Cell, Command, Config, HoldId, HoldLeg, Journal, JournalError,
    Operation, Outcome, Refusal, Table, Unit, balance, holdings, recover, sweep, verify,
};
use store::{Database, Value};

use super::{applied, grant, hold, journals, nanos, patiently, settle, wallet};

static NOTES: Table = Table { name: "notes", columns: &["op_seq", "text", "cost"], audited: true };

fn with_note(operation: Operation, text: &str) -> Unit {
    let cells = vec![Cell::Seq, text.into(), Cell::Amount];
    Unit::new(operation, vec![Attachment::Insert { table: &NOTES, cells }])
}

#[tokio::test]
async fn a_call_is_held_charged_and_the_rest_released() {
    for (test, journal, _clock) in journals().await {
        applied(&journal.submit(grant("g", "org", 100)).await.unwrap());
        let held = journal.submit(hold("h", "org", 60)).await.unwrap();
        assert_eq!(applied(&held).available, nanos(40));
        let settled = journal.submit(settle("s", held.seq, 25)).await.unwrap();
        assert_eq!(applied(&settled).available, nanos(75));
        let (balance, as_of) = balance(&test.database, &wallet("org")).await.unwrap();
        assert_eq!((balance.posted, balance.held, as_of), (nanos(75), nanos(0), 3));
        let again = journal.submit(settle("s2", held.seq, 25)).await.unwrap();
        assert_eq!(again.outcome, Outcome::Refused(Refusal::HoldResolved));
        let sales = holdings(&test.database, "platform", AccountKind::Revenue).await.unwrap();
        assert_eq!(sales[0].balance.posted, nanos(25));
        assert!(verify(&test.database, &[]).await.unwrap().ok, "{}", test.kind);
    }
}

#[tokio::test]
async fn an_id_that_is_called_new_and_is_not_has_its_first_outcome() {
    for (test, journal, _clock) in journals().await {
        journal.submit(grant("g", "org", 100)).await.unwrap();
        let first = journal.submit(hold("h", "org", 60)).await.unwrap();
        let again = |operation: Operation| {
            let unit = Unit { fresh: true, ..operation.into() };
            journal.submit(unit)
        };
        let (repeated, other, conflicting) = tokio::join!(
            again(hold("h", "org", 60)),
            again(hold("h2", "org", 10)),
            again(hold("h", "org", 30))
        );
        let repeated = repeated.unwrap();
        assert_eq!((repeated.seq, repeated.replayed), (first.seq, true), "{}", test.kind);
        assert!(!other.unwrap().replayed);
        assert!(matches!(conflicting, Err(JournalError::Conflict)), "{}", test.kind);
        let (balance, _) = balance(&test.database, &wallet("org")).await.unwrap();
        assert_eq!((balance.posted, balance.held), (nanos(100), nanos(70)));
        assert!(verify(&test.database, &[]).await.unwrap().ok, "{}", test.kind);
    }
}

#[tokio::test]
async fn a_refusal_stays_and_a_replay_survives_a_restart() {
    for (test, journal, clock) in journals().await {
        let refused = journal.submit(hold("h", "org", 10)).await.unwrap();
        let none = Refusal::InsufficientFunds { required: nanos(10), available: nanos(0) };
        assert_eq!(refused.outcome, Outcome::Refused(none));
        let granted = journal.submit(grant("g", "org", 100)).await.unwrap();
        journal.close().await;
        assert!(matches!(journal.submit(grant("x", "org", 1)).await, Err(JournalError::Stopped)));
        clock.advance(Duration::from_secs(5));
        let journal =
            Journal::start(test.database.clone(), std::sync::Arc::new(clock), &Config::default())
                .unwrap();
        let again = journal.submit(hold("h", "org", 10)).await.unwrap();
        assert_eq!(
            (again.outcome, again.seq, again.replayed),
            (refused.outcome, refused.seq, true)
        );
        let again = journal.submit(grant("g", "org", 100)).await.unwrap();
        assert_eq!((again.outcome, again.at, again.replayed), (granted.outcome, granted.at, true));
        let other = journal.submit(grant("g", "org", 101)).await;
        assert!(matches!(other, Err(JournalError::Conflict)), "{}", test.kind);
        let long = journal.submit(grant(&"i".repeat(129), "org", 1)).await;
        assert!(matches!(long, Err(JournalError::TooLong)));
    }
}

#[tokio::test]
async fn what_exceeds_the_hold_comes_from_free_money_then_debt_and_is_repaid_first() {
    for (test, journal, _clock) in journals().await {
        journal.submit(grant("g", "org", 30)).await.unwrap();
        let first = journal.submit(hold("h1", "org", 10)).await.unwrap();
        let other = journal.submit(hold("h2", "org", 15)).await.unwrap();
        let settled = applied(&journal.submit(settle("s1", first.seq, 40)).await.unwrap());
        // 10 held and 5 free, 5 owed, 20 beyond what may be owed; the other call's 15 stay.
        assert_eq!(
            (settled.amount, settled.debt, settled.written_off),
            (nanos(20), nanos(5), nanos(20))
        );
        let (now, _) = balance(&test.database, &wallet("org")).await.unwrap();
        assert_eq!((now.posted, now.held), (nanos(15), nanos(15)));
        journal.submit(settle("s2", other.seq, 3)).await.unwrap();
        let (now, _) = balance(&test.database, &wallet("org")).await.unwrap();
        assert_eq!(now.posted, nanos(15 - 3 - 5), "the debt is repaid from what was released");
        let debts = holdings(&test.database, "org", AccountKind::Debt).await.unwrap();
        assert_eq!(debts[0].balance.posted, nanos(0));
        assert!(verify(&test.database, &[]).await.unwrap().ok);
    }
}

#[tokio::test]
async fn leases_run_out_are_renewed_and_late_settlements_still_count() {
    for (test, journal, clock) in journals().await {
        journal.submit(grant("g", "org", 100)).await.unwrap();
        let until = |seconds| clock.now().after(Duration::from_secs(seconds));
        let lease = |id: &str, seconds| {
            let legs = vec![HoldLeg { account: wallet("org"), amount: nanos(10) }];
            Operation::new(
                id,
                Command::Hold { legs, claims: Vec::new(), lease_until: until(seconds) },
            )
        };
        let short = journal.submit(lease("short", 10)).await.unwrap();
        let renewed = journal.submit(lease("renewed", 10)).await.unwrap();
        let renew = Command::Renew {
            holds: vec![HoldId(renewed.seq), HoldId(999)],
            lease_until: until(60),
        };
        journal.submit(Operation::new("renew", renew)).await.unwrap();
        assert_eq!(sweep(&journal, &test.database, clock.now()).await.unwrap(), 0);
        clock.advance(Duration::from_secs(11));
        assert_eq!(sweep(&journal, &test.database, clock.now()).await.unwrap(), 1);
        assert_eq!(sweep(&journal, &test.database, clock.now()).await.unwrap(), 0);
        let (now, _) = balance(&test.database, &wallet("org")).await.unwrap();
        assert_eq!(now.held, nanos(10));
        let late = applied(&journal.submit(settle("late", short.seq, 7)).await.unwrap());
        assert!(late.late && late.amount == nanos(7));
        assert_eq!(recover(&journal, &test.database).await.unwrap(), 1);
        let (now, _) = balance(&test.database, &wallet("org")).await.unwrap();
        assert_eq!((now.posted, now.held), (nanos(93), nanos(0)));
        let report = verify(&test.database, &[]).await.unwrap();
        assert!(report.ok && report.open_holds == 0, "{}: {:?}", test.kind, report.findings);
    }
}

#[tokio::test]
async fn a_unit_that_does_not_fit_its_table_fails_alone() {
    for (test, journal, _clock) in journals().await {
        let units = (0..40).map(|number| {
            let text = if number == 17 { "bad" } else { "good" };
            let journal = journal.clone();
            let unit = with_note(grant(&format!("g{number}"), "org", 1), text);
            tokio::spawn(async move { journal.submit(unit).await })
        });
        let mut outcomes = Vec::new();
        for unit in units.collect::<Vec<_>>() {
            outcomes.push(unit.await.unwrap());
        }
        let failed: Vec<usize> = (0..40).filter(|at| outcomes[*at].is_err()).collect();
        assert_eq!(failed, [17], "{}", test.kind);
        assert!(matches!(outcomes[17], Err(JournalError::Attachment(_))));
        let (now, _) = balance(&test.database, &wallet("org")).await.unwrap();
        assert_eq!(now.posted, nanos(39));
        let notes = test.database.query("SELECT COUNT(*) FROM notes", &[]).await.unwrap();
        assert_eq!(notes[0].int(0).unwrap(), 39);
        assert!(verify(&test.database, &[&NOTES]).await.unwrap().ok);
    }
}

#[tokio::test]
async fn the_queue_is_bounded_and_closing_writes_what_waits() {
    for (test, _journal, clock) in journals().await {
        let config = Config { queue: 4, max_batch: 2 };
        let journal =
            Journal::start(test.database.clone(), std::sync::Arc::new(clock), &config).unwrap();
        let tries: Vec<_> = (0..200)
            .map(|number| {
                let journal = journal.clone();
                tokio::spawn(
                    async move { journal.submit(grant(&format!("g{number}"), "org", 1)).await },
                )
            })
            .collect();
        let mut done = 0;
        for (number, tried) in tries.into_iter().enumerate() {
            match tried.await.unwrap() {
                Ok(_) => done += 1,
                Err(JournalError::Busy) => {
                    patiently(&journal, grant(&format!("g{number}"), "org", 1)).await;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(done < 200, "the queue never filled");
        journal.close().await;
        let (now, _) = balance(&test.database, &wallet("org")).await.unwrap();
        assert_eq!(now.posted, nanos(200), "{}", test.kind);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let (test, journal, _clock) = journals().await.swap_remove(0);
    let Database::Sqlite(sqlite) = &test.database else { panic!("the first is SQLite") };
    let pages: i64 = sqlite.writer().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    sqlite.writer().pragma_update(None, "max_page_count", pages + 2).unwrap();
    let mut written = 0;
    let failure = loop {
        match journal.submit(grant(&format!("g{written}"), "org", 1)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(failure, JournalError::Storage(_)), "{failure:?}");
    assert!(journal.failure().is_some());
    sqlite.writer().pragma_update(None, "max_page_count", pages + 1000).unwrap();
    let receipt = journal.submit(grant(&format!("g{written}"), "org", 1)).await.unwrap();
    assert!(!receipt.replayed && journal.failure().is_none());
    let (now, _) = balance(&test.database, &wallet("org")).await.unwrap();
    assert_eq!(now.posted, nanos(written + 1));
    assert!(verify(&test.database, &[]).await.unwrap().ok);
}

#[tokio::test]
async fn what_has_moved_since_an_operation_is_found_as_it_is_now() {
    for (test, journal, _clock) in journals().await {
        let (database, kind) = (&test.database, AccountKind::Wallet);
        assert_eq!(ledger::head(database).await.unwrap(), 0, "{}", test.kind);
        for owner in ["a", "b", "c"] {
            journal.submit(grant(&format!("g{owner}"), owner, 10)).await.unwrap();
        }
        let seen = ledger::head(database).await.unwrap();
        assert_eq!(seen, 3);
        // Only set aside: nothing has moved.
        journal.submit(hold("h", "a", 4)).await.unwrap();
        assert!(ledger::moved(database, kind, seen).await.unwrap().is_empty(), "{}", test.kind);
        journal.submit(settle("s", 4, 3)).await.unwrap();
        journal.submit(grant("g2", "c", 1)).await.unwrap();
        let mut moved = ledger::moved(database, kind, seen).await.unwrap();
        moved.sort_by(|one, other| one.account.owner.cmp(&other.account.owner));
        let shown: Vec<_> = moved
            .iter()
            .map(|one| (one.account.owner.as_ref(), one.balance.posted, one.as_of_seq))
            .collect();
        assert_eq!(shown, [("a", nanos(7), 6), ("c", nanos(11), 6)], "{}", test.kind);
        let asset = wallet("a").asset;
        let of = [("b", asset), ("nobody", asset), ("a", "USD".parse().unwrap())];
        let held = ledger::holdings_of(database, kind, &of).await.unwrap();
        assert_eq!(held.len(), 1, "{}", test.kind);
        assert_eq!((&held[0].account, held[0].balance.posted), (&wallet("b"), nanos(10)));
        assert!(ledger::holdings_of(database, kind, &[]).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn time_never_goes_back() {
    for (test, journal, clock) in journals().await {
        let first = journal.submit(grant("a", "org", 1)).await.unwrap();
        clock.set(Timestamp::from_micros(5));
        let second = journal.submit(grant("b", "org", 1)).await.unwrap();
        assert_eq!(first.at, second.at, "{}", test.kind);
    }
}

#[tokio::test]
async fn books_are_never_changed_through_the_database_either() {
    for (test, journal, _clock) in journals().await {
        journal.submit(grant("a", "org", 1)).await.unwrap();
        for sql in [
            "UPDATE ledger_operations SET amount = 2",
            "DELETE FROM ledger_operations",
            "UPDATE ledger_transfers SET amount = 2",
            "DELETE FROM ledger_transfers",
        ] {
            let refused =
                test.database.execute(store::Statement::new(sql, Vec::<Value>::new())).await;
            assert!(refused.is_err(), "{}: {sql}", test.kind);
        }
        let overdrawn = "UPDATE ledger_accounts SET held = posted + 1 WHERE kind = 'wallet'";
        assert!(test.database.execute(store::Statement::new(overdrawn, vec![])).await.is_err());
    }
}
