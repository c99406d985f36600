//! Answers in the house's form, `{content, reasoning_content, finish, usage, …}`, and in OpenAI's.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{CallError, ChatStream, Piece, frame_data, split_frames};

const DONE: &str = "data: [DONE]\n\n";

/// An answer, or a part of one: in the house's form, or in OpenAI's where it has `choices`.
#[derive(Clone, Debug, Default)]
pub(crate) struct House(Map<String, Value>);

/// How a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Running,
    Done,
    Failed(String),
}

impl House {
    pub(crate) fn new(value: Value) -> Self {
        match value {
            Value::Object(members) => Self(members),
            _ => Self::default(),
        }
    }

    pub(crate) const fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// What `status` says; without one, an answer that has come is done.
    pub(crate) fn progress(&self) -> Progress {
        let Some(status) = self.text("status") else {
            let task = self.0.contains_key("taskid") && !self.0.contains_key("content");
            return if task { Progress::Running } else { Progress::Done };
        };
        match status.to_ascii_uppercase().as_str() {
            "SUCCEEDED" | "SUCCESS" | "DONE" | "COMPLETED" | "FINISHED" => Progress::Done,
            "FAILED" | "ERROR" | "CANCELED" | "CANCELLED" | "UNKNOWN" | "EXPIRED" => {
                let why = self.text("message").or_else(|| self.text("error")).unwrap_or(status);
                Progress::Failed(why.chars().take(200).collect())
            }
            _ => Progress::Running,
        }
    }

    /// It says nothing.
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn finished(&self) -> bool {
        match self.0.get("finish") {
            Some(Value::String(text)) => text != "0" && !text.is_empty(),
            Some(Value::Number(number)) => number.as_i64() != Some(0),
            Some(Value::Bool(finished)) => *finished,
            _ => false,
        }
    }

    fn finish_reason(&self) -> Value {
        self.text("finish_reason").unwrap_or("stop").into()
    }

    fn usage(&self) -> Option<&Value> {
        self.0.get("usage").filter(|usage| usage.is_object())
    }

    /// The members of a message or of what is added to one.
    fn said(&self) -> Map<String, Value> {
        let names = ["content", "reasoning_content", "tool_calls"];
        let said = names.into_iter().filter_map(|name| Some((name, self.0.get(name)?)));
        let said = said.filter(|(_, value)| !value.is_null() && *value != &Value::from(""));
        said.map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }

    fn head(&self, object: &str, model: &str) -> Map<String, Value> {
        let or = |name: &str, otherwise: Value| self.0.get(name).cloned().unwrap_or(otherwise);
        Map::from_iter([
            ("id".to_owned(), or("id", "chatcmpl-uapi".into())),
            ("object".to_owned(), object.into()),
            ("created".to_owned(), or("created", 0.into())),
            ("model".to_owned(), or("model", model.into())),
        ])
    }

    /// As a complete answer.
    pub(crate) fn whole(&self, model: &str) -> Bytes {
        let mut answer = self.head("chat.completion", model);
        let choices = self.0.get("choices").filter(|choices| choices.is_array()).cloned();
        let choices = choices.unwrap_or_else(|| {
            let mut message = self.said();
            message.insert("role".to_owned(), "assistant".into());
            message.entry("content").or_insert("".into());
            json!([{"index": 0, "message": message, "finish_reason": self.finish_reason()}])
        });
        answer.insert("choices".to_owned(), choices);
        answer.extend(self.usage().map(|usage| ("usage".to_owned(), usage.clone())));
        Value::Object(answer).to_string().into()
    }

    /// A complete answer as the frames of a stream.
    pub(crate) fn frames(&self, model: &str) -> Vec<Bytes> {
        let mut whole = self.clone();
        whole.0.insert("finish".to_owned(), "1".into());
        if let Some(Value::Array(choices)) = whole.0.get_mut("choices") {
            for choice in choices {
                if let Some(message) = choice.get("message").cloned() {
                    choice["delta"] = message;
                }
            }
        }
        vec![whole.part(model).into(), Bytes::from_static(DONE.as_bytes())]
    }

