//! How an upstream is described.

use kernel::Secret;
use serde::{Deserialize, Serialize};

/// How an upstream answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UapiMode {
    /// Line by line.
    Stream,
    /// At once and whole.
    #[default]
    #[serde(alias = "none")]
    Sync,
    /// With a task, which is asked for until it is done.
    Async,
}

/// An upstream, described by templates.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UapiConfig {
    /// How it answers: `stream`, `sync` or `async`.
    #[serde(default, alias = "stream")]
    pub mode: UapiMode,
    /// What lines of a stream that count begin with.
    #[serde(default = "chunk_match")]
    pub chunk_match: String,
    /// For templates, beside `apikey`: `secretkey`.
    #[serde(default)]
    pub secret_key: Secret,
    /// The host of `base_url` may have a private address.
    #[serde(default)]
    pub allow_private: bool,
    /// How often a task is asked for, in milliseconds.
    #[serde(default = "period_ms")]
    pub period_ms: u64,
    /// The call.
    pub call: UapiStep,
    /// How a task is asked for.
    #[serde(default)]
    pub query: Option<UapiStep>,
}

/// One request and its answer, as templates.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UapiStep {
    /// Behind `base_url`.
    #[serde(default)]
    pub path: String,
    /// `GET`, `POST` or another.
    #[serde(default = "method", alias = "httpmethod")]
    pub method: String,
    /// A JSON object of headers; empty for none.
    #[serde(default)]
    pub headers: String,
    /// A JSON object of what stands in the query; empty for nothing.
    #[serde(default)]
    pub params: String,
    /// The body.
    #[serde(default)]
    pub data: String,
    /// What the answer, or a line of the stream, means: JSON in the house's form. Empty where the
    /// upstream speaks OpenAI's.
    #[serde(default)]
    pub response: String,
}

fn chunk_match() -> String {
    "data:".to_owned()
}

const fn period_ms() -> u64 {
    3_000
}

fn method() -> String {
    "POST".to_owned()
}

impl Default for UapiStep {
    fn default() -> Self {
        let empty = String::new;
        Self {
            path: empty(),
            method: method(),
            headers: empty(),
            params: empty(),
            data: empty(),
            response: empty(),
        }
    }
}

impl Default for UapiConfig {
    fn default() -> Self {
        Self {
            mode: UapiMode::default(),
            chunk_match: chunk_match(),
            secret_key: Secret::default(),
            allow_private: false,
            period_ms: period_ms(),
            call: UapiStep::default(),
            query: None,
        }
    }
}

impl UapiConfig {
    /// The step of this name: `call` or `query`.
    pub(crate) fn step(&self, name: &str) -> &UapiStep {
        self.query.as_ref().filter(|_| name == "query").unwrap_or(&self.call)
    }
}
