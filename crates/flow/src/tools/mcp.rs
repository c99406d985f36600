//! Tools of MCP servers: looked up while the engine works, called over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::config::McpServer;
use crate::event::StepError;
use crate::fetch::{Fetcher, Outgoing};
use crate::{Error, Result};

/// Between a server's name and its tool's.
const BETWEEN: &str = "__";
const VERSION: &str = "2025-11-25";
const LONGEST_NAME: usize = 32;
/// Tools of one server; more are not offered.
const MOST_TOOLS: usize = 500;
const MOST_PAGES: usize = 20;
/// For a server to list its tools.
const PATIENCE: Duration = Duration::from_secs(30);

/// The MCP servers of the configuration. Clones share what is known of them.
#[derive(Clone, Debug)]
pub(crate) struct Mcp {
    servers: Arc<[Server]>,
    fetcher: Fetcher,
}

#[derive(Debug)]
struct Server {
    config: McpServer,
    /// Its tools by their names in definitions, once it was asked.
    tools: Mutex<BTreeMap<String, Described>>,
    session: Mutex<Option<Session>>,
    next_id: AtomicU64,
}

/// A tool as its server describes it.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) description: String,
    pub(crate) parameters: Value,
}

#[derive(Clone, Debug)]
struct Session {
    /// Servers may do without.
    id: Option<String>,
    version: String,
}

type Done<T> = std::result::Result<T, StepError>;

impl Mcp {
    pub(crate) fn new(configs: &[McpServer], fetcher: Fetcher) -> Result<Self> {
        let mut servers: Vec<Server> = Vec::new();
        for config in configs {
            let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let name = &config.name;
            let named = (1..=LONGEST_NAME).contains(&name.len())
                && name.bytes().all(fine)
                && !name.contains(BETWEEN);
            if !named || servers.iter().any(|known| known.config.name == *name) {
                let why = "its name must be 1 to 32 letters, digits, - and _, and not taken";
                return Err(Error::Tool(name.clone(), why.to_owned()));
            }
            if config.url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(drop)).is_none() {
                return Err(Error::Tool(name.clone(), "its url is not valid".to_owned()));
            }
            servers.push(Server {
                config: config.clone(),
                tools: Mutex::default(),
                session: Mutex::default(),
                next_id: AtomicU64::new(1),
            });
        }
        Ok(Self { servers: servers.into(), fetcher })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The names of all tools that are known.
    pub(crate) fn names(&self) -> Vec<String> {
        self.servers
            .iter()
            .flat_map(|server| server.tools.lock().keys().cloned().collect::<Vec<_>>())
            .collect()
    }

    /// What a tool's server says of it.
    pub(crate) fn describe(&self, name: &str) -> Option<Described> {
        self.servers.iter().find_map(|server| server.tools.lock().get(name).cloned())
    }

    /// Asks every server for its tools; how many have not answered.
    pub(crate) async fn refresh(&self) -> usize {
        let mut missing = 0;
        for server in self.servers.iter() {
            let listed = tokio::time::timeout(PATIENCE, self.list(server)).await;
            let late = || Err(StepError::temporary("mcp_failed", "it does not answer in time"));
            match listed.unwrap_or_else(|_late| late()) {
                Ok(tools) => *server.tools.lock() = tools,
                Err(error) => {
                    missing += 1;
                    let name = &server.config.name;
                    tracing::warn!(mcp = %name, %error, "an MCP server's tools cannot be listed");
                }
            }
        }
        missing
    }

