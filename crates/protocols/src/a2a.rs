//! Runs as A2A has them: a context is a thread, a task a run of the engine, a skill a flow.

use std::sync::Arc;

use flow::{Question, Snapshot, Status};
use identity::Caller;
use kernel::{OrgId, PageRequest};
use serde_json::{Map, Value, json};

use crate::encode::{Mode, Part, Place};
use crate::messages::shown;
use crate::rpc::Failure;
use crate::runs::{Asked, Follow};
use crate::store::{self, RunRow};
use crate::{Error, Protocols};

pub(crate) const VERSION: &str = "1.0";
const TASK_NOT_FOUND: i64 = -32001;
const TASK_NOT_CANCELABLE: i64 = -32002;
const PUSH_NOT_SUPPORTED: i64 = -32003;
const UNSUPPORTED: i64 = -32004;
const CONTENT_TYPE: i64 = -32005;
pub(crate) const WRONG_VERSION: i64 = -32009;
/// Flows that a card names.
const MOST_SKILLS: u32 = 200;
const MOST_TASKS: i64 = 100;

type Outcome<T> = Result<T, Failure>;

/// A task: where it began, and how it stands.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// The first run of it, whose id is its own.
    pub(crate) first: RunRow,
    pub(crate) snapshot: Snapshot,
    output: Option<Value>,
    error: Option<Value>,
}

/// A message that has come.
struct Message {
    task_id: Option<String>,
    context_id: Option<String>,
    skill: Option<String>,
    text: String,
    data: Option<Value>,
}

/// What everybody may know of this server.
pub(crate) fn card(base: &str) -> Value {
    json!({
        "name": "Ledgerline",
        "description": "Runs the flows of the caller's organization. The extended card names them as skills.",
        "version": env!("CARGO_PKG_VERSION"),
        "supportedInterfaces": [
            {"url": format!("{base}/a2a"), "protocolBinding": "JSONRPC", "protocolVersion": VERSION}],
        "capabilities": {"streaming": true, "pushNotifications": false, "extendedAgentCard": true},
        "securitySchemes": {
            "bearer": {"httpAuthSecurityScheme": {"scheme": "Bearer"}},
            "api_key": {"apiKeySecurityScheme": {"location": "header", "name": "x-api-key"}}},
        "securityRequirements": [
            {"schemes": {"bearer": {"list": []}}}, {"schemes": {"api_key": {"list": []}}}],
        "defaultInputModes": ["text/plain", "application/json"],
        "defaultOutputModes": ["text/plain", "application/json"],
        "skills": [{"id": "flows", "name": "Flows", "tags": ["workflow"],
            "description": "Any published flow, by its name in the message's metadata: {\"skill\": NAME}."}],
    })
}

impl Protocols {
    /// The same, with the caller's flows.
    pub(crate) async fn extended_card(&self, base: &str, org_id: &OrgId) -> Outcome<Value> {
        let mut card = card(base);
        let mut skills = Vec::new();
        for name in self.skills(org_id).await? {
            let workflow = self.workflow(org_id, &name).await?;
            skills.push(json!({"id": name, "name": name, "tags": ["workflow"],
                "description": workflow.program.description()}));
        }
        if let Some(members) = card.as_object_mut() {
            members.insert("skills".to_owned(), Value::Array(skills));
        }
        Ok(card)
    }

    async fn skills(&self, org_id: &OrgId) -> Outcome<Vec<String>> {
        let page = PageRequest { limit: Some(MOST_SKILLS), cursor: None };
        let page = self.engine.definitions(org_id, &page).await.map_err(Error::from)?;
        Ok(page.rows.into_iter().map(|definition| definition.name).collect())
    }

    /// Takes a message: it begins a task, or answers what one asks.
    pub(crate) async fn a2a_send(
        &self,
        caller: &Arc<Caller>,
        params: &Value,
    ) -> Outcome<(RunRow, RunRow)> {
        let configuration = params.get("configuration");
        if configuration.is_some_and(|given| given.get("taskPushNotificationConfig").is_some()) {
            return Err(push_not_supported());
        }
        let message = message_of(params)?;
        match &message.task_id {
            Some(id) => self.a2a_answer(caller, id, &message).await,
            None => self.a2a_begin(caller, message).await,
        }
    }

