//! The parts of a definition around its nodes: text, variables, inheritance, state, limits.

use serde_json::{Value, json};

use super::{GraphLimits, LONGEST, Surroundings, seconds};
use crate::findings::{Findings, Place};
use crate::graph::{Field, Reducer};
use crate::reader::Reader;
use kernel::yaml::{self, Member, Node};

/// So many definitions may inherit from each other in a row.
const LONGEST_LINE: usize = 8;

/// Reads the text, puts in what it inherits, and fills in its variables.
pub(super) fn load(text: &str, around: &Surroundings, findings: &Findings) -> Option<Node> {
    let mut root = parse(text, &Place::root(), findings)?;
    for _ in 0..LONGEST_LINE {
        let Some(parent) = root.get("inherits_from").and_then(Node::as_text) else {
            return fill(root, &Place::root(), around, findings);
        };
        let place = Place::root().member("inherits_from", None);
        let (file, group) = parent.split_once('#').unwrap_or((&parent, ""));
        let Some(text) = around.files.get(file) else {
            let message = format!("there is no definition {file} to inherit from");
            findings.error("unknown_file", &place, message, "load it together with this one");
            return None;
        };
        let mut base = parse(text, &place, findings)?;
        if !group.is_empty() {
            base = base.get(group)?.clone();
        }
        root = without(root, "inherits_from").over(base);
    }
    let place = Place::root().member("inherits_from", None);
    let message = format!("more than {LONGEST_LINE} definitions inherit from each other");
    findings.error("inherits_too_deep", &place, message, "look for a circle");
    None
}

fn parse(text: &str, place: &Place, findings: &Findings) -> Option<Node> {
    if text.len() > LONGEST {
        let message = format!("the text has {} bytes, {LONGEST} are allowed", text.len());
        findings.error("too_large", place, message, "split it");
        return None;
    }
    match yaml::read(text) {
        Ok(root @ Node::Section(_)) => Some(root),
        Ok(other) => {
            let message = format!("a definition is a section, and this is {}", other.kind());
            findings.error("not_a_definition", place, message, "begin with `name: …`");
            None
        }
        Err((message, line)) => {
            let place = Place { line, ..place.clone() };
            findings.error("not_yaml", &place, message, "correct the YAML");
            None
        }
    }
}

fn without(node: Node, name: &str) -> Node {
    match node {
        Node::Section(members) => {
            Node::Section(members.into_iter().filter(|member| member.name != name).collect())
        }
        other => other,
    }
}

/// `${NAME}` and `${NAME:default}` in texts.
fn fill(node: Node, place: &Place, around: &Surroundings, findings: &Findings) -> Option<Node> {
    Some(match node {
        Node::Leaf(Value::String(text)) if text.contains("${") => {
            Node::Leaf(Value::String(filled(&text, place, around, findings)))
        }
        Node::Leaf(value) => Node::Leaf(value),
        Node::List(items) => Node::List(
            items
                .into_iter()
                .enumerate()
                .map(|(at, item)| fill(item, &place.item(at), around, findings))
                .collect::<Option<_>>()?,
        ),
        Node::Section(members) => Node::Section(
            members
                .into_iter()
                .map(|member| {
                    let place = place.member(&member.name, Some(member.line));
                    Some(Member { value: fill(member.value, &place, around, findings)?, ..member })
                })
                .collect::<Option<_>>()?,
        ),
    })
}

fn filled(text: &str, place: &Place, around: &Surroundings, findings: &Findings) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        done.push_str(before);
        let Some((inner, behind)) = after.split_once('}') else {
            done.push_str("${");
            rest = after;
            continue;
        };
        let (name, fallback) = match inner.split_once(':') {
            Some((name, fallback)) => (name, Some(fallback)),
            None => (inner, None),
        };
        if let Some(value) = around.variables.get(name).map(String::as_str).or(fallback) {
            done.push_str(value);
        } else {
            let message = format!("the variable {name} is not set");
            let remedy = "set it, or write ${NAME:default}";
            findings.error("unset_variable", place, message, remedy);
        }
        rest = behind;
    }
    done.push_str(rest);
    done
}

/// The self-contained text: JSON, which is YAML, with its keys in their order.
pub(super) fn canonical(node: &Node) -> String {
    let mut text = String::new();
    write(node, &mut text);
    text
}

fn write(node: &Node, text: &mut String) {
    match node {
        Node::Leaf(value) => text.push_str(&value.to_string()),
        Node::List(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        Node::Section(members) => {
            text.push('{');
            for (at, member) in members.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                text.push_str(&json!(member.name).to_string());
                text.push(':');
                write(&member.value, text);
            }
            text.push('}');
        }
    }
}

