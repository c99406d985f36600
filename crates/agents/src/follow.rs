//! Following runs: what happens is told at once, and written into the history a little later.
//!
//! The run's log is the truth. Whoever follows may be lost at any point: another reads the log again
//! from the last event that is in the history.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use flow::{Event, Logged, News, Said, Status, StepKind};
use kernel::{Amount, ChargeId, Timestamp};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::hub::{Push, pieces};
use crate::records::{Figures, Record, Teller, Usage};
use crate::runs::{LOOK_AFTER, OF_ONE_RUN, Stored, recent};
use crate::store::history::{self, Batch, Written};
use crate::store::runs as store;
use crate::{Agents, Error, Result};

/// What happened waits so long to be written together with what happens next.
const GATHER: Duration = Duration::from_millis(250);
/// More waits not.
const MOST_GATHERED: usize = 256;
/// Whether there is more is known by then.
const SOON: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often runs that nobody follows are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const AFTER_A_FAULT: Duration = Duration::from_secs(1);
const MOST_FAULTS: u32 = 5;

/// How far a run is, in the history too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is at work.
    Working,
    /// It waits for an answer or a time.
    Waiting,
    /// It has ended.
    Ended,
}

/// A run that is followed, and what of it is not written yet.
struct Followed {
    run: Stored,
    teller: Teller,
    /// The last event that was taken in.
    seen: i64,
    records: Vec<Record>,
    figures: Figures,
    cost: Amount,
    /// In which its calls are charged, once one was.
    currency: Option<String>,
    /// How the flow's node count stands, for pushes.
    visits: HashMap<Arc<str>, u32>,
    /// Steps of which a text was passed on while it came.
    said: HashSet<u64>,
    last_at: Timestamp,
}