    async fn a2a_begin(&self, caller: &Arc<Caller>, message: Message) -> Outcome<(RunRow, RunRow)> {
        let org_id = &caller.org_id;
        let assistant = match message.skill {
            Some(skill) => skill,
            None => match self.skills(org_id).await?.as_slice() {
                [one] => one.clone(),
                names => {
                    let names: Vec<&str> = names.iter().take(20).map(String::as_str).collect();
                    let why = "say which flow: metadata {\"skill\": NAME}, of";
                    return Err(Failure::params(format!("{why} {}", names.join(", "))));
                }
            },
        };
        let mut input = match message.data {
            Some(Value::Object(members)) => members,
            _ => Map::new(),
        };
        if !message.text.is_empty() {
            let said = json!([{"role": "user", "content": message.text}]);
            input.entry("messages").or_insert(said);
        }
        let thread =
            self.create_thread(org_id, message.context_id, Map::new(), true).await?.thread.id;
        let asked = Asked { assistant, input: Some(input), ..Asked::default() };
        let run = self.create_run(caller, &thread, asked).await?;
        Ok((run.clone(), run))
    }

    async fn a2a_answer(
        &self,
        caller: &Arc<Caller>,
        id: &str,
        message: &Message,
    ) -> Outcome<(RunRow, RunRow)> {
        let task = self.a2a_task(&caller.org_id, id).await?;
        if message.context_id.as_ref().is_some_and(|context| *context != task.first.thread_id) {
            return Err(Failure::params("the task belongs to another contextId"));
        }
        let question = task
            .snapshot
            .questions
            .first()
            .ok_or_else(|| Failure::new(UNSUPPORTED, "the task waits for no message"))?;
        let resume = answer_of(question, message);
        let asked = Asked {
            assistant: task.first.assistant.clone(),
            resume: Some(resume),
            ..Asked::default()
        };
        let run = self.create_run(caller, &task.first.thread_id, asked).await?;
        Ok((task.first, run))
    }

    /// A task of the caller's organization.
    pub(crate) async fn a2a_task(&self, org_id: &OrgId, id: &str) -> Outcome<Task> {
        let unknown = || Failure::new(TASK_NOT_FOUND, format!("there is no task {id:.64}"));
        let first = store::find_run(&self.database, org_id, id).await?;
        let first = first.filter(|run| run.after_seq == 0).ok_or_else(unknown)?;
        let flow_run = first.flow_run.as_str();
        let snapshot = self.engine.snapshot(org_id, flow_run).await.map_err(Error::from)?;
        let record = self.engine.find(org_id, flow_run).await.map_err(Error::from)?;
        Ok(Task { first, snapshot, output: record.output, error: record.error })
    }

    /// A task that has not ended.
    pub(crate) async fn a2a_open_task(&self, org_id: &OrgId, id: &str) -> Outcome<Task> {
        let task = self.a2a_task(org_id, id).await?;
        if task.snapshot.status.is_final() {
            let message = format!("the task is {} already: get it", task.state());
            return Err(Failure::new(UNSUPPORTED, message));
        }
        Ok(task)
    }

    /// Waits until a task has ended or asks.
    pub(crate) async fn a2a_settled(&self, org_id: &OrgId, run: &RunRow) -> Outcome<()> {
        self.end_of(org_id, run).await?;
        Ok(())
    }

    /// The tasks of an organization, newest first.
    pub(crate) async fn a2a_list(&self, org_id: &OrgId, params: &Value) -> Outcome<Value> {
        let text =
            |name: &str| params.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let size =
            params.get("pageSize").and_then(Value::as_i64).unwrap_or(50).clamp(1, MOST_TASKS);
        let (context, before) = (text("contextId"), text("pageToken"));
        let rows = store::list_tasks(&self.database, org_id, context, before, size + 1).await?;
        let most = usize::try_from(size).unwrap_or(usize::MAX);
        let next = rows.get(most.saturating_sub(1)).filter(|_| rows.len() > most);
        let next = next.map(|run| run.id.clone()).unwrap_or_default();
        let mut tasks = Vec::new();
        for row in rows.iter().take(most) {
            let task = self.a2a_task(org_id, &row.id).await?;
            if text("status").is_none_or(|wanted| wanted == task.state()) {
                tasks.push(task.json(Some(0)));
            }
        }
        let total = store::count_tasks(&self.database, org_id, context).await?;
        Ok(json!({"tasks": tasks, "nextPageToken": next, "pageSize": size, "totalSize": total}))
    }

