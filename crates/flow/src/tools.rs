//! The tools of flows: a few that are built in, and those of the configuration.

mod calculator;
mod mcp;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::SharedClock;
use serde_json::{Value, json};

use crate::config::HttpTool;
use crate::event::StepError;
use crate::fetch::{Fetcher, Outgoing};
use crate::machine::Effect;
use crate::tools::mcp::Mcp;
use crate::{Config, Error, Result};

/// The tools there are.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    fetcher: Fetcher,
    configured: Arc<BTreeMap<String, HttpTool>>,
    mcp: Mcp,
    clock: SharedClock,
}

const BUILT_IN: [(&str, &str); 4] = [
    ("calculator", "Computes an arithmetic expression with + - * / % ^ and parentheses."),
    ("time", "The present time in UTC."),
    ("json_path", "Reads a part of a JSON value by a path such as items.0.name."),
    ("http_fetch", "Reads a public web address."),
];

impl Tools {
    pub(crate) fn new(config: &Config, clock: SharedClock) -> Result<Self> {
        let fetcher = Fetcher::new(&config.allowed_hosts, config.max_value_bytes)
            .map_err(|error| Error::Tool("http".to_owned(), error.to_string()))?;
        let mut configured = BTreeMap::new();
        for tool in &config.tools {
            let taken = BUILT_IN.iter().any(|(name, _)| *name == tool.name);
            if tool.name.is_empty() || taken || configured.contains_key(&tool.name) {
                let why = "its name is empty or taken".to_owned();
                return Err(Error::Tool(tool.name.clone(), why));
            }
            if tool.url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(drop)).is_none() {
                return Err(Error::Tool(tool.name.clone(), "its url is not valid".to_owned()));
            }
            configured.insert(tool.name.clone(), tool.clone());
        }
        let mcp = Mcp::new(&config.mcp, fetcher.clone())?;
        Ok(Self { fetcher, configured: Arc::new(configured), mcp, clock })
    }

    pub(crate) fn names(&self) -> BTreeSet<String> {
        let built_in = BUILT_IN.iter().map(|(name, _)| (*name).to_owned());
        built_in.chain(self.configured.keys().cloned()).chain(self.mcp.names()).collect()
    }

    /// The MCP servers, whose tools must be asked for.
    pub(crate) const fn mcp(&self) -> &Mcp {
        &self.mcp
    }

    /// What models are told about these tools.
    pub(crate) fn describe(&self, names: &[String]) -> Vec<Value> {
        let description = |name: &String| {
            let built_in = BUILT_IN.iter().find(|(known, _)| known == name);
            let (description, parameters) = match (built_in, self.configured.get(name)) {
                (Some((name, description)), _) => ((*description).to_owned(), parameters(name)),
                (None, Some(tool)) => (tool.description.clone(), tool.parameters.clone()),
                (None, None) => {
                    let described = self.mcp.describe(name)?;
                    (described.description, described.parameters)
                }
            };
            let parameters =
                if parameters.is_object() { parameters } else { json!({"type": "object"}) };
            Some(json!({"type": "function", "function": {
                "name": name, "description": description, "parameters": parameters}}))
        };
        names.iter().filter_map(description).collect()
    }

    /// Performs an effect that is no call of a model.
    pub(crate) async fn perform(
        &self,
        effect: Effect,
        key: &str,
    ) -> std::result::Result<Value, StepError> {
        match effect {
            Effect::Tool { name, arguments, listed } => {
                let result = self.call(&name, arguments, key).await?;
                Ok(if listed { json!({"success": true, "result": result}) } else { result })
            }
            Effect::Http { method, url, headers, body, fail_on_status } => {
                let outgoing = Outgoing { method, url, headers, body, trusted: false };
                let answer = self.fetcher.fetch(outgoing, key).await?;
                if fail_on_status { successful(answer) } else { Ok(answer) }
            }
            Effect::Llm { .. } => Err(StepError::new("internal", "no model is called here")),
        }
    }

    async fn call(
        &self,
        name: &str,
        arguments: Value,
        key: &str,
    ) -> std::result::Result<Value, StepError> {
        let text = |names: &[&str]| {
            let given = names.iter().find_map(|name| arguments.get(name)?.as_str());
            given.map(str::to_owned).ok_or_else(|| {
                StepError::new("bad_arguments", format!("{name} needs {}", names.join(" or ")))
            })
        };
        match name {
            "calculator" => calculator::compute(&text(&["expression", "input"])?)
                .map(|number| json!(number))
                .map_err(|error| StepError::new("bad_arguments", error)),
            "time" => Ok(json!(self.clock.now())),
            "json_path" => {
                let value = arguments.get("value").unwrap_or(&Value::Null);
                Ok(part_of(value, &text(&["path"])?).cloned().unwrap_or_default())
            }
            "http_fetch" => {
                let outgoing = Outgoing {
                    method: "GET".to_owned(),
                    url: text(&["url", "input"])?,
                    ..Outgoing::default()
                };
                let answer = successful(self.fetcher.fetch(outgoing, key).await?)?;
                Ok(answer.get("body").cloned().unwrap_or_default())
            }
            other => {
                if let Some(outcome) = self.mcp.call(other, &arguments, key).await {
                    return outcome;
                }
                let tool = self.configured.get(other).ok_or_else(|| {
                    StepError::new("unknown_tool", format!("there is no tool {other:?}"))
                })?;
                self.call_configured(tool, arguments, key).await
            }
        }
    }

    async fn call_configured(
        &self,
        tool: &HttpTool,
        arguments: Value,
        key: &str,
    ) -> std::result::Result<Value, StepError> {
        let headers = tool.headers.iter();
        let outgoing = Outgoing {
            method: "POST".to_owned(),
            url: tool.url.clone(),
            headers: headers
                .map(|(name, value)| (name.clone(), value.expose().to_owned()))
                .collect(),
            body: Some(json!({"tool": tool.name, "arguments": arguments, "idempotency_key": key})),
            trusted: true,
        };
        let answer = successful(self.fetcher.fetch(outgoing, key).await?)?;
        Ok(answer.get("body").cloned().unwrap_or_default())
    }
}

fn parameters(name: &str) -> Value {
    let one = |name: &str| json!({"type": "object", "required": [name], "properties": {name: {"type": "string"}}});
    match name {
        "calculator" => one("expression"),
        "http_fetch" => one("url"),
        "json_path" => json!({"type": "object", "required": ["value", "path"],
            "properties": {"value": {}, "path": {"type": "string"}}}),
        _ => json!({"type": "object", "properties": {}}),
    }
}

/// An answer that is no success is an error; one of the server's side may be gone next time.
fn successful(answer: Value) -> std::result::Result<Value, StepError> {
    match answer.get("status").and_then(Value::as_u64).unwrap_or_default() {
        200..=299 => Ok(answer),
        status @ (408 | 425 | 429 | 500..=599) => {
            Err(StepError::temporary("http_status", format!("the answer's status is {status}")))
        }
        status => Err(StepError::new("http_status", format!("the answer's status is {status}"))),
    }
}

fn part_of<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let path = path.trim_start_matches('$').trim_start_matches('.');
    path.split(['.', '[', ']']).filter(|part| !part.is_empty()).try_fold(value, |value, part| {
        match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            other => other.get(part),
        }
    })
}
