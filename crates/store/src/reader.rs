//! Where lists and reports are read: at a replica that is near enough, or at the primary database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use kernel::SystemClock;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Cache, Database, Result};

/// A measurement counts for so long.
const MEASURED_FOR: Duration = Duration::from_secs(2);

/// Where lists and reports are read. What they show may be a little behind; nothing about money is
/// decided by it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    primary: Database,
    replica: Option<Replica>,
    cache: Cache,
}

/// A replica and how far it has come.
#[derive(Debug)]
struct Replica {
    database: Database,
    longest_lag: Duration,
    state: Mutex<Option<Measured>>,
    /// It has just failed: nobody waits for it any longer.
    failed: Notify,
    /// Figures: reads there, reads that went to the primary instead.
    reads: AtomicI64,
    passed_over: AtomicI64,
    /// It is told once that the replica is not used.
    told: AtomicBool,
}

/// How a replica stood.
#[derive(Clone, Copy, Debug)]
struct Measured {
    at: Instant,
    seq: i64,
    lag: Duration,
}

impl From<Database> for Reader {
    /// Everything from one database, and what is costly kept in memory.
    fn from(primary: Database) -> Self {
        Self::new(primary, None, Cache::new(None, [0; 32], Arc::new(SystemClock)))
    }
}

impl Reader {
    /// Reads at the replica while it is at most so far behind, and at the primary otherwise. Somebody
    /// must measure it ([`measured`](Self::measured)).
    pub fn new(primary: Database, replica: Option<(Database, Duration)>, cache: Cache) -> Self {
        let replica = replica.map(|(database, longest_lag)| Replica {
            database,
            longest_lag,
            state: Mutex::default(),
            failed: Notify::new(),
            reads: AtomicI64::new(0),
            passed_over: AtomicI64::new(0),
            told: AtomicBool::new(false),
        });
        Self(Arc::new(Inner { primary, replica, cache }))
    }

    /// Where everything is that has been acknowledged.
    pub fn primary(&self) -> &Database {
        &self.0.primary
    }

    /// The replica, if there is one, near enough or not.
    pub fn replica(&self) -> Option<&Database> {
        self.0.replica.as_ref().map(|replica| &replica.database)
    }

    /// What is kept of costly reads.
    pub fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// What `ask` gives at the replica, if that has this operation of the books and is near enough;
    /// at the primary if not, and where the replica fails.
    pub async fn read<T, E, F>(
        &self,
        min_seq: i64,
        ask: impl Fn(Database) -> F,
    ) -> std::result::Result<T, E>
    where
        E: std::fmt::Display,
        F: Future<Output = std::result::Result<T, E>>,
    {
        if let Some(replica) = self.0.replica.as_ref().filter(|replica| replica.serves(min_seq)) {
            tokio::select! {
                found = ask(replica.database.clone()) => match found {
                    Ok(found) => return Ok(found),
                    // What is wrong with the question is wrong at the primary too.
                    Err(error) => tracing::debug!(%error, "the replica is left for the primary"),
                },
                () = replica.failed.notified() => {}
            }
        }
        ask(self.0.primary.clone()).await
    }

    /// Takes in how the replica stands: the last operation of the books that it has, and how far it is
    /// behind; or that this cannot be told.
    pub fn measured(&self, outcome: Result<(i64, Duration)>) {
        let Some(replica) = &self.0.replica else { return };
        match outcome {
            Err(error) => replica.fail(&error.to_string()),
            Ok((seq, lag)) => {
                *replica.state.lock() = Some(Measured { at: Instant::now(), seq, lag });
                if lag > replica.longest_lag {
                    replica.tell("it is too far behind");
                } else if replica.told.swap(false, Ordering::Relaxed) {
                    tracing::info!("lists and reports are read from the replica again");
                }
            }
        }
    }

    /// Why the replica is not read; `None` also if there is none.
    pub fn failure(&self) -> Option<String> {
        let replica = self.0.replica.as_ref()?;
        let Some(measured) = replica.current() else {
            return Some(
                "the replica does not answer: everything is read from the primary".to_owned(),
            );
        };
        (measured.lag > replica.longest_lag).then(|| {
            format!(
                "the replica is {:.1} s behind: everything is read from the primary",
                measured.lag.as_secs_f64()
            )
        })
    }

    /// For figures: how far the replica is behind in milliseconds (-1 for unknown), the reads there,
    /// and the reads that went to the primary instead.
    pub fn figures(&self) -> [i64; 3] {
        let Some(replica) = &self.0.replica else { return [-1, 0, 0] };
        let lag = replica.current().map(|measured| measured.lag.as_millis());
        let lag = lag.map_or(-1, |lag| i64::try_from(lag).unwrap_or(i64::MAX));
        [lag, replica.reads.load(Ordering::Relaxed), replica.passed_over.load(Ordering::Relaxed)]
    }
}

impl Replica {
    fn current(&self) -> Option<Measured> {
        self.state.lock().filter(|measured| measured.at.elapsed() < MEASURED_FOR)
    }

    fn serves(&self, min_seq: i64) -> bool {
        let serves = self
            .current()
            .is_some_and(|measured| measured.lag <= self.longest_lag && measured.seq >= min_seq);
        let counter = if serves { &self.reads } else { &self.passed_over };
        counter.fetch_add(1, Ordering::Relaxed);
        serves
    }

    fn fail(&self, reason: &str) {
        *self.state.lock() = None;
        self.failed.notify_waiters();
        self.tell(reason);
    }

    fn tell(&self, reason: &str) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                reason,
                "lists and reports are read from the primary, not from the replica"
            );
        }
    }
}
