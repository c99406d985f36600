//! The texts in requests and answers: to be read, and changed where they must be.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::request::{place, splice};
use crate::usage::UNCOUNTED;

/// Gives a text's new form, or `None` to leave it as it is.
pub type Edit<'a> = dyn FnMut(&str) -> Option<String> + 'a;

/// The parts of a request that a model reads.
#[derive(Deserialize)]
struct RequestWire<'a> {
    #[serde(default, borrow)]
    messages: Option<&'a RawValue>,
    #[serde(default, borrow)]
    tools: Option<&'a RawValue>,
    #[serde(default, borrow)]
    input: Option<&'a RawValue>,
}

/// What holds texts that cannot be read: half a character, a number beyond all range, or a hundred
/// levels and more. Others may be able to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl From<serde_json::Error> for Unreadable {
    fn from(_cause: serde_json::Error) -> Self {
        Self
    }
}

/// The request with its texts edited; `None` if none has changed.
pub fn edit_request(body: &Bytes, edit: &mut Edit<'_>) -> Result<Option<Bytes>, Unreadable> {
    let wire: RequestWire<'_> = serde_json::from_slice(body)?;
    let mut edits = Vec::new();
    for raw in [wire.messages, wire.tools, wire.input].into_iter().flatten() {
        let mut part: Value = serde_json::from_str(raw.get())?;
        if edit_value(&mut part, edit) {
            edits.push((place(raw, body), part.to_string()));
        }
    }
    Ok((!edits.is_empty()).then(|| splice(body, edits)))
}

/// The complete answer with its texts edited; `None` if none has changed.
pub fn edit_answer(body: &Bytes, edit: &mut Edit<'_>) -> Result<Option<Bytes>, Unreadable> {
    let mut answer: Value = serde_json::from_slice(body)?;
    let choices = answer.get_mut("choices").and_then(Value::as_array_mut);
    let mut changed = false;
    for message in choices.into_iter().flatten().filter_map(|choice| choice.get_mut("message")) {
        changed |= edit_value(message, edit);
    }
    Ok(changed.then(|| answer.to_string().into()))
}

fn edit_value(value: &mut Value, edit: &mut Edit<'_>) -> bool {
    match value {
        Value::String(text) => match edit(text) {
            Some(new) => {
                *text = new;
                true
            }
            None => false,
        },
        Value::Array(items) => {
            items.iter_mut().fold(false, |changed, item| edit_value(item, edit) | changed)
        }
        Value::Object(members) => {
            let texts = members.iter_mut().filter(|(name, _)| !UNCOUNTED.contains(&name.as_str()));
            texts.fold(false, |changed, (_, value)| edit_value(value, edit) | changed)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upper(text: &str) -> Option<String> {
        text.contains("bad").then(|| text.replace("bad", "BAD"))
    }

    #[test]
    fn only_what_a_model_reads_is_edited_and_the_rest_stays_as_it_was() {
        let body = Bytes::from_static(
            br#"{ "model":"bad", "messages":[{"role":"bad","content":"b\u0061d"},{"role":"user","content":[{"type":"text","text":"so bad"},{"type":"image_url","image_url":{"url":"bad"}}]}], "user": "bad" }"#,
        );
        assert_eq!(
            edit_request(&body, &mut upper).unwrap().unwrap(),
            r#"{ "model":"bad", "messages":[{"content":"BAD","role":"bad"},{"content":[{"text":"so BAD","type":"text"},{"image_url":{"url":"bad"},"type":"image_url"}],"role":"user"}], "user": "bad" }"#
        );
        assert_eq!(
            edit_request(&Bytes::from_static(b"{\"input\":\"fine\"}"), &mut upper),
            Ok(None)
        );
        let embeddings = Bytes::from_static(b"{\"input\":[\"bad\"]}");
        let edited = edit_request(&embeddings, &mut upper).unwrap();
        assert_eq!(edited.unwrap(), "{\"input\":[\"BAD\"]}");
    }

    #[test]
    fn what_cannot_be_read_is_not_left_as_it_is() {
        let deep = format!("{}\"bad\"{}", "[".repeat(200), "]".repeat(200));
        for content in [r#""bad \ud800""#, r#"["bad", 1e999]"#, &deep] {
            let message = format!(r#"{{"role":"user","content":{content}}}"#);
            let request = Bytes::from(format!(r#"{{"messages":[{message}]}}"#));
            assert_eq!(edit_request(&request, &mut upper), Err(Unreadable), "{content:.40}");
            let answer = Bytes::from(format!(r#"{{"choices":[{{"message":{message}}}]}}"#));
            assert_eq!(edit_answer(&answer, &mut upper), Err(Unreadable), "{content:.40}");
        }
    }

    #[test]
    fn answers_are_edited_in_their_messages() {
        let body = Bytes::from_static(
            br#"{"model":"bad","choices":[{"message":{"role":"assistant","content":"bad","tool_calls":[{"id":"bad","function":{"arguments":"{\"a\":\"bad\"}"}}]}}]}"#,
        );
        let edited = edit_answer(&body, &mut upper).unwrap().unwrap();
        let text = std::str::from_utf8(&edited).unwrap();
        assert_eq!((text.matches("BAD").count(), text.matches("bad").count()), (2, 2));
        assert_eq!(edit_answer(&Bytes::from_static(b"{\"data\":[]}"), &mut upper), Ok(None));
    }
}
