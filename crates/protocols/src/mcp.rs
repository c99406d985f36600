//! Flows as MCP has them: each is a tool, and one more tool answers what they ask.

use std::sync::Arc;

use flow::Status;
use identity::Caller;
use kernel::{Cursor, OrgId, PageRequest};
use serde_json::{Map, Value, json};

use crate::messages::{shown, taken};
use crate::rpc::{Failure, METHOD_NOT_FOUND};
use crate::runs::Asked;
use crate::store::RunRow;
use crate::{Error, Protocols};

/// The version without sessions.
pub(crate) const MODERN: &str = "2026-07-28";
/// Versions that begin with `initialize`, the newest first.
pub(crate) const WITH_HANDSHAKE: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];
/// The tool that answers.
const ANSWER: &str = "answer_question";
/// Tools in one list.
const PAGE: u32 = 100;
const LONGEST_NAME: usize = 64;
const INSTRUCTIONS: &str = "Each tool runs a flow to its end. A flow that asks something gives `status: waiting` \
    with its `thread_id` and questions: call `answer_question` with them.";

type Outcome<T> = Result<T, Failure>;

impl Protocols {
    /// The answer to everything but the call of a tool.
    pub(crate) async fn mcp_answer(
        &self,
        org_id: &OrgId,
        method: &str,
        params: &Value,
    ) -> Outcome<Value> {
        match method {
            "initialize" => {
                let asked = params.get("protocolVersion").and_then(Value::as_str);
                let version = WITH_HANDSHAKE.into_iter().find(|known| Some(*known) == asked);
                Ok(json!({"protocolVersion": version.unwrap_or(WITH_HANDSHAKE[0]),
                    "capabilities": capabilities(), "serverInfo": server_info(), "instructions": INSTRUCTIONS}))
            }
            "server/discover" => Ok(json!({
                "supportedVersions": std::iter::once(MODERN).chain(WITH_HANDSHAKE).collect::<Vec<_>>(),
                "capabilities": capabilities(), "instructions": INSTRUCTIONS})),
            "ping" => Ok(json!({})),
            "tools/list" => self.tools(org_id, params).await,
            other => Err(Failure::new(METHOD_NOT_FOUND, format!("there is no method {other:.64}"))),
        }
    }

    async fn tools(&self, org_id: &OrgId, params: &Value) -> Outcome<Value> {
        let cursor = match params.get("cursor").and_then(Value::as_str) {
            None => None,
            Some(text) => {
                let unknown = |_foreign| Failure::params("cursor is none of this list");
                Some(Cursor::parse(text).map_err(unknown)?)
            }
        };
        let first = cursor.is_none();
        let page = PageRequest { limit: Some(PAGE), cursor };
        let page = self.engine.definitions(org_id, &page).await.map_err(Error::from)?;
        let mut tools = Vec::new();
        if first {
            tools.push(answer_tool());
        }
        for definition in &page.rows {
            let program = self.engine.program(org_id, &definition.id).await.map_err(Error::from)?;
            tools.push(json!({"name": tool_name(&definition.name), "title": definition.name,
                "description": program.description(), "inputSchema": program.input_schema()}));
        }
        let mut listed = json!({"tools": tools});
        if let (Some(next), Some(members)) = (page.next, listed.as_object_mut()) {
            members.insert("nextCursor".to_owned(), json!(next));
        }
        Ok(listed)
    }

