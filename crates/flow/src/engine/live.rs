//! A run at work: its state in memory, and how it is written.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::store::Database;
use kernel::{Amount, Timestamp};
use ledger::{Attachment, Cell, Command, JournalError, Operation, Unit};
use tokio::sync::{Mutex, OnceCell, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;

use super::feed::Feed;
use super::{Engine, Ticket, fingerprint};
use crate::budget::Budget;
use crate::event::{Event, Logged, Status};
use crate::machine::{self, Bounds, Input, Refused};
use crate::state::State;
use crate::store::{self, RunRecord, Standing};
use crate::{Error, Program, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A run at work in this process.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) record: RunRecord,
    pub(crate) program: Arc<Program>,
    pub(crate) budget: Budget,
    pub(crate) feed: Arc<Feed>,
    bounds: Bounds,
    core: Arc<Mutex<Core>>,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) state: State,
    next_seq: i64,
    /// Effects under way in this process, and how to cut them off.
    flights: HashMap<u64, CancellationToken>,
    /// It is no longer at work here: load it again.
    retired: bool,
    /// Just read from its log: what was under way then is not under way here.
    fresh: bool,
    /// What its row says since this process wrote it.
    stood: Option<(Status, Option<Timestamp>)>,
}

/// Why something was not taken in.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// It left memory in this moment: load it again.
    Retired,
    /// It was not wanted.
    Refused(Refused),
    /// It is another process's now, or cannot be written.
    Lost,
}

impl Engine {
    /// The run at work, loaded if it is not. `counted`: its place was taken by its turn.
    pub(super) async fn live(&self, run: &Arc<str>, counted: bool) -> Result<Arc<Live>> {
        let cell = {
            let mut live = self.live.lock();
            Arc::clone(live.entry(Arc::clone(run)).or_default())
        };
        let mut loaded = false;
        let found = cell
            .get_or_try_init(|| async {
                let live = self.load(run).await?;
                loaded = true;
                if !counted {
                    self.queue.enter(&live.record.org_id);
                }
                Ok(Arc::new(live))
            })
            .await
            .cloned();
        if let Err(_error) = &found {
            self.forget(run, &cell);
        }
        if counted && !loaded {
            // Somebody else's place keeps it at work; a failed load keeps none.
            if let Ok(live) = &found {
                self.queue.leave(&live.record.org_id);
            }
        }
        found
    }

    fn forget(&self, run: &Arc<str>, cell: &Arc<OnceCell<Arc<Live>>>) {
        let mut live = self.live.lock();
        if live.get(run).is_some_and(|known| Arc::ptr_eq(known, cell)) {
            live.remove(run);
        }
    }

    async fn load(&self, run: &Arc<str>) -> Result<Live> {
        let record = store::find_run(&self.database, run, None).await?;
        let record = record.ok_or_else(|| Error::UnknownRun(run.to_string()))?;
        let program = self.program(&record.org_id, &record.definition_id).await?;
        let mut state = State::default();
        let mut next_seq = 1;
        for logged in store::events(&self.database, run, 0).await? {
            if logged.seq != next_seq {
                let what = format!("event {next_seq} is missing from its log");
                return Err(Error::Damaged(run.to_string(), what));
            }
            next_seq += 1;
            state.spent = state.spent.saturating_add(logged.cost.unwrap_or_default());
            state.apply(&program, &logged.event);
        }
        let core = Core {
            stood: None,
            next_seq,
            flights: HashMap::new(),
            retired: false,
            fresh: true,
            state,
        };
        Ok(Live {
            bounds: self.config.bounds(program.limits.steps),
            budget: Budget::new(record.budget, core.state.spent),
            feed: self.feeds.of(run),
            core: Arc::new(Mutex::new(core)),
            record,
            program,
        })
    }

    /// A run's turn has come.
    pub(super) async fn turn(&self, ticket: Ticket) {
        match self.live(&ticket.run, true).await {
            Ok(live) => {
                let input = if ticket.begun { Input::Wake } else { self.first_input(&live) };
                if let Err(NotTaken::Lost) = self.take(&live, input).await {
                    tracing::warn!(run = %ticket.run, "the run is another process's");
                }
            }
            Err(error) => {
                self.queue.leave(&ticket.org_id);
                tracing::error!(run = %ticket.run, error = &error as &dyn std::error::Error, "a run cannot be loaded");
                self.dispatch();
            }
        }
    }

    fn first_input(&self, live: &Live) -> Input {
        let most = Duration::from_secs(self.config.run_timeout_seconds);
        let span = live.program.limits.timeout.map_or(most, |own| own.min(most));
        Input::Start { deadline: Some(self.clock.now().after(span)) }
    }

