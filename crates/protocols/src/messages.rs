//! Messages as LangChain writes them, and as models do; and the fields that are shown.

use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// How a run goes about its flow is no part of what it works on.
const HIDDEN: [&str; 4] = ["current_step", "iteration_count", "max_iterations", "workflow_name"];
const MOST_MESSAGES: usize = 10_000;

/// An input as the engine takes it: its messages in the form of models.
pub(crate) fn taken(mut input: Map<String, Value>) -> Result<Map<String, Value>> {
    if let Some(messages) = input.get_mut("messages") {
        let list = match messages.take() {
            Value::Array(list) => list,
            one => vec![one],
        };
        if list.len() > MOST_MESSAGES {
            let why = format!("there are more than {MOST_MESSAGES}");
            return Err(Error::Invalid("messages", why));
        }
        *messages = Value::Array(list.into_iter().map(message_of).collect::<Result<_>>()?);
    }
    Ok(input)
}

/// A message as a text, as `[role, content]`, or as an object of either form.
fn message_of(value: Value) -> Result<Value> {
    let unknown = |what: &str| Error::Invalid("messages", format!("{what} is no message"));
    match value {
        Value::String(text) => Ok(json!({"role": "user", "content": text})),
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(role), content] => {
                let role = role_of(role).ok_or_else(|| unknown(role))?;
                Ok(json!({"role": role, "content": content}))
            }
            _ => Err(unknown("an array")),
        },
        Value::Object(message) => {
            let named = ["role", "type"].iter().find_map(|name| message.get(*name)?.as_str());
            let role = named.and_then(role_of);
            let role = role.ok_or_else(|| unknown(named.unwrap_or("an object without a role")))?;
            let mut taken = Map::new();
            taken.insert("role".to_owned(), json!(role));
            let content = message.get("content").cloned().unwrap_or_default();
            taken.insert("content".to_owned(), content);
            for name in ["name", "tool_call_id"] {
                if let Some(value) = message.get(name).filter(|value| value.is_string()) {
                    taken.insert(name.to_owned(), value.clone());
                }
            }
            let calls = message.get("tool_calls").and_then(Value::as_array);
            if let Some(calls) = calls.filter(|calls| !calls.is_empty()) {
                taken.insert("tool_calls".to_owned(), calls.iter().map(call_taken).collect());
            }
            Ok(Value::Object(taken))
        }
        _ => Err(unknown("a value")),
    }
}

fn role_of(name: &str) -> Option<&'static str> {
    match name {
        "user" | "human" | "HumanMessage" => Some("user"),
        "assistant" | "ai" | "AIMessage" | "AIMessageChunk" => Some("assistant"),
        "system" | "SystemMessage" | "developer" => Some("system"),
        "tool" | "ToolMessage" => Some("tool"),
        _ => None,
    }
}

/// `{name, args, id}` as `{id, type, function: {name, arguments}}`.
fn call_taken(call: &Value) -> Value {
    if call.get("function").is_some() {
        return call.clone();
    }
    let arguments = call.get("args").cloned().unwrap_or_else(|| json!({})).to_string();
    json!({"id": call.get("id"), "type": "function",
        "function": {"name": call.get("name"), "arguments": arguments}})
}

/// The fields as they are shown: messages in LangChain's form, and nothing about how the run goes.
pub(crate) fn shown(fields: &Map<String, Value>) -> Map<String, Value> {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    let kept = fields.iter().filter(|(name, value)| {
        let list = matches!(name.as_str(), "errors" | "tool_results");
        !(HIDDEN.contains(&name.as_str()) || list && empty(value))
    });
    kept.map(|(name, value)| match value.as_array() {
        Some(list) if name == "messages" => {
            let shown = list.iter().enumerate();
            (name.clone(), shown.map(|(at, one)| message_shown(one, &at.to_string())).collect())
        }
        _ => (name.clone(), value.clone()),
    })
    .collect()
}

/// A message in LangChain's form, with `role` beside it.
pub(crate) fn message_shown(message: &Value, id: &str) -> Value {
    let text = |name: &str| message.get(name).and_then(Value::as_str);
    let role = text("role").unwrap_or("user");
    let content = message.get("content").filter(|content| !content.is_null());
    let mut shown = json!({
        "type": match role { "assistant" => "ai", "user" => "human", other => other },
        "role": role,
        "id": id,
        "content": content.cloned().unwrap_or_else(|| json!("")),
        "additional_kwargs": {},
        "response_metadata": {},
    });
    let Some(members) = shown.as_object_mut() else { return shown };
    for name in ["name", "tool_call_id"] {
        if let Some(value) = text(name) {
            members.insert(name.to_owned(), json!(value));
        }
    }
    if role == "assistant" {
        let calls = message.get("tool_calls").and_then(Value::as_array);
        let calls = calls.map(Vec::as_slice).unwrap_or_default();
        members.insert("tool_calls".to_owned(), calls.iter().map(call_shown).collect());
    }
    shown
}

fn call_shown(call: &Value) -> Value {
    let function = call.get("function").unwrap_or(call);
    let arguments = match function.get("arguments") {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_else(|_text| json!({})),
        Some(other) => other.clone(),
        None => json!({}),
    };
    json!({"name": function.get("name"), "args": arguments, "id": call.get("id"), "type": "tool_call"})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(members) => members,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn messages_of_every_form_are_taken_and_shown_as_langchain_has_them() {
        let input = object(json!({"n": 1, "messages": [
            "hello",
            ["ai", "hi"],
            {"type": "human", "content": "x", "id": "1", "additional_kwargs": {}},
            {"type": "ai", "content": "", "tool_calls": [{"name": "f", "args": {"a": 1}, "id": "c"}]},
            {"role": "tool", "tool_call_id": "c", "content": "2", "name": "f"}]}));
        let taken = taken(input).unwrap();
        assert_eq!(
            taken["messages"],
            json!([
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": "hi"},
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": "", "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
                {"role": "tool", "tool_call_id": "c", "content": "2", "name": "f"}])
        );
        let shown = shown(&taken);
        let types: Vec<&Value> =
            shown["messages"].as_array().unwrap().iter().map(|one| &one["type"]).collect();
        assert_eq!(types, ["human", "ai", "human", "ai", "tool"]);
        let call = &shown["messages"][3]["tool_calls"][0];
        assert_eq!(*call, json!({"name": "f", "args": {"a": 1}, "id": "c", "type": "tool_call"}));
        for bad in [json!([1]), json!([{"content": "x"}]), json!([["who", "x"]]), json!([["a"]])] {
            assert!(super::taken(object(json!({"messages": bad}))).is_err());
        }
    }

    #[test]
    fn how_a_run_goes_is_not_shown() {
        let fields =
            object(json!({"workflow_name": "x", "current_step": "y", "iteration_count": 1,
            "max_iterations": 3, "errors": [], "tool_results": [], "messages": [], "mine": 1}));
        assert_eq!(shown(&fields), object(json!({"messages": [], "mine": 1})));
    }
}