    async fn list(&self, server: &Server) -> Done<BTreeMap<String, Described>> {
        let mut tools = BTreeMap::new();
        let mut params = json!({});
        for _ in 0..MOST_PAGES {
            let listed = self.ask(server, "tools/list", &params, "").await?;
            for tool in listed.get("tools").and_then(Value::as_array).into_iter().flatten() {
                let text = |name: &str| tool.get(name).and_then(Value::as_str).unwrap_or_default();
                if tools.len() >= MOST_TOOLS || text("name").is_empty() {
                    continue;
                }
                let name = format!("{}{BETWEEN}{}", server.config.name, text("name"));
                let parameters = tool.get("inputSchema").cloned().unwrap_or_default();
                let description = text("description").to_owned();
                tools.insert(name, Described { description, parameters });
            }
            match listed.get("nextCursor").filter(|cursor| cursor.is_string()) {
                Some(cursor) => params = json!({"cursor": cursor}),
                None => break,
            }
        }
        Ok(tools)
    }

    /// Calls a tool, if its name begins with a server's.
    pub(crate) async fn call(
        &self,
        name: &str,
        arguments: &Value,
        key: &str,
    ) -> Option<Done<Value>> {
        let (server, tool) = self.servers.iter().find_map(|server| {
            let rest = name.strip_prefix(server.config.name.as_str())?;
            Some((server, rest.strip_prefix(BETWEEN)?))
        })?;
        let params = json!({"name": tool, "arguments": arguments});
        let result = self.ask(server, "tools/call", &params, key).await;
        Some(result.and_then(|result| value_of(&result)))
    }

    /// Asks a server, which is greeted first if it was not; a session that it has forgotten is begun
    /// anew, once.
    async fn ask(&self, server: &Server, method: &str, params: &Value, key: &str) -> Done<Value> {
        for again in [true, false] {
            let known = server.session.lock().clone();
            let session = match known {
                Some(session) => session,
                None => self.greet(server).await?,
            };
            let id = server.next_id.fetch_add(1, Ordering::Relaxed);
            let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
            let answer = self.post(server, Some(&session), message, key).await?;
            let forgotten = matches!(answer.status, 400 | 404) && session.id.is_some();
            if forgotten && again {
                *server.session.lock() = None;
                continue;
            }
            return answer.result(id);
        }
        Err(StepError::temporary("mcp_failed", "the MCP server forgets its sessions"))
    }

    async fn greet(&self, server: &Server) -> Done<Session> {
        let id = server.next_id.fetch_add(1, Ordering::Relaxed);
        let client = json!({"name": "ledgerline", "version": env!("CARGO_PKG_VERSION")});
        let hello = json!({"jsonrpc": "2.0", "id": id, "method": "initialize", "params": {
            "protocolVersion": VERSION, "capabilities": {}, "clientInfo": client}});
        let answer = self.post(server, None, hello, "").await?;
        let session = answer.session.clone();
        let result = answer.result(id)?;
        let version = result.get("protocolVersion").and_then(Value::as_str).unwrap_or(VERSION);
        let session = Session { id: session, version: version.to_owned() };
        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        self.post(server, Some(&session), ready, "").await?;
        *server.session.lock() = Some(session.clone());
        Ok(session)
    }

    async fn post(
        &self,
        server: &Server,
        session: Option<&Session>,
        message: Value,
        key: &str,
    ) -> Done<Answer> {
        let own = server.config.headers.iter();
        let mut headers: Vec<(String, String)> =
            own.map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
        headers.push(("accept".to_owned(), "application/json, text/event-stream".to_owned()));
        if let Some(Session { id, version }) = session {
            headers.push(("mcp-protocol-version".to_owned(), version.clone()));
            headers.extend(id.iter().map(|id| ("mcp-session-id".to_owned(), id.clone())));
        }
        let outgoing = Outgoing {
            method: "POST".to_owned(),
            url: server.config.url.clone(),
            headers,
            body: Some(message),
            trusted: false,
        };
        let answer = self.fetcher.fetch(outgoing, key).await?;
        let session = answer.pointer("/headers/mcp-session-id").and_then(Value::as_str);
        Ok(Answer {
            status: answer.get("status").and_then(Value::as_u64).unwrap_or_default(),
            session: session.map(str::to_owned),
            body: answer.get("body").cloned().unwrap_or_default(),
        })
    }
}

