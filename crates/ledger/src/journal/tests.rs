//! Holds that are decided ahead of the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernel::{Amount, Timestamp};
use parking_lot::{Condvar, Mutex};
use store::{Database, Error, Result, Statement};
use testkit::{FakeClock, TestDatabase};

use super::*;
use crate::backend::Work;
use crate::state::{Need, State};
use crate::{
    AccountKey, AccountKind, Attachment, Charge, Command, HoldId, HoldLeg, Leg, MIGRATIONS,
    Outcome, Table, balance, find_operation, verify,
};

/// Counts batches, refuses them, or keeps them waiting.
#[derive(Debug)]
struct Watched {
    inner: SqliteBackend,
    watch: Arc<Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    batches: AtomicU64,
    shut: Mutex<bool>,
    opened: Condvar,
    refusing: AtomicBool,
    /// This batch is refused.
    refused: AtomicU64,
    panicking: AtomicBool,
}

impl Watch {
    fn shut(&self, shut: bool) {
        *self.shut.lock() = shut;
        self.opened.notify_all();
    }

    fn refuse(&self, refusing: bool) {
        self.refusing.store(refusing, Ordering::SeqCst);
    }
}

impl Backend for Watched {
    fn is_local(&self) -> bool {
        true
    }

    fn is_free(&self) -> bool {
        self.inner.is_free()
    }

    fn read(&mut self, state: &mut State, need: &Need) -> Result<()> {
        self.inner.read(state, need)
    }

    fn batch(&mut self, state: &mut State, need: &Need, work: Work<'_>) -> Result<()> {
        let number = 1 + self.watch.batches.fetch_add(1, Ordering::SeqCst);
        self.watch.opened.wait_while(&mut self.watch.shut.lock(), |shut| *shut);
        assert!(!self.watch.panicking.load(Ordering::SeqCst), "as the test wants it");
        let refused = self.watch.refused.load(Ordering::SeqCst) == number;
        if refused || self.watch.refusing.load(Ordering::SeqCst) {
            // All is evaluated, nothing reaches the disk.
            work(state);
            return Err(Error::TaskLost);
        }
        self.inner.batch(state, need, work)
    }
}

struct Rig {
    test: TestDatabase,
    journal: Journal,
    watch: Arc<Watch>,
}

impl Rig {
    /// A journal that is watched; `org` has 100.
    async fn new() -> Self {
        let test = testkit::sqlite(MIGRATIONS).await;
        let Database::Sqlite(sqlite) = test.database.clone() else { panic!("the first is SQLite") };
        let watch = Arc::new(Watch::default());
        let backend = Watched { inner: SqliteBackend::new(sqlite), watch: Arc::clone(&watch) };
        let clock = Arc::new(FakeClock::default());
        let journal = Journal::start_on(Box::new(backend), clock, &Config::default()).unwrap();
        let leg = Leg {
            from: account("platform", AccountKind::Grant),
            to: account("org", AccountKind::Wallet),
            amount: Amount::from_nanos(100),
        };
        journal
            .submit(Operation::new("grant", Command::Transfer { legs: vec![leg] }))
            .await
            .unwrap();
        Self { test, journal, watch }
    }

    async fn posted_and_held(&self) -> (i64, i64) {
        let key = account("org", AccountKind::Wallet);
        let (wallet, _) = balance(&self.test.database, &key).await.unwrap();
        (wallet.posted.nanos(), wallet.held.nanos())
    }

    async fn is_on_disk(&self, id: &str) -> bool {
        find_operation(&self.test.database, id).await.unwrap().is_some()
    }

    async fn assert_fits(self) {
        self.journal.close().await;
        let report = verify(&self.test.database, &[]).await.unwrap();
        assert!(report.ok, "{:?}", report.findings);
    }
}

fn account(owner: &str, kind: AccountKind) -> AccountKey {
    AccountKey::new(owner, kind, "CNY".parse().unwrap())
}

fn hold(id: &str, amount: i64) -> Operation {
    let leg = HoldLeg {
        account: account("org", AccountKind::Wallet),
        amount: Amount::from_nanos(amount),
    };
    let lease_until = Timestamp::from_micros(i64::MAX);
    Operation::new(id, Command::Hold { legs: vec![leg], claims: Vec::new(), lease_until })
}

fn settle(id: &str, hold: &HoldRef, amount: i64) -> Unit {
    let to = account("platform", AccountKind::Revenue);
    let charge = Charge { leg: 0, to, amount: Amount::from_nanos(amount) };
    let settle = Command::Settle {
        hold: hold.id(),
        charges: vec![charge],
        max_debt: Amount::ZERO,
        tokens: 0,
    };
    Unit { hold: Some(hold.clone()), ..Operation::new(id, settle).into() }
}

/// A unit that no database takes: its row is there already.
fn spoiled(id: &str) -> Unit {
    static HEAD: Table = Table { name: "ledger_head", columns: &["id"], audited: false };
    let attachment = Attachment::Insert { table: &HEAD, cells: vec![1.into()] };
    Unit::new(Operation::new(id, Command::Note), vec![attachment])
}