    /// As frames of a stream: what is said, the end, and the usage by itself.
    pub(crate) fn part(&self, model: &str) -> Vec<u8> {
        let mut frames = Vec::new();
        if self.is_empty() {
            return frames;
        }
        let mut add = |choices: Value, usage: Option<&Value>| {
            let mut frame = self.head("chat.completion.chunk", model);
            frame.insert("choices".to_owned(), choices);
            frame.extend(usage.map(|usage| ("usage".to_owned(), usage.clone())));
            frames.extend_from_slice(format!("data: {}\n\n", Value::Object(frame)).as_bytes());
        };
        if let Some(choices) = self.0.get("choices").filter(|choices| choices.is_array()) {
            if choices.as_array().is_some_and(|choices| !choices.is_empty()) {
                add(choices.clone(), None);
            }
        } else {
            let said = self.said();
            if !said.is_empty() {
                add(json!([{"index": 0, "delta": said, "finish_reason": null}]), None);
            }
            if self.finished() {
                add(
                    json!([{"index": 0, "delta": {}, "finish_reason": self.finish_reason()}]),
                    None,
                );
            }
        }
        if let Some(usage) = self.usage() {
            add(json!([]), Some(usage));
        }
        frames
    }
}

/// Puts a stream together again.
pub(crate) async fn collect(mut stream: ChatStream, most: usize) -> Result<House, CallError> {
    let mut whole: Map<String, Value> = Map::new();
    let (mut content, mut reasoning) = (String::new(), String::new());
    while let Some(piece) = stream.next().await {
        let Piece::Frames(frames) = piece? else { continue };
        for frame in split_frames(&frames) {
            let Ok(chunk) = serde_json::from_slice::<Value>(&frame_data(&frame)) else { continue };
            for name in ["id", "created", "model"] {
                if let Some(value) = chunk.get(name) {
                    whole.insert(name.to_owned(), value.clone());
                }
            }
            if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
                whole.insert("usage".to_owned(), usage.clone());
            }
            let said = |part: &str| chunk.pointer(part).and_then(Value::as_str).unwrap_or_default();
            content.push_str(said("/choices/0/delta/content"));
            reasoning.push_str(said("/choices/0/delta/reasoning_content"));
            if let Some(reason) = chunk.pointer("/choices/0/finish_reason").and_then(Value::as_str)
            {
                whole.insert("finish_reason".to_owned(), reason.into());
            }
            if content.len() + reasoning.len() > most {
                return Err(CallError::TooLarge(most));
            }
        }
    }
    whole.insert("content".to_owned(), content.into());
    whole.insert("reasoning_content".to_owned(), reasoning.into());
    Ok(House(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_run_until_they_say_otherwise() {
        let progress = |value: Value| House::new(value).progress();
        assert_eq!(progress(json!({"taskid": "1"})), Progress::Running);
        assert_eq!(progress(json!({"taskid": "1", "status": "PENDING"})), Progress::Running);
        assert_eq!(progress(json!({"status": "Succeeded", "content": "x"})), Progress::Done);
        assert_eq!(progress(json!({"content": "x"})), Progress::Done);
        let failed = progress(json!({"status": "FAILED", "message": "no room"}));
        assert_eq!(failed, Progress::Failed("no room".to_owned()));
    }

    #[test]
    fn the_houses_form_becomes_openais() {
        let house = House::new(json!({"content": "hi", "reasoning_content": "", "finish": "1",
            "usage": {"prompt_tokens": 1, "completion_tokens": 2}}));
        let whole: Value = serde_json::from_slice(&house.whole("m")).unwrap();
        assert_eq!(whole["choices"][0]["message"]["content"], "hi");
        assert_eq!(
            (&whole["model"], &whole["usage"]["completion_tokens"]),
            (&json!("m"), &json!(2))
        );
        let part = String::from_utf8(house.part("m")).unwrap();
        let frames: Vec<&str> = part.trim().split("\n\n").collect();
        assert_eq!(frames.len(), 3, "{part}");
        assert!(
            frames[0].contains(r#""content":"hi""#)
                && frames[1].contains(r#""finish_reason":"stop""#)
        );
        assert!(frames[2].contains(r#""choices":[]"#) && frames[2].contains("usage"));
        assert!(House::new(Value::Null).part("m").is_empty());
    }
}
