//! What a finished node puts into the state.

use serde_json::{Value, json};

use crate::event::StepError;
use crate::expr::Fields;
use crate::graph::{Kind, Node, Shape};
use crate::state::Active;

/// The fields that a node sets, in order, with their new or added values.
pub(crate) fn of(node: &Node, active: &Active, fields: &Fields) -> Vec<(String, Value)> {
    let mut updates: Vec<(String, Value)> =
        active.set.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    if !active.errors.is_empty() {
        let errors: Vec<Value> = active.errors.iter().map(|error| noted(node, error)).collect();
        updates.push(("errors".to_owned(), Value::Array(errors)));
    }
    if active.goto.is_some() {
        return updates;
    }
    let outputs = || active.outputs.iter().flatten().cloned();
    match &node.kind {
        Kind::Pass | Kind::End | Kind::Transform(_) => {}
        Kind::Llm(llm) => {
            let say = if active.errors.is_empty() { said } else { said_instead };
            if let Some(output) = outputs().next() {
                say(node, llm.history, &output, &mut updates);
            }
        }
        Kind::ToolCalls(_) => called(active, fields, &mut updates),
        Kind::Tool(tool) => match outputs().next() {
            Some(output) if node.output.is_none() => {
                let result = json!({"tool_name": tool.name, "success": true, "result": output});
                updates.push(("tool_results".to_owned(), json!([result])));
            }
            output => store(node, output.unwrap_or_default(), &mut updates),
        },
        Kind::Http(_) | Kind::Wait(_) | Kind::Delay(_) => {
            store(node, outputs().next().unwrap_or_default(), &mut updates);
        }
        Kind::Child(child) => {
            let value = match &child.shape {
                Shape::Once(_) | Shape::Repeat { .. } => outputs().next_back().unwrap_or_default(),
                Shape::Each { .. } => outputs().collect(),
                Shape::All(branches) => branches
                    .iter()
                    .map(|(label, _)| label.clone())
                    .zip(outputs())
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
            };
            store(node, value, &mut updates);
        }
    }
    updates
}

fn noted(node: &Node, error: &StepError) -> Value {
    json!({"node": node.id.as_ref(), "code": error.code, "message": error.message})
}

/// A value goes to the node's field; without one, a section's members go to theirs.
fn store(node: &Node, value: Value, updates: &mut Vec<(String, Value)>) {
    match (&node.output, value) {
        (Some(name), value) => updates.push((name.clone(), value)),
        (None, Value::Object(members)) if matches!(node.kind, Kind::Child(_)) => {
            let built_in =
                ["messages", "tool_results", "errors", "iteration_count", "current_step"];
            let own = members.into_iter().filter(|(name, _)| !built_in.contains(&name.as_str()));
            updates.extend(own);
        }
        _ => {}
    }
}

/// A model's answer: `{"message": …, "prompt": …, "value": …}`.
fn said(node: &Node, history: bool, output: &Value, updates: &mut Vec<(String, Value)>) {
    if history {
        let prompt = output.get("prompt").filter(|prompt| prompt.is_string());
        let asked = prompt.map(|prompt| json!({"role": "user", "content": prompt}));
        let answer = output.get("message").cloned();
        updates.push(("messages".to_owned(), asked.into_iter().chain(answer).collect()));
    }
    store(node, output.get("value").cloned().unwrap_or_default(), updates);
}

/// What stands for the answer of a model that failed.
fn said_instead(node: &Node, history: bool, value: &Value, updates: &mut Vec<(String, Value)>) {
    if history && value.is_string() {
        let message = json!({"role": "assistant", "content": value});
        updates.push(("messages".to_owned(), json!([message])));
    }
    store(node, value.clone(), updates);
}

/// The results of tool calls: for the conversation, and as a list.
fn called(active: &Active, fields: &Fields, updates: &mut Vec<(String, Value)>) {
    let calls = tool_calls(fields);
    let (mut messages, mut results) = (Vec::new(), Vec::new());
    for (call, output) in calls.iter().zip(active.outputs.iter().flatten()) {
        let error = output.get("error").filter(|_| output.get("success") == Some(&json!(false)));
        let result = output.get("result").cloned().unwrap_or_default();
        let shown = match error {
            Some(error) => format!("error: {}", text_of(error)),
            None => text_of(&result),
        };
        messages.push(json!({
            "role": "tool", "tool_call_id": call.id, "name": call.name, "content": shown,
        }));
        results.push(json!({
            "tool_name": call.name, "success": error.is_none(), "result": result,
            "error": error,
        }));
    }
    updates.push(("messages".to_owned(), Value::Array(messages)));
    updates.push(("tool_results".to_owned(), Value::Array(results)));
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A tool call that a model asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: Value,
}

/// The mark of a tool call in a text: `调用工具:name(arguments)`.
const MARK: &str = "调用工具:";

/// The tool calls of the last message.
pub(crate) fn tool_calls(fields: &Fields) -> Vec<Call> {
    let last = fields.get("messages").and_then(Value::as_array).and_then(|list| list.last());
    let Some(message) = last else { return Vec::new() };
    let listed = message.get("tool_calls").and_then(Value::as_array);
    if let Some(calls) = listed.filter(|calls| !calls.is_empty()) {
        return calls.iter().enumerate().map(|(at, call)| listed_call(at, call)).collect();
    }
    let text = message.get("content").and_then(Value::as_str).unwrap_or_default();
    let pieces = text.split(MARK).skip(1).enumerate();
    pieces.filter_map(|(at, piece)| written_call(at, piece)).collect()
}

fn listed_call(at: usize, call: &Value) -> Call {
    let function = call.get("function").unwrap_or(call);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let arguments = match function.get("arguments") {
        Some(Value::String(text)) => {
            serde_json::from_str(text).unwrap_or_else(|_no_json| json!({"input": text}))
        }
        other => other.cloned().unwrap_or_else(|| json!({})),
    };
    Call {
        id: text(call.get("id")).unwrap_or_else(|| format!("call_{at}")),
        name: text(function.get("name")).unwrap_or_default(),
        arguments,
    }
}

fn written_call(at: usize, piece: &str) -> Option<Call> {
    let (name, rest) = piece.split_once('(')?;
    let inner = rest.get(..rest.rfind(')')?)?.trim();
    let object = format!("{{{inner}}}");
    let arguments = [inner, &object]
        .iter()
        .find_map(|text| serde_json::from_str::<Value>(text).ok().filter(Value::is_object))
        .unwrap_or_else(|| json!({"input": inner}));
    Some(Call { id: format!("call_{at}"), name: name.trim().to_owned(), arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_calls_are_read_from_lists_and_from_texts() {
        let fields = |message: Value| match json!({"messages": [message]}) {
            Value::Object(fields) => fields,
            _ => panic!(),
        };
        let listed = tool_calls(&fields(json!({"tool_calls": [
            {"id": "a", "function": {"name": "calculator", "arguments": "{\"expression\": \"1\"}"}},
            {"name": "time", "arguments": {"zone": "UTC"}}]})));
        assert_eq!(listed[0].arguments, json!({"expression": "1"}));
        assert_eq!((listed[1].name.as_str(), listed[1].id.as_str()), ("time", "call_1"));
        let written = tool_calls(&fields(json!({"content":
            "先 调用工具:calculator(\"expression\": \"1+1\") 再 调用工具:time(now)"})));
        assert_eq!(written[0].arguments, json!({"expression": "1+1"}));
        assert_eq!(written[1].arguments, json!({"input": "now"}));
    }
}
