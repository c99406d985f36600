//! The one door to money: units of work queue up, and are written many at once.

mod decided;
mod outbox;
mod queue;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kernel::SharedClock;
use parking_lot::Mutex;
use store::{Database, Error};
use tokio::runtime::Handle;

pub use self::decided::{Decided, HoldRef};
use self::queue::{Queue, Woken};
pub(crate) use self::writer::{Attempt, NoReceipt};
use self::writer::{Request, Writer};
use crate::backend::{Backend, MySqlBackend, SqliteBackend};
use crate::metrics::Metrics;
use crate::{Command, Config, JournalError, Operation, Receipt, Unit};

const LONGEST_ID: usize = 128;
const LONGEST_MEMO: usize = 255;
/// What is due is looked at again after this time if somebody else has the writer.
const AGAIN: Duration = Duration::from_millis(1);

type Answer = Result<Receipt, JournalError>;

/// The one door to money. Cheap to clone; all clones share one writing thread, which ends with the last.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Door>);

/// What all clones share, but not the thread.
#[derive(Debug)]
struct Door(Arc<Shared>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

/// Ends with the journal's thread, also by a panic: whoever waits then is told.
struct Reading<'a>(&'a Shared);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.queue.abandon();
        self.0.writer.lock().abandon();
    }
}

#[derive(Debug)]
struct Shared {
    queue: Queue<Request>,
    writer: Mutex<Writer>,
    /// Says whether the calling thread has nothing else to do.
    alone: OnceLock<Alone>,
    thread: Mutex<Option<JoinHandle<()>>>,
    failure: Mutex<Option<String>>,
    metrics: Metrics,
}

struct Alone(Box<dyn Fn() -> bool + Send + Sync>);

impl std::fmt::Debug for Alone {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_tuple("Alone").field(&self.0()).finish()
    }
}

impl Journal {
    /// Starts the writing thread over a migrated database. Must be called within a Tokio runtime.
    pub fn start(database: Database, clock: SharedClock, config: &Config) -> std::io::Result<Self> {
        match database {
            Database::Sqlite(sqlite) => {
                Self::start_on(Box::new(SqliteBackend::new(sqlite)), clock, config)
            }
            Database::MySql(mysql) => {
                let backend = MySqlBackend::new(mysql, Handle::current());
                Self::start_on(Box::new(backend), clock, config)
            }
        }
    }

    pub(crate) fn start_on(
        backend: Box<dyn Backend>,
        clock: SharedClock,
        config: &Config,
    ) -> std::io::Result<Self> {
        let max_batch = config.max_batch.max(1);
        let shared = Arc::new(Shared {
            queue: Queue::new(config.queue),
            writer: Mutex::new(Writer::new(backend, clock, max_batch)),
            alone: OnceLock::new(),
            thread: Mutex::default(),
            failure: Mutex::default(),
            metrics: Metrics::default(),
        });
        let writing = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writing.run(max_batch))?;
        *shared.thread.lock() = Some(thread);
        Ok(Self(Arc::new(Door(shared))))
    }

    /// Lets a caller write its own unit, on its own thread, while `alone` says that this thread has
    /// nothing else to do, nobody waits, and the last commit was quick. On a machine that is nearly
    /// idle, two changes of threads take as long as a commit (docs/adr/0011).
    ///
    /// Only for a database in this process: a server is asked on the journal's thread alone.
    pub fn write_at_once_when(&self, alone: impl Fn() -> bool + Send + Sync + 'static) {
        drop(self.shared().alone.set(Alone(Box::new(alone))));
    }

    /// Applies a unit, or gives its first outcome again. When this returns a receipt, it is on
    /// disk. A full queue is [`JournalError::Busy`] at once.
    ///
    /// Dropping the future does not take the unit back.
    pub async fn submit(&self, unit: impl Into<Unit>) -> Answer {
        let unit = unit.into();
        check(&unit.operation)?;
        let (request, answered) = Request::waited_for(unit);
        self.hand_in(request)?;
        answered.await.unwrap_or(Err(JournalError::Stopped))
    }

    /// Takes a hold, and returns when that is decided: a hold that is taken may not be on disk yet
    /// (docs/adr/0016). What rests on it must not be acknowledged before an operation that names it
    /// ([`Unit::hold`]) is on disk; [`Decided::lost`] tells of the rare hold that does not get there.
    ///
    /// A refusal and a repeated hold are on disk when this returns, and so is everything while the disk
    /// refuses, or on a server. Any other command is treated as by [`submit`](Self::submit).
    pub async fn decide(&self, unit: impl Into<Unit>) -> Result<Decided, JournalError> {
        let unit = unit.into();
        if !matches!(unit.operation.command, Command::Hold { .. }) {
            return Ok(self.submit(unit).await?.into());
        }
        check(&unit.operation)?;
        let (request, promised, answered) = Request::promised(unit);
        self.hand_in(request)?;
        promised.decided(answered).await
    }

    fn hand_in(&self, request: Request) -> Result<(), JournalError> {
        let shared = self.shared();
        let Some(request) = shared.take_at_once(request) else { return Ok(()) };
        shared.queue.push(request).inspect_err(|error| shared.metrics.not_written(error))
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }

    /// Why the last batch could not be written, until one can.
    pub fn failure(&self) -> Option<String> {
        self.shared().failure.lock().clone()
    }

    /// Operations that wait to be written.
    pub fn waiting(&self) -> usize {
        self.shared().queue.len()
    }

    /// Operations that may wait to be written.
    pub fn capacity(&self) -> usize {
        self.shared().queue.capacity()
    }

    /// Adds the journal's figures.
    pub fn register(&self, metrics: &mut telemetry::Metrics) {
        self.shared().metrics.register(metrics);
        let journal = self.clone();
        metrics.add_read(
            "ledgerline_journal_queue_depth",
            "Operations that wait to be written",
            move || i64::try_from(journal.waiting()).unwrap_or(i64::MAX),
        );
    }

    /// Takes no more units, writes those that wait, and ends the writing thread.
    pub async fn close(&self) {
        self.shared().queue.close();
        let thread = self.shared().thread.lock().take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the journal's thread ended badly");
            }
        }
    }
}

