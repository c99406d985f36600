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

/// An upstream, described by templates of its own, or by those that a followed server tells of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UapiConfig {
    /// The name or id of a followed server's description, which gives mode, `chunk_match` and `call`;
    /// empty where they are written here. Never its address or credentials.
    pub cached: String,
    /// The name or id of the followed server's description of how a task is asked for; empty for none.
    pub cached_query: String,
    /// Servers that follow this one are told the templates.
    pub share: bool,
    /// How it answers: `stream`, `sync` (the default) or `async`.
    #[serde(alias = "stream")]
    pub mode: Option<UapiMode>,
    /// What lines of a stream that count begin with; `data:` by default.
    pub chunk_match: Option<String>,
    /// For templates, beside `apikey`: `secretkey`.
    pub secret_key: Secret,
    /// The host of `base_url` may have a private address.
    pub allow_private: bool,
    /// How often a task is asked for, in milliseconds.
    pub period_ms: u64,
    /// The call.
    pub call: Option<UapiStep>,
    /// How a task is asked for.
    pub query: Option<UapiStep>,
}

/// One request and its answer, as templates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UapiStep {
    /// Behind `base_url`.
    pub path: String,
    /// `GET`, `POST` or another.
    #[serde(alias = "httpmethod")]
    pub method: String,
    /// A JSON object of headers; empty for none.
    pub headers: String,
    /// A JSON object of what stands in the query; empty for nothing.
    pub params: String,
    /// The body.
    pub data: String,
    /// What the answer, or a line of the stream, means: JSON in the house's form. Empty where the
    /// upstream speaks OpenAI's.
    pub response: String,
}

impl Default for UapiStep {
    fn default() -> Self {
        let empty = String::new;
        Self {
            path: empty(),
            method: "POST".to_owned(),
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
            cached: String::new(),
            cached_query: String::new(),
            share: false,
            mode: None,
            chunk_match: None,
            secret_key: Secret::default(),
            allow_private: false,
            period_ms: 3_000,
            call: None,
            query: None,
        }
    }
}
