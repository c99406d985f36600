//! The JSON of a LangGraph graph (`graph.get_graph().to_json()`). It has nodes and edges and none of the
//! code in them: what they do is guessed from their names where that is usual.

use serde_json::{Map, Value, json};

use super::{Imported, Notes, finish, list, text};

const MODEL: &str = "default";

/// What a node is taken for.
fn node_of(name: &str, class: &str, id: &str, notes: &mut Notes) -> Value {
    let lower = name.to_lowercase();
    if class == "ToolNode" || matches!(lower.as_str(), "tools" | "tool" | "action") {
        notes.add(
            id,
            "taken for the node that calls the model's tools: its tools must be configured here",
        );
        return json!({"type": "tool_calls"});
    }
    let talks =
        ["agent", "model", "llm", "chat", "assistant"].iter().any(|word| lower.contains(word));
    if talks || class.starts_with("Chat") {
        notes.add(
            id,
            format!(
                "taken for a call of a model, {MODEL:?}: name the model, its prompt and its tools"
            ),
        );
        return json!({"type": "llm", "config": {"model": MODEL}});
    }
    notes.add(id, "its code is not in the file: it does nothing here until you say what");
    json!({"type": "pass", "description": name})
}

pub(super) fn import(value: &Value) -> Imported {
    let mut notes = Notes::default();
    let mut nodes = Map::new();
    for node in list(value, "nodes") {
        let id = match node.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(other) => other.to_string(),
            None => continue,
        };
        if matches!(id.as_str(), "__start__" | "__end__") {
            continue;
        }
        let data = node.get("data").cloned().unwrap_or_default();
        let class = list(&data, "id").last().and_then(Value::as_str).unwrap_or_default();
        let name = data.get("name").and_then(Value::as_str).unwrap_or(&id).to_owned();
        let mut made = node_of(&name, class, &id, &mut notes);
        let metadata = node.get("metadata");
        let pause =
            metadata.and_then(|metadata| metadata.get("__interrupt")).and_then(Value::as_str);
        if let Some(members) = made.as_object_mut() {
            for when in ["before", "after"].iter().filter(|when| pause == Some(**when)) {
                members.insert(format!("pause_{when}"), json!(true));
            }
        }
        nodes.insert(id, made);
    }
    let edges = list(value, "edges").iter().map(|edge| edge_of(edge, &nodes, &mut notes)).collect();
    let mut definition = Map::new();
    definition.insert("name".to_owned(), json!("imported"));
    definition.insert("description".to_owned(), json!("Imported from a LangGraph graph."));
    definition.insert("nodes".to_owned(), Value::Object(nodes));
    definition.insert("edges".to_owned(), edges);
    finish("langgraph", &definition, notes)
}

fn edge_of(edge: &Value, nodes: &Map<String, Value>, notes: &mut Notes) -> Value {
    let end = |name: &str| match edge.get(name) {
        Some(Value::String(id)) => id.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let (from, to) = (end("source"), end("target"));
    if edge.get("conditional") != Some(&json!(true)) || from == "__start__" {
        return json!({"from": from, "to": to});
    }
    let calls = |id: &str| nodes.get(id).is_some_and(|node| text(node, "type") == "tool_calls");
    let condition = if calls(&to) {
        "has_tool_calls".to_owned()
    } else if nodes.keys().any(|id| calls(id)) && to == "__end__" {
        "no_tool_calls".to_owned()
    } else {
        let label = Some(text(edge, "data")).filter(|label| !label.is_empty()).unwrap_or(&to);
        let at = format!("{from} -> {to}");
        notes.add(
            &at,
            format!("its condition is code: it is taken when the field `next` is {label:?}"),
        );
        format!("state.get('next') == {}", json!(label).to_string().replace('"', "'"))
    };
    json!({"from": from, "to": to, "type": "conditional", "condition": condition})
}