struct Answer {
    status: u64,
    session: Option<String>,
    body: Value,
}

impl Answer {
    /// The result for this id: the body itself, or among the events it is made of.
    fn result(self, id: u64) -> Done<Value> {
        let mine = |message: &Value| message.get("id").and_then(Value::as_u64) == Some(id);
        let message = match &self.body {
            Value::String(text) => messages(text).find(mine),
            body => Some(body.clone()).filter(mine),
        };
        if let Some(message) = message {
            if let Some(result) = message.get("result") {
                return Ok(result.clone());
            }
            let why = message.pointer("/error/message").and_then(Value::as_str);
            let why = why.unwrap_or("the MCP server refused, and does not say why");
            return Err(StepError::new("mcp_refused", why));
        }
        let message = format!("the MCP server's answer (status {}) is none", self.status);
        Err(match self.status {
            408 | 429 | 500..=599 => StepError::temporary("mcp_failed", message),
            _ => StepError::new("mcp_failed", message),
        })
    }
}

/// The messages in a stream of events.
fn messages(text: &str) -> impl Iterator<Item = Value> {
    let events = text.split("\n\n").flat_map(|event| event.split("\r\n\r\n"));
    events.filter_map(|event| {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
        let data: Vec<&str> = lines.map(str::trim_start).collect();
        serde_json::from_str(&data.join("\n")).ok()
    })
}

/// What a call gives: its structured content, or its text, or all that it is made of.
fn value_of(result: &Value) -> Done<Value> {
    let content = result.get("content").and_then(Value::as_array);
    let content = content.map(Vec::as_slice).unwrap_or_default();
    let texts: Option<Vec<&str>> =
        content.iter().map(|part| part.get("text").and_then(Value::as_str)).collect();
    let text = texts.map(|texts| texts.join("\n"));
    if result.get("isError") == Some(&Value::Bool(true)) {
        let why =
            text.filter(|text| !text.is_empty()).unwrap_or_else(|| "the tool failed".to_owned());
        return Err(StepError::new("tool_failed", why));
    }
    if let Some(structured) = result.get("structuredContent").filter(|value| !value.is_null()) {
        return Ok(structured.clone());
    }
    Ok(text.map_or_else(|| json!(content), |text| json!(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_found_in_bodies_and_in_events() {
        let answer = |body: Value| Answer { status: 200, session: None, body };
        let own = json!({"jsonrpc": "2.0", "id": 7, "result": {"a": 1}});
        assert_eq!(answer(own.clone()).result(7).unwrap(), json!({"a": 1}));
        let events = format!(
            ": ping\r\n\r\nevent: message\r\ndata: {{\"method\":\"notifications/progress\"}}\r\n\r\nid: 1\ndata: {own}\n\n"
        );
        assert_eq!(answer(json!(events)).result(7).unwrap(), json!({"a": 1}));
        assert_eq!(answer(json!(events)).result(8).unwrap_err().code, "mcp_failed");
        let refused = json!({"id": 7, "error": {"code": -32602, "message": "no such tool"}});
        assert_eq!(answer(refused).result(7).unwrap_err().message, "no such tool");
        let busy = Answer { status: 503, session: None, body: Value::Null };
        assert!(busy.result(7).unwrap_err().temporary);
    }

    #[test]
    fn what_a_tool_gives_is_its_structure_or_its_text() {
        let text =
            json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
        assert_eq!(value_of(&text).unwrap(), json!("a\nb"));
        let both =
            json!({"content": [{"type": "text", "text": "a"}], "structuredContent": {"n": 1}});
        assert_eq!(value_of(&both).unwrap(), json!({"n": 1}));
        let image = json!({"content": [{"type": "image", "data": "x"}]});
        assert_eq!(value_of(&image).unwrap(), json!([{"type": "image", "data": "x"}]));
        let failed = json!({"content": [{"type": "text", "text": "no"}], "isError": true});
        assert_eq!(value_of(&failed).unwrap_err().message, "no");
    }
}