    /// Takes something in: when this returns, what came of it is on disk, and effects are under way.
    pub(super) async fn take(
        &self,
        live: &Arc<Live>,
        input: Input,
    ) -> std::result::Result<(), NotTaken> {
        let mut core = Arc::clone(&live.core).lock_owned().await;
        if core.retired {
            return Err(NotTaken::Retired);
        }
        let now = self.clock.now();
        let events = decide(live, &mut core, input, now).map_err(NotTaken::Refused);
        let events = match events {
            Ok(events) => events,
            Err(refused) => {
                self.go_on(live, &mut core);
                return Err(refused);
            }
        };
        if !events.is_empty() {
            let unit = self.unit(live, &core, &events, now);
            if self.write(unit).await.is_err() {
                self.retire(live, &mut core);
                return Err(NotTaken::Lost);
            }
            Self::written(live, &mut core, events, (now, Amount::ZERO));
        }
        self.go_on(live, &mut core);
        Ok(())
    }

    /// The unit that writes these events and nothing else.
    fn unit(&self, live: &Live, core: &Core, events: &[Event], now: Timestamp) -> Unit {
        let text = serde_json::to_string(events).unwrap_or_default();
        let id = format!("flow:{}:{}", live.record.id, core.next_seq);
        let mut operation = Operation::new(id, Command::Note);
        // Two processes that write the same must not take each other's write for their own.
        operation.fingerprint = Some(fingerprint(&[self.owner.as_bytes(), text.as_bytes()]));
        let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let cost = Cell::from(0);
        let row = store::log_row(&live.record.id, core.next_seq, now, cost, (count, text));
        let attachments =
            std::iter::once(row).chain(self.standing(live, core, now, false)).collect();
        Unit::new(operation, attachments)
    }

    /// The change of the run's row, if there is one.
    fn standing(
        &self,
        live: &Live,
        core: &Core,
        now: Timestamp,
        guarded: bool,
    ) -> Option<Attachment> {
        let state = &core.state;
        let waits = state.status == Status::Waiting;
        let wake_at = if waits { state.wake_at() } else { None };
        if core.stood == Some((state.status, wake_at)) {
            return None;
        }
        let done = state.status == Status::Succeeded;
        let at_work = !waits && !state.status.is_final();
        Some(store::stand(
            &live.record,
            Standing {
                status: state.status,
                owner: at_work.then_some(self.owner.as_ref()),
                wake_at,
                output: done.then(|| state.output.to_string()),
                error: state.error.as_ref().and_then(|error| serde_json::to_string(error).ok()),
                at: now,
                only_of: guarded.then_some(self.owner.as_ref()),
            },
        ))
    }

