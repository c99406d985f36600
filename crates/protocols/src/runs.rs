//! Runs of threads: begun, gone on with, followed, cancelled.

use std::sync::Arc;

use flow::{News, Question, Replay, RunRecord, Start, StepKind, Watch};
use identity::Caller;
use kernel::OrgId;
use serde_json::{Map, Value, json};

use crate::encode::{Encoder, Mode, Part, Place, is_over};
use crate::messages::taken;
use crate::store::{self, RunRow, ThreadRow};
use crate::threads::{RunStatus, Standing, check_metadata, interrupt, task_id};
use crate::{Error, Protocols, Result};

/// A run that is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// The workflow, by its name or id.
    pub(crate) assistant: String,
    pub(crate) input: Option<Map<String, Value>>,
    /// What answers the thread's question.
    pub(crate) resume: Option<Value>,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) strategy: Strategy,
}

/// What becomes of a run that has not ended when another is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// It goes on, and the other is refused.
    #[default]
    Reject,
    /// It is cancelled.
    Interrupt,
    /// It is cancelled, and the thread is as it was before it.
    Rollback,
}

impl Protocols {
    /// Begins a run on a thread, or goes on with the one that asks.
    pub(crate) async fn create_run(
        &self,
        caller: &Arc<Caller>,
        thread_id: &str,
        asked: Asked,
    ) -> Result<RunRow> {
        check_metadata(&asked.metadata)?;
        let org_id = &caller.org_id;
        let mut standing = self.thread(org_id, thread_id).await?;
        if standing.status.is_some_and(RunStatus::is_active) {
            if asked.strategy == Strategy::Reject {
                return Err(Error::Busy);
            }
            standing = self.make_room(org_id, standing, asked.strategy).await?;
        }
        match (&asked.resume, &asked.input) {
            (Some(resume), _) => {
                let answers = answers(&standing, resume)?;
                self.go_on(org_id, &standing, &asked, answers).await
            }
            // Nothing is given: a pause is over.
            (None, None) if standing.asks() => {
                let answers = unpaused(&standing)?;
                self.go_on(org_id, &standing, &asked, answers).await
            }
            (None, _) => self.begin(caller, &standing, asked).await,
        }
    }

    /// Begins a run on a thread of its own, watched from its beginning.
    pub(crate) async fn create_run_alone(
        &self,
        caller: &Arc<Caller>,
        asked: Asked,
    ) -> Result<Begun> {
        check_metadata(&asked.metadata)?;
        if asked.resume.is_some() {
            return Err(flow::Error::NotWaiting.into());
        }
        let thread = ThreadRow::new(kernel::id::new(), self.clock.now());
        let on = Standing::fresh(ThreadRow { stateless: true, ..thread });
        let (row, start) = self.prepare(caller, &on, asked).await?;
        let with = store::rows_of_one(&caller.org_id, &on.thread, &row);
        let watched = self.engine.start_watched(Start { with, ..start }).await?;
        Ok(Begun { run: row, watched: Some(watched) })
    }

    async fn begin(&self, caller: &Arc<Caller>, on: &Standing, asked: Asked) -> Result<RunRow> {
        let org_id = &caller.org_id;
        let (row, start) = self.prepare(caller, on, asked).await?;
        if let Some(before) = on.run.as_ref().filter(|_| on.asks()) {
            // A question that nobody will answer any more.
            self.cancel_run(org_id, before).await?;
        }
        let before = on.thread.last_run.as_deref();
        if !store::add_run(&self.database, org_id, &row, before).await? {
            return Err(Error::Busy);
        }
        if let Err(error) = self.engine.start(start).await {
            store::remove_run(&self.database, org_id, &row, before).await?;
            return Err(error.into());
        }
        Ok(row)
    }

    /// The run, and how it is started.
    async fn prepare(
        &self,
        caller: &Arc<Caller>,
        on: &Standing,
        asked: Asked,
    ) -> Result<(RunRow, Start)> {
        let org_id = &caller.org_id;
        let workflow = self.workflow(org_id, &asked.assistant).await?;
        let input = taken(asked.input.unwrap_or_default())?;
        let input = workflow.program.continued(on.fields(), input);
        let mut row = self.row(on, &asked.assistant, asked.metadata);
        // The engine's run is known by its key before it is there: so a process that ends in between
        // leaves no run that its thread does not know.
        let key = format!("langgraph:{}", row.id);
        row.flow_run = RunRecord::id_of(org_id, &key).to_string();
        let start = Start {
            caller: Arc::clone(caller),
            definition_id: Arc::clone(&workflow.definition.id),
            input,
            budget: None,
            key: Some(key),
            with: Vec::new(),
        };
        Ok((row, start))
    }

