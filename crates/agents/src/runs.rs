//! Runs of workflows: started, waited for, answered, cancelled.

use std::sync::Arc;
use std::time::Duration;

use flow::{Question, RunRecord, Start, Status};
use kernel::{Amount, OrgId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::follow::Progress;
use crate::store::{runs as store, sessions, workflows as workflow_store};
use crate::{Agents, Error, Owner, Result, ids};

/// A run that nobody looks after is taken up this much later.
pub(crate) const LOOK_AFTER: Duration = Duration::from_secs(30);
/// The longest `timeout`, in seconds: a week.
const LONGEST_TIMEOUT: f64 = 604_800.0;
const MOST_ITERATIONS: u64 = 10_000;
/// Of a session's messages, so many bytes go along with a run; the oldest stay behind.
const CARRIED: usize = 96 * 1024;
/// What belongs to one run and not to its session.
pub(crate) const OF_ONE_RUN: [&str; 8] = [
    "iteration_count",
    "current_step",
    "errors",
    "workflow_name",
    "tool_results",
    "max_iterations",
    "parameters",
    "agent_config",
];

/// A run that is asked for.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct RunRequest {
    /// Fields it begins with, such as `messages`.
    #[schema(value_type = Option<Object>,
        example = json!({"messages": [{"role": "user", "content": "你好"}]}))]
    pub initial_state: Option<Map<String, Value>>,
    /// `max_iterations`, `timeout` (seconds) and `budget` (what its calls may cost); others are the
    /// workflow's own, in the field `parameters`.
    #[schema(value_type = Option<Object>, example = json!({"max_iterations": 10, "timeout": 300}))]
    pub parameters: Option<Map<String, Value>>,
    /// A session of yours: the run goes on with its messages, and is told in its history.
    pub session_id: Option<String>,
}

/// A run as callers see it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Execution {
    /// Such as `exec_20261121_174800_1f73e8a0`.
    pub execution_id: String,
    /// The workflow.
    pub workflow_id: String,
    /// `completed`, `error`, `running` or `waiting` (for an answer).
    pub status: &'static str,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub completed_at: Option<Timestamp>,
    /// What it gave, once completed.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    /// Why it did not complete.
    pub error: Option<String>,
    /// The error's stable name.
    pub error_type: Option<String>,
    /// The session it belongs to; its own id if it was given none.
    pub session_id: String,
    /// What its calls have cost.
    #[schema(value_type = String)]
    pub cost: Amount,
    /// The questions it waits for an answer to.
    #[schema(value_type = Vec<Object>)]
    pub questions: Vec<Question>,
}

/// A run as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) execution_id: Arc<str>,
    pub(crate) run_id: Arc<str>,
    pub(crate) org_id: OrgId,
    pub(crate) owner: String,
    pub(crate) workflow_id: String,
    pub(crate) session_id: String,
    pub(crate) start_key: Option<String>,
    /// What another request under the same key must be like.
    pub(crate) fingerprint: String,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) deadline: Option<Timestamp>,
    /// Why it was stopped from here.
    pub(crate) stopped: Option<String>,
    /// Messages of its input that the session had before.
    pub(crate) carried: usize,
    /// The last event that is in the history.
    pub(crate) recorded: i64,
    /// What was recorded of its cost.
    pub(crate) cost: Amount,
}

/// What a request's `parameters` mean.
#[derive(Debug, Default)]
struct Parameters {
    timeout: Option<Duration>,
    budget: Option<Amount>,
}

impl Agents {
    /// Starts a run. When this returns it is on disk and will be carried out, whatever happens; the
    /// same key and request start one run.
    pub async fn start(
        &self,
        owner: &Owner,
        workflow_id: &str,
        request: RunRequest,
        key: Option<String>,
    ) -> Result<Arc<str>> {
        let workflow = self.find_workflow(owner, workflow_id).await?;
        let empty = || Error::Empty(workflow_id.to_owned());
        let definition_id = workflow.definition_id.clone().ok_or_else(empty)?;
        let fingerprint = fingerprint(workflow_id, &request);
        if let Some(key) = &key
            && let Some(known) = self.started_before(owner, key, &fingerprint).await?
        {
            return Ok(known);
        }
        let session = match &request.session_id {
            Some(id) => Some(self.find_session(owner, id).await?),
            None => None,
        };
        let (input, parameters, carried) = input_of(request, session.as_ref())?;
        let now = self.now();
        let execution_id: Arc<str> = ids::execution(now)?.into();
        let session_id = session.as_ref().map_or(&*execution_id, |known| &known.view.session_id);
        let run = Stored {
            run_id: RunRecord::id_of(owner.org_id(), &execution_id),
            org_id: owner.org_id().clone(),
            owner: owner.id().to_owned(),
            workflow_id: workflow_id.to_owned(),
            session_id: session_id.to_owned(),
            start_key: key,
            fingerprint,
            started_at: now,
            ended_at: None,
            deadline: parameters.timeout.map(|timeout| now.after(timeout)),
            stopped: None,
            carried,
            recorded: 0,
            cost: Amount::ZERO,
            execution_id,
        };
        self.begin(owner, run, definition_id.into(), input, parameters.budget).await
    }