    /// Begins what a tool does.
    pub(crate) async fn mcp_begin(&self, caller: &Arc<Caller>, params: &Value) -> Outcome<RunRow> {
        let name = params.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| Failure::params("name is missing"))?;
        let arguments = match params.get("arguments") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(arguments)) => arguments.clone(),
            Some(_) => return Err(Failure::params("arguments must be an object")),
        };
        if name == ANSWER {
            return self.mcp_resume(caller, arguments).await;
        }
        let definition = self.tool(&caller.org_id, name).await?;
        let input = Some(taken(arguments)?);
        let asked = Asked { assistant: definition, input, ..Asked::default() };
        Ok(self.create_run_alone(caller, asked).await?.run)
    }

    async fn mcp_resume(
        &self,
        caller: &Arc<Caller>,
        mut arguments: Map<String, Value>,
    ) -> Outcome<RunRow> {
        let thread = arguments.remove("thread_id");
        let thread = thread.as_ref().and_then(Value::as_str);
        let thread = thread.ok_or_else(|| Failure::params("thread_id is missing"))?;
        let answer = arguments.remove("answer");
        let answer = answer.ok_or_else(|| Failure::params("answer is missing"))?;
        let standing = self.thread(&caller.org_id, thread).await?;
        let assistant = standing.run.map(|run| run.assistant).unwrap_or_default();
        let asked = Asked { assistant, resume: Some(answer), ..Asked::default() };
        Ok(self.create_run(caller, thread, asked).await?)
    }

    /// The flow that a tool is.
    async fn tool(&self, org_id: &OrgId, name: &str) -> Outcome<String> {
        let mut page = PageRequest { limit: Some(1_000), cursor: None };
        loop {
            let all = self.engine.definitions(org_id, &page).await.map_err(Error::from)?;
            if let Some(found) = all.rows.iter().find(|one| tool_name(&one.name) == name) {
                return Ok(found.name.clone());
            }
            page.cursor = match all.next {
                Some(next) => Some(next),
                None => return Err(Failure::params(format!("there is no tool {name:.64}"))),
            };
        }
    }

    /// What a call gives when its run has ended or asks.
    pub(crate) async fn mcp_end(&self, org_id: &OrgId, run: &RunRow) -> Outcome<Value> {
        self.end_of(org_id, run).await?;
        let flow_run = run.flow_run.as_str();
        let record = self.engine.find(org_id, flow_run).await.map_err(Error::from)?;
        let stands = self.engine.snapshot(org_id, flow_run).await.map_err(Error::from)?;
        let about = json!({"run_id": flow_run, "thread_id": run.thread_id, "cost": record.spent});
        if !stands.questions.is_empty() {
            let waits = json!({"status": "waiting", "thread_id": run.thread_id, "questions": stands.questions});
            return Ok(result(&waits.to_string(), Some(&waits), false, &about));
        }
        if record.status != Status::Succeeded {
            let error = record.error.unwrap_or_default();
            let message =
                error.get("message").and_then(Value::as_str).unwrap_or("it was cancelled");
            let text = format!("the flow {}: {message}", record.status.as_str());
            return Ok(result(&text, Some(&json!({"error": error})), true, &about));
        }
        let output = match record.output.unwrap_or_default() {
            Value::Object(fields) => Value::Object(shown(&fields)),
            other => other,
        };
        let text = output.as_str().map_or_else(|| output.to_string(), str::to_owned);
        Ok(result(&text, output.as_object().map(|_| &output), false, &about))
    }
}

fn result(text: &str, structured: Option<&Value>, failed: bool, about: &Value) -> Value {
    let mut result = json!({"content": [{"type": "text", "text": text}], "isError": failed,
        "_meta": {"ledgerline": about}});
    if let (Some(structured), Some(members)) = (structured, result.as_object_mut()) {
        members.insert("structuredContent".to_owned(), structured.clone());
    }
    result
}

fn capabilities() -> Value {
    json!({"tools": {"listChanged": false}})
}

/// Who answers.
pub(crate) fn server_info() -> Value {
    json!({"name": "ledgerline", "title": "Ledgerline", "version": env!("CARGO_PKG_VERSION")})
}

fn answer_tool() -> Value {
    json!({
        "name": ANSWER, "title": "Answer a question",
        "description": "Answers what a flow asks, and runs it on to its end or next question.",
        "inputSchema": {"type": "object", "required": ["thread_id", "answer"], "properties": {
            "thread_id": {"type": "string", "description": "As the waiting flow gave it"},
            "answer": {"description": "The answer, fitting the question's schema"}}},
    })
}

/// A flow's name as the name of a tool: letters, digits, `_`, `-` and `.`; one that loses something
/// by that has a few signs of its hash behind it.
fn tool_name(name: &str) -> String {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let plain: String =
        name.chars().map(|c| if fine(c) { c } else { '_' }).take(LONGEST_NAME).collect();
    if plain == name && name != ANSWER {
        return plain;
    }
    let hash = blake3::hash(name.as_bytes()).to_hex();
    format!("{plain}-{}", hash.chars().take(8).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tools_are_plain_and_differ_where_flows_do() {
        assert_eq!(tool_name("plan_execute"), "plan_execute");
        let (one, two) = (tool_name("客服 一"), tool_name("客服 二"));
        assert_ne!(one, two);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)));
        assert_ne!(tool_name(ANSWER), ANSWER);
        assert!(tool_name(&"x".repeat(500)).len() <= 80);
    }
}
