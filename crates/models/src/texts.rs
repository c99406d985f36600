//! The texts in requests and answers: to be read, and changed where they must be.

use std::fmt;

use bytes::Bytes;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

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

/// What holds texts that cannot be read: half a character, a number beyond all range, a hundred levels
/// and more, or two members of one name. Others may be able to, or read the other member.
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
        let Unambiguous(mut part) = serde_json::from_str(raw.get())?;
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

/// A value in which no object has two members of one name.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnambiguousVisitor).map(Self)
    }
}

struct UnambiguousVisitor;

impl<'de> Visitor<'de> for UnambiguousVisitor {
    type Value = Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("JSON without two members of one name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Unambiguous(value))) = members.next_entry()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("two members have one name"));
            }
        }
        Ok(Value::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Unambiguous(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
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
    fn of_two_members_with_one_name_none_is_overlooked() {
        for content in [
            r#""bad","content":"fine""#,
            r#"[{"type":"text","text":"bad","t\u0065xt":"fine"}]"#,
            r#"[{"type":"text","text":"fine"}],"x":{"y":[{"z":"bad","z":1}]}"#,
        ] {
            let body = format!(r#"{{"messages":[{{"role":"user","content":{content}}}]}}"#);
            assert_eq!(edit_request(&body.into(), &mut upper), Err(Unreadable), "{content}");
        }
        let plain =
            r#"{"messages":[{"a":null,"b":true,"c":-1,"d":1,"e":1.5,"f":[{"a":"x"},{"a":"y"}]}]}"#;
        assert_eq!(edit_request(&plain.into(), &mut upper), Ok(None));
        let kept = plain.replace("\"x\"", "\"BAD\"");
        let edited = edit_request(&plain.replace('x', "bad").into(), &mut upper);
        assert_eq!(edited, Ok(Some(kept.into())));
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
