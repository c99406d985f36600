//! The compiled form of a definition: graphs of nodes that name each other by number.

use std::sync::Arc;
use std::time::Duration;

use kernel::Amount;
use serde_json::{Map, Value, json};

use crate::check::{Check, RouteCheck};
use crate::expr::Expr;
use crate::template::{Data, Templates};

/// A definition that is ready to run. Immutable, and named by its content.
#[derive(Debug)]
pub struct Program {
    pub(crate) id: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) description: String,
    pub(crate) version: String,
    /// The first is the flow itself; the others are the ones it uses.
    pub(crate) graphs: Vec<Graph>,
    pub(crate) templates: Templates,
    pub(crate) limits: Limits,
}

/// What a definition grants itself; the engine's own limits apply as well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) steps: Option<u64>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) budget: Option<Amount>,
}

#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) name: Arc<str>,
    pub(crate) fields: Vec<Field>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) entry: usize,
    /// What the graph gives; all its fields when absent.
    pub(crate) output: Option<Data>,
}

/// A field of a graph's state.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) initial: Value,
    pub(crate) reducer: Reducer,
}

/// How an update meets the value that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reducer {
    Replace,
    Append,
    Merge,
    Add,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: Arc<str>,
    /// The type as written.
    pub(crate) type_name: String,
    pub(crate) description: String,
    pub(crate) kind: Kind,
    pub(crate) ways: Vec<Way>,
    /// Only the first way that is open is taken; otherwise all of them are.
    pub(crate) first_only: bool,
    /// The field its output goes to.
    pub(crate) output: Option<String>,
    pub(crate) retry: Retry,
    pub(crate) timeout: Duration,
    pub(crate) on_error: OnError,
    pub(crate) pause_before: bool,
    pub(crate) pause_after: bool,
}

/// Where a way leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Node(usize),
    End,
}

/// A way out of a node.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) test: Test,
    pub(crate) to: To,
    /// What a drawing writes on it.
    pub(crate) label: Option<String>,
}

/// When a way is open.
#[derive(Debug)]
pub(crate) enum Test {
    Always,
    Check(Check),
    Route(Arc<RouteCheck>, String),
    Expr(Expr),
    FieldIs(String, Value),
    /// No other way is.
    Otherwise,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Pass,
    End,
    Transform(Vec<(String, Data)>),
    Llm(Box<Llm>),
    Tool(Box<Tool>),
    /// The tool calls of the last message.
    ToolCalls(ToolCalls),
    Http(Box<Http>),
    Wait(Box<Wait>),
    Delay(Data),
    Child(Box<Child>),
}

#[derive(Debug)]
pub(crate) struct Llm {
    pub(crate) model: Data,
    pub(crate) system: Option<Data>,
    pub(crate) prompt: Option<Data>,
    /// The conversation so far goes along, and the answer is added to it.
    pub(crate) history: bool,
    /// The most estimated tokens of conversation that go along.
    pub(crate) window: Option<u64>,
    pub(crate) tools: Vec<String>,
    pub(crate) json: bool,
    /// Passed on as they are: `temperature`, `max_tokens`, …
    pub(crate) parameters: Vec<(&'static str, Value)>,
}

#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) arguments: Data,
}

#[derive(Debug)]
pub(crate) struct ToolCalls {
    pub(crate) parallel: usize,
    pub(crate) continue_on_error: bool,
}

#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) method: String,
    pub(crate) url: Data,
    pub(crate) headers: Vec<(String, Data)>,
    pub(crate) body: Option<Data>,
    /// An answer that is no success is an error.
    pub(crate) fail_on_status: bool,
}

#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) message: Data,
    pub(crate) schema: Option<Value>,
    pub(crate) expires: Option<Duration>,
    pub(crate) on_expiry: OnError,
}

/// A node that runs other graphs.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) shape: Shape,
    /// So many at a time.
    pub(crate) parallel: usize,
}

#[derive(Debug)]
pub(crate) enum Shape {
    Once(Body),
    Each { items: Data, body: Body },
    All(Vec<(String, Body)>),
    Repeat { body: Body, until: Option<Data>, most: u64 },
}

#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) graph: usize,
    /// The fields it starts with; all fields of the one that calls when absent.
    pub(crate) input: Option<Data>,
}

/// How often a failed effect is tried, and when.
#[derive(Debug)]
pub(crate) struct Retry {
    pub(crate) attempts: u32,
    pub(crate) delay: Duration,
    pub(crate) factor: f64,
    pub(crate) longest: Duration,
    /// Retried only if this holds for the error.
    pub(crate) only_if: Option<Expr>,
}

/// What becomes of a failure.
#[derive(Debug)]
pub(crate) enum OnError {
    Fail,
    /// This is the output instead.
    Value(Value),
    /// The run goes on there.
    Goto(To),
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 1,
            delay: Duration::from_millis(500),
            factor: 2.0,
            longest: Duration::from_mins(1),
            only_if: None,
        }
    }
}

impl Retry {
    /// How long to wait after this attempt; `spread` (0 to 1) keeps retries apart.
    pub(crate) fn pause(&self, attempt: u32, spread: f64) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let longest = self.longest.as_secs_f64();
        let seconds = (self.delay.as_secs_f64() * self.factor.powi(exponent)).min(longest);
        Duration::from_secs_f64((seconds * (0.75 + spread / 4.0)).clamp(0.0, longest))
    }
}

impl Graph {
    pub(crate) fn index(&self, id: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.id.as_ref() == id)
    }
}

impl Program {
    /// The hash of its text: what runs of it name.
    pub const fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Its name.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it is for.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Its version, as its author writes it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A JSON schema of what a run may be given: the fields it declares, by the kind of their first
    /// value. Others may be given too.
    pub fn input_schema(&self) -> Value {
        let Some(graph) = self.graphs.first() else { return json!({"type": "object"}) };
        let declared = graph.fields.iter().filter(|field| !BUILT_IN.contains(&field.name.as_str()));
        let mut properties: Map<String, Value> =
            declared.map(|field| (field.name.clone(), kind_of(&field.initial))).collect();
        let talks = |node: &Node| matches!(&node.kind, Kind::Llm(llm) if llm.history);
        if graph.nodes.iter().any(talks) {
            let message = json!({"type": "object", "properties": {
                "role": {"type": "string"}, "content": {"type": "string"}}});
            properties.insert("messages".to_owned(), json!({"type": "array", "items": message}));
        }
        json!({"type": "object", "properties": properties})
    }

    /// What a run begins with that goes on where another has ended: its fields, and the input put
    /// to them as an update of a node would be.
    pub fn continued(
        &self,
        mut fields: Map<String, Value>,
        input: Map<String, Value>,
    ) -> Map<String, Value> {
        let Some(graph) = self.graphs.first() else { return input };
        fields.retain(|name, _| name == "messages" || !BUILT_IN.contains(&name.as_str()));
        for (name, value) in input {
            if fields.contains_key(&name) {
                crate::state::reduce(graph, &mut fields, name, value);
            } else {
                fields.insert(name, value);
            }
        }
        fields
    }
}

/// Fields that every run has.
const BUILT_IN: [&str; 7] = [
    "messages",
    "tool_results",
    "errors",
    "current_step",
    "iteration_count",
    "max_iterations",
    "workflow_name",
];

fn kind_of(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(_) => json!({"type": "number"}),
        Value::String(_) => json!({"type": "string"}),
        Value::Array(_) => json!({"type": "array"}),
        Value::Object(_) => json!({"type": "object"}),
    }
}
