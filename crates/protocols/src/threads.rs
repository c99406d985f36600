//! Threads: runs that go on from one another, and how they stand.

use flow::{RunRecord, Snapshot, Status};
use identity::Caller;
use kernel::OrgId;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::messages::shown;
use crate::store::{self, RunRow, ThreadRow};
use crate::{Error, Protocols, Result};

/// Of a thread's runs, so many are looked at for its history.
const MOST_RUNS: i64 = 1_000;
const LONGEST_ID: usize = 64;
const LARGEST_METADATA: usize = 16 * 1024;
/// Threads that a search looks at.
const MOST_THREADS: i64 = 1_000;

type Fields = Map<String, Value>;

/// How a run of a thread stands, in LangGraph's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RunStatus {
    Pending,
    Running,
    Success,
    Error,
    Timeout,
    Interrupted,
}

impl RunStatus {
    /// Whether it has not ended.
    pub(crate) const fn is_active(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
        }
    }

    /// What a status of the engine is here; `asks`: a question waits for its answer.
    pub(crate) const fn of(status: Status, asks: bool) -> Self {
        match status {
            Status::Queued => Self::Pending,
            Status::Waiting if asks => Self::Interrupted,
            Status::Running | Status::Waiting | Status::Cancelling => Self::Running,
            Status::Succeeded => Self::Success,
            Status::Failed => Self::Error,
            Status::Cancelled => Self::Interrupted,
            Status::TimedOut => Self::Timeout,
        }
    }
}

/// A thread with its last run.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) thread: ThreadRow,
    pub(crate) run: Option<RunRow>,
    pub(crate) status: Option<RunStatus>,
    pub(crate) snapshot: Option<Snapshot>,
}

/// What a search of threads looks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) metadata: Fields,
    pub(crate) ids: Option<Vec<String>>,
    pub(crate) status: Option<String>,
}

impl Standing {
    /// A thread that nothing has run on.
    pub(crate) const fn fresh(thread: ThreadRow) -> Self {
        Self { thread, run: None, status: None, snapshot: None }
    }

    /// In LangGraph's words: `idle`, `busy`, `interrupted`, `error`.
    pub(crate) fn thread_status(&self) -> &'static str {
        match self.status {
            Some(RunStatus::Pending | RunStatus::Running) => "busy",
            Some(RunStatus::Interrupted) if self.asks() => "interrupted",
            Some(RunStatus::Error | RunStatus::Timeout) => "error",
            Some(RunStatus::Success | RunStatus::Interrupted) | None => "idle",
        }
    }

    /// A question of the last run waits for its answer.
    pub(crate) fn asks(&self) -> bool {
        self.snapshot.as_ref().is_some_and(|snapshot| !snapshot.questions.is_empty())
    }

    /// The fields as the engine has them.
    pub(crate) fn fields(&self) -> Fields {
        let last = || self.snapshot.as_ref().map(|snapshot| snapshot.fields.clone());
        self.thread.fields.clone().or_else(last).unwrap_or_default()
    }
}

impl Protocols {
    /// Makes a thread; one that is there already if that is fine.
    pub(crate) async fn create_thread(
        &self,
        org_id: &OrgId,
        id: Option<String>,
        metadata: Fields,
        may_exist: bool,
    ) -> Result<Standing> {
        let id = match id {
            Some(id) => check_id(id)?,
            None => kernel::id::new(),
        };
        check_metadata(&metadata)?;
        let thread = ThreadRow::new(id.clone(), self.clock.now());
        let thread = ThreadRow { metadata, ..thread };
        if store::add_thread(&self.database, org_id, &thread).await? {
            return Ok(Standing::fresh(thread));
        }
        if may_exist { self.thread(org_id, &id).await } else { Err(Error::ThreadExists(id)) }
    }

