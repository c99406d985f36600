//! From a text to a [`Program`]: read, checked as a whole, every mistake reported at once.

mod edges;
mod kinds;
mod python;
mod settings;
mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::findings::{Finding, Findings, Place};
use crate::graph::{Field, Graph, Limits, Program, Reducer, To};
use crate::reader::Reader;
use crate::template::{Data, Templates};
use kernel::yaml::{Member, Node};

/// The longest text of a definition, in bytes.
pub(crate) const LONGEST: usize = 256 * 1024;
const LONGEST_NAME: usize = 200;
const MOST_NODES: usize = 1000;
const MOST_EDGES: usize = 5000;
const MOST_FLOWS: usize = 100;

/// What a definition may refer to.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Values of `${NAME}` in the text. Never the environment: definitions come from callers.
    pub variables: BTreeMap<String, String>,
    /// Texts that `inherits_from` may name.
    pub files: BTreeMap<String, String>,
    /// The names of the tools there are.
    pub tools: BTreeSet<String>,
    /// The names of the models there are; `None` when they are not known yet.
    pub models: Option<BTreeSet<String>>,
}

/// A compiled definition, or why it is none.
#[derive(Debug)]
pub struct Compiled {
    /// Present if no finding is an error.
    pub program: Option<Program>,
    /// The self-contained text whose hash is the program's id.
    pub text: String,
    /// Everything that was found, the worst first.
    pub findings: Vec<Finding>,
}

/// Compiles a definition, YAML or JSON. Never fails: what is wrong is in the findings.
pub fn compile(text: &str, surroundings: &Surroundings) -> Compiled {
    let findings = Findings::default();
    let root = settings::load(text, surroundings, &findings);
    let canonical = root.as_ref().map(settings::canonical).unwrap_or_default();
    let program = root.and_then(|root| {
        let mut compiler = Compiler {
            findings: &findings,
            surroundings,
            templates: Templates::new(),
            flows: Vec::new(),
        };
        compiler.program(&root, &canonical)
    });
    let program = program.filter(|_| !findings.has_errors());
    Compiled { program, text: canonical, findings: findings.into_sorted() }
}

pub(crate) struct Compiler<'a> {
    pub(crate) findings: &'a Findings,
    pub(crate) surroundings: &'a Surroundings,
    pub(crate) templates: Templates,
    /// The flows below the main one, by their position in [`Program::graphs`] minus one.
    flows: Vec<String>,
}

/// The nodes of the graph at hand, by name.
pub(crate) struct Names<'a> {
    ids: Vec<&'a str>,
}

impl Names<'_> {
    fn index(&self, id: &str) -> Option<usize> {
        self.ids.iter().position(|known| *known == id)
    }

    /// Where a name leads: a node, or one of the words for the end.
    pub(crate) fn target(&self, name: &str) -> Option<To> {
        self.index(name)
            .map(To::Node)
            .or_else(|| matches!(name, "__end__" | "END" | "end").then_some(To::End))
    }

    fn is_start(&self, name: &str) -> bool {
        self.index(name).is_none() && matches!(name, "__start__" | "START" | "start")
    }

    fn nearest(&self, name: &str) -> String {
        let close = self.ids.iter().min_by_key(|id| distance(id, name));
        match close {
            Some(id) if distance(id, name) <= 3 => format!("did you mean {id}?"),
            _ => "add the node, or name one of those there are".to_owned(),
        }
    }
}

/// How many letters differ, roughly: enough to guess a misspelt name.
fn distance(one: &str, two: &str) -> usize {
    let common = one.chars().zip(two.chars()).filter(|(a, b)| a == b).count();
    one.chars().count().max(two.chars().count()) - common
}