    /// Cancels a task; what it does is cut off.
    pub(crate) async fn a2a_cancel(&self, org_id: &OrgId, id: &str) -> Outcome<Task> {
        let task = self.a2a_task(org_id, id).await?;
        if task.snapshot.status.is_final() {
            let message = format!("the task is {} already", task.state());
            return Err(Failure::new(TASK_NOT_CANCELABLE, message));
        }
        self.engine.cancel(org_id, &task.first.flow_run).await.map_err(Error::from)?;
        let whole = RunRow { until_seq: None, ..task.first.clone() };
        self.end_of(org_id, &whole).await?;
        self.a2a_task(org_id, id).await
    }

    /// A task being followed from where a run of it begins.
    pub(crate) async fn a2a_follow(&self, org_id: &OrgId, run: &RunRow) -> Outcome<Follow> {
        let modes = vec![Mode::MessagesTuple];
        Ok(self.follow(org_id, run, modes, Place::default()).await?)
    }
}

pub(crate) fn push_not_supported() -> Failure {
    Failure::new(PUSH_NOT_SUPPORTED, "push notifications are not supported: subscribe to the task")
}

impl Task {
    /// In A2A's words.
    pub(crate) fn state(&self) -> &'static str {
        match self.snapshot.status {
            Status::Queued => "TASK_STATE_SUBMITTED",
            Status::Waiting if !self.snapshot.questions.is_empty() => "TASK_STATE_INPUT_REQUIRED",
            Status::Running | Status::Waiting | Status::Cancelling => "TASK_STATE_WORKING",
            Status::Succeeded => "TASK_STATE_COMPLETED",
            Status::Failed | Status::TimedOut => "TASK_STATE_FAILED",
            Status::Cancelled => "TASK_STATE_CANCELED",
        }
    }

    /// How it stands, and what is to be said of it.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({"state": self.state(), "timestamp": self.snapshot.at});
        let said = if let Some(question) = self.snapshot.questions.first() {
            let schema = question.schema.as_ref().map(|schema| json!({"data": {"schema": schema}}));
            Some(std::iter::once(json!({"text": question.message})).chain(schema).collect())
        } else {
            let error = self.error.as_ref().filter(|_| self.snapshot.status.is_final());
            error.map(|error| vec![json!({"text": error.get("message")}), json!({"data": error})])
        };
        if let (Some(parts), Some(members)) = (said, status.as_object_mut()) {
            let id = format!("{}-{}", self.first.id, self.snapshot.seq);
            members.insert("message".to_owned(), self.message(&id, "ROLE_AGENT", &parts));
        }
        status
    }

    fn message(&self, id: &str, role: &str, parts: &[Value]) -> Value {
        json!({"messageId": id, "taskId": self.first.id, "contextId": self.first.thread_id,
            "role": role, "parts": parts})
    }

    /// What it gave, once it has ended well.
    pub(crate) fn artifact(&self) -> Option<Value> {
        let output = self.output.as_ref()?;
        let last = self.snapshot.fields.get("messages").and_then(Value::as_array);
        let last = last
            .and_then(|all| all.last())
            .filter(|one| one.get("role") == Some(&json!("assistant")));
        let text = output.as_str().or_else(|| last?.get("content")?.as_str());
        let mut parts: Vec<Value> = text.iter().map(|text| json!({"text": text})).collect();
        match output {
            Value::String(_) => {}
            Value::Object(fields) => parts.push(json!({"data": shown(fields)})),
            other => parts.push(json!({"data": other})),
        }
        Some(json!({"artifactId": "result", "name": "result", "parts": parts}))
    }

    fn history(&self, most: usize) -> Vec<Value> {
        let all = self.snapshot.fields.get("messages").and_then(Value::as_array);
        let all = all.map(Vec::as_slice).unwrap_or_default();
        let from = all.len().saturating_sub(most);
        let said = all.iter().enumerate().skip(from).filter_map(|(at, message)| {
            let role = match message.get("role").and_then(Value::as_str) {
                Some("user") => "ROLE_USER",
                Some("assistant") => "ROLE_AGENT",
                _ => return None,
            };
            let text =
                message.get("content").and_then(Value::as_str).filter(|text| !text.is_empty())?;
            let id = format!("{}-m{at}", self.first.id);
            Some(self.message(&id, role, &[json!({"text": text})]))
        });
        said.collect()
    }

    /// As A2A writes it, with so many messages of its conversation.
    pub(crate) fn json(&self, history: Option<usize>) -> Value {
        json!({
            "id": self.first.id, "contextId": self.first.thread_id, "status": self.status(),
            "artifacts": self.artifact().into_iter().collect::<Vec<_>>(),
            "history": self.history(history.unwrap_or(100)),
            "metadata": {"skill": self.first.assistant, "run_id": self.first.flow_run},
        })
    }

    /// What a stream tells at its end: the result, and how the task stands.
    pub(crate) fn last_words(&self) -> Vec<Value> {
        let (id, context) = (&self.first.id, &self.first.thread_id);
        let result = self.artifact().map(|artifact| {
            json!({"artifactUpdate": {"taskId": id, "contextId": context, "artifact": artifact,
                "append": false, "lastChunk": true}})
        });
        let status =
            json!({"statusUpdate": {"taskId": id, "contextId": context, "status": self.status()}});
        result.into_iter().chain(std::iter::once(status)).collect()
    }

    /// A piece of a model's text, as a part of an artifact.
    pub(crate) fn piece(&self, part: &Part, append: bool) -> Option<Value> {
        let [chunk, about] = part.data.as_array()?.as_slice() else { return None };
        let text = chunk.get("content")?.as_str().filter(|text| !text.is_empty())?;
        let (id, context) = (&self.first.id, &self.first.thread_id);
        let artifact = json!({"artifactId": format!("step-{}", about.get("langgraph_step")?),
            "name": about.get("langgraph_node"), "parts": [{"text": text}]});
        Some(json!({"artifactUpdate": {"taskId": id, "contextId": context, "artifact": artifact,
            "append": append, "lastChunk": false}}))
    }
}

