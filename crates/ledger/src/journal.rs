//! The one door to money: units of work queue up, and are written many at once.

use std::sync::Arc;
use std::thread::JoinHandle;

use kernel::SharedClock;
use parking_lot::Mutex;
use store::{Database, Error};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::backend::{Backend, MySqlBackend, SqliteBackend};
use crate::machine::{Conflict, apply};
use crate::state::{Changes, Need, State};
use crate::{Config, JournalError, Operation, Receipt, Unit};

const LONGEST_ID: usize = 128;
const LONGEST_MEMO: usize = 255;
/// Accounts kept in memory between batches; beyond it all are forgotten and read again.
const MOST_ACCOUNTS: usize = 100_000;

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
    thread: Mutex<Option<JoinHandle<()>>>,
    failure: Mutex<Option<String>>,
    stopped: tokio_util::sync::CancellationToken,
}

#[derive(Debug)]
struct Request {
    unit: Unit,
    answer: oneshot::Sender<Answer>,
}

impl Journal {
    /// Starts the writing thread over a migrated database. Must be called within a Tokio runtime.
    pub fn start(database: Database, clock: SharedClock, config: &Config) -> std::io::Result<Self> {
        let backend: Box<dyn Backend> = match database {
            Database::Sqlite(sqlite) => Box::new(SqliteBackend::new(sqlite)),
            Database::MySql(mysql) => Box::new(MySqlBackend::new(mysql, Handle::current())),
        };
        Self::start_on(backend, clock, config)
    }

    pub(crate) fn start_on(
        backend: Box<dyn Backend>,
        clock: SharedClock,
        config: &Config,
    ) -> std::io::Result<Self> {
        let (queue, requests) = mpsc::channel(config.queue.max(1));
        let stopped = tokio_util::sync::CancellationToken::new();
        let shared =
            Arc::new(Shared { thread: Mutex::default(), failure: Mutex::default(), stopped });
        let writer = Writer {
            backend,
            state: State::default(),
            clock,
            max_batch: config.max_batch.max(1),
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(requests))?;
        *shared.thread.lock() = Some(thread);
        Ok(Self { queue, shared })
    }

    /// Applies a unit, or gives its first outcome again. When this returns a receipt, it is on
    /// disk. A full queue is [`JournalError::Busy`] at once.
    ///
    /// Dropping the future does not take the unit back.
    pub async fn submit(&self, unit: impl Into<Unit>) -> Answer {
        let unit = unit.into();
        check(&unit.operation)?;
        let (answer, answered) = oneshot::channel();
        if self.shared.stopped.is_cancelled() {
            return Err(JournalError::Stopped);
        }
        self.queue.try_send(Request { unit, answer }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => JournalError::Busy,
            mpsc::error::TrySendError::Closed(_) => JournalError::Stopped,
        })?;
        answered.await.unwrap_or(Err(JournalError::Stopped))
    }

    /// Why the last batch could not be written, until one can.
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.lock().clone()
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
    }
}

fn check(operation: &Operation) -> Result<(), JournalError> {
    let memo = operation.memo.as_ref().map_or(0, |memo| memo.len());
    if operation.id.is_empty() || operation.id.len() > LONGEST_ID || memo > LONGEST_MEMO {
        return Err(JournalError::TooLong);
    }
    Ok(())
}

struct Writer {
    backend: Box<dyn Backend>,
    state: State,
    clock: SharedClock,
    max_batch: usize,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut batch = Vec::with_capacity(self.max_batch);
        loop {
            let count = requests.blocking_recv_many(&mut batch, self.max_batch);
            if count == 0 {
                return;
            }
            if self.shared.stopped.is_cancelled() {
                // No more are let in; those before are written.
                requests.close();
            }
            batch.retain(|request| !request.unit.operation.id.is_empty());
            if !batch.is_empty() {
                self.write(&mut batch);
            }
        }
    }

    /// Writes a batch and answers everyone in it.
    fn write(&mut self, batch: &mut Vec<Request>) {
        let (units, answers): (Vec<Unit>, Vec<_>) =
            batch.drain(..).map(|request| (request.unit, request.answer)).unzip();
        match self.commit(&units) {
            Ok(outcomes) => {
                self.note(None);
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    drop(answer.send(outcome.map_err(|Conflict| JournalError::Conflict)));
                }
            }
            Err(error) if error.is_data() => self.write_one_by_one(units, answers),
            Err(error) => {
                let error = Arc::new(error);
                self.note(Some(&error));
                for answer in answers {
                    drop(answer.send(Err(JournalError::Storage(Arc::clone(&error)))));
                }
            }
        }
    }

    /// One unit spoils the batch with what is attached to it: only that one is to fail.
    fn write_one_by_one(&mut self, units: Vec<Unit>, answers: Vec<oneshot::Sender<Answer>>) {
        for (unit, answer) in units.into_iter().zip(answers) {
            let outcome = match self.commit(std::slice::from_ref(&unit)) {
                Ok(mut outcomes) => match outcomes.pop() {
                    Some(outcome) => outcome.map_err(|Conflict| JournalError::Conflict),
                    None => Err(JournalError::Stopped),
                },
                Err(error) if error.is_data() => Err(JournalError::Attachment(Arc::new(error))),
                Err(error) => {
                    self.note(Some(&error));
                    Err(JournalError::Storage(Arc::new(error)))
                }
            };
            drop(answer.send(outcome));
        }
    }

    fn commit(&mut self, units: &[Unit]) -> Result<Vec<Attempt>, Error> {
        if self.state.accounts_known() > MOST_ACCOUNTS {
            self.state.restart(crate::rows::Head::default());
        }
        let need = Need::of(units);
        let now = self.clock.now();
        let mut outcomes = Vec::with_capacity(units.len());
        let mut work = |state: &mut State| {
            let mut changes = Changes::default();
            outcomes = units.iter().map(|unit| apply(state, &mut changes, unit, now)).collect();
            changes.settle_order();
            changes
        };
        let written = self.backend.batch(&mut self.state, &need, &mut work);
        match written {
            Ok(()) => self.state.end_batch(),
            // What is in memory may never have reached the disk.
            Err(_) => self.state.restart(crate::rows::Head::default()),
        }
        written.map(|()| outcomes)
    }

    fn note(&self, failure: Option<&Error>) {
        let mut noted = self.shared.failure.lock();
        if let Some(error) = failure {
            tracing::error!(error = error as &dyn std::error::Error, "the journal cannot write");
            *noted = Some(error.to_string());
        } else if noted.take().is_some() {
            tracing::info!("the journal writes again");
        }
    }
}
