//! A streamed answer, put together again.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{frame_data, split_frames};

/// A streamed answer as far as it has come: its first choice.
#[derive(Clone, Debug, Default)]
pub struct Assembly {
    content: String,
    reasoning: String,
    refusal: String,
    tool_calls: Vec<ToolCall>,
    finish_reason: Option<String>,
    usage: Option<Value>,
}

#[derive(Clone, Debug, Default)]
struct ToolCall {
    id: String,
    name: String,
    arguments: String,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Deserialize)]
struct CallDelta {
    #[serde(default)]
    index: Option<usize>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

/// An answer with more tool calls than this is none.
const MOST_CALLS: usize = 128;

impl Assembly {
    /// Takes in whole frames, and gives the text that they add to the content.
    pub fn push(&mut self, frames: &Bytes) -> String {
        let before = self.content.len();
        for frame in split_frames(frames) {
            if let Ok(chunk) = serde_json::from_slice::<Chunk>(&frame_data(&frame)) {
                self.take_in(chunk);
            }
        }
        self.content.get(before..).unwrap_or_default().to_owned()
    }

    /// The content so far.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// The answer as it would have come in one piece.
    pub fn answer(&self) -> Value {
        let mut message = Map::new();
        message.insert("role".to_owned(), json!("assistant"));
        let calls_only = self.content.is_empty() && !self.tool_calls.is_empty();
        let content = if calls_only { Value::Null } else { json!(self.content) };
        message.insert("content".to_owned(), content);
        for (name, text) in [("reasoning_content", &self.reasoning), ("refusal", &self.refusal)] {
            if !text.is_empty() {
                message.insert(name.to_owned(), json!(text));
            }
        }
        if !self.tool_calls.is_empty() {
            let call = |call: &ToolCall| {
                json!({"id": call.id, "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments}})
            };
            let calls = self.tool_calls.iter().map(call).collect();
            message.insert("tool_calls".to_owned(), Value::Array(calls));
        }
        let choice = json!({"index": 0, "message": message, "finish_reason": self.finish_reason});
        json!({"choices": [choice], "usage": self.usage})
    }

    fn take_in(&mut self, chunk: Chunk) {
        if chunk.usage.is_some() {
            self.usage = chunk.usage;
        }
        for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
            if choice.finish_reason.is_some() {
                self.finish_reason = choice.finish_reason;
            }
            let Some(delta) = choice.delta else { continue };
            self.content.push_str(delta.content.as_deref().unwrap_or_default());
            self.reasoning.push_str(delta.reasoning_content.as_deref().unwrap_or_default());
            self.refusal.push_str(delta.refusal.as_deref().unwrap_or_default());
            delta.tool_calls.into_iter().flatten().for_each(|call| self.add_call(call));
        }
    }

    /// A call comes in parts: its first names it, the others add to its arguments. A part without
    /// an index begins a call if it has a name, and belongs to the last one otherwise.
    fn add_call(&mut self, part: CallDelta) {
        let named = part.function.as_ref().is_some_and(|function| function.name.is_some());
        let last = self.tool_calls.len().saturating_sub(1);
        let at = part.index.unwrap_or(if named { self.tool_calls.len() } else { last });
        if at >= MOST_CALLS {
            return;
        }
        while self.tool_calls.len() <= at {
            self.tool_calls.push(ToolCall::default());
        }
        let Some(call) = self.tool_calls.get_mut(at) else { return };
        if let Some(id) = part.id.filter(|id| !id.is_empty()) {
            call.id = id;
        }
        let Some(function) = part.function else { return };
        call.name.push_str(function.name.as_deref().unwrap_or_default());
        call.arguments.push_str(function.arguments.as_deref().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{SimRequest, Style};

    #[test]
    fn a_stream_put_together_is_the_answer_in_one_piece() {
        for content in [
            "[[say:a b c]]",
            "[[reason:2]] think",
            "[[tool:find {\"a\": [1, 2]}]]",
            "[[words:0]]",
            "more words",
        ] {
            let body = json!({"model": "m", "stream": true, "stream_options": {"include_usage": true},
                "messages": [{"role": "user", "content": content}]});
            let reply = SimRequest::parse(body.to_string().as_bytes()).unwrap().answer().unwrap();
            let mut assembly = Assembly::default();
            let mut said = String::new();
            for frame in reply.frames(Style::Normal, None) {
                said.push_str(&assembly.push(&frame));
            }
            let whole: Value = serde_json::from_slice(&reply.full(Style::Normal)).unwrap();
            let (got, mut wanted) = (assembly.answer(), whole["choices"][0]["message"].clone());
            if let Some(thought) = wanted.get("reasoning_content").and_then(Value::as_str) {
                // The simulation ends every streamed thought with a space.
                wanted["reasoning_content"] = json!(format!("{thought} "));
            }
            assert_eq!(got["choices"][0]["message"], wanted);
            assert_eq!(got["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"]);
            assert_eq!(got["usage"], whole["usage"]);
            assert_eq!(said, wanted["content"].as_str().unwrap_or_default());
        }
    }

    #[test]
    fn calls_come_in_parts_side_by_side_and_noise_is_passed_over() {
        let mut assembly = Assembly::default();
        let parts = [
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}"#,
            r#"{"index":1,"id":"b","function":{"name":"g","arguments":""}}"#,
            r#"{"index":0,"function":{"arguments":"}"}}"#,
            r#"{"index":1,"function":{"arguments":"[]"}}"#,
            r#"{"index":9999,"function":{"name":"far"}}"#,
        ];
        for part in parts {
            let frame = format!(
                "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{part}]}}}}]}}\n\n"
            );
            assert_eq!(assembly.push(&Bytes::from(frame)), "");
        }
        assembly.push(&Bytes::from_static(b": comment\n\ndata: nonsense\n\ndata: [DONE]\n\n"));
        let other = br#"data: {"choices":[{"index":1,"delta":{"content":"other"}}]}"#;
        assert_eq!(assembly.push(&Bytes::from([other.as_slice(), b"\n\n"].concat())), "");
        let answer = assembly.answer();
        let calls = answer["choices"][0]["message"]["tool_calls"].as_array().unwrap();
        let seen: Vec<_> = calls
            .iter()
            .map(|call| [&call["id"], &call["function"]["name"], &call["function"]["arguments"]])
            .collect();
        assert_eq!(seen, [["a", "f", "{}"], ["b", "g", "[]"]]);
        assert_eq!(answer["choices"][0]["message"]["content"], Value::Null);
    }
}