    async fn begin(
        &self,
        owner: &Owner,
        run: Stored,
        definition_id: Arc<str>,
        input: Map<String, Value>,
        budget: Option<Amount>,
    ) -> Result<Arc<str>> {
        let database = &self.parts().database;
        let execution_id = Arc::clone(&run.execution_id);
        let mut statements = vec![
            store::insert(&run, run.started_at.after(LOOK_AFTER)),
            workflow_store::used(owner, &run.workflow_id, run.started_at),
        ];
        if run.session_id == *execution_id {
            let (id, now) = (run.session_id.clone(), run.started_at);
            let mut session = crate::sessions::Stored::new(owner, id, now);
            session.listed = false;
            session.view.workflow_id = Some(run.workflow_id.clone());
            statements.push(sessions::insert(&session));
        }
        match database.transaction(statements).await {
            Err(error) if error.is_duplicate() && run.start_key.is_some() => {
                // Another request with the same key was first in this moment.
                let key = run.start_key.as_deref().unwrap_or_default();
                let known = self.started_before(owner, key, &run.fingerprint).await?;
                return known.ok_or(Error::Conflict);
            }
            outcome => drop(outcome?),
        }
        let start = Start {
            caller: Arc::clone(owner.caller()),
            definition_id,
            input,
            budget,
            key: Some(execution_id.to_string()),
            with: Vec::new(),
        };
        if let Err(error) = self.parts().engine.start(start).await {
            store::forget(database, &run).await?;
            return Err(error.into());
        }
        self.follow(run);
        Ok(execution_id)
    }

    async fn started_before(
        &self,
        owner: &Owner,
        key: &str,
        fingerprint: &str,
    ) -> Result<Option<Arc<str>>> {
        match store::find_by_key(&self.parts().database, owner, key).await? {
            Some(known) if known.fingerprint == fingerprint => Ok(Some(known.execution_id)),
            Some(_) => Err(Error::Conflict),
            None => Ok(None),
        }
    }

    /// Waits until a run has ended or waits for an answer, and its history is written; no longer
    /// than this.
    pub async fn wait(&self, owner: &Owner, id: &str, patience: Duration) -> Result<Execution> {
        let run = self.find_run(owner, id).await?;
        if run.ended_at.is_none() {
            let mut progress = self.follow(run);
            let settled = progress.wait_for(|progress| *progress != Progress::Working);
            // Whoever waits is told how it stands, also if it takes longer.
            drop(tokio::time::timeout(patience, settled).await);
        }
        self.execution(owner, id).await
    }

    pub(crate) async fn find_run(&self, owner: &Owner, id: &str) -> Result<Stored> {
        ids::check_execution(id)?;
        let found = store::find(&self.parts().database, owner, id).await?;
        found.ok_or_else(|| Error::UnknownExecution(id.to_owned()))
    }

    /// A run of this owner.
    pub async fn execution(&self, owner: &Owner, id: &str) -> Result<Execution> {
        let run = self.find_run(owner, id).await?;
        self.view(&run).await
    }

    pub(crate) async fn view(&self, run: &Stored) -> Result<Execution> {
        let engine = &self.parts().engine;
        let record = match engine.find(&run.org_id, &run.run_id).await {
            Ok(record) => record,
            Err(flow::Error::UnknownRun(_)) => return Ok(run.never_begun()),
            Err(error) => return Err(error.into()),
        };
        let questions = match record.status {
            Status::Waiting => engine.snapshot(&run.org_id, &run.run_id).await?.questions,
            _ => Vec::new(),
        };
        Ok(run.told_by(&record, questions))
    }

    /// A workflow's runs, newest first, and how many there are.
    pub async fn executions(
        &self,
        owner: &Owner,
        workflow_id: &str,
        page: (u32, u32),
    ) -> Result<(Vec<Execution>, i64)> {
        ids::check_workflow(workflow_id)?;
        let found = store::list(&self.parts().database, owner, workflow_id, page).await?;
        let mut views = Vec::with_capacity(found.0.len());
        for run in &found.0 {
            views.push(self.view(run).await?);
        }
        Ok((views, found.1))
    }

    /// Answers a run's question: the one there is, or that of this step.
    pub async fn answer(
        &self,
        owner: &Owner,
        id: &str,
        step: Option<u64>,
        answer: Value,
    ) -> Result<()> {
        let run = self.find_run(owner, id).await?;
        let engine = &self.parts().engine;
        let step = if let Some(step) = step {
            step
        } else {
            let open = engine.snapshot(&run.org_id, &run.run_id).await?.questions;
            match open.as_slice() {
                [one] => one.step,
                [] => return Err(flow::Error::NotWaiting.into()),
                _ => {
                    let message = "several questions are open: name one of their steps";
                    return Err(Error::Field("step", message.to_owned()));
                }
            }
        };
        let _first = engine.answer(&run.org_id, &run.run_id, step, answer).await?;
        self.follow(run);
        Ok(())
    }