impl<'a> Compiler<'a> {
    fn program(&mut self, root: &'a Node, canonical: &str) -> Option<Program> {
        let reader = Reader::new(root, Place::root(), self.findings);
        let name = reader.text("name").filter(|name| !name.trim().is_empty());
        if name.is_none() {
            reader.missing("name", "give the flow a name");
        }
        if name.as_ref().is_some_and(|name| name.chars().count() > LONGEST_NAME) {
            let message = format!("the name has more than {LONGEST_NAME} characters");
            self.findings.error("too_large", &reader.at("name"), message, "shorten it");
        }
        let description = reader.text("description").unwrap_or_default();
        if description.is_empty() {
            let place = reader.at("description");
            let message = "there is no description".to_owned();
            self.findings.info("no_description", &place, message, "say what the flow is for");
        }
        let version = reader.text("version").unwrap_or_else(|| "1.0".to_owned());
        let limits = settings::limits(&reader);
        let flows: &[Member] = reader.node("flows").map(Node::members).unwrap_or_default();
        self.flows = flows.iter().map(|flow| flow.name.clone()).collect();
        if flows.len() > MOST_FLOWS {
            let place = reader.at("flows");
            let message = format!("there are {} flows, {MOST_FLOWS} are allowed", flows.len());
            self.findings.error("too_many_flows", &place, message, "split the definition");
            return None;
        }
        let name = name.unwrap_or_default();
        let mut graphs = vec![self.graph(&reader, &name)?];
        for flow in flows {
            let place = Place::root().member("flows", None).member(&flow.name, Some(flow.line));
            let reader = Reader::new(&flow.value, place, self.findings);
            reader.text("description");
            graphs.push(self.graph(&reader, &flow.name)?);
            reader.finish();
        }
        if let (Some(most), Some(main)) = (settings::iterations(&reader), graphs.first_mut()) {
            let known = main.fields.iter_mut().filter(|field| field.name == "max_iterations");
            known.for_each(|field| field.initial = json!(most));
        }
        settings::outer(&reader);
        reader.finish();
        // A flow that is not there stands for the first: only whole definitions can be judged.
        if !self.findings.has_errors() {
            shape::check_nesting(&graphs, self.findings);
        }
        let id = blake3::hash(canonical.as_bytes()).to_hex();
        Some(Program {
            id: id.as_str().into(),
            name: name.into(),
            description,
            version,
            graphs,
            templates: std::mem::replace(&mut self.templates, Templates::new()),
            limits,
        })
    }

    fn graph(&mut self, reader: &Reader<'a>, name: &str) -> Option<Graph> {
        let nodes = settings::nodes(reader)?;
        if nodes.is_empty() {
            let place = reader.place().member("nodes", None);
            let message = "there are no nodes".to_owned();
            self.findings.error("no_nodes", &place, message, "add at least one node");
            return None;
        }
        if nodes.len() > MOST_NODES {
            let place = reader.at("nodes");
            let message = format!("there are {} nodes, {MOST_NODES} are allowed", nodes.len());
            self.findings.error("too_many_nodes", &place, message, "split it into flows");
            return None;
        }
        let names = Names { ids: nodes.iter().map(|(id, _, _)| id.as_str()).collect() };
        for (at, (id, _, place)) in nodes.iter().enumerate() {
            if names.index(id) != Some(at) {
                let message = format!("the node {id} is defined twice");
                self.findings.error("duplicate_node", place, message, "rename one of them");
            }
            if id.is_empty() || id.len() > 64 || id.contains(['/', '[', ']']) {
                let message = format!("{id:?} is no name for a node");
                let remedy = "use 1 to 64 characters without / and brackets";
                self.findings.error("bad_node_name", place, message, remedy);
            }
        }
        let mut compiled = Vec::with_capacity(nodes.len());
        for (id, node, place) in &nodes {
            compiled.push(self.node(&names, id, Reader::new(node, place.clone(), self.findings)));
        }
        let fields = self.fields(reader);
        let entry = edges::connect(self, reader, &names, &mut compiled);
        self.pauses(reader, &names, &mut compiled);
        let output = self.data(reader, "output");
        let graph = Graph { name: name.into(), fields, nodes: compiled, entry, output };
        shape::check(&graph, reader.place(), self.findings);
        Some(graph)
    }

