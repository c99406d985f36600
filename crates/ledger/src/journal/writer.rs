//! The journal's writer: applies requests to the books in memory, and puts them on disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::{SharedClock, Timestamp};
use store::Error;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::decided::{Promise, Promised};
use super::outbox::{Letter, Outbox};
use super::{Answer, Shared};
use crate::backend::Backend;
use crate::machine::{Conflict, apply};
use crate::rows::Head;
use crate::state::{Changes, Need, State};
use crate::{HoldRef, JournalError, Receipt, Unit};

/// Accounts and counters kept in memory between batches; beyond it all are forgotten and read again.
const MOST_KEPT: usize = 100_000;
/// After a commit that took longer nobody waits for the disk on a thread of its own.
const QUICK: Duration = Duration::from_millis(2);
/// A batch that nobody waits for is not written before so much time, if nothing else is to be written:
/// what ends sooner goes to disk in one commit with its hold (docs/adr/0016).
const LINGER: Duration = Duration::from_millis(3);

/// Why a unit has no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoReceipt {
    /// Its id was used for another operation.
    Conflict,
    /// The hold that it is about was lost.
    HoldLost,
}

impl From<NoReceipt> for JournalError {
    fn from(none: NoReceipt) -> Self {
        match none {
            NoReceipt::Conflict => Self::Conflict,
            NoReceipt::HoldLost => Self::HoldLost,
        }
    }
}

pub(crate) type Attempt = Result<Receipt, NoReceipt>;

/// A unit to be written, and who is told.
#[derive(Debug)]
pub(super) struct Request {
    unit: Unit,
    answer: oneshot::Sender<Answer>,
    promise: Option<Promise>,
    /// Where its caller waits.
    runtime: Option<Handle>,
}

impl Request {
    /// Its caller waits for the disk.
    pub(super) fn waited_for(unit: Unit) -> (Self, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        let runtime = Handle::try_current().ok();
        (Self { unit, answer, promise: None, runtime }, answered)
    }

    /// Its caller goes on once it is decided.
    pub(super) fn promised(unit: Unit) -> (Self, Promised, oneshot::Receiver<Answer>) {
        let (request, answered) = Self::waited_for(unit);
        let (promise, promised) = Promise::new();
        (Self { promise: Some(promise), ..request }, promised, answered)
    }

    /// Nobody waits for the disk.
    pub(super) const fn is_promised(&self) -> bool {
        self.promise.is_some()
    }

    /// The hold that it is about is lost.
    fn is_lost(&self) -> bool {
        self.unit.hold.as_ref().is_some_and(HoldRef::is_lost)
    }

    /// Applies it to the books in memory.
    fn apply(&self, state: &mut State, changes: &mut Changes, now: Timestamp) -> Attempt {
        // What was written before its hold was thought lost is in the books all the same.
        if self.is_lost() && !state.operations.contains_key(&self.unit.operation.id) {
            return Err(NoReceipt::HoldLost);
        }
        apply(state, changes, &self.unit, now).map_err(|Conflict| NoReceipt::Conflict)
    }

    /// Tells its caller, if that is promised.
    fn tell(&mut self, outcome: &Attempt, outbox: &mut Outbox) {
        if let (Some(promise), Ok(receipt)) = (&mut self.promise, outcome)
            && let Some(letter) = promise.tell(receipt)
        {
            outbox.put(self.runtime.as_ref(), letter);
        }
    }

    /// Its caller has been told ahead of the disk.
    fn is_told(&self) -> bool {
        self.promise.as_ref().is_some_and(Promise::is_told)
    }

    fn end(self, answer: Answer, outbox: &mut Outbox) {
        if let Some(promise) = self.promise {
            promise.end(&answer);
        }
        outbox.put(self.runtime.as_ref(), Letter::Answer(self.answer, answer));
    }
}

