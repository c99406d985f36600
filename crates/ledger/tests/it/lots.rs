//! Lots and limits, on every database there is, across restarts and instances.

use std::sync::Arc;
use std::time::Duration;

use kernel::{SystemClock, Timestamp};
use ledger::{
    AccountKind, Claim, Command, Config, Journal, Leg, LotId, LotKind, LotTerms, Measure,
    Operation, Outcome, Refusal, Window, balance, lots, verify,
};
use store::Database;
use testkit::{FakeClock, databases};

use super::{
    applied, grant, hold, journals, migrations, nanos, patiently, platform, settle, wallet,
};

fn lot(id: &str, owner: &str, amount: i64, terms: LotTerms) -> Operation {
    let leg = Leg { from: platform(AccountKind::Grant), to: wallet(owner), amount: nanos(amount) };
    Operation::new(id, Command::Grant { leg, terms })
}

const fn terms(kind: LotKind, priority: i32, expires_at: Option<Timestamp>) -> LotTerms {
    LotTerms { kind, priority, expires_at }
}

fn claim(what: &str, window: Window, measure: Measure, amount: i64, limit: i64) -> Claim {
    Claim { counter: format!("key:k/{what}").into(), window, measure, amount, limit: Some(limit) }
}

fn limited(id: &str, owner: &str, amount: i64, claims: Vec<Claim>) -> Operation {
    let mut operation = hold(id, owner, amount);
    if let Command::Hold { claims: place, .. } = &mut operation.command {
        *place = claims;
    }
    operation
}

/// What is left of an owner's lots, in the order they are spent.
async fn left(database: &Database, owner: &str) -> Vec<i64> {
    let held = lots(database, &wallet(owner)).await.unwrap();
    held.iter().map(|lot| lot.remaining.nanos()).collect()
}

#[tokio::test]
async fn lots_are_spent_in_order_expire_and_come_back_with_a_reversal() {
    for (test, journal, clock) in journals().await {
        let soon = Timestamp::from_micros(clock_now(&clock) + 1_000_000);
        journal.submit(grant("base", "org", 100)).await.unwrap();
        let promotion = terms(LotKind::Promotional, 100, Some(soon));
        journal.submit(lot("promotion", "org", 30, promotion)).await.unwrap();
        journal.submit(lot("late", "org", 20, terms(LotKind::Paid, 101, None))).await.unwrap();
        let first = journal.submit(lot("first", "org", 10, terms(LotKind::Paid, 1, None))).await;
        let first = LotId { seq: first.unwrap().seq, leg: 0 };
        assert_eq!(left(&test.database, "org").await, [10, 30, 20]);
        let held = journal.submit(hold("h", "org", 25)).await.unwrap();
        applied(&journal.submit(settle("s", held.seq, 25)).await.unwrap());
        assert_eq!(left(&test.database, "org").await, [15, 20], "{}", test.kind);

        // A charge that is moved back fills its lots again.
        let back = Operation::new("r", Command::Reverse { original: "s".into() });
        applied(&journal.submit(back).await.unwrap());
        assert_eq!(left(&test.database, "org").await, [10, 30, 20]);

        // Nothing expires early, and nothing that a call has set aside.
        let expire = |id: &str, lot| Operation::new(id, Command::ExpireLot { lot });
        let promotion = LotId { seq: 2, leg: 0 };
        let early = journal.submit(expire("e", promotion)).await.unwrap();
        assert_eq!(early.outcome, Outcome::Refused(Refusal::LotNotDue));
        let held = journal.submit(hold("most", "org", 150)).await.unwrap();
        clock.advance(Duration::from_secs(2));
        let expired = journal.submit(expire("e", promotion)).await.unwrap();
        assert_eq!(applied(&expired).amount, nanos(10), "what is free expires");
        applied(&journal.submit(settle("most is used", held.seq, 0)).await.unwrap());
        let expired = journal.submit(expire("e2", promotion)).await.unwrap();
        assert_eq!(applied(&expired).amount, nanos(20));
        let unknown = journal.submit(expire("e3", LotId { seq: 99, leg: 0 })).await.unwrap();
        assert_eq!(unknown.outcome, Outcome::Refused(Refusal::LotNotFound));

        // A grant whose credit is partly spent cannot be taken back.
        let held = journal.submit(hold("h2", "org", 4)).await.unwrap();
        applied(&journal.submit(settle("s2", held.seq, 4)).await.unwrap());
        assert_eq!(lots(&test.database, &wallet("org")).await.unwrap()[0].id, first);
        let back = Operation::new("r2", Command::Reverse { original: "first".into() });
        let refused = journal.submit(back).await.unwrap();
        let expected = Refusal::InsufficientFunds { required: nanos(10), available: nanos(6) };
        assert_eq!(refused.outcome, Outcome::Refused(expected));
        let (now, _) = balance(&test.database, &wallet("org")).await.unwrap();
        assert_eq!(now.posted, nanos(100 + 20 + 6));
        let report = verify(&test.database, &[]).await.unwrap();
        assert!(report.ok, "{:?}", report.findings);
    }
}

