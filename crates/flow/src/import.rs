//! Flows of other systems, as definitions: what can be said here is taken over, the rest is named.

mod dify;
mod langgraph;

use serde::Serialize;
use serde_json::{Map, Value};

use kernel::yaml;

/// What came of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// What the text was: `dify` or `langgraph`.
    pub format: &'static str,
    /// The definition, as JSON, which is YAML too.
    pub definition: String,
    /// What was not taken over, or not as it was.
    pub notes: Vec<Note>,
}

/// Something that was not taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The node, or the part of the file.
    pub at: String,
    /// What of it, and what stands for it now.
    pub message: String,
}

/// The longest text that is read.
const LONGEST: usize = 4 * 1024 * 1024;
const MOST_NOTES: usize = 500;

/// Takes over a flow: Dify's DSL (workflow or chatflow), or the JSON of a LangGraph graph.
pub fn import(text: &str) -> Result<Imported, String> {
    if text.len() > LONGEST {
        return Err(format!("the text has more than {LONGEST} bytes"));
    }
    let read = yaml::read(text).map_err(|(error, line)| {
        let line = line.map(|line| format!(" (line {line})")).unwrap_or_default();
        format!("the text is neither YAML nor JSON{line}: {error}")
    })?;
    let value = read.to_json();
    if value.pointer("/workflow/graph/nodes").is_some() {
        return Ok(dify::import(&value));
    }
    let has = |name: &str| value.get(name).is_some_and(Value::is_array);
    if has("nodes") && has("edges") {
        return Ok(langgraph::import(&value));
    }
    Err("the text is neither Dify's DSL (workflow.graph) nor a LangGraph graph (nodes, edges)"
        .to_owned())
}

/// Notes, up to a number.
#[derive(Debug, Default)]
struct Notes(Vec<Note>);

impl Notes {
    fn add(&mut self, at: &str, message: impl Into<String>) {
        if self.0.len() < MOST_NOTES {
            self.0.push(Note { at: at.to_owned(), message: message.into() });
        }
    }
}

/// A name that fields and nodes may have.
fn plain(name: &str) -> String {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().map(|c| if fine(c) { c } else { '_' }).collect()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn part<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn finish(format: &'static str, definition: &Map<String, Value>, notes: Notes) -> Imported {
    let definition = serde_json::to_string_pretty(definition).unwrap_or_default();
    Imported { format, definition, notes: notes.0 }
}