fn check(operation: &Operation) -> Result<(), JournalError> {
    let memo = operation.memo.as_ref().map_or(0, |memo| memo.len());
    if operation.id.is_empty() || operation.id.len() > LONGEST_ID || memo > LONGEST_MEMO {
        return Err(JournalError::TooLong);
    }
    Ok(())
}

impl Shared {
    /// The journal's thread.
    fn run(&self, max_batch: usize) {
        let _reading = Reading(self);
        let mut batch = Vec::with_capacity(max_batch);
        let mut crowded = false;
        loop {
            match self.queue.wait(&mut batch, max_batch) {
                Woken::Requests => {
                    if crowded {
                        let patience = self.writer.lock().took();
                        self.gather(&mut batch, (max_batch, patience));
                    }
                    crowded = batch.len() > 1;
                    self.writer.lock().take_in(&mut batch, self);
                }
                Woken::Reminder => match self.writer.try_lock() {
                    Some(mut writer) => writer.write_due(self),
                    // Most likely it is being written, by whoever ends the call.
                    None => self.queue.remind(Instant::now() + AGAIN),
                },
                Woken::Closed => return self.writer.lock().write_rest(self),
            }
        }
    }

    /// Lets threads go first that are ready to run, as long as that brings more units: a commit costs
    /// about the same for few as for many. Not for longer than the last commit took; where no processor
    /// is short this takes no time (docs/adr/0013).
    fn gather(&self, batch: &mut Vec<Request>, (max_batch, patience): (usize, Duration)) {
        let begun = Instant::now();
        loop {
            std::thread::yield_now();
            let before = batch.len();
            self.queue.take(batch, max_batch);
            if batch.len() == before || begun.elapsed() >= patience {
                return;
            }
        }
    }

    /// Takes a request in on the caller's thread; gives it back if it is to be queued.
    fn take_at_once(&self, request: Request) -> Option<Request> {
        let alone = || self.alone.get().is_some_and(|alone| alone.0());
        if !request.is_promised() && !alone() {
            return Some(request);
        }
        let Some(mut writer) = self.writer.try_lock().filter(|_| self.queue.is_idle()) else {
            return Some(request);
        };
        if !writer.takes_at_once(&request) {
            return Some(request);
        }
        writer.take_in(&mut vec![request], self);
        None
    }

    fn note(&self, failure: Option<&Error>) {
        self.metrics.failing(failure.is_some());
        let mut noted = self.failure.lock();
        if let Some(error) = failure {
            tracing::error!(error = error as &dyn std::error::Error, "the journal cannot write");
            *noted = Some(error.to_string());
        } else if noted.take().is_some() {
            tracing::info!("the journal writes again");
        }
    }
}