/// The nodes with their places: a section by name, or a list whose items have an `id`.
pub(super) fn nodes<'a>(reader: &Reader<'a>) -> Option<Vec<(String, &'a Node, Place)>> {
    let place = reader.at("nodes");
    match reader.node("nodes") {
        None => {
            reader.missing("nodes", "add the section nodes");
            None
        }
        Some(Node::Section(members)) => {
            let named = |member: &'a Member| {
                let place = place.member(&member.name, Some(member.line));
                (member.name.clone(), &member.value, place)
            };
            Some(members.iter().map(named).collect())
        }
        Some(Node::List(items)) => {
            let mut all = Vec::with_capacity(items.len());
            for (at, item) in items.iter().enumerate() {
                let id = item.get("id").or_else(|| item.get("name")).and_then(Node::as_text);
                if id.is_none() {
                    let message = "a node without an id".to_owned();
                    let remedy = "give it an id";
                    reader.findings().error("missing_key", &place.item(at), message, remedy);
                }
                all.push((id?, item, place.item(at)));
            }
            Some(all)
        }
        Some(other) => reader.wrong("nodes", other, "a section or a list"),
    }
}

pub(super) fn limits(reader: &Reader<'_>) -> GraphLimits {
    let mut limits = GraphLimits::default();
    if let Some(own) = reader.section("limits") {
        limits.steps = own.count("steps", 1, 1_000_000);
        limits.timeout = own.number("timeout_seconds", 0.001, 1e8).map(seconds);
        limits.budget = own.text("budget").and_then(|text| match text.parse() {
            Ok(amount) => Some(amount),
            Err(_cause) => own.wrong("budget", &Node::Leaf(json!(text)), "an amount such as 1.5"),
        });
        own.finish();
    }
    if let Some(additional) = reader.section("additional_config") {
        let steps = additional.count("recursion_limit", 1, 1_000_000);
        let timeout = additional.number("timeout", 0.001, 1e8).map(seconds);
        limits.steps = limits.steps.or(steps);
        limits.timeout = limits.timeout.or(timeout);
        additional.node("max_iterations");
        additional.take_all();
    }
    limits
}

/// The most iterations, where v1 definitions say it.
pub(super) fn iterations(reader: &Reader<'_>) -> Option<u64> {
    let additional = reader.node("additional_config").and_then(|node| node.get("max_iterations"));
    let given = additional.or_else(|| reader.node("max_iterations"))?;
    match given {
        Node::Leaf(value) => value.as_u64(),
        _ => None,
    }
}

/// Top-level keys that are kept and mean nothing to a run.
pub(super) fn outer(reader: &Reader<'_>) {
    reader.without_effect(&["checkpointer"], "every finished step is kept durably");
    reader.without_effect(&["validation_rules"], "use a schema on the nodes that take input");
    for name in ["metadata", "ui", "tags", "author", "additional_config", "max_iterations"] {
        reader.node(name);
    }
}

pub(super) fn has_reducer(member: &Member) -> bool {
    member.value.get("reducer").is_some()
}

pub(super) fn has_default(member: &Member) -> bool {
    member.value.get("default").is_some()
}

/// A field: `name: type`, or a section with `type`, `default` and `reducer`.
pub(super) fn field(member: &Member, place: &Place, findings: &Findings) -> Field {
    let name = member.name.clone();
    if !is_field_name(&name) {
        let message = format!("{name:?} is no name for a field");
        let remedy = "use letters, digits and _, not starting with a digit";
        findings.error("bad_field_name", place, message, remedy);
    }
    if let Some(type_name) = member.value.as_text() {
        return Field { name, initial: initial(&type_name), reducer: Reducer::Replace };
    }
    let reader = Reader::new(&member.value, place.clone(), findings);
    let type_name = reader.text("type").unwrap_or_else(|| "any".to_owned());
    let initial = reader.node("default").map_or_else(|| initial(&type_name), Node::to_json);
    let reducer = match reader.text("reducer").as_deref() {
        None | Some("replace") => Reducer::Replace,
        Some("extend" | "append" | "operator.add") if !is_number(&type_name) => Reducer::Append,
        Some("add" | "sum" | "operator.add") => Reducer::Add,
        Some("merge" | "update" | "operator.or_") => Reducer::Merge,
        Some(other) => {
            findings.bad_value(
                &place.member("reducer", None),
                other.to_owned(),
                "there is no such reducer".to_owned(),
                "use replace, extend, add or merge",
            );
            Reducer::Replace
        }
    };
    reader.text("description");
    reader.finish();
    Field { name, initial, reducer }
}

/// A name that expressions and templates can say.
pub(super) fn is_field_name(name: &str) -> bool {
    let mut letters = name.chars();
    let first = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && name.len() <= 64 && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_number(type_name: &str) -> bool {
    matches!(type_name.to_lowercase().as_str(), "int" | "integer" | "float" | "number")
}

fn initial(type_name: &str) -> Value {
    let lower = type_name.to_lowercase();
    match lower.split(['[', '<']).next().unwrap_or_default() {
        "list" | "array" | "sequence" => json!([]),
        "dict" | "map" | "object" | "mapping" => json!({}),
        "str" | "string" | "text" => json!(""),
        "int" | "integer" | "float" | "number" => json!(0),
        "bool" | "boolean" => json!(false),
        _ => Value::Null,
    }
}