    /// A thread and how it stands.
    pub(crate) async fn thread(&self, org_id: &OrgId, id: &str) -> Result<Standing> {
        let found = store::find_thread(&self.database, org_id, id).await?;
        let thread =
            found.ok_or_else(|| Error::UnknownThread(id.chars().take(LONGEST_ID).collect()))?;
        self.standing(org_id, thread).await
    }

    async fn standing(&self, org_id: &OrgId, thread: ThreadRow) -> Result<Standing> {
        let run = match &thread.last_run {
            Some(id) => store::find_run(&self.database, org_id, id).await?,
            None => None,
        };
        let snapshot = match &run {
            Some(run) => self.snapshot_of(org_id, run).await?,
            None => None,
        };
        let stands = |stands: &Snapshot| RunStatus::of(stands.status, !stands.questions.is_empty());
        let status = run.as_ref().map(|_| snapshot.as_ref().map_or(RunStatus::Error, stands));
        Ok(Standing { thread, run, status, snapshot })
    }

    /// How the engine's run stands; `None` if it was never started.
    async fn snapshot_of(&self, org_id: &OrgId, run: &RunRow) -> Result<Option<Snapshot>> {
        match self.engine.snapshot(org_id, &run.flow_run).await {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(flow::Error::UnknownRun(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// How one run of a thread stands.
    pub(crate) async fn run_status(&self, org_id: &OrgId, run: &RunRow) -> Result<RunStatus> {
        if run.until_seq.is_some() {
            // It ended with a question that was answered since.
            return Ok(RunStatus::Interrupted);
        }
        let record: RunRecord = match self.engine.find(org_id, &run.flow_run).await {
            Err(flow::Error::UnknownRun(_)) => return Ok(RunStatus::Error),
            found => found?,
        };
        let asks = record.status == Status::Waiting
            && self
                .snapshot_of(org_id, run)
                .await?
                .is_some_and(|stands| !stands.questions.is_empty());
        Ok(RunStatus::of(record.status, asks))
    }

    /// Threads that fit, the last changed first. So many of the newest are looked at.
    pub(crate) async fn search_threads(
        &self,
        org_id: &OrgId,
        wanted: &Wanted,
        (offset, limit): (usize, usize),
    ) -> Result<Vec<Standing>> {
        let all = store::list_threads(&self.database, org_id, MOST_THREADS).await?;
        let fits = |thread: &ThreadRow| {
            let by_id = wanted.ids.as_ref().is_none_or(|ids| ids.contains(&thread.id));
            by_id
                && wanted
                    .metadata
                    .iter()
                    .all(|(name, value)| thread.metadata.get(name) == Some(value))
        };
        let mut found = Vec::new();
        let mut skipped = 0;
        for thread in all.into_iter().filter(fits) {
            if found.len() >= limit {
                break;
            }
            if wanted.status.is_none() && skipped < offset {
                skipped += 1;
                continue;
            }
            let standing = self.standing(org_id, thread).await?;
            if wanted.status.as_deref().is_some_and(|status| status != standing.thread_status()) {
                continue;
            }
            if skipped < offset {
                skipped += 1;
            } else {
                found.push(standing);
            }
        }
        Ok(found)
    }

    /// Puts these into the thread's metadata.
    pub(crate) async fn change_thread(
        &self,
        org_id: &OrgId,
        id: &str,
        metadata: Fields,
    ) -> Result<Standing> {
        let mut standing = self.thread(org_id, id).await?;
        standing.thread.metadata.extend(metadata);
        check_metadata(&standing.thread.metadata)?;
        standing.thread.updated_at = self.clock.now();
        store::change_thread(&self.database, org_id, &standing.thread).await?;
        Ok(standing)
    }

    /// Sets fields of a thread at rest: its next run begins with them.
    pub(crate) async fn set_fields(
        &self,
        caller: &Caller,
        id: &str,
        values: Fields,
    ) -> Result<Standing> {
        let org_id = &caller.org_id;
        let mut standing = self.thread(org_id, id).await?;
        if standing.thread_status() == "busy" {
            return Err(Error::Busy);
        }
        if standing.asks() {
            return Err(Error::Unsupported("changing the state of a run that waits".to_owned()));
        }
        let mut fields = standing.fields();
        let values = crate::messages::taken(values)?;
        match &standing.run {
            Some(run) => {
                let workflow = self.workflow(org_id, &run.assistant).await?;
                fields = workflow.program.continued(fields, values);
            }
            None => fields.extend(values),
        }
        standing.thread.fields = Some(fields);
        standing.thread.updated_at = self.clock.now();
        store::change_thread(&self.database, org_id, &standing.thread).await?;
        Ok(standing)
    }

    /// Another thread that begins where this one is.
    pub(crate) async fn copy_thread(&self, org_id: &OrgId, id: &str) -> Result<Standing> {
        let from = self.thread(org_id, id).await?;
        let thread = ThreadRow {
            metadata: from.thread.metadata.clone(),
            fields: Some(from.fields()),
            ..ThreadRow::new(kernel::id::new(), self.clock.now())
        };
        store::add_thread(&self.database, org_id, &thread).await?;
        Ok(Standing::fresh(thread))
    }

    /// Deletes a thread; what runs of it is cancelled.
    pub(crate) async fn delete_thread(&self, org_id: &OrgId, id: &str) -> Result<()> {
        let standing = self.thread(org_id, id).await?;
        if let Some(run) = &standing.run {
            self.cancel_run(org_id, run).await?;
        }
        store::remove_thread(&self.database, org_id, id).await
    }

    /// How a thread stood, the newest first: so many checkpoints before one.
    pub(crate) async fn history(
        &self,
        org_id: &OrgId,
        id: &str,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(RunRow, Snapshot)>> {
        self.thread(org_id, id).await?;
        let before = before.map(parse_checkpoint).transpose()?;
        let runs = store::list_runs(&self.database, org_id, id, MOST_RUNS).await?;
        let mut seen: Vec<String> = Vec::new();
        let mut all = Vec::new();
        let mut reached = before.is_none();
        for run in runs {
            let flow_run = run.flow_run.clone();
            if seen.contains(&flow_run) {
                continue;
            }
            let until = before.as_ref().filter(|(run, _)| *run == flow_run).map(|(_, seq)| *seq);
            reached |= until.is_some();
            seen.push(flow_run.clone());
            if !reached {
                continue;
            }
            let wanted = limit.saturating_sub(all.len());
            if wanted == 0 {
                break;
            }
            let some = self.engine.snapshots(org_id, &flow_run, until, wanted).await?;
            all.extend(some.into_iter().map(|one| (run.clone(), one)));
        }
        Ok(all)
    }

    /// How a thread stood at a checkpoint.
    pub(crate) async fn checkpoint(
        &self,
        org_id: &OrgId,
        id: &str,
        checkpoint: &str,
    ) -> Result<(RunRow, Snapshot)> {
        let unknown = || Error::UnknownCheckpoint(checkpoint.chars().take(100).collect());
        let (flow_run, seq) = parse_checkpoint(checkpoint)?;
        let runs = store::list_runs(&self.database, org_id, id, MOST_RUNS).await?;
        let run = runs.into_iter().find(|run| run.flow_run == flow_run);
        let run = run.ok_or_else(unknown)?;
        let found = self.engine.snapshots(org_id, &flow_run, Some(seq + 1), 1).await?;
        let found = found.into_iter().find(|one| one.seq == seq);
        Ok((run, found.ok_or_else(unknown)?))
    }
}

/// A checkpoint is the engine's run and the number of an event.
fn parse_checkpoint(text: &str) -> Result<(String, i64)> {
    let parsed =
        text.rsplit_once(':').and_then(|(run, seq)| Some((run.to_owned(), seq.parse().ok()?)));
    parsed.ok_or_else(|| Error::UnknownCheckpoint(text.chars().take(100).collect()))
}

fn check_id(id: String) -> Result<String> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if id.is_empty() || id.len() > LONGEST_ID || !id.bytes().all(fine) {
        let why = "must be 1 to 64 letters, digits, - and _".to_owned();
        return Err(Error::Invalid("thread_id", why));
    }
    Ok(id)
}

pub(crate) fn check_metadata(metadata: &Fields) -> Result<()> {
    if json!(metadata).to_string().len() > LARGEST_METADATA {
        let why = format!("is larger than {LARGEST_METADATA} bytes");
        return Err(Error::Invalid("metadata", why));
    }
    Ok(())
}

/// A thread as LangGraph writes it.
pub(crate) fn thread_json(standing: &Standing) -> Value {
    let thread = &standing.thread;
    let values =
        (thread.fields.is_some() || standing.snapshot.is_some()).then(|| shown(&standing.fields()));
    let asked: Map<String, Value> = standing
        .snapshot
        .iter()
        .flat_map(|snapshot| {
            let run = flow_run(standing);
            snapshot.questions.iter().map(move |question| {
                (task_id(run, question.step), json!([interrupt(run, question)]))
            })
        })
        .collect();
    json!({
        "thread_id": thread.id, "created_at": thread.created_at, "updated_at": thread.updated_at,
        "metadata": thread.metadata, "config": {}, "status": standing.thread_status(),
        "values": values, "interrupts": asked,
    })
}

fn flow_run(standing: &Standing) -> &str {
    standing.run.as_ref().map_or("", |run| run.flow_run.as_str())
}

/// The id of a step, for whoever answers it.
pub(crate) fn task_id(flow_run: &str, step: u64) -> String {
    format!("{flow_run}.{step}")
}

/// A question as LangGraph writes an interrupt.
pub(crate) fn interrupt(flow_run: &str, question: &flow::Question) -> Value {
    let mut value =
        json!({"message": question.message, "node": question.node, "kind": question.kind});
    let mut interrupt = json!({"id": task_id(flow_run, question.step)});
    if let (Some(schema), Some(members)) = (&question.schema, interrupt.as_object_mut()) {
        members.insert("response_schema".to_owned(), schema.clone());
    }
    if let (Some(expires), Some(members)) = (question.expires, value.as_object_mut()) {
        members.insert("expires_at".to_owned(), json!(expires));
    }
    if let Some(members) = interrupt.as_object_mut() {
        members.insert("value".to_owned(), value);
    }
    interrupt
}

/// How a thread stood, as LangGraph writes a state.
pub(crate) fn state_json(thread_id: &str, run: &RunRow, snapshot: &Snapshot) -> Value {
    let flow_run = run.flow_run.as_str();
    let asked: Vec<Value> =
        snapshot.questions.iter().map(|question| interrupt(flow_run, question)).collect();
    let tasks: Vec<Value> = snapshot
        .next
        .iter()
        .map(|node| {
            let own = snapshot.questions.iter().filter(|question| question.node == *node);
            let own: Vec<Value> = own.map(|question| interrupt(flow_run, question)).collect();
            json!({"id": format!("{flow_run}:{}:{node}", snapshot.seq), "name": node, "error": null,
                "interrupts": own, "checkpoint": null, "state": null, "result": null})
        })
        .collect();
    json!({
        "values": shown(&snapshot.fields),
        "next": snapshot.next,
        "tasks": tasks,
        "interrupts": asked,
        "checkpoint": checkpoint_json(thread_id, flow_run, snapshot.seq),
        "parent_checkpoint": null,
        "metadata": {"run_id": run.id, "assistant_id": run.assistant, "source": "loop", "step": snapshot.seq},
        "created_at": snapshot.at,
    })
}

/// A checkpoint as LangGraph writes it.
pub(crate) fn checkpoint_json(thread_id: &str, flow_run: &str, seq: i64) -> Value {
    json!({"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": format!("{flow_run}:{seq}"),
        "checkpoint_map": {}})
}