    /// Cancels a run: what is under way is cut off and charged for what it used.
    pub async fn cancel(&self, owner: &Owner, id: &str) -> Result<()> {
        let run = self.find_run(owner, id).await?;
        store::stop(&self.parts().database, &run, "cancelled").await?;
        self.parts().engine.cancel(&run.org_id, &run.run_id).await?;
        self.follow(run);
        Ok(())
    }
}

impl Stored {
    /// The run as its record tells it.
    pub(crate) fn told_by(&self, record: &RunRecord, questions: Vec<Question>) -> Execution {
        let status = match record.status {
            Status::Succeeded => "completed",
            Status::Failed | Status::Cancelled | Status::TimedOut => "error",
            Status::Waiting if !questions.is_empty() => "waiting",
            _ => "running",
        };
        let part = |name: &str| {
            let error = record.error.as_ref()?;
            error.get(name).and_then(Value::as_str).map(str::to_owned)
        };
        let (mut error, mut error_type) = (part("message"), part("code"));
        if self.stopped.as_deref() == Some("timeout") && record.status == Status::Cancelled {
            error = Some("the run took longer than its timeout".to_owned());
            error_type = Some("timeout".to_owned());
        }
        Execution {
            execution_id: self.execution_id.to_string(),
            workflow_id: self.workflow_id.clone(),
            status,
            started_at: self.started_at,
            completed_at: record.status.is_final().then_some(record.updated_at),
            result: record.output.clone(),
            error,
            error_type,
            session_id: self.session_id.clone(),
            cost: record.spent,
            questions,
        }
    }

    /// The process ended between noting the run and starting it.
    fn never_begun(&self) -> Execution {
        Execution {
            execution_id: self.execution_id.to_string(),
            workflow_id: self.workflow_id.clone(),
            status: "error",
            started_at: self.started_at,
            completed_at: self.ended_at,
            result: None,
            error: Some("the server stopped before the run was started: start it again".to_owned()),
            error_type: Some("interrupted".to_owned()),
            session_id: self.session_id.clone(),
            cost: Amount::ZERO,
            questions: Vec::new(),
        }
    }
}

fn fingerprint(workflow_id: &str, request: &RunRequest) -> String {
    let parts = json!([workflow_id, request.initial_state, request.parameters, request.session_id]);
    blake3::hash(parts.to_string().as_bytes()).to_hex().as_str().to_owned()
}

/// The fields a run begins with, its parameters, and how many messages the session had before.
fn input_of(
    request: RunRequest,
    session: Option<&crate::sessions::Stored>,
) -> Result<(Map<String, Value>, Parameters, usize)> {
    let mut input = session.map(|session| session.state.clone()).unwrap_or_default();
    OF_ONE_RUN.iter().for_each(|name| drop(input.remove(*name)));
    let mut messages = session.map(|session| recent(&session.state)).unwrap_or_default();
    let carried = messages.len();
    for (name, value) in request.initial_state.unwrap_or_default() {
        match value {
            Value::Array(new) if name == "messages" => messages.extend(new),
            value => drop(input.insert(name, value)),
        }
    }
    if !messages.is_empty() {
        input.insert("messages".to_owned(), Value::Array(messages));
    }
    if let Some(config) = session.and_then(|session| session.view.agent_config.clone()) {
        input.entry("agent_config").or_insert(config);
    }
    let mut parameters = Parameters::default();
    if let Some(given) = request.parameters {
        parameters = Parameters::read(&given)?;
        if let Some(most) = given.get("max_iterations") {
            input.insert("max_iterations".to_owned(), most.clone());
        }
        input.insert("parameters".to_owned(), Value::Object(given));
    }
    Ok((input, parameters, carried))
}

/// The last messages of a session that fit.
pub(crate) fn recent(state: &Map<String, Value>) -> Vec<Value> {
    let all = state.get("messages").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut bytes = 0;
    let fitting = all.iter().rev().take_while(|message| {
        bytes += message.to_string().len();
        bytes <= CARRIED
    });
    let from = all.len() - fitting.count();
    all.get(from..).unwrap_or_default().to_vec()
}

impl Parameters {
    fn read(given: &Map<String, Value>) -> Result<Self> {
        let field = |message: &str| Error::Field("parameters", message.to_owned());
        if let Some(most) = given.get("max_iterations")
            && !most.as_u64().is_some_and(|most| (1..=MOST_ITERATIONS).contains(&most))
        {
            return Err(field("max_iterations is a whole number from 1 to 10000"));
        }
        let mut read = Self::default();
        if let Some(timeout) = given.get("timeout").filter(|timeout| !timeout.is_null()) {
            let seconds = timeout.as_f64().filter(|s| *s > 0.0 && *s <= LONGEST_TIMEOUT);
            let seconds = seconds.ok_or_else(|| field("timeout is seconds, at most 604800"))?;
            read.timeout = Some(Duration::from_secs_f64(seconds));
        }
        if let Some(budget) = given.get("budget").filter(|budget| !budget.is_null()) {
            let amount: Option<Amount> = serde_json::from_value(budget.clone()).ok();
            let amount = amount.filter(|amount| !amount.is_negative());
            read.budget = Some(amount.ok_or_else(|| field("budget is a decimal of zero or more"))?);
        }
        Ok(read)
    }
}