fn clock_now(clock: &FakeClock) -> i64 {
    use kernel::Clock as _;
    clock.now().micros()
}

#[tokio::test]
async fn claims_are_counted_refused_kept_over_a_restart_and_freed() {
    for (test, journal, clock) in journals().await {
        journal.submit(grant("g", "org", 1_000)).await.unwrap();
        let claims = |tokens: i64| {
            vec![
                claim("requests", Window::Minute, Measure::Requests, 1, 3),
                claim("slots", Window::Standing, Measure::Slots, 1, 2),
                claim("tokens", Window::Minute, Measure::Tokens, tokens, 100),
            ]
        };
        let first = journal.submit(limited("a", "org", 10, claims(60))).await.unwrap();
        let shown: Vec<i64> = first.claims.iter().map(|claimed| claimed.used).collect();
        assert_eq!(shown, [1, 1, 60]);
        let refused = journal.submit(limited("b", "org", 10, claims(41))).await.unwrap();
        let Outcome::Refused(Refusal::LimitReached { claim, limit, used, wanted, resets_at }) =
            refused.outcome
        else {
            panic!("{refused:?}")
        };
        assert_eq!((claim, limit, used, wanted), (2, 100, 60, 41));
        assert!(resets_at.unwrap().micros() > clock_now(&clock));
        journal.close().await;

        // A refusal leaves nothing behind; what is held is known to whoever comes next.
        let clock_again = Arc::new(clock.clone());
        let again = Journal::start(test.database.clone(), clock_again, &Config::default()).unwrap();
        applied(&again.submit(limited("b", "org", 10, claims(40))).await.unwrap());
        let slots = again.submit(limited("c", "org", 1, claims(0))).await.unwrap();
        assert!(matches!(slots.outcome, Outcome::Refused(Refusal::LimitReached { claim: 1, .. })));
        let mut settled = settle("s", first.seq, 5);
        if let Command::Settle { tokens, .. } = &mut settled.command {
            *tokens = 7;
        }
        applied(&again.submit(settled).await.unwrap());
        let third = again.submit(limited("c", "org", 1, claims(53))).await.unwrap();
        let shown: Vec<i64> = third.claims.iter().map(|claimed| claimed.used).collect();
        assert_eq!(shown, [3, 2, 100], "7 used, 40 and 53 held");
        let end = Operation::new("v", Command::Void { hold: ledger::HoldId(third.seq) });
        applied(&again.submit(end).await.unwrap());
        let fourth = again.submit(limited("d", "org", 1, claims(1))).await.unwrap();
        assert!(matches!(fourth.outcome, Outcome::Refused(Refusal::LimitReached { claim: 0, .. })));
        clock.advance(Duration::from_mins(1));
        applied(&again.submit(limited("d", "org", 1, claims(100))).await.unwrap());
        let report = verify(&test.database, &[]).await.unwrap();
        assert!(report.ok, "{}: {:?}", test.kind, report.findings);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_on_one_server_share_one_limit() {
    let Some(test) = databases(&migrations()).await.into_iter().find(|test| test.kind == "mysql")
    else {
        return;
    };
    let mut instances = Vec::new();
    for _ in 0..2 {
        let database = Database::open(&test.url, test.folder.path()).await.unwrap();
        let clock = Arc::new(SystemClock);
        instances.push(Journal::start(database, clock, &Config::default()).unwrap());
    }
    instances[0].submit(grant("g", "org", 100_000)).await.unwrap();
    let callers: Vec<_> = (0..40)
        .map(|caller| {
            let journal = instances[caller % 2].clone();
            tokio::spawn(async move {
                let mut admitted = 0;
                for call in 0..10 {
                    let window = Window::Period {
                        start: Timestamp::from_micros(0),
                        end: Timestamp::from_micros(i64::MAX),
                    };
                    let claims = vec![claim("calls", window, Measure::Requests, 1, 137)];
                    let id = format!("{caller}:{call}");
                    let receipt = patiently(&journal, limited(&id, "org", 1, claims)).await;
                    admitted += i32::from(matches!(receipt.outcome, Outcome::Applied(_)));
                }
                admitted
            })
        })
        .collect();
    let mut admitted = 0;
    for caller in callers {
        admitted += caller.await.unwrap();
    }
    assert_eq!(admitted, 137, "exactly as many as the limit allows");
}
