//! The `flow` section of the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::Secret;
use serde::{Deserialize, Serialize};

use crate::machine::Bounds;

/// How runs are carried out, and what they may use.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Runs at work at the same time; waiting ones do not count.
    pub max_running: usize,
    /// Of these, an organization's at most.
    pub max_running_per_org: usize,
    /// Runs of an organization that may wait for their turn; more are refused.
    pub max_queued_per_org: usize,
    /// Steps of one run at most, unless its definition says less.
    pub max_steps: u64,
    /// Things that one node may work on.
    pub max_fan_out: usize,
    /// The largest input, answer or output of a step, in bytes.
    pub max_value_bytes: usize,
    /// The largest state of a run, in bytes.
    pub max_state_bytes: usize,
    /// How long a run may take, waits included, unless its definition says less.
    pub run_timeout_seconds: u64,
    /// How long another process's runs stay its own without a sign of life, on a shared database.
    pub lease_seconds: u64,
    /// The model for nodes whose own is not offered; empty for none: they fail.
    pub default_model: String,
    /// Hosts that http nodes and the tool `http_fetch` may reach although their addresses are
    /// private, as `host` or `host:port`.
    pub allowed_hosts: Vec<String>,
    /// Tools besides the built-in ones.
    pub tools: Vec<HttpTool>,
    /// MCP servers whose tools flows may use, as `NAME__TOOL`.
    pub mcp: Vec<McpServer>,
}

/// A server of tools that speaks MCP over HTTP. It is at a public address, or its host is among
/// `allowed_hosts`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpServer {
    /// Before `__` and the name of its tool, in definitions.
    pub name: String,
    /// Where it answers, such as `https://tools.example/mcp`.
    pub url: String,
    /// More headers to send.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
}

/// A tool that is called over HTTP: `POST` with `{"tool", "arguments", "idempotency_key"}`; the
/// answer's JSON is the result.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTool {
    /// Its name in definitions.
    pub name: String,
    /// Where it is called. The operator's word: private addresses are reached too.
    pub url: String,
    /// What models are told about it.
    #[serde(default)]
    pub description: String,
    /// The JSON schema of its arguments.
    #[serde(default)]
    pub parameters: serde_json::Value,
    /// More headers to send.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
}

impl HttpTool {
    /// A tool with every other setting at its default.
    pub fn new(name: &str, url: &str) -> Self {
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            description: String::new(),
            parameters: serde_json::Value::Null,
            headers: BTreeMap::new(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_running: 256,
            max_running_per_org: 64,
            max_queued_per_org: 10_000,
            max_steps: 10_000,
            max_fan_out: 1_000,
            max_value_bytes: 256 * 1024,
            max_state_bytes: 1024 * 1024,
            run_timeout_seconds: 7 * 86_400,
            lease_seconds: 10,
            default_model: String::new(),
            allowed_hosts: Vec::new(),
            tools: Vec::new(),
            mcp: Vec::new(),
        }
    }
}

impl Config {
    pub(crate) fn bounds(&self, steps: Option<u64>) -> Bounds {
        Bounds {
            steps: steps.unwrap_or(u64::MAX).min(self.max_steps),
            fan_out: self.max_fan_out,
            state_bytes: self.max_state_bytes,
        }
    }

    pub(crate) const fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }
}