#[tokio::test]
async fn a_decided_hold_reaches_the_disk_by_itself() {
    let rig = Rig::new().await;
    let decided = rig.journal.decide(hold("h", 60)).await.unwrap();
    assert!(matches!(decided.receipt().outcome, Outcome::Applied(_)));
    while !rig.is_on_disk("h").await {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.posted_and_held().await, (100, 60));
    rig.journal.submit(settle("s", decided.hold(), 25)).await.unwrap();
    assert_eq!(rig.posted_and_held().await, (75, 0));
    rig.assert_fits().await;
}

/// The thread that would write it does not wait for the writer, but looks again.
#[tokio::test]
async fn a_decided_hold_reaches_the_disk_also_when_the_writer_is_taken_in_between() {
    let rig = Rig::new().await;
    rig.journal.decide(hold("h", 60)).await.unwrap();
    let taken = Instant::now();
    {
        let _writer = rig.journal.shared().writer.lock();
        // Until the hold is long overdue.
        while taken.elapsed() < Duration::from_millis(20) {
            std::thread::yield_now();
        }
    }
    while !rig.is_on_disk("h").await {
        tokio::task::yield_now().await;
    }
    rig.assert_fits().await;
}

#[tokio::test]
async fn what_ends_soon_is_one_commit_with_its_hold() {
    let rig = Rig::new().await;
    rig.journal.write_at_once_when(|| true);
    let before = rig.watch.batches.load(Ordering::SeqCst);
    for number in 0..50 {
        let decided = rig.journal.decide(hold(&format!("h{number}"), 10)).await.unwrap();
        rig.journal.submit(settle(&format!("s{number}"), decided.hold(), 1)).await.unwrap();
    }
    // On a busy machine some do not end soon.
    let batches = rig.watch.batches.load(Ordering::SeqCst) - before;
    assert!((50..100).contains(&batches), "{batches} batches");
    assert_eq!(rig.posted_and_held().await, (50, 0));
    rig.assert_fits().await;
}

#[tokio::test]
async fn the_second_of_two_decided_holds_sees_the_first() {
    let rig = Rig::new().await;
    let first = rig.journal.decide(hold("h1", 60)).await.unwrap();
    let second = rig.journal.decide(hold("h2", 60)).await.unwrap();
    assert!(matches!(second.receipt().outcome, Outcome::Refused(_)));
    // A refusal is told when it is on disk, and so is a repeat.
    assert!(rig.is_on_disk("h2").await);
    let again = rig.journal.decide(hold("h1", 60)).await.unwrap();
    assert!(again.receipt().replayed);
    assert!(rig.is_on_disk("h1").await);
    assert_eq!((again.receipt().seq, again.hold().id()), (first.receipt().seq, first.hold().id()));
    rig.assert_fits().await;
}

#[tokio::test]
async fn a_journal_that_closes_writes_what_is_decided() {
    let rig = Rig::new().await;
    rig.journal.decide(hold("h", 60)).await.unwrap();
    rig.journal.close().await;
    assert!(rig.is_on_disk("h").await);
    assert!(matches!(rig.journal.decide(hold("h2", 1)).await, Err(JournalError::Stopped)));
    rig.assert_fits().await;
}

