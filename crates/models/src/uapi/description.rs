//! A description as it is used: from the configuration, or from what a followed server tells.

use http::Method;

use super::config::{UapiConfig, UapiMode, UapiStep};
use super::row::Row;
use super::template::Templates;
use crate::UapiRow;

pub(crate) const CHUNK_MATCH: &str = "data:";

/// What is sent, and what answers mean. A call that has begun keeps the description it began with.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) mode: UapiMode,
    pub(crate) chunk_match: String,
    pub(crate) templates: Templates,
    call: Method,
    query: Method,
}

/// What is compiled of a description.
struct Source {
    mode: UapiMode,
    chunk_match: Option<String>,
    call: UapiStep,
    query: Option<UapiStep>,
}

impl Source {
    /// Compiles it; the error names the part and says what is wrong.
    fn compiled(self) -> Result<Description, String> {
        if self.mode == UapiMode::Async && self.query.is_none() {
            return Err("mode async without query".to_owned());
        }
        let method = |name: &str, step: &UapiStep| {
            let bad = || format!("{name}.method ({:?})", step.method);
            match Method::from_bytes(step.method.as_bytes()) {
                // It would ask for a connection to somewhere else.
                Ok(method) if method != Method::CONNECT => Ok(method),
                _ => Err(bad()),
            }
        };
        let call = method("call", &self.call)?;
        let query = self.query.as_ref().map_or(Ok(Method::GET), |step| method("query", step))?;
        let templates = Templates::new(&self.call, self.query.as_ref())?;
        let chunk_match = self.chunk_match.unwrap_or_else(|| CHUNK_MATCH.to_owned());
        Ok(Description { mode: self.mode, chunk_match, templates, call, query })
    }
}

impl Description {
    /// The description in the configuration; `None` if a followed server has it.
    pub(crate) fn configured(config: &UapiConfig) -> Result<Option<Self>, String> {
        let written = config.call.is_some()
            || config.query.is_some()
            || config.mode.is_some()
            || config.chunk_match.is_some();
        if !config.cached.is_empty() {
            let both = "cached beside mode, chunk_match, call or query, which it gives";
            return if written { Err(both.to_owned()) } else { Ok(None) };
        }
        if !config.cached_query.is_empty() {
            return Err("cached_query without cached".to_owned());
        }
        let source = Source {
            mode: config.mode.unwrap_or_default(),
            chunk_match: config.chunk_match.clone(),
            call: config.call.clone().ok_or("call (or cached), which is missing,")?,
            query: config.query.clone(),
        };
        source.compiled().map(Some)
    }

    /// The description that a followed server has under the configuration's names.
    pub(crate) fn followed(config: &UapiConfig, rows: &[UapiRow]) -> Result<Self, String> {
        let call = Row::find(rows, &config.cached)?;
        let query = match config.cached_query.as_str() {
            "" => None,
            name => Some(Row::find(rows, name)?.step()),
        };
        let (mode, chunk_match) = (call.mode(), call.chunk_match());
        let source = Source { mode, chunk_match, call: call.step(), query };
        source.compiled().map_err(|why| match config.cached_query.as_str() {
            "" => format!("the description {:?}: {why} is not valid", config.cached),
            query => {
                format!("the descriptions {:?} and {query:?}: {why} is not valid", config.cached)
            }
        })
    }

    /// How a step is sent: `call` or `query`.
    pub(crate) fn method(&self, step: &str) -> Method {
        if step == "query" { self.query.clone() } else { self.call.clone() }
    }
}