    async fn go_on(
        &self,
        org_id: &OrgId,
        on: &Standing,
        asked: &Asked,
        answers: Vec<(u64, Value)>,
    ) -> Result<RunRow> {
        let (Some(before), Some(snapshot)) = (&on.run, &on.snapshot) else {
            return Err(flow::Error::NotWaiting.into());
        };
        let mut row = self.row(on, &before.assistant, asked.metadata.clone());
        row.flow_run.clone_from(&before.flow_run);
        row.after_seq = snapshot.seq;
        if !store::add_run(&self.database, org_id, &row, Some(&before.id)).await? {
            return Err(Error::Busy);
        }
        for (at, (step, answer)) in answers.into_iter().enumerate() {
            let answered = self.engine.answer(org_id, &before.flow_run, step, answer).await;
            let refused = match answered {
                Ok(true) => continue,
                // Another run of the thread goes on with the same answer.
                Ok(false) => flow::Error::Answered,
                Err(error) => error,
            };
            // With one answer given the run has gone on.
            if at == 0 {
                store::remove_run(&self.database, org_id, &row, Some(&before.id)).await?;
            }
            return Err(refused.into());
        }
        Ok(row)
    }

    fn row(&self, on: &Standing, assistant: &str, metadata: Map<String, Value>) -> RunRow {
        RunRow {
            id: kernel::id::new(),
            thread_id: on.thread.id.clone(),
            assistant: assistant.to_owned(),
            flow_run: String::new(),
            after_seq: 0,
            until_seq: None,
            metadata,
            created_at: self.clock.now(),
        }
    }

    async fn make_room(
        &self,
        org_id: &OrgId,
        standing: Standing,
        strategy: Strategy,
    ) -> Result<Standing> {
        let id = standing.thread.id.clone();
        if let Some(run) = &standing.run {
            self.cancel_run(org_id, run).await?;
            self.end_of(org_id, run).await?;
            if strategy == Strategy::Rollback {
                self.forget_run(org_id, run).await?;
            }
        }
        self.thread(org_id, &id).await
    }

    /// A run of a thread.
    pub(crate) async fn run(&self, org_id: &OrgId, thread_id: &str, id: &str) -> Result<RunRow> {
        let found = store::find_run(&self.database, org_id, id).await?;
        let found = found.filter(|run| run.thread_id == thread_id);
        found.ok_or_else(|| Error::UnknownRun(id.chars().take(64).collect()))
    }

    /// Cancels what a run does; one that has ended stays as it is.
    pub(crate) async fn cancel_run(&self, org_id: &OrgId, run: &RunRow) -> Result<()> {
        if run.until_seq.is_some() {
            return Ok(());
        }
        match self.engine.cancel(org_id, &run.flow_run).await {
            // It was never started.
            Err(flow::Error::UnknownRun(_)) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Takes a run away from its thread, which then is as it was before.
    pub(crate) async fn forget_run(&self, org_id: &OrgId, run: &RunRow) -> Result<()> {
        let runs = store::list_runs(&self.database, org_id, &run.thread_id, 1_000).await?;
        let before = runs.iter().find(|other| other.id < run.id).map(|other| other.id.as_str());
        store::remove_run(&self.database, org_id, run, before).await
    }

    /// Waits until a run has ended or asks, and gives the thread's fields then, or why it failed.
    pub(crate) async fn end_of(&self, org_id: &OrgId, run: &RunRow) -> Result<Value> {
        self.follow(org_id, run, Vec::new(), Place::default()).await?.end().await
    }

    /// Follows a run that was begun just now.
    pub(crate) async fn follow_begun(
        &self,
        org_id: &OrgId,
        begun: Begun,
        modes: Vec<Mode>,
    ) -> Result<Follow> {
        let Begun { run, watched } = begun;
        match watched {
            Some(watched) => Ok(self.followed(org_id, &run, watched, modes, Place::default())),
            None => self.follow(org_id, &run, modes, Place::default()).await,
        }
    }

    /// Follows a run from a place of its stream.
    pub(crate) async fn follow(
        &self,
        org_id: &OrgId,
        run: &RunRow,
        modes: Vec<Mode>,
        place: Place,
    ) -> Result<Follow> {
        let replay = self.engine.replay(org_id, &run.flow_run).await?;
        let watch = self.engine.watch_replay(org_id, &replay);
        Ok(self.followed(org_id, run, (replay, watch), modes, place))
    }

    fn followed(
        &self,
        org_id: &OrgId,
        run: &RunRow,
        (replay, watch): (Replay, Watch),
        modes: Vec<Mode>,
        place: Place,
    ) -> Follow {
        Follow {
            watch,
            encoder: Encoder::new(&run.id, &run.flow_run, modes, replay, place),
            protocols: self.clone(),
            org_id: org_id.clone(),
            run: run.clone(),
            ended: false,
        }
    }
}

/// A run that was begun just now.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) run: RunRow,
    /// If it was watched before it began.
    watched: Option<(Replay, Watch)>,
}

impl From<RunRow> for Begun {
    fn from(run: RunRow) -> Self {
        Self { run, watched: None }
    }
}

/// A run being followed, up to its end or question.
#[derive(Debug)]
pub(crate) struct Follow {
    watch: Watch,
    encoder: Encoder,
    protocols: Protocols,
    org_id: OrgId,
    run: RunRow,
    ended: bool,
}

impl Follow {
    /// The next parts of the stream, possibly none; `None` at its end. A call that is dropped loses
    /// nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Part>>> {
        if self.ended {
            return Ok(None);
        }
        let news = self.watch.next().await?;
        let parts = match &news {
            Some(News::Happened(logged)) if logged.seq <= self.run.after_seq => {
                self.encoder.pass(logged);
                return Ok(Some(Vec::new()));
            }
            Some(News::Happened(logged)) => self.encoder.event(logged),
            Some(News::Said(said)) => return Ok(Some(self.encoder.said(said))),
            None => Vec::new(),
        };
        // What was written together is told together: in between a run only seems to stand still.
        let cut = self.run.until_seq.is_some_and(|until| self.watch.seq() >= until);
        let settled = is_over(self.encoder.replay()) && !self.watch.has_more().await?;
        if news.is_some() && !cut && !settled {
            return Ok(Some(parts));
        }
        self.ended = true;
        let error = if cut { None } else { self.error().await? };
        Ok(Some(parts.into_iter().chain(self.encoder.end(error.as_ref())).collect()))
    }