impl Agents {
    /// Takes up the runs that nobody follows, until the service is closed.
    pub async fn run(&self) {
        let mut turn = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = self.0.stopping.cancelled() => return,
                _ = turn.tick() => {}
            }
            if let Err(error) = self.take_up().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "runs cannot be taken up for the history"
                );
            }
        }
    }

    async fn take_up(&self) -> Result<()> {
        let database = &self.parts().database;
        for run in store::due(database, self.now()).await? {
            let followed = self.0.followed.lock().contains_key(&run.execution_id);
            if followed {
                let later = self.now().after(LOOK_AFTER);
                store::look_at(database, &run, Some(later)).await?;
            } else {
                self.follow(run);
            }
        }
        Ok(())
    }

    /// Follows a run, unless somebody here does already; tells how far it is.
    pub(crate) fn follow(&self, run: Stored) -> watch::Receiver<Progress> {
        let mut all = self.0.followed.lock();
        if let Some(progress) = all.get(&run.execution_id) {
            return progress.clone();
        }
        let (told, progress) = watch::channel(Progress::Working);
        all.insert(Arc::clone(&run.execution_id), progress.clone());
        let agents = self.clone();
        self.0.tasks.spawn(async move { agents.accompany(run, told).await });
        progress
    }

    async fn accompany(self, run: Stored, told: watch::Sender<Progress>) {
        let id = Arc::clone(&run.execution_id);
        let mut faults = 0;
        let progress = loop {
            match self.look_after(&id).await {
                Ok(progress) => break progress,
                Err(error) => {
                    tracing::warn!(run = %id, error = &error as &dyn std::error::Error, "a run cannot be told");
                    faults += 1;
                    if faults >= MOST_FAULTS || self.0.stopping.is_cancelled() {
                        // It is taken up again later.
                        break Progress::Working;
                    }
                    tokio::time::sleep(AFTER_A_FAULT).await;
                }
            }
        };
        self.0.followed.lock().remove(&id);
        told.send_replace(progress);
        // Somebody may have answered it while its place was still taken.
        if progress == Progress::Waiting && !self.0.stopping.is_cancelled() {
            match self.is_further(&id).await {
                Ok(Some(run)) => drop(self.follow(run)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(run = %id, error = &error as &dyn std::error::Error, "a run cannot be looked at");
                }
            }
        }
    }

    /// The run, if more has happened to it than is in the history.
    async fn is_further(&self, id: &str) -> Result<Option<Stored>> {
        let Some(run) = store::find_any(&self.parts().database, id).await? else { return Ok(None) };
        let engine = &self.parts().engine;
        let more = engine.events(&run.org_id, &run.run_id, run.recorded).await?;
        Ok((!more.is_empty()).then_some(run))
    }

    /// Follows a run to its end, or until it waits.
    async fn look_after(&self, id: &str) -> Result<Progress> {
        let (database, engine) = (&self.parts().database, &self.parts().engine);
        let Some(run) = store::find_any(database, id).await? else { return Ok(Progress::Ended) };
        if run.ended_at.is_some() {
            return Ok(Progress::Ended);
        }
        match engine.find(&run.org_id, &run.run_id).await {
            Ok(_) => {}
            Err(flow::Error::UnknownRun(_)) => return self.never_begun(run).await,
            Err(error) => return Err(error.into()),
        }
        let (org_id, run_id) = (run.org_id.clone(), Arc::clone(&run.run_id));
        let replay = engine.replay(&org_id, &run_id).await?;
        let execution = Arc::clone(&run.execution_id);
        let teller = Teller::new(replay, execution, run.carried, self.providers());
        let mut followed = Followed::new(run, teller);
        let mut watch = engine.watch(&org_id, &run_id, 0).await?;
        loop {
            let pause = self.pause(&followed);
            let next = tokio::select! {
                next = tokio::time::timeout(pause, watch.next()) => next,
                () = self.0.stopping.cancelled() => Ok(Err(flow::Error::Stopping)),
            };
            match next {
                Ok(Ok(Some(News::Happened(logged)))) => {
                    self.take_in(&mut followed, &logged).await?;
                }
                Ok(Ok(Some(News::Said(said)))) => self.pass_on(&mut followed, &said),
                Ok(Ok(None)) => return self.finish(&mut followed).await,
                Ok(Err(flow::Error::Stopping)) => {
                    self.write(&mut followed, None).await?;
                    return Ok(Progress::Working);
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_quiet) => {
                    self.write(&mut followed, None).await?;
                    if !self.is_late(&mut followed).await? && self.waits(&followed).await? {
                        return Ok(Progress::Waiting);
                    }
                }
            }
            if followed.records.len() >= MOST_GATHERED {
                self.write(&mut followed, None).await?;
            }
        }
    }

    /// A run that was noted but not started: the process ended in between.
    async fn never_begun(&self, mut run: Stored) -> Result<Progress> {
        let database = &self.parts().database;
        if self.now() < run.started_at.after(LOOK_AFTER) {
            return Ok(Progress::Working);
        }
        run.ended_at = Some(self.now());
        match database.execute(store::recorded(&run, run.recorded, None)).await {
            Ok(_) | Err(::store::Error::Unexpected { .. }) => Ok(Progress::Ended),
            Err(error) => Err(error.into()),
        }
    }

    /// How long to wait for what happens next.
    fn pause(&self, followed: &Followed) -> Duration {
        let waits = followed.teller.replay().status() == Status::Waiting;
        let quiet = match followed.records.is_empty() {
            _ if waits => SOON,
            true => LONGEST_PAUSE,
            false => GATHER,
        };
        let late = followed.run.deadline.filter(|_| followed.run.stopped.is_none());
        late.map_or(quiet, |late| quiet.min(late.since(self.now()).max(SOON)))
    }

    /// Whether a run waits for somebody or a time: it is let go, and taken up again then.
    async fn waits(&self, followed: &Followed) -> Result<bool> {
        if followed.teller.replay().status() != Status::Waiting {
            return Ok(false);
        }
        let run = &followed.run;
        let record = self.parts().engine.find(&run.org_id, &run.run_id).await?;
        if record.status != Status::Waiting {
            return Ok(false);
        }
        let look_at = record.wake_at.into_iter().chain(run.deadline).min();
        store::look_at(&self.parts().database, run, look_at).await?;
        Ok(true)
    }

    /// Stops a run whose time is over.
    async fn is_late(&self, followed: &mut Followed) -> Result<bool> {
        let run = &mut followed.run;
        let over = run.deadline.is_some_and(|deadline| deadline <= self.now());
        if !over || run.stopped.is_some() {
            return Ok(false);
        }
        run.stopped = Some("timeout".to_owned());
        store::stop(&self.parts().database, run, "timeout").await?;
        self.parts().engine.cancel(&run.org_id, &run.run_id).await?;
        Ok(true)
    }

    async fn take_in(&self, followed: &mut Followed, logged: &Logged) -> Result<()> {
        let recorded = logged.seq <= followed.run.recorded;
        let usage = if recorded { None } else { self.usage(followed, &logged.event).await? };
        if !recorded {
            self.push(followed, logged);
        }
        let records = followed.teller.take(logged, usage.as_ref());
        followed.seen = logged.seq;
        followed.last_at = logged.at;
        if recorded {
            return Ok(());
        }
        for record in records {
            followed.figures.count(&record);
            followed.records.push(record);
        }
        let cost = usage.as_ref().map_or(Amount::ZERO, |usage| usage.record.cost);
        followed.currency = usage
            .map(|usage| usage.record.currency.to_string())
            .or_else(|| followed.currency.take());
        followed.cost = followed.cost.saturating_add(cost);
        Ok(())
    }

    /// Passes on what a model is saying.
    fn pass_on(&self, followed: &mut Followed, said: &Said) {
        let run = &followed.run;
        followed.said.insert(said.step);
        for piece in pieces(&said.text) {
            let push = Push::chunk(&run.session_id, piece, false, self.now());
            self.hub().push(&run.org_id, &run.owner, push);
        }
    }

    /// What the call of an event has cost and used.
    async fn usage(&self, followed: &Followed, event: &Event) -> Result<Option<Usage>> {
        let (Event::StepFinished { charge: Some(charge), .. }
        | Event::StepFailed { charge: Some(charge), .. }) = event
        else {
            return Ok(None);
        };
        let (metering, org_id) = (&self.parts().metering, &followed.run.org_id);
        let charge = ChargeId::from(charge.as_str());
        let Some(record) = metering.usage(&charge, Some(org_id)).await? else { return Ok(None) };
        let mut completion = Amount::ZERO;
        if record.cost != Amount::ZERO
            && let Some(explained) = metering.explain(&charge, Some(org_id)).await?
        {
            completion = output_cost(&explained).min(record.cost);
        }
        Ok(Some(Usage { record, completion }))
    }

    /// Tells whoever listens.
    fn push(&self, followed: &mut Followed, logged: &Logged) {
        let run = &followed.run;
        let (id, at) = (run.session_id.as_str(), logged.at);
        let mut pushes = Vec::new();
        match &logged.event {
            Event::StepStarted { node, .. } | Event::Passed { node, .. } => {
                let visits = followed.visits.entry(Arc::clone(node)).or_default();
                *visits += 1;
                let data = json!({"execution_id": run.execution_id.as_ref(), "current_node": node.as_ref(),
                    "iteration": visits, "state": "running"});
                pushes.push(Push::node(id, &data, at));
            }
            Event::StepWaiting { step, message, .. } => {
                let node = followed.teller.step(*step).map(|(node, _)| node.to_owned());
                let data = json!({"execution_id": run.execution_id.as_ref(), "current_node": node,
                    "state": "waiting", "step": step, "message": message});
                pushes.push(Push::node(id, &data, at));
            }
            Event::StepFinished { step, output, .. } => {
                if let Some((_, StepKind::Llm)) = followed.teller.step(*step) {
                    let said = followed.said.remove(step);
                    let text = crate::records::content_of(&output["message"]);
                    let text = if said { String::new() } else { text };
                    let parts = pieces(&text);
                    let last = parts.len() - 1;
                    let chunk =
                        |(place, part): (usize, &&str)| Push::chunk(id, part, place == last, at);
                    pushes.extend(parts.iter().enumerate().map(chunk));
                }
            }
            Event::StepFailed { error, .. } => {
                pushes.push(Push::error(id, &error.code, &error.message, at));
            }
            Event::Finished { status, error } => {
                let data = json!({"execution_id": run.execution_id.as_ref(), "current_node": null,
                    "state": status.as_str(), "error": error.as_ref().map(|error| &error.message)});
                pushes.push(Push::node(id, &data, at));
            }
            _ => {}
        }
        for push in pushes {
            self.hub().push(&run.org_id, &run.owner, push);
        }
    }

    /// The run has ended: what is left is written, and what its calls have cost is compared.
    async fn finish(&self, followed: &mut Followed) -> Result<Progress> {
        let engine = &self.parts().engine;
        let record = engine.find(&followed.run.org_id, &followed.run.run_id).await?;
        followed.run.ended_at = Some(followed.last_at);
        let told = followed.run.cost.saturating_add(followed.cost);
        // Calls of steps that were given up have no event: what they cost is told in the end.
        let left = record.spent.saturating_sub(told);
        if let Some(currency) = followed.currency.clone().filter(|_| left.is_positive()) {
            let last = Record::rest(&followed.run.execution_id, followed.last_at, left, currency);
            followed.figures.count(&last);
            followed.records.push(last);
            followed.cost = followed.cost.saturating_add(left);
        } else if left != Amount::ZERO {
            tracing::warn!(run = %followed.run.execution_id, spent = %record.spent, %told,
                "what the run has cost is not what its history says");
        }
        let fields = followed.teller.replay().fields().clone();
        self.write(followed, Some(fields)).await?;
        Ok(Progress::Ended)
    }

    /// Writes what was gathered, and the session's new state at the end.
    async fn write(
        &self,
        followed: &mut Followed,
        fields: Option<Map<String, Value>>,
    ) -> Result<()> {
        let nothing = followed.records.is_empty() && followed.figures.is_empty();
        if nothing && fields.is_none() && followed.seen == followed.run.recorded {
            return Ok(());
        }
        let before = followed.run.recorded;
        let mut run = followed.run.clone();
        run.recorded = followed.seen;
        run.cost = run.cost.saturating_add(followed.cost);
        let look_at = run.ended_at.is_none().then(|| self.now().after(LOOK_AFTER));
        let batch = Batch {
            run: &run,
            before,
            look_at,
            records: &followed.records,
            figures: &followed.figures,
            state: fields.as_ref().map(|fields| Outcome { fields, carried: run.carried }),
            now: self.now(),
        };
        match history::write(&self.parts().database, &batch).await? {
            Written::Done(session) => {
                if let Some(session) = session.filter(|session| session.listed) {
                    let push = Push::session(&session.view, "recorded", self.now());
                    self.hub().push(&session.org_id, &session.owner, push);
                }
            }
            // Another process has come further: it goes on.
            Written::Passed => return Err(Error::Contended(run.session_id)),
        }
        followed.run = run;
        followed.records.clear();
        followed.figures = Figures::default();
        followed.cost = Amount::ZERO;
        Ok(())
    }
}

