//! The journal over a database that fails at every point, in ways that its callers cannot tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::{Amount, Timestamp};
use store::{Database, Error};
use testkit::FakeClock;

use crate::backend::{Backend, SqliteBackend, Work};
use crate::state::{Need, State};
use crate::{
    AccountKey, AccountKind, Charge, Command, Config, Decided, HoldLeg, HoldRef, Journal,
    JournalError, Leg, MIGRATIONS, Operation, Outcome, Unit, balance, verify,
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

    fn is_free(&self) -> bool {
        self.inner.is_free()
    }

    fn read(&mut self, state: &mut State, need: &Need) -> store::Result<()> {
        match next(&self.random) % 10 {
            0 => Err(Error::TaskLost),
            _ => self.inner.read(state, need),
        }
    }

    fn batch(&mut self, state: &mut State, need: &Need, work: Work<'_>) -> store::Result<()> {
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

/// Repeats under the same id until there is an outcome, as every caller must. What is not decided ahead
/// claims each time that its id is new: it gets its first outcome all the same.
async fn insist(journal: &Journal, mut unit: Unit, ahead: bool) -> Result<Decided, JournalError> {
    loop {
        let outcome = if ahead {
            journal.decide(unit.clone()).await
        } else {
            journal.submit(unit.clone()).await.map(Decided::from)
        };
        unit.fresh &= !ahead;
        match outcome {
            Err(JournalError::Storage(_) | JournalError::Busy) => tokio::task::yield_now().await,
            outcome => return outcome,
        }
    }
}

fn account(owner: &str, kind: AccountKind) -> AccountKey {
    AccountKey::new(owner, kind, "CNY".parse().unwrap())
}

/// A call whose hold is on disk before it goes on, or (every other one) only decided.
async fn call(journal: Journal, number: u64) -> i64 {
    let leg =
        HoldLeg { account: account("org", AccountKind::Wallet), amount: Amount::from_nanos(10) };
    let lease_until = Timestamp::from_micros(i64::MAX);
    let take = Command::Hold { legs: vec![leg], claims: Vec::new(), lease_until };
    let take = Operation::new(format!("hold{number}"), take);
    let mut take = Unit { fresh: true, ..take.into() };
    loop {
        let ahead = !number.is_multiple_of(2);
        let held = insist(&journal, take.clone(), ahead).await.unwrap();
        take.fresh = false;
        if !matches!(held.receipt().outcome, Outcome::Applied(_)) {
            return 0;
        }
        let settled = insist(&journal, settle(number, held.hold()), false).await;
        match settled.map(|settled| settled.receipt().outcome) {
            Ok(Outcome::Applied(applied)) => return applied.amount.nanos(),
            // It was decided, and then lost: the caller takes it again.
            Err(JournalError::HoldLost) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn settle(number: u64, hold: &HoldRef) -> Unit {
    let charge = Charge {
        leg: 0,
        to: account("platform", AccountKind::Revenue),
        amount: Amount::from_nanos(i64::try_from(number % 10).unwrap()),
    };
    let (charges, max_debt) = (vec![charge], Amount::ZERO);
    let settle = Command::Settle { hold: hold.id(), charges, max_debt, tokens: 0 };
    let settle = Operation::new(format!("settle{number}"), settle);
    Unit { hold: Some(hold.clone()), fresh: true, ..settle.into() }
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
        let grant = Operation::new("grant", Command::Transfer { legs: vec![leg] });
        insist(&journal, grant.into(), false).await.unwrap();
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
