//! The history's records, made of a run's log: the same log gives the same records.

mod figures;
mod teller;

use kernel::{Amount, Timestamp};
use serde::Serialize;
use serde::ser::Error as _;
use serde_json::Value;
use serde_json::value::RawValue;

pub(crate) use figures::{Figures, HOUR, Sum, bucket_value, date_of, hour_of};
pub(crate) use teller::{Teller, Usage, content_of};

/// The types of records that there are.
pub(crate) const TYPES: [&str; 8] = [
    "message",
    "tool_call",
    "llm_request",
    "llm_response",
    "token_usage",
    "cost",
    "error",
    "system",
];

/// What every record has.
const COMMON: [&str; 8] = [
    "execution_id",
    "metadata",
    "node",
    "record_id",
    "record_type",
    "seq",
    "session_id",
    "timestamp",
];

/// The fields that records of a type have.
pub(crate) fn fields_of(record_type: &str) -> impl Iterator<Item = &'static str> {
    let own: &[&str] = match record_type {
        "message" => &["message_type", "content"],
        "tool_call" => &["tool_name", "tool_input", "tool_output"],
        "llm_request" => &["model", "provider", "messages", "parameters", "estimated_tokens"],
        "llm_response" => {
            &["request_id", "content", "finish_reason", "token_usage", "response_time", "model"]
        }
        "token_usage" => &[
            "model",
            "provider",
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "source",
            "confidence",
        ],
        "cost" => &[
            "model",
            "provider",
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "prompt_cost",
            "completion_cost",
            "total_cost",
            "currency",
        ],
        "error" => &["error_id", "error_type", "error_message"],
        _ => &["event", "content"],
    };
    COMMON.into_iter().chain(own.iter().copied())
}

/// A record that is to be written; its number comes with the writing.
#[derive(Debug)]
pub(crate) struct Record {
    /// Names it for ever: the run, the event, and which of the event's it is.
    pub(crate) id: String,
    pub(crate) at: Timestamp,
    pub(crate) node: Option<String>,
    pub(crate) detail: Detail,
}

/// Tokens of a call.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Tokens {
    pub(crate) prompt_tokens: i64,
    pub(crate) completion_tokens: i64,
    pub(crate) total_tokens: i64,
}

/// What a record says.
#[derive(Debug, Serialize)]
#[serde(tag = "record_type", rename_all = "snake_case")]
pub(crate) enum Detail {
    Message {
        message_type: &'static str,
        content: String,
    },
    ToolCall {
        tool_name: String,
        tool_input: Value,
        tool_output: Value,
    },
    LlmRequest {
        model: String,
        provider: String,
        messages: Vec<Value>,
        parameters: Value,
        estimated_tokens: u64,
    },
    LlmResponse {
        request_id: String,
        content: String,
        finish_reason: String,
        token_usage: Tokens,
        response_time: Seconds,
        model: String,
    },
    TokenUsage {
        model: String,
        provider: String,
        #[serde(flatten)]
        tokens: Tokens,
        source: &'static str,
        confidence: u8,
    },
    Cost {
        model: String,
        provider: String,
        #[serde(flatten)]
        tokens: Tokens,
        prompt_cost: Decimal,
        completion_cost: Decimal,
        total_cost: Decimal,
        currency: String,
    },
    Error {
        error_id: String,
        error_type: String,
        error_message: String,
    },
    System {
        event: &'static str,
        content: Value,
    },
}

impl Detail {
    pub(crate) const fn record_type(&self) -> &'static str {
        match self {
            Self::Message { .. } => "message",
            Self::ToolCall { .. } => "tool_call",
            Self::LlmRequest { .. } => "llm_request",
            Self::LlmResponse { .. } => "llm_response",
            Self::TokenUsage { .. } => "token_usage",
            Self::Cost { .. } => "cost",
            Self::Error { .. } => "error",
            Self::System { .. } => "system",
        }
    }

    /// What the record is found by, if it can be.
    pub(crate) fn searchable(&self) -> Option<String> {
        match self {
            Self::Message { content, .. } => Some(content.clone()),
            Self::ToolCall { tool_name, tool_input, tool_output } => {
                Some(format!("{tool_name} {tool_input} {tool_output}"))
            }
            _ => None,
        }
    }
}