/// What a run leaves to its session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome<'a> {
    fields: &'a Map<String, Value>,
    carried: usize,
}

impl Outcome<'_> {
    /// The session's state with what the run has added: its messages behind those that are there,
    /// its fields in place of the old.
    pub(crate) fn after(self, state: &Map<String, Value>) -> Map<String, Value> {
        let mut next = state.clone();
        let own = |name: &str| name == "messages" || OF_ONE_RUN.contains(&name);
        let fields = self.fields.iter().filter(|(name, _)| !own(name));
        next.extend(fields.map(|(name, value)| (name.clone(), value.clone())));
        let messages = self.fields.get("messages").and_then(Value::as_array);
        let new = messages.into_iter().flatten().skip(self.carried).cloned();
        let mut all: Vec<Value> = match next.remove("messages") {
            Some(Value::Array(known)) => known,
            _ => Vec::new(),
        };
        all.extend(new);
        next.insert("messages".to_owned(), Value::Array(all));
        let fitting = recent(&next);
        next.insert("messages".to_owned(), Value::Array(fitting));
        next
    }
}

impl Followed {
    fn new(run: Stored, teller: Teller) -> Self {
        Self {
            last_at: run.started_at,
            run,
            teller,
            seen: 0,
            records: Vec::new(),
            figures: Figures::default(),
            cost: Amount::ZERO,
            currency: None,
            visits: HashMap::new(),
            said: HashSet::new(),
        }
    }
}

/// Of what was charged, what the output cost; digits beyond billionths count for the input.
fn output_cost(explained: &metering::Explanation) -> Amount {
    let outputs = explained.charge.lines.iter().filter(|line| {
        let of = |class| line.class.is_some_and(|classes| classes.has(class));
        let output = of(pricing::Class::Output) || of(pricing::Class::Reasoning);
        output && !of(pricing::Class::Input)
    });
    let amounts = outputs.filter_map(|line| {
        let text = line.amount.to_string();
        let whole = text.split_once('.').map_or(text.len(), |(whole, _)| whole.len() + 10);
        text.get(..whole.min(text.len()))?.parse::<Amount>().ok()
    });
    amounts.fold(Amount::ZERO, Amount::saturating_add)
}