    /// Writes until it is written; an error means that it never will be.
    async fn write(&self, unit: Unit) -> std::result::Result<(), JournalError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.journal.submit(unit.clone()).await {
                Ok(_) => return Ok(()),
                Err(error @ (JournalError::Busy | JournalError::Storage(_))) => {
                    tracing::warn!(operation = %unit.operation.id, %error, "a run waits to be written");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// These events are on disk: written at that time, with what was charged.
    fn written(live: &Live, core: &mut Core, events: Vec<Event>, (at, cost): (Timestamp, Amount)) {
        let first = core.next_seq;
        core.next_seq += i64::try_from(events.len()).unwrap_or_default();
        let waits = core.state.status == Status::Waiting;
        core.stood = Some((core.state.status, if waits { core.state.wake_at() } else { None }));
        live.feed.happened(Logged::numbered(first, at, cost, events));
    }

    /// Starts the effects that have begun, cuts off those given up, and lets the run leave memory
    /// when there is nothing to do.
    fn go_on(&self, live: &Arc<Live>, core: &mut Core) {
        let known = &core.state.steps;
        core.flights.retain(|step, _| known.contains_key(step));
        let mut begin = Vec::new();
        for (id, step) in core.state.effects() {
            match core.flights.get(&id) {
                Some(flight) if step.given_up => flight.cancel(),
                None if !self.stopping.is_cancelled() && !core.fresh => begin.push(id),
                _ => {}
            }
        }
        for step in begin {
            let flight = CancellationToken::new();
            core.flights.insert(step, flight.clone());
            let (engine, live) = (self.clone(), Arc::clone(live));
            self.tasks.spawn(async move { engine.perform(live, step, flight).await });
        }
        let busy = core.state.effects().next().is_some();
        match core.state.wake_at() {
            Some(at) if busy => {
                self.timers.lock().insert((at, Arc::clone(&live.record.id)));
                self.wake.notify_one();
            }
            _ => {}
        }
        if !busy || core.fresh || (core.flights.is_empty() && self.stopping.is_cancelled()) {
            self.retire(live, core);
        }
    }

    /// The run leaves memory.
    fn retire(&self, live: &Arc<Live>, core: &mut Core) {
        if std::mem::replace(&mut core.retired, true) {
            return;
        }
        core.flights.values().for_each(CancellationToken::cancel);
        live.feed.hush();
        let id = &live.record.id;
        let mut all = self.live.lock();
        if all.get(id).is_some_and(|cell| cell.get().is_some_and(|known| Arc::ptr_eq(known, live)))
        {
            all.remove(id);
        }
        drop(all);
        if let Some((Status::Waiting, Some(at))) = core.stood {
            self.due_at(Some(at));
            self.wake.notify_one();
        }
        self.queue.leave(&live.record.org_id);
        self.dispatch();
    }

    /// Decides what an effect's end means, so that it can be written together with its charge.
    pub(crate) async fn ending(&self, live: &Arc<Live>, input: Input) -> Ending {
        let mut core = Arc::clone(&live.core).lock_owned().await;
        let now = self.clock.now();
        let events = if core.retired {
            Vec::new()
        } else {
            decide(live, &mut core, input, now).unwrap_or_default()
        };
        // What the call has cost counts also if the run is no longer at work here.
        let mut attachments = vec![store::spend(&live.record)];
        let mut text = String::new();
        if !events.is_empty() {
            text = serde_json::to_string(&events).unwrap_or_default();
            let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
            let seq = core.next_seq;
            let row = (count, text.clone());
            attachments.push(store::guarded_log_row(&live.record, seq, now, row));
            attachments.extend(self.standing(live, &core, now, true));
        }
        let (engine, live) = (self.clone(), Arc::clone(live));
        Ending { engine, live, core, at: now, events, text, attachments }
    }
}

/// The events that come of an input. A run just read takes up first what was under way.
fn decide(
    live: &Live,
    core: &mut Core,
    input: Input,
    now: Timestamp,
) -> std::result::Result<Vec<Event>, Refused> {
    if let Input::Answer { step, answer } = &input {
        machine::refuses(&live.program, &core.state, *step, answer)?;
    }
    let mut events = Vec::new();
    let lost = core.state.effects().next().is_some();
    if std::mem::take(&mut core.fresh) && lost {
        let (program, bounds) = (&live.program, live.bounds);
        events = machine::step(program, &mut core.state, bounds, Input::Recover, now)?;
    }
    events.extend(machine::step(&live.program, &mut core.state, live.bounds, input, now)?);
    Ok(events)
}

impl Live {
    /// A look at the run's state.
    pub(super) async fn look<T>(&self, with: impl FnOnce(&State) -> T) -> T {
        with(&self.core.lock().await.state)
    }
}

/// The end of a metered step, about to be written with its charge. The run stands still meanwhile.
#[derive(Debug)]
#[must_use = "it must be said whether it was written"]
pub struct Ending {
    engine: Engine,
    live: Arc<Live>,
    core: OwnedMutexGuard<Core>,
    at: Timestamp,
    events: Vec<Event>,
    text: String,
    attachments: Vec<Attachment>,
}

impl Ending {
    /// What is to be written with the charge.
    pub fn attachments(&mut self) -> Vec<Attachment> {
        std::mem::take(&mut self.attachments)
    }

    /// It is on disk, and this is what the call cost.
    pub async fn written(mut self, cost: Amount) {
        self.live.budget.spend(cost);
        self.core.state.spent = self.core.state.spent.saturating_add(cost);
        if !self.events.is_empty() {
            if !self.is_ours().await {
                return self.lost();
            }
            let events = std::mem::take(&mut self.events);
            Engine::written(&self.live, &mut self.core, events, (self.at, cost));
        }
        if !self.core.retired {
            self.engine.go_on(&self.live, &mut self.core);
        }
    }

    /// The charge is written in any case, what happened to the run only if it still was ours.
    async fn is_ours(&self) -> bool {
        let (database, run) = (&self.engine.database, &self.live.record.id);
        match database {
            // One process has the data folder: nobody else can have written.
            Database::Sqlite(_) => true,
            Database::MySql(_) => {
                let found = store::log_text(database, run, self.core.next_seq).await;
                matches!(found, Ok(Some(text)) if text == self.text)
            }
        }
    }

    /// It could not be written: the run is another process's.
    pub fn lost(mut self) {
        self.engine.retire(&self.live, &mut self.core);
    }
}