    /// Waits until the run has ended or asks, and gives the thread's fields then, or why it failed.
    pub(crate) async fn end(mut self) -> Result<Value> {
        while self.next().await?.is_some() {}
        let stands = self.encoder.replay().snapshot();
        let mut values = crate::messages::shown(&stands.fields);
        if !stands.questions.is_empty() {
            let flow_run = &self.run.flow_run;
            let asked = stands.questions.iter().map(|one| interrupt(flow_run, one)).collect();
            values.insert("__interrupt__".to_owned(), Value::Array(asked));
        }
        if let Some(error) = self.error().await? {
            let text = |name: &str| error.get(name).cloned().unwrap_or_default();
            let told = json!({"error": text("code"), "message": text("message")});
            values.insert("__error__".to_owned(), told);
        }
        Ok(Value::Object(values))
    }

    /// Why the run failed, if it did.
    async fn error(&self) -> Result<Option<Value>> {
        let replay = self.encoder.replay();
        let status = RunStatus::of(replay.status(), replay.asks());
        if !matches!(status, RunStatus::Error | RunStatus::Timeout) {
            return Ok(None);
        }
        Ok(self.protocols.engine.find(&self.org_id, &self.run.flow_run).await?.error)
    }
}

/// Which steps a resumption answers: all by their ids, or the one there is.
fn answers(standing: &Standing, resume: &Value) -> Result<Vec<(u64, Value)>> {
    let run = standing.run.as_ref().map_or("", |run| run.flow_run.as_str());
    let questions: &[Question] = standing
        .snapshot
        .as_ref()
        .map(|snapshot| snapshot.questions.as_slice())
        .unwrap_or_default();
    let by_id = resume.as_object().filter(|members| {
        let known = |id: &String| questions.iter().any(|one| task_id(run, one.step) == *id);
        !members.is_empty() && members.keys().all(known)
    });
    if let Some(members) = by_id {
        let given = questions.iter().filter_map(|one| {
            members.get(&task_id(run, one.step)).map(|answer| (one.step, answer.clone()))
        });
        return Ok(given.collect());
    }
    match questions {
        [] => Err(flow::Error::NotWaiting.into()),
        [one] => Ok(vec![(one.step, resume.clone())]),
        _ => {
            let why = "several questions wait: send {id: answer} with the ids of their interrupts";
            Err(Error::Invalid("command.resume", why.to_owned()))
        }
    }
}

/// The pauses of a run that go on without an answer.
fn unpaused(standing: &Standing) -> Result<Vec<(u64, Value)>> {
    let questions = standing
        .snapshot
        .as_ref()
        .map(|snapshot| snapshot.questions.as_slice())
        .unwrap_or_default();
    if questions.iter().any(|one| one.kind == StepKind::Wait) {
        let why = "the thread's run asks: send command: {resume: ANSWER}, or input for a new run";
        return Err(Error::Invalid("input", why.to_owned()));
    }
    Ok(questions.iter().map(|one| (one.step, Value::Null)).collect())
}
