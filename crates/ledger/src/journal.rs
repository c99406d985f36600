//! The one door to money: units of work queue up, and are written many at once.

use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kernel::SharedClock;
use parking_lot::Mutex;
use store::{Database, Error};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::backend::{Backend, MySqlBackend, SqliteBackend};
use crate::machine::{Conflict, apply};
use crate::metrics::Metrics;
use crate::state::{Changes, Need, State};
use crate::{Config, JournalError, Operation, Receipt, Unit};

const LONGEST_ID: usize = 128;
const LONGEST_MEMO: usize = 255;
/// Accounts and counters kept in memory between batches; beyond it all are forgotten and read again.
const MOST_KEPT: usize = 100_000;
/// After a commit that took longer nobody waits for the disk on a thread of its own.
const QUICK: Duration = Duration::from_millis(2);

type Answer = Result<Receipt, JournalError>;
type Attempt = Result<Receipt, Conflict>;

/// The one door to money. Cheap to clone; all clones share one writing thread.
#[derive(Clone, Debug)]
pub struct Journal {
    queue: mpsc::Sender<Request>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    writer: Mutex<Writer>,
    /// Says whether the calling thread has nothing else to do.
    alone: OnceLock<Alone>,
    thread: Mutex<Option<JoinHandle<()>>>,
    failure: Mutex<Option<String>>,
    metrics: Metrics,
    stopped: tokio_util::sync::CancellationToken,
}

struct Alone(Box<dyn Fn() -> bool + Send + Sync>);

impl std::fmt::Debug for Alone {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_tuple("Alone").field(&self.0()).finish()
    }
}