#[tokio::test]
async fn a_journal_that_nobody_has_any_more_writes_what_is_decided_and_ends() {
    let Rig { test, journal, watch } = Rig::new().await;
    journal.decide(hold("h", 60)).await.unwrap();
    drop(journal);
    while Arc::strong_count(&watch) > 1 {
        tokio::task::yield_now().await;
    }
    assert!(find_operation(&test.database, "h").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_thread_panics_whoever_waits_is_told() {
    let rig = Rig::new().await;
    rig.watch.panicking.store(true, Ordering::SeqCst);
    let mut decided = rig.journal.decide(hold("h", 60)).await.unwrap();
    assert!(matches!(decided.lost().await, Err(JournalError::Stopped)));
    let stopped = rig.journal.submit(Operation::new("n", Command::Note)).await;
    assert!(matches!(stopped, Err(JournalError::Stopped)));
}

#[tokio::test]
async fn a_lost_hold_is_told_and_nothing_can_be_charged_to_its_number() {
    let rig = Rig::new().await;
    rig.watch.refuse(true);
    let mut lost = rig.journal.decide(hold("h1", 60)).await.unwrap();
    assert!(matches!(lost.lost().await, Err(JournalError::Storage(_))));
    assert!(lost.hold().is_lost());
    // As long as the disk refuses, nobody is told that it will not.
    let refused = rig.journal.decide(hold("h2", 1)).await;
    assert!(matches!(refused, Err(JournalError::Storage(_))));
    rig.watch.refuse(false);
    let other = rig.journal.submit(hold("h3", 30)).await.unwrap();
    assert_eq!(other.seq, lost.hold().id().0, "another hold has the number now");
    let settled = rig.journal.submit(settle("s1", lost.hold(), 20)).await;
    assert!(matches!(settled, Err(JournalError::HoldLost)));
    assert_eq!(rig.posted_and_held().await, (100, 30));
    rig.assert_fits().await;
}

#[tokio::test]
async fn what_was_decided_on_other_books_is_not_written() {
    let rig = Rig::new().await;
    let move_head = |by: i64| {
        let sql = "UPDATE ledger_head SET seq = seq + ?";
        rig.test.database.execute(Statement::new(sql, vec![by.into()]))
    };
    // As no program does, since the folder is locked.
    move_head(1).await.unwrap();
    let refused = rig.journal.submit(hold("h", 60)).await;
    assert!(matches!(refused, Err(JournalError::Storage(_))), "{refused:?}");
    assert!(!rig.is_on_disk("h").await);
    move_head(-1).await.unwrap();
    rig.journal.submit(hold("h", 60)).await.unwrap();
    assert_eq!(rig.posted_and_held().await, (100, 60));
    rig.assert_fits().await;
}

#[tokio::test]
async fn a_hold_that_was_told_and_had_been_taken_before_is_lost() {
    let rig = Rig::new().await;
    let first = rig.journal.submit(hold("h1", 30)).await.unwrap();
    rig.journal.submit(hold("h2", 10)).await.unwrap();
    let again = Unit { fresh: true, ..hold("h1", 30).into() };
    let mut told = rig.journal.decide(again).await.unwrap();
    assert!(!told.receipt().replayed, "nobody has looked");
    let other = rig.journal.submit(hold("h3", 20)).await.unwrap();
    assert!(matches!(told.lost().await, Err(JournalError::HoldLost)));
    let settled = rig.journal.submit(settle("s1", told.hold(), 30)).await;
    assert!(matches!(settled, Err(JournalError::HoldLost)));
    assert_eq!(rig.posted_and_held().await, (100, 60), "no hold has been ended by it");
    for (id, hold) in [("s2", first.seq), ("s3", other.seq)] {
        let hold = HoldRef::of(HoldId(hold));
        rig.journal.submit(settle(id, &hold, 1)).await.unwrap();
    }
    rig.assert_fits().await;
}

/// What the reference is for: by its number alone, a lost hold's end would be that of another.
#[tokio::test]
async fn without_its_reference_a_lost_hold_would_be_another() {
    let rig = Rig::new().await;
    rig.watch.refuse(true);
    let mut lost = rig.journal.decide(hold("h1", 60)).await.unwrap();
    assert!(lost.lost().await.is_err());
    rig.watch.refuse(false);
    rig.journal.submit(hold("h2", 30)).await.unwrap();
    let blind = Unit { hold: None, ..settle("s1", lost.hold(), 20) };
    rig.journal.submit(blind).await.unwrap();
    assert_eq!(rig.posted_and_held().await, (80, 0), "the other's hold is gone");
}

/// While one batch waits, the next one gathers: a spoiled unit, a note, and a hold after them. The hold is
/// decided with them, and then each is written by itself.
async fn hold_after_a_spoiled_unit(rig: &Rig) -> Decided {
    rig.watch.shut(true);
    let before = rig.watch.batches.load(Ordering::SeqCst);
    let submit = |unit: Unit| {
        let journal = rig.journal.clone();
        tokio::spawn(async move { journal.submit(unit).await })
    };
    let ahead = submit(Operation::new("first", Command::Note).into());
    while rig.watch.batches.load(Ordering::SeqCst) == before {
        tokio::task::yield_now().await;
    }
    let queued = async |count: usize| {
        while rig.journal.waiting() != count {
            tokio::task::yield_now().await;
        }
    };
    let spoiler = submit(spoiled("spoiled"));
    queued(1).await;
    let beside = submit(Operation::new("beside", Command::Note).into());
    queued(2).await;
    let journal = rig.journal.clone();
    let hold = tokio::spawn(async move { journal.decide(hold("h", 60)).await });
    queued(3).await;
    rig.watch.shut(false);
    ahead.await.unwrap().unwrap();
    assert!(matches!(spoiler.await.unwrap(), Err(JournalError::Attachment(_))));
    drop(beside.await);
    hold.await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_beside_a_spoiled_unit_keeps_its_money_under_another_number() {
    let rig = Rig::new().await;
    let decided = hold_after_a_spoiled_unit(&rig).await;
    rig.journal.submit(settle("s", decided.hold(), 25)).await.unwrap();
    assert_eq!(rig.posted_and_held().await, (75, 0));
    assert_eq!(
        decided.receipt().seq,
        decided.hold().id().0 + 1,
        "it was decided under another number"
    );
    rig.assert_fits().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_number_is_known_also_when_the_disk_refused_meanwhile() {
    let rig = Rig::new().await;
    // After the first: all together, the spoiled one, the note.
    let note = rig.watch.batches.load(Ordering::SeqCst) + 4;
    rig.watch.refused.store(note, Ordering::SeqCst);
    let decided = hold_after_a_spoiled_unit(&rig).await;
    let settled = rig.journal.submit(settle("s", decided.hold(), 25)).await.unwrap();
    assert!(matches!(settled.outcome, Outcome::Applied(_)), "{settled:?}");
    assert_eq!(rig.posted_and_held().await, (75, 0));
    assert!(!rig.is_on_disk("beside").await);
    rig.assert_fits().await;
}
