//! The journal over a database that fails at every point, in ways that its callers cannot tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::{Amount, Timestamp};
use store::{Database, Error, Result};
use testkit::FakeClock;

use crate::backend::{Backend, SqliteBackend, Work};
use crate::state::{Need, State};
use crate::{
    AccountKey, AccountKind, Charge, Command, Config, HoldId, HoldLeg, Journal, JournalError, Leg,
    MIGRATIONS, Operation, Outcome, Receipt, balance, verify,
};

/// Fails by a seeded sequence: before anything is written, or after all of it is.
#[derive(Debug)]
struct Faulty {
    inner: SqliteBackend,
    random: Arc<AtomicU64>,
}

/// A small generator: the seed alone decides.
fn next(random: &AtomicU64) -> u64 {
    let step = |state: u64| {
        let mixed = (state ^ (state >> 12)) ^ ((state ^ (state >> 12)) << 25);
        mixed ^ (mixed >> 27)
    };
    let before = random.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| Some(step(state)));
    before.unwrap_or_default().wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
}

impl Backend for Faulty {
    fn is_local(&self) -> bool {
        true
    }

    fn batch(&mut self, state: &mut State, need: &Need, work: Work<'_>) -> Result<()> {
        match next(&self.random) % 5 {
            0 => Err(Error::TaskLost),
            1 => {
                self.inner.batch(state, need, work)?;
                Err(Error::TaskLost)
            }
            _ => self.inner.batch(state, need, work),
        }
    }
}

/// Repeats under the same id until there is an outcome, as every caller must.
async fn insist(journal: &Journal, operation: Operation) -> Receipt {
    loop {
        match journal.submit(operation.clone()).await {
            Ok(receipt) => return receipt,
            Err(JournalError::Storage(_) | JournalError::Busy) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
}

fn account(owner: &str, kind: AccountKind) -> AccountKey {
    AccountKey::new(owner, kind, "CNY".parse().unwrap())
}

async fn call(journal: Journal, number: u64) -> i64 {
    let hold = Command::Hold {
        legs: vec![HoldLeg {
            account: account("org", AccountKind::Wallet),
            amount: Amount::from_nanos(10),
        }],
        claims: Vec::new(),
        lease_until: Timestamp::from_micros(i64::MAX),
    };
    let held = insist(&journal, Operation::new(format!("hold{number}"), hold)).await;
    if !matches!(held.outcome, Outcome::Applied(_)) {
        return 0;
    }
    let charge = Charge {
        leg: 0,
        to: account("platform", AccountKind::Revenue),
        amount: Amount::from_nanos(i64::try_from(number % 10).unwrap()),
    };
    let settle = Command::Settle {
        hold: HoldId(held.seq),
        charges: vec![charge],
        max_debt: Amount::ZERO,
        tokens: 0,
    };
    let settled = insist(&journal, Operation::new(format!("settle{number}"), settle)).await;
    match settled.outcome {
        Outcome::Applied(applied) => applied.amount.nanos(),
        Outcome::Refused(refusal) => panic!("{refusal}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_everything_is_done_once() {
    for seed in 1..=20_u64 {
        let test = testkit::sqlite(MIGRATIONS).await;
        let Database::Sqlite(sqlite) = test.database.clone() else { panic!("the first is SQLite") };
        let random = Arc::new(AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let backend =
            Box::new(Faulty { inner: SqliteBackend::new(sqlite), random: random.clone() });
        let journal =
            Journal::start_on(backend, Arc::new(FakeClock::default()), &Config::default()).unwrap();
        // Now by the journal's thread, now by the caller's.
        journal.write_at_once_when(move || next(&random).is_multiple_of(2));
        let leg = Leg {
            from: account("platform", AccountKind::Grant),
            to: account("org", AccountKind::Wallet),
            amount: Amount::from_nanos(600),
        };
        insist(&journal, Operation::new("grant", Command::Transfer { legs: vec![leg] })).await;
        let calls: Vec<_> =
            (0..100).map(|number| tokio::spawn(call(journal.clone(), number))).collect();
        let mut spent = 0;
        for call in calls {
            spent += call.await.unwrap();
        }
        journal.close().await;
        let (wallet, _) =
            balance(&test.database, &account("org", AccountKind::Wallet)).await.unwrap();
        assert_eq!((wallet.posted.nanos(), wallet.held.nanos()), (600 - spent, 0), "seed {seed}");
        let report = verify(&test.database, &[]).await.unwrap();
        assert!(report.ok, "seed {seed}: {:?}", report.findings);
    }
}
