//! The simulated provider: deterministic answers with true token counts, and no network.
//!
//! One token is one word (a run of signs without white space). The same request gets the same
//! answer. Directives in the last user message steer it:
//!
//! - `[[say:TEXT]]` answers TEXT;
//! - `[[words:N]]` answers N words (24 without it);
//! - `[[tool:NAME {"a":1}]]` calls that tool with those arguments;
//! - `[[reason:N]]` thinks N tokens first;
//! - `[[fail:STATUS]]` refuses with that HTTP status.
//!
//! Without directives: if tools are offered and the last message is the user's, the first tool (or
//! the one `tool_choice` names) is called with arguments made from its schema; a tool's result is
//! quoted; `response_format` is honoured with JSON that fits.

mod chat;
mod directive;
mod embeddings;
mod json;
mod provider;

pub use chat::{SimReply, SimRequest, Style};
pub use directive::Directive;
pub use embeddings::embeddings;
pub(crate) use provider::SimProvider;

use serde_json::{Value, json};

/// A refusal of the simulated provider, in OpenAI's shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimRefusal {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

impl SimRefusal {
    /// A refusal with a message.
    pub fn new(status: u16, message: &str) -> Self {
        let kind = if status >= 500 { "server_error" } else { "invalid_request_error" };
        Self {
            status,
            body: json!({"error": {"message": message, "type": kind, "code": "simulated"}}),
        }
    }
}

/// The tokens of a text: its words.
pub fn count_tokens(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}