/// An amount as a JSON number, every digit of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decimal(pub(crate) Amount);

/// A span of time in microseconds, written in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seconds(pub(crate) u64);

/// A JSON number with these digits.
fn number<S: serde::Serializer>(digits: String, serializer: S) -> Result<S::Ok, S::Error> {
    RawValue::from_string(digits).map_err(S::Error::custom)?.serialize(serializer)
}

impl Serialize for Decimal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        number(self.0.to_string(), serializer)
    }
}

impl Serialize for Seconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        number(format!("{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000), serializer)
    }
}

/// A record as it is kept.
#[derive(Serialize)]
struct Kept<'a> {
    record_id: &'a str,
    session_id: &'a str,
    execution_id: &'a str,
    seq: i64,
    timestamp: Timestamp,
    node: Option<&'a str>,
    #[serde(flatten)]
    detail: &'a Detail,
    metadata: serde_json::Map<String, Value>,
}

impl Record {
    /// What a run has cost beyond what its records say.
    pub(crate) fn rest(execution_id: &str, at: Timestamp, cost: Amount, currency: String) -> Self {
        let detail = Detail::Cost {
            model: String::new(),
            provider: String::new(),
            tokens: Tokens { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 },
            prompt_cost: Decimal(cost),
            completion_cost: Decimal(Amount::ZERO),
            total_cost: Decimal(cost),
            currency,
        };
        Self { id: format!("{execution_id}.rest"), at, node: None, detail }
    }

    /// The record as one JSON object, with its place in the session.
    pub(crate) fn body(&self, session_id: &str, execution_id: &str, seq: i64) -> String {
        let kept = Kept {
            record_id: &self.id,
            session_id,
            execution_id,
            seq,
            timestamp: self.at,
            node: self.node.as_deref(),
            detail: &self.detail,
            metadata: serde_json::Map::new(),
        };
        serde_json::to_string(&kept).unwrap_or_else(|_no_text| "{}".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each type.
    fn examples() -> [Detail; 8] {
        let tokens = Tokens { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 };
        let text = String::new;
        let amount = Decimal("0.000000123".parse().unwrap());
        [
            Detail::Message { message_type: "user", content: text() },
            Detail::ToolCall {
                tool_name: text(),
                tool_input: Value::Null,
                tool_output: Value::Null,
            },
            Detail::LlmRequest {
                model: text(),
                provider: text(),
                messages: vec![],
                parameters: Value::Null,
                estimated_tokens: 0,
            },
            Detail::LlmResponse {
                request_id: text(),
                content: text(),
                finish_reason: text(),
                token_usage: tokens,
                response_time: Seconds(1_000_001),
                model: text(),
            },
            Detail::TokenUsage {
                model: text(),
                provider: text(),
                tokens,
                source: "api",
                confidence: 1,
            },
            Detail::Cost {
                model: text(),
                provider: text(),
                tokens,
                prompt_cost: amount,
                completion_cost: amount,
                total_cost: amount,
                currency: text(),
            },
            Detail::Error { error_id: text(), error_type: text(), error_message: text() },
            Detail::System { event: "x", content: Value::Null },
        ]
    }

    #[test]
    fn records_have_the_fields_that_are_listed_and_exact_numbers() {
        for (detail, name) in examples().into_iter().zip(TYPES) {
            assert_eq!(detail.record_type(), name);
            let at = Timestamp::default();
            let record = Record { id: "r".to_owned(), at, node: None, detail };
            let body = record.body("s", "e", 7);
            let read: serde_json::Map<String, Value> = serde_json::from_str(&body).unwrap();
            assert_eq!(read["record_type"], name);
            let mut found: Vec<&str> = read.keys().map(String::as_str).collect();
            let mut listed: Vec<&str> = fields_of(name).collect();
            found.sort_unstable();
            listed.sort_unstable();
            assert_eq!(found, listed, "{name}");
            if name == "cost" {
                assert!(body.contains("\"total_cost\":0.000000123"), "{body}");
            }
            if name == "llm_response" {
                assert!(body.contains("\"response_time\":1.000001"), "{body}");
            }
        }
    }
}