#[derive(Debug)]
struct Request {
    unit: Unit,
    answer: oneshot::Sender<Answer>,
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
        let (queue, requests) = mpsc::channel(config.queue.max(1));
        let max_batch = config.max_batch.max(1);
        let writer =
            Writer { backend, state: State::default(), clock, sound: true, took: Duration::ZERO };
        let shared = Arc::new(Shared {
            writer: Mutex::new(writer),
            alone: OnceLock::new(),
            thread: Mutex::default(),
            failure: Mutex::default(),
            metrics: Metrics::default(),
            stopped: tokio_util::sync::CancellationToken::new(),
        });
        let writing = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writing.run(requests, max_batch))?;
        *shared.thread.lock() = Some(thread);
        Ok(Self { queue, shared })
    }

    /// Lets a caller write its own unit, on its own thread, while `alone` says that this thread has
    /// nothing else to do, nobody waits, and the last commit was quick. On a machine that is nearly
    /// idle, two changes of threads take as long as a commit (docs/adr/0011).
    ///
    /// Only for a database in this process: a server is asked on the journal's thread alone.
    pub fn write_at_once_when(&self, alone: impl Fn() -> bool + Send + Sync + 'static) {
        drop(self.shared.alone.set(Alone(Box::new(alone))));
    }

    /// Applies a unit, or gives its first outcome again. When this returns a receipt, it is on
    /// disk. A full queue is [`JournalError::Busy`] at once.
    ///
    /// Dropping the future does not take the unit back.
    pub async fn submit(&self, unit: impl Into<Unit>) -> Answer {
        let unit = unit.into();
        check(&unit.operation)?;
        if self.shared.stopped.is_cancelled() {
            return Err(JournalError::Stopped);
        }
        if let Some(answer) = self.write_at_once(&unit) {
            return answer;
        }
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Request { unit, answer }).map_err(|refused| {
            let error = match refused {
                mpsc::error::TrySendError::Full(_) => JournalError::Busy,
                mpsc::error::TrySendError::Closed(_) => JournalError::Stopped,
            };
            self.shared.metrics.not_written(&error);
            error
        })?;
        answered.await.unwrap_or(Err(JournalError::Stopped))
    }

    /// Writes the unit here and now; `None` if it is to be queued.
    fn write_at_once(&self, unit: &Unit) -> Option<Answer> {
        let alone = self.shared.alone.get().is_some_and(|alone| alone.0());
        if !alone || self.waiting() > 0 {
            return None;
        }
        let mut writer = self.shared.writer.try_lock()?;
        // The next quick commit of the journal's thread allows it again.
        let quick = writer.backend.is_local() && writer.took <= QUICK;
        let stopped = self.shared.stopped.is_cancelled();
        (quick && !stopped).then(|| writer.write_one(unit, &self.shared))
    }

    /// Why the last batch could not be written, until one can.
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.lock().clone()
    }

    /// Operations that wait to be written.
    pub fn waiting(&self) -> usize {
        self.capacity().saturating_sub(self.queue.capacity())
    }

    /// Operations that may wait to be written.
    pub fn capacity(&self) -> usize {
        self.queue.max_capacity()
    }

    /// Adds the journal's figures.
    pub fn register(&self, metrics: &mut telemetry::Metrics) {
        self.shared.metrics.register(metrics);
        let journal = self.clone();
        metrics.add_read(
            "ledgerline_journal_queue_depth",
            "Operations that wait to be written",
            move || i64::try_from(journal.waiting()).unwrap_or(i64::MAX),
        );
    }

    /// Takes no more units, writes those that wait, and ends the writing thread.
    pub async fn close(&self) {
        self.shared.stopped.cancel();
        // The thread notices at its next unit: give it one to wake up for.
        let (answer, answered) = oneshot::channel();
        let wake = Unit::from(Operation::new("", crate::Command::Transfer { legs: Vec::new() }));
        if self.queue.send(Request { unit: wake, answer }).await.is_ok() {
            drop(answered.await);
        }
        let thread = self.shared.thread.lock().take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the journal's thread ended badly");
            }
        }
        // Who writes on a thread of its own has begun before the stop, and ends now.
        let shared = Arc::clone(&self.shared);
        let ended = tokio::task::spawn_blocking(move || drop(shared.writer.lock()));
        ended.await.unwrap_or_default();
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
    fn run(&self, mut requests: mpsc::Receiver<Request>, max_batch: usize) {
        let mut batch = Vec::with_capacity(max_batch);
        let mut crowded = false;
        loop {
            let count = requests.blocking_recv_many(&mut batch, max_batch);
            if count == 0 {
                return;
            }
            if crowded {
                let patience = self.writer.lock().took;
                gather(&mut requests, &mut batch, (max_batch, patience));
            }
            crowded = batch.len() > 1;
            if self.stopped.is_cancelled() {
                // No more are let in; those before are written.
                requests.close();
            }
            batch.retain(|request| !request.unit.operation.id.is_empty());
            if !batch.is_empty() {
                self.writer.lock().write(&mut batch, self);
            }
        }
    }

    fn refuse(&self, answer: oneshot::Sender<Answer>, error: JournalError) {
        self.metrics.not_written(&error);
        drop(answer.send(Err(error)));
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

/// Lets threads go first that are ready to run, as long as that brings more units: a commit costs about
/// the same for few as for many. Not for longer than the last commit took; where no processor is short
/// this takes no time (docs/adr/0013).
fn gather(
    requests: &mut mpsc::Receiver<Request>,
    batch: &mut Vec<Request>,
    (max_batch, patience): (usize, Duration),
) {
    let begun = Instant::now();
    loop {
        std::thread::yield_now();
        let before = batch.len();
        while batch.len() < max_batch
            && let Ok(request) = requests.try_recv()
        {
            batch.push(request);
        }
        if batch.len() == before || begun.elapsed() >= patience {
            return;
        }
    }
}

#[derive(Debug)]
struct Writer {
    backend: Box<dyn Backend>,
    state: State,
    clock: SharedClock,
    /// What is in memory is what is on disk: false while a commit is under way, and after a panic.
    sound: bool,
    /// How long the last commit took.
    took: Duration,
}

impl Writer {
    /// Writes a batch and answers everyone in it.
    fn write(&mut self, batch: &mut Vec<Request>, shared: &Shared) {
        let (units, answers): (Vec<Unit>, Vec<_>) =
            batch.drain(..).map(|request| (request.unit, request.answer)).unzip();
        match self.commit(&units, shared) {
            Ok(outcomes) => {
                shared.note(None);
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    drop(answer.send(outcome.map_err(|Conflict| JournalError::Conflict)));
                }
            }
            // One unit spoils the batch with what is attached to it: only that one is to fail.
            Err(error) if error.is_data() => {
                for (unit, answer) in units.into_iter().zip(answers) {
                    drop(answer.send(self.write_one(&unit, shared)));
                }
            }
            Err(error) => {
                shared.note(Some(&error));
                let error = JournalError::Storage(Arc::new(error));
                for answer in answers {
                    shared.refuse(answer, error.clone());
                }
            }
        }
    }

    /// Writes one unit.
    fn write_one(&mut self, unit: &Unit, shared: &Shared) -> Answer {
        let error = match self.commit(std::slice::from_ref(unit), shared) {
            Ok(mut outcomes) => {
                shared.note(None);
                let outcome = outcomes.pop().unwrap_or(Err(Conflict));
                return outcome.map_err(|Conflict| JournalError::Conflict);
            }
            Err(error) if error.is_data() => JournalError::Attachment(Arc::new(error)),
            Err(error) => {
                shared.note(Some(&error));
                JournalError::Storage(Arc::new(error))
            }
        };
        shared.metrics.not_written(&error);
        Err(error)
    }

    fn commit(&mut self, units: &[Unit], shared: &Shared) -> Result<Vec<Attempt>, Error> {
        if !self.sound || self.state.size() > MOST_KEPT {
            self.state.restart(crate::rows::Head::default());
        }
        self.sound = false;
        let begun = Instant::now();
        let now = self.clock.now();
        let need = Need::of(units, now.micros());
        let mut outcomes = Vec::with_capacity(units.len());
        let mut work = |state: &mut State| {
            let mut changes = Changes::default();
            outcomes = units.iter().map(|unit| apply(state, &mut changes, unit, now)).collect();
            changes.settle_order();
            changes
        };
        let written = self.backend.batch(&mut self.state, &need, &mut work);
        self.took = begun.elapsed();
        self.sound = written.is_ok();
        written?;
        self.state.end_batch();
        shared.metrics.committed(&outcomes, self.took.as_secs_f64());
        Ok(outcomes)
    }
}
