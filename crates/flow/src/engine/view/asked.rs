//! What a step is asked to do.

use std::sync::Arc;

use kernel::OrgId;
use serde_json::{Map, Value};

use super::Replay;
use crate::RunRecord;
use crate::event::Status;
use crate::machine::{Effect, effect_of};

/// What a step is asked to do when it begins.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// To call a model.
    Model {
        /// Its name as the definition says it.
        model: String,
        /// The request without the model and the tools' descriptions.
        request: Map<String, Value>,
    },
    /// To call a tool.
    Tool {
        /// Its name.
        name: String,
        /// What it is given.
        arguments: Value,
    },
    /// To make an HTTP request.
    Http {
        /// Such as `GET`.
        method: String,
        /// Where to.
        url: String,
    },
}

impl Replay {
    /// What a step that has not ended is asked to do, if it is an effect.
    pub fn asked(&self, step: u64) -> Option<Asked> {
        let found = self.state.steps.get(&step)?;
        match effect_of(&self.program, &self.state, found).ok()? {
            Effect::Llm { model, request, .. } => Some(Asked::Model { model, request }),
            Effect::Tool { name, arguments, .. } => Some(Asked::Tool { name, arguments }),
            Effect::Http { method, url, .. } => Some(Asked::Http { method, url }),
        }
    }

    /// How the run stands, as far as it has come.
    pub const fn status(&self) -> Status {
        self.state.status
    }
}

impl RunRecord {
    /// The id of the run that an organization starts under a key; see [`crate::Start::key`].
    pub fn id_of(org_id: &OrgId, key: &str) -> Arc<str> {
        let named = Value::from(vec![org_id.as_str(), key]).to_string();
        let hash = blake3::derive_key("ledgerline flow run 1", named.as_bytes());
        let hex = blake3::Hash::from(hash).to_hex();
        hex.as_str().chars().take(32).collect::<String>().into()
    }
}