/// The artifact that a piece belongs to.
pub(crate) fn artifact_id(piece: &Value) -> String {
    let id = piece.pointer("/artifactUpdate/artifact/artifactId").and_then(Value::as_str);
    id.unwrap_or_default().to_owned()
}

fn message_of(params: &Value) -> Outcome<Message> {
    let message = params.get("message").filter(|message| message.is_object());
    let message = message.ok_or_else(|| Failure::params("message is missing"))?;
    let text = |name: &str| {
        let text = message.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.map(str::to_owned)
    };
    if text("messageId").is_none() {
        return Err(Failure::params("message.messageId is missing"));
    }
    let parts = message.get("parts").and_then(Value::as_array).filter(|parts| !parts.is_empty());
    let parts = parts.ok_or_else(|| Failure::params("message.parts is missing"))?;
    let (mut said, mut data) = (Vec::new(), None);
    for part in parts {
        match (part.get("text").and_then(Value::as_str), part.get("data")) {
            (Some(text), _) => said.push(text),
            (None, Some(value)) => match (&mut data, value) {
                (Some(Value::Object(all)), Value::Object(more)) => all.extend(more.clone()),
                (data, value) => *data = Some(value.clone()),
            },
            (None, None) => {
                return Err(Failure::new(CONTENT_TYPE, "parts are text or data here"));
            }
        }
    }
    let skill = ["/message/metadata/skill", "/metadata/skill"];
    let skill = skill.iter().find_map(|at| params.pointer(at)?.as_str()).map(str::to_owned);
    Ok(Message {
        task_id: text("taskId"),
        context_id: text("contextId"),
        skill,
        text: said.join("\n"),
        data,
    })
}

/// What a message answers to a question: its data, its text as JSON where that is asked for, or its
/// text.
fn answer_of(question: &Question, message: &Message) -> Value {
    if let Some(data) = &message.data {
        return data.clone();
    }
    let read = question.schema.as_ref().and_then(|_| serde_json::from_str(&message.text).ok());
    read.unwrap_or_else(|| json!(message.text))
}