/// The books in memory, and the batch that is not on disk yet.
#[derive(Debug)]
pub(super) struct Writer {
    backend: Box<dyn Backend>,
    state: State,
    clock: SharedClock,
    max_batch: usize,
    batch: Vec<Request>,
    /// Those of the batch's first requests: the others are not applied yet.
    outcomes: Vec<Attempt>,
    /// What those outcomes are to write.
    changes: Changes,
    /// When the first of the batch was applied.
    since: Instant,
    /// What is in memory is what is on disk and in the batch: false while that changes, and after a
    /// failure or panic.
    sound: bool,
    /// The last batch could not be written.
    failing: bool,
    ended: bool,
    /// How long the last commit took.
    took: Duration,
}

impl Writer {
    pub(super) fn new(backend: Box<dyn Backend>, clock: SharedClock, max_batch: usize) -> Self {
        Self {
            backend,
            state: State::default(),
            clock,
            max_batch: max_batch.max(1),
            batch: Vec::new(),
            outcomes: Vec::new(),
            changes: Changes::default(),
            since: Instant::now(),
            sound: true,
            failing: false,
            ended: false,
            took: Duration::ZERO,
        }
    }

    /// How long the last commit took.
    pub(super) const fn took(&self) -> Duration {
        self.took
    }

    /// This request may be taken in on its caller's thread, which then waits no longer than for a commit
    /// to a quick disk; if nobody waits for the request, not even for that.
    pub(super) fn takes_at_once(&self, request: &Request) -> bool {
        // The next quick commit of the journal's thread allows it again.
        let soon = if request.is_promised() { self.has_time() } else { self.took <= QUICK };
        soon && !self.ended && self.backend.is_local() && self.backend.is_free()
    }

    /// One more request that nobody waits for would not be written at once.
    fn has_time(&self) -> bool {
        self.backend.is_local()
            && !self.failing
            && self.batch.len() < self.max_batch
            && (self.outcomes.is_empty() || self.since.elapsed() < LINGER)
    }

    /// Takes requests in, and writes them unless nobody waits for any.
    pub(super) fn take_in(&mut self, requests: &mut Vec<Request>, shared: &Shared) {
        self.mend();
        for request in requests.extract_if(.., |request| request.is_lost()) {
            self.end_lost(request, shared);
        }
        if requests.is_empty() {
            return;
        }
        if self.batch.len() + requests.len() > self.max_batch {
            self.write(shared);
        }
        let first = self.batch.is_empty();
        self.batch.append(requests);
        let fresh = self.batch.get(self.outcomes.len()..).unwrap_or_default();
        if !fresh.iter().all(Request::is_promised) || !self.has_time() {
            return self.write(shared);
        }
        if first {
            self.since = Instant::now();
            shared.queue.remind(self.since + LINGER);
        }
        match self.apply_ahead() {
            Ok(true) => {}
            Ok(false) => self.write(shared),
            Err(error) => self.fail(error, shared),
        }
    }

    /// Answers what is about a lost hold: that takes no more than a look, also while the disk refuses.
    fn end_lost(&mut self, mut request: Request, shared: &Shared) {
        let now = self.clock.now();
        let mut need = Need::at(now.micros());
        request.unit.name_hold();
        need.add(&request.unit);
        if let Err(error) = self.backend.read(&mut self.state, &need) {
            return refuse(vec![request], &JournalError::Storage(Arc::new(error)), shared);
        }
        let outcome = request.apply(&mut self.state, &mut Changes::default(), now);
        shared.metrics.told(std::slice::from_ref(&outcome));
        request.end(outcome.map_err(JournalError::from), &mut Outbox::default());
    }

    /// Writes what nobody waits for, if it is time.
    pub(super) fn write_due(&mut self, shared: &Shared) {
        self.mend();
        let due = self.since + LINGER;
        if self.batch.is_empty() {
            return;
        }
        if Instant::now() >= due { self.write(shared) } else { shared.queue.remind(due) }
    }

    /// Writes what is left.
    pub(super) fn write_rest(&mut self, shared: &Shared) {
        self.mend();
        self.write(shared);
    }

    /// Takes no more in, and drops what is not written.
    pub(super) fn abandon(&mut self) {
        self.ended = true;
        self.batch.clear();
    }

