//! Descriptions as servers tell each other of them: a row for each endpoint of an upstream.

use serde::Deserialize;
use serde_json::{Value, json};

use super::config::{UapiConfig, UapiMode, UapiStep};
use super::description::CHUNK_MATCH;

/// A description that a followed server has told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UapiRow {
    /// Its id there.
    pub id: String,
    /// What was told: a JSON object.
    pub data: String,
}

/// What counts of a row. Where it leads, and with whose credentials, the operator says; so an address
/// in it is not even read.
#[derive(Debug, Deserialize)]
pub(super) struct Row {
    stream: Option<UapiMode>,
    /// Absent where a server does not share its templates.
    path: Option<String>,
    httpmethod: Option<String>,
    chunk_match: Option<String>,
    headers: Option<String>,
    params: Option<String>,
    data: Option<String>,
    response: Option<String>,
}

/// What rows are looked through for, also those that are not valid.
#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

impl Row {
    /// The row of this id, or else the only one of this name.
    pub(super) fn find(rows: &[UapiRow], wanted: &str) -> Result<Self, String> {
        let named = |row: &&UapiRow| {
            let named = serde_json::from_str::<Named>(&row.data);
            named.is_ok_and(|named| named.name.as_deref() == Some(wanted))
        };
        let row = match rows.iter().find(|row| row.id == wanted) {
            Some(row) => row,
            None => match rows.iter().filter(named).collect::<Vec<_>>().as_slice() {
                [] => return Err(format!("the upstream has no description {wanted:?}")),
                [only] => only,
                _ => {
                    return Err(format!(
                        "the upstream has several descriptions {wanted:?}: name one by its id"
                    ));
                }
            },
        };
        let read: Self = serde_json::from_str(&row.data)
            .map_err(|error| format!("the description {wanted:?} cannot be read: {error}"))?;
        if read.path.is_none() {
            return Err(format!(
                "the description {wanted:?} has no path: the upstream does not share its templates"
            ));
        }
        Ok(read)
    }

    pub(super) fn mode(&self) -> UapiMode {
        self.stream.unwrap_or_default()
    }

    pub(super) fn chunk_match(&self) -> Option<String> {
        self.chunk_match.clone()
    }

    pub(super) fn step(&self) -> UapiStep {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let method = self.httpmethod.as_ref().filter(|method| !method.is_empty());
        UapiStep {
            path: text(&self.path),
            method: method.map_or_else(|| UapiStep::default().method, |text| text.to_uppercase()),
            headers: text(&self.headers),
            params: text(&self.params),
            data: text(&self.data),
            response: text(&self.response),
        }
    }
}

impl UapiConfig {
    /// What followers are told beside a provider's name and address, by id: nothing unless the operator
    /// shares the templates. What is followed itself is not passed on.
    pub fn shared(&self, provider: &str) -> Vec<(String, Value)> {
        let Some(call) = self.call.as_ref().filter(|_| self.share) else { return Vec::new() };
        let stream = match self.mode.unwrap_or_default() {
            UapiMode::Stream => "stream",
            UapiMode::Async => "async",
            UapiMode::Sync => "none",
        };
        let start = self.chunk_match.as_deref().unwrap_or(CHUNK_MATCH);
        let row = |id: String, stream: &str, step: &UapiStep| {
            let data = json!({"id": id, "name": id, "stream": stream, "path": step.path,
                "httpmethod": step.method, "chunk_match": start, "headers": step.headers,
                "params": step.params, "data": step.data, "response": step.response});
            (id, data)
        };
        let mut rows = vec![row(provider.to_owned(), stream, call)];
        // As in the original, a task is asked for by an endpoint of its own.
        let query = self.query.as_ref();
        rows.extend(query.map(|query| row(format!("{provider}:query"), "none", query)));
        rows
    }
}