    /// `interrupt_before` and `interrupt_after`: nodes around which the run waits for a person.
    fn pauses(&self, reader: &Reader<'_>, names: &Names<'_>, nodes: &mut [crate::graph::Node]) {
        for key in ["interrupt_before", "interrupt_after"] {
            for name in reader.texts(key).unwrap_or_default() {
                let Some(node) = names.index(&name).and_then(|at| nodes.get_mut(at)) else {
                    self.unknown_node(names, &name, &reader.at(key));
                    continue;
                };
                if key == "interrupt_before" {
                    node.pause_before = true;
                } else {
                    node.pause_after = true;
                }
            }
        }
    }

    /// The target of this name; a name that leads nowhere is reported.
    pub(crate) fn target(&self, names: &Names<'_>, name: &str, place: &Place) -> To {
        names.target(name).unwrap_or_else(|| {
            self.unknown_node(names, name, place);
            To::End
        })
    }

    pub(crate) fn unknown_node(&self, names: &Names<'_>, name: &str, place: &Place) {
        let message = format!("there is no node {name}");
        self.findings.error("unknown_node", place, message, &names.nearest(name));
    }

    /// The flow of this name, as a position among the graphs.
    pub(crate) fn flow(&self, name: &str, place: &Place) -> usize {
        let found = self.flows.iter().position(|flow| flow == name);
        if found.is_none() {
            let message = format!("there is no flow {name}");
            let remedy = "define it under flows";
            self.findings.error("unknown_flow", place, message, remedy);
        }
        found.map_or(0, |at| at + 1)
    }

    /// A setting that may be a template or an expression.
    pub(crate) fn data(&mut self, reader: &Reader<'_>, name: &str) -> Option<Data> {
        let node = reader.node(name)?;
        self.data_of(node, &reader.at(name))
    }

    pub(crate) fn data_of(&mut self, node: &Node, place: &Place) -> Option<Data> {
        match self.templates.data(node) {
            Ok(data) => Some(data),
            Err(error) => {
                self.findings.bad_value(
                    place,
                    node.shown(),
                    format!("it does not compile: {error}"),
                    "correct the expression (after =) or the template (in {{ }})",
                );
                None
            }
        }
    }

    fn fields(&self, reader: &Reader<'_>) -> Vec<Field> {
        let mut fields = built_in();
        let Some((key, node)) = reader.either(&["state_schema", "state"]) else { return fields };
        let place = reader.at(key);
        let inner = node.get("fields").filter(|fields| matches!(fields, Node::Section(_)));
        for member in inner.unwrap_or(node).members() {
            if inner.is_none() && matches!(member.name.as_str(), "name" | "fields") {
                continue;
            }
            let place = place.member(&member.name, Some(member.line));
            let field = settings::field(member, &place, self.findings);
            match fields.iter_mut().find(|known| known.name == field.name) {
                // The built-in fields keep their way of joining unless another is given.
                Some(known) => {
                    if settings::has_reducer(member) && known.reducer != field.reducer {
                        let message = format!("{} is a built-in field", field.name);
                        let remedy = "its reducer cannot be changed; use another name";
                        self.findings.warning("built_in_field", &place, message, remedy);
                    }
                    if settings::has_default(member) {
                        known.initial = field.initial;
                    }
                }
                None => fields.push(field),
            }
        }
        fields
    }
}

/// The fields that every state has.
fn built_in() -> Vec<Field> {
    let field =
        |name: &str, initial: Value, reducer| Field { name: name.to_owned(), initial, reducer };
    vec![
        field("messages", json!([]), Reducer::Append),
        field("tool_results", json!([]), Reducer::Append),
        field("errors", json!([]), Reducer::Append),
        field("current_step", json!(""), Reducer::Replace),
        field("iteration_count", json!(0), Reducer::Replace),
        field("max_iterations", json!(10), Reducer::Replace),
    ]
}

/// Seconds, of a whole or broken number.
pub(crate) fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or_default()
}

pub(crate) const MOST_EDGES_ALLOWED: usize = MOST_EDGES;

pub(crate) type GraphLimits = Limits;