    /// After a panic nobody knows what is in memory: the books are read again.
    fn mend(&mut self) {
        if !self.sound {
            self.batch.clear();
            self.forget();
        } else if self.batch.is_empty() && self.state.size() > MOST_KEPT {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.outcomes.clear();
        self.changes = Changes::default();
        self.state.restart(Head::default());
        self.sound = true;
    }

    /// Applies fresh requests and tells their callers, ahead of the disk. False if one of them is
    /// told only when it is on disk: a refusal or a repeat.
    fn apply_ahead(&mut self) -> Result<bool, Error> {
        let now = self.clock.now();
        let need = self.need(now);
        self.sound = false;
        self.backend.read(&mut self.state, &need)?;
        let (mut all, mut outbox) = (true, Outbox::default());
        for request in self.batch.iter_mut().skip(self.outcomes.len()) {
            let outcome = request.apply(&mut self.state, &mut self.changes, now);
            request.tell(&outcome, &mut outbox);
            all &= request.is_told();
            self.outcomes.push(outcome);
        }
        self.sound = true;
        Ok(all)
    }

    /// What the fresh requests need, each about its hold by the number that it has now.
    fn need(&mut self, now: Timestamp) -> Need {
        let mut need = Need::at(now.micros());
        for request in self.batch.iter_mut().skip(self.outcomes.len()) {
            request.unit.name_hold();
            need.add(&request.unit);
        }
        need
    }

    /// Puts the batch, if there is one, on disk and answers everyone in it.
    fn write(&mut self, shared: &Shared) {
        if self.batch.is_empty() {
            return;
        }
        match self.commit() {
            Ok(()) => {
                self.note(None, shared);
                shared.metrics.told(&self.outcomes);
                shared.metrics.committed(self.outcomes.len(), self.took.as_secs_f64());
                let mut outbox = Outbox::default();
                for (request, outcome) in self.batch.drain(..).zip(self.outcomes.drain(..)) {
                    request.end(outcome.map_err(JournalError::from), &mut outbox);
                }
            }
            Err(error) if error.is_data() => self.write_singly(error, shared),
            Err(error) => self.fail(error, shared),
        }
    }

    /// One unit spoils the batch with what is attached to it: only that one is to fail.
    fn write_singly(&mut self, error: Error, shared: &Shared) {
        self.forget();
        let requests = std::mem::take(&mut self.batch);
        if let [request] = requests.as_slice()
            && !request.unit.fresh
        {
            return refuse(requests, &JournalError::Attachment(Arc::new(error)), shared);
        }
        for mut request in requests {
            // Perhaps its id is what is there already.
            request.unit.fresh = false;
            self.batch.push(request);
            self.write(shared);
        }
    }

    /// The batch is not on disk, or nobody knows.
    fn fail(&mut self, error: Error, shared: &Shared) {
        self.note(Some(&error), shared);
        self.forget();
        let requests = std::mem::take(&mut self.batch);
        refuse(requests, &JournalError::Storage(Arc::new(error)), shared);
    }

    fn note(&mut self, failure: Option<&Error>, shared: &Shared) {
        self.failing = failure.is_some();
        shared.note(failure);
    }

    fn commit(&mut self) -> Result<(), Error> {
        let (begun, now) = (Instant::now(), self.clock.now());
        let need = self.need(now);
        let decided = self.outcomes.len();
        // A server may have the work done again: what came of it is then told at the end.
        let ahead = self.backend.is_local() && !self.failing;
        let Self { backend, state, batch, outcomes, changes, .. } = self;
        let mut work = |state: &mut State| {
            outcomes.truncate(decided);
            let (mut changes, mut outbox) = (std::mem::take(changes), Outbox::default());
            for request in batch.iter_mut().skip(decided) {
                let outcome = request.apply(state, &mut changes, now);
                if ahead {
                    request.tell(&outcome, &mut outbox);
                }
                outcomes.push(outcome);
            }
            changes.settle_order();
            changes
        };
        self.sound = false;
        let written = backend.batch(state, &need, &mut work);
        self.took = begun.elapsed();
        written?;
        self.sound = true;
        self.state.end_batch();
        Ok(())
    }
}

fn refuse(requests: Vec<Request>, error: &JournalError, shared: &Shared) {
    let mut outbox = Outbox::default();
    for request in requests {
        shared.metrics.not_written(error);
        request.end(Err(error.clone()), &mut outbox);
    }
}
