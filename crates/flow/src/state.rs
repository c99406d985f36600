//! The state of a run: what its events add up to.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{Amount, Timestamp};
use serde_json::{Value, json};

use crate::event::{Event, Status, StepError, StepKind, Then};
use crate::expr::Fields;
use crate::graph::{Body, Child, Graph, Kind, Node, Program, Reducer, Shape, To};

/// The frame of the flow itself.
pub(crate) const ROOT: u32 = 0;

/// The state of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) status: Status,
    pub(crate) input: Fields,
    pub(crate) frames: BTreeMap<u32, Frame>,
    pub(crate) steps: BTreeMap<u64, Step>,
    pub(crate) next_step: u64,
    pub(crate) next_frame: u32,
    /// Steps and passed nodes so far.
    pub(crate) counted: u64,
    pub(crate) deadline: Option<Timestamp>,
    /// How the run will end, once what is under way has been cut off.
    pub(crate) stopping: Option<(Status, StepError)>,
    pub(crate) error: Option<StepError>,
    pub(crate) output: Value,
    /// What its calls have cost.
    pub(crate) spent: Amount,
}

/// One flow at work: the run's own, or one that is a step of another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) graph: usize,
    pub(crate) parent: Option<u64>,
    pub(crate) fields: Fields,
    /// How often each node has begun.
    pub(crate) visits: Vec<u32>,
    /// The nodes at work.
    pub(crate) active: Vec<Active>,
    /// The flow is at its end and waits to be closed.
    pub(crate) ended: bool,
}

/// A node at work.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own about one node")]
pub(crate) struct Active {
    pub(crate) node: usize,
    pub(crate) begun: bool,
    /// How many things it works on.
    pub(crate) total: usize,
    /// What came of them; as long as those begun.
    pub(crate) outputs: Vec<Option<Value>>,
    /// The fields a computing node sets.
    pub(crate) set: Fields,
    /// Where a failure leads.
    pub(crate) goto: Option<To>,
    pub(crate) errors: Vec<StepError>,
    /// It has produced everything; a pause after it may follow.
    pub(crate) produced: bool,
    pub(crate) paused_before: bool,
    pub(crate) paused_after: bool,
}

/// A step that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) frame: u32,
    pub(crate) node: usize,
    pub(crate) slot: usize,
    pub(crate) kind: StepKind,
    pub(crate) attempt: u32,
    pub(crate) interruptions: u32,
    pub(crate) doing: Doing,
    /// Its outcome no longer matters, except for what it costs.
    pub(crate) given_up: bool,
}

/// What a step does at present.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Doing {
    /// An effect is under way.
    Effect,
    /// It waits for an answer.
    Waiting { message: String, expires: Option<Timestamp> },
    /// It waits for a time, to be tried again or to be over.
    Sleeping(Timestamp),
    /// Another flow runs.
    Flow,
}

impl State {
    pub(crate) fn frame(&self, id: u32) -> Option<&Frame> {
        self.frames.get(&id)
    }

    /// Effects that are under way.
    pub(crate) fn effects(&self) -> impl Iterator<Item = (u64, &Step)> {
        let all = self.steps.iter().map(|(id, step)| (*id, step));
        all.filter(|(_, step)| step.doing == Doing::Effect)
    }

    /// When the run must be looked at again although nothing has come in.
    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        let steps = self.steps.values().filter_map(|step| match &step.doing {
            Doing::Waiting { expires, .. } => *expires,
            Doing::Sleeping(until) => Some(*until),
            Doing::Effect | Doing::Flow => None,
        });
        steps.chain(self.deadline).min()
    }

    /// Takes in one event.
    pub(crate) fn apply(&mut self, program: &Program, event: &Event) {
        match event {
            Event::Created { input } => self.input.clone_from(input),
            Event::Started { deadline } => self.start(program, *deadline),
            Event::Recovered => {}
            Event::Planned { frame, node, slots } => {
                if let Some(active) = self.active_named(program, *frame, node) {
                    active.begun = true;
                    active.total = usize::try_from(*slots).unwrap_or(usize::MAX);
                    active.produced = active.total == 0;
                }
            }
            Event::Passed { frame, node, set } => {
                self.counted += 1;
                if let Some(active) = self.active_named(program, *frame, node) {
                    active.begun = true;
                    active.produced = true;
                    active.set.clone_from(set);
                }
            }
            Event::LoopEnded { frame, node } => {
                if let Some(active) = self.active_named(program, *frame, node) {
                    active.produced = true;
                }
            }
            Event::FrameMoved { frame, to } => self.move_on(program, *frame, to),
            Event::FrameOpened { frame, step } => self.open(program, *frame, *step),
            Event::FrameClosed { frame } => self.close(program, *frame),
            Event::Stopping { status, error } => {
                self.stopping = Some((*status, error.clone()));
                if *status == Status::Cancelled {
                    self.status = Status::Cancelling;
                }
                self.give_up(ROOT);
            }
            Event::Finished { status, error } => {
                self.status = *status;
                self.error.clone_from(error);
                self.steps.clear();
                self.frames.clear();
            }
            step => self.apply_step(program, step),
        }
        if matches!(self.status, Status::Running | Status::Waiting) {
            let busy = self.effects().next().is_some();
            self.status = if busy { Status::Running } else { Status::Waiting };
        }
    }

    fn apply_step(&mut self, program: &Program, event: &Event) {
        match event {
            Event::StepStarted { step, frame, node, slot, kind } => {
                self.begin_step(program, *step, *frame, node, (*slot, *kind));
            }
            Event::StepWaiting { step, message, expires } => {
                if let Some(step) = self.steps.get_mut(step) {
                    step.doing = Doing::Waiting { message: message.clone(), expires: *expires };
                }
            }
            Event::StepSleeping { step, until } => {
                if let Some(step) = self.steps.get_mut(step) {
                    step.doing = Doing::Sleeping(*until);
                }
            }
            Event::StepAnswered { step, answer } => self.end_step(program, *step, answer.clone()),
            Event::StepFinished { step, output, .. } => {
                self.end_step(program, *step, output.clone());
            }
            Event::StepFailed { step, error, then, .. } => {
                self.fail_step(program, *step, error, then);
            }
            Event::StepRetried { step, attempt, interrupted } => {
                if let Some(step) = self.steps.get_mut(step) {
                    step.attempt = *attempt;
                    step.interruptions += u32::from(*interrupted);
                    step.doing = Doing::Effect;
                }
            }
            _ => {}
        }
    }

    fn start(&mut self, program: &Program, deadline: Option<Timestamp>) {
        self.status = Status::Running;
        self.deadline = deadline;
        self.next_step = 1;
        self.next_frame = ROOT + 1;
        let Some(graph) = program.graphs.first() else { return };
        let mut fields = initial(graph);
        fields.insert("workflow_name".to_owned(), json!(program.name.as_ref()));
        fields.extend(self.input.iter().map(|(name, value)| (name.clone(), value.clone())));
        normalise_messages(&mut fields);
        let mut frame = Frame::new(0, None, graph, fields);
        frame.enter(graph, &[graph.entry]);
        self.frames.insert(ROOT, frame);
    }

    fn begin_step(
        &mut self,
        program: &Program,
        id: u64,
        frame: u32,
        node: &str,
        (slot, kind): (u32, StepKind),
    ) {
        self.counted += 1;
        self.next_step = self.next_step.max(id + 1);
        let slot = usize::try_from(slot).unwrap_or(usize::MAX);
        let Some(active) = self.active_named(program, frame, node) else { return };
        let node = active.node;
        match kind {
            StepKind::PauseBefore => {}
            StepKind::PauseAfter => active.paused_after = true,
            _ => {
                active.begun = true;
                active.total = active.total.max(slot + 1);
                while active.outputs.len() <= slot {
                    active.outputs.push(None);
                }
            }
        }
        let doing = match kind {
            StepKind::Llm | StepKind::Tool | StepKind::Http => Doing::Effect,
            StepKind::Flow => Doing::Flow,
            _ => Doing::Waiting { message: String::new(), expires: None },
        };
        let step =
            Step { frame, node, slot, kind, attempt: 1, interruptions: 0, doing, given_up: false };
        self.steps.insert(id, step);
    }

    fn end_step(&mut self, program: &Program, id: u64, output: Value) {
        let Some(step) = self.steps.remove(&id).filter(|step| !step.given_up) else { return };
        let Some(active) = self.active(step.frame, step.node) else { return };
        match step.kind {
            StepKind::PauseBefore => {
                active.paused_before = true;
                return;
            }
            StepKind::PauseAfter => {
                active.paused_after = true;
                return;
            }
            _ => {}
        }
        if let Some(slot) = active.outputs.get_mut(step.slot) {
            *slot = Some(output);
        }
        let all =
            active.outputs.len() == active.total && active.outputs.iter().all(Option::is_some);
        let looping = self.node_of(program, &step).is_some_and(is_loop);
        if let Some(active) = self.active(step.frame, step.node) {
            active.produced = all && !looping;
        }
    }

    fn fail_step(&mut self, program: &Program, id: u64, error: &StepError, then: &Then) {
        let Some(step) = self.steps.get(&id).cloned() else { return };
        match then {
            Then::Retry(at) => {
                if let Some(step) = self.steps.get_mut(&id) {
                    step.doing = Doing::Sleeping(*at);
                }
            }
            Then::Value(value) => {
                if let Some(active) = self.active(step.frame, step.node) {
                    active.errors.push(error.clone());
                }
                self.give_up_below(id);
                self.end_step(program, id, value.clone());
            }
            Then::Goto(name) => {
                self.give_up_below(id);
                self.steps.remove(&id);
                let graph =
                    self.frame(step.frame).and_then(|frame| program.graphs.get(frame.graph));
                let to = name.as_ref().and_then(|name| graph?.index(name));
                let others: Vec<u64> = self.siblings(&step);
                others.into_iter().for_each(|other| self.drop_step(other));
                if let Some(active) = self.active(step.frame, step.node) {
                    active.goto = Some(to.map_or(To::End, To::Node));
                    active.errors.push(error.clone());
                    active.outputs.clear();
                    active.produced = true;
                    active.paused_after = true;
                }
            }
            Then::Fail | Then::Nothing => {
                self.give_up_below(id);
                self.steps.remove(&id);
            }
        }
    }

    /// Other steps of the same node.
    fn siblings(&self, step: &Step) -> Vec<u64> {
        let same = |other: &Step| other.frame == step.frame && other.node == step.node;
        self.steps.iter().filter(|(_, other)| same(other)).map(|(id, _)| *id).collect()
    }

    /// Gives up everything in a frame and below it; the frame itself goes too, except the root.
    fn give_up(&mut self, frame: u32) {
        let steps: Vec<u64> = self
            .steps
            .iter()
            .filter(|(_, step)| step.frame == frame && !step.given_up)
            .map(|(id, _)| *id)
            .collect();
        steps.into_iter().for_each(|id| self.drop_step(id));
        if frame != ROOT {
            self.frames.remove(&frame);
        } else if let Some(root) = self.frames.get_mut(&ROOT) {
            root.active.clear();
        }
    }

    /// An effect under way is given up, everything else is over.
    fn drop_step(&mut self, id: u64) {
        self.give_up_below(id);
        match self.steps.get_mut(&id) {
            Some(step) if step.doing == Doing::Effect => {
                step.given_up = true;
                step.frame = ROOT;
            }
            _ => drop(self.steps.remove(&id)),
        }
    }

    fn give_up_below(&mut self, step: u64) {
        let below = self.frames.iter().filter(|(_, frame)| frame.parent == Some(step));
        let below: Vec<u32> = below.map(|(id, _)| *id).collect();
        below.into_iter().for_each(|frame| self.give_up(frame));
    }

    fn move_on(&mut self, program: &Program, id: u32, to: &[Arc<str>]) {
        self.merge(program, id);
        let Some(frame) = self.frames.get_mut(&id) else { return };
        let Some(graph) = program.graphs.get(frame.graph) else { return };
        let next: Vec<usize> = to.iter().filter_map(|name| graph.index(name)).collect();
        frame.ended = next.is_empty();
        frame.enter(graph, &next);
        if frame.ended && id == ROOT {
            self.output = result(program, graph, &frame.fields);
        }
    }

    /// Puts what the nodes at work have produced into the fields.
    pub(crate) fn merge(&mut self, program: &Program, id: u32) {
        let Some(frame) = self.frames.get_mut(&id) else { return };
        let Some(graph) = program.graphs.get(frame.graph) else { return };
        let active = std::mem::take(&mut frame.active);
        for one in active {
            let Some(node) = graph.nodes.get(one.node) else { continue };
            for (name, value) in crate::update::of(node, &one, &frame.fields) {
                reduce(graph, &mut frame.fields, name, value);
            }
        }
    }

    fn open(&mut self, program: &Program, id: u32, step: u64) {
        self.next_frame = self.next_frame.max(id + 1);
        let fields = self.child_fields(program, step).unwrap_or_default();
        let Some((graph_at, graph)) = self.child_graph(program, step) else { return };
        let mut frame = Frame::new(graph_at, Some(step), graph, fields);
        frame.enter(graph, &[graph.entry]);
        self.frames.insert(id, frame);
    }

    fn child_graph<'a>(&self, program: &'a Program, step: u64) -> Option<(usize, &'a Graph)> {
        let step = self.steps.get(&step)?;
        let body = body(self.child_of(program, step)?, step.slot)?;
        Some((body.graph, program.graphs.get(body.graph)?))
    }

    fn child_of<'a>(&self, program: &'a Program, step: &Step) -> Option<&'a Child> {
        match &self.node_of(program, step)?.kind {
            Kind::Child(child) => Some(child),
            _ => None,
        }
    }

    pub(crate) fn node_of<'a>(&self, program: &'a Program, step: &Step) -> Option<&'a Node> {
        let frame = self.frame(step.frame)?;
        program.graphs.get(frame.graph)?.nodes.get(step.node)
    }

    /// The fields that a flow begins with which is this step.
    pub(crate) fn child_fields(&self, program: &Program, id: u64) -> Result<Fields, String> {
        let gone = || "the step is gone".to_owned();
        let step = self.steps.get(&id).ok_or_else(gone)?;
        let frame = self.frame(step.frame).ok_or_else(gone)?;
        let child = self.child_of(program, step).ok_or_else(gone)?;
        let body = body(child, step.slot).ok_or_else(gone)?;
        let graph = program.graphs.get(body.graph).ok_or_else(gone)?;
        let mut extra = Fields::new();
        extra.insert("index".to_owned(), json!(step.slot));
        match &child.shape {
            Shape::Each { items, .. } => {
                let items = program.templates.value(items, &[&frame.fields])?;
                extra.insert("item".to_owned(), items.get(step.slot).cloned().unwrap_or_default());
            }
            Shape::All(branches) => {
                let label = branches.get(step.slot).map_or("", |(label, _)| label);
                extra.insert("branch".to_owned(), json!(label));
            }
            Shape::Repeat { .. } => drop(extra.insert("last".to_owned(), self.last(step))),
            Shape::Once(_) => {}
        }
        let mut fields = initial(graph);
        match &body.input {
            None => fields.extend(frame.fields.clone()),
            Some(input) => match program.templates.value(input, &[&frame.fields, &extra])? {
                Value::Object(given) => fields.extend(given),
                _ => return Err("the input of a flow must be a section".to_owned()),
            },
        }
        fields.extend(extra);
        Ok(fields)
    }

    /// What the round of a loop before this one gave.
    fn last(&self, step: &Step) -> Value {
        let active = self.frame(step.frame).and_then(|frame| frame.active_at(step.node));
        let before = step.slot.checked_sub(1);
        let output = active.zip(before).and_then(|(active, at)| active.outputs.get(at)?.clone());
        output.unwrap_or_default()
    }

    fn close(&mut self, program: &Program, id: u32) {
        let Some(frame) = self.frames.remove(&id) else { return };
        let Some(graph) = program.graphs.get(frame.graph) else { return };
        let output = result(program, graph, &frame.fields);
        if let Some(parent) = frame.parent {
            self.end_step(program, parent, output);
        }
    }

    fn active(&mut self, frame: u32, node: usize) -> Option<&mut Active> {
        let frame = self.frames.get_mut(&frame)?;
        frame.active.iter_mut().find(|active| active.node == node)
    }

    fn active_named(&mut self, program: &Program, frame: u32, node: &str) -> Option<&mut Active> {
        let graph = program.graphs.get(self.frames.get(&frame)?.graph)?;
        self.active(frame, graph.index(node)?)
    }
}

impl Frame {
    fn new(graph_at: usize, parent: Option<u64>, graph: &Graph, fields: Fields) -> Self {
        let visits = vec![0; graph.nodes.len()];
        Self { graph: graph_at, parent, fields, visits, active: Vec::new(), ended: false }
    }

    pub(crate) fn active_at(&self, node: usize) -> Option<&Active> {
        self.active.iter().find(|active| active.node == node)
    }

    /// These nodes are at work from now on.
    fn enter(&mut self, graph: &Graph, nodes: &[usize]) {
        for node in nodes {
            if let Some(visits) = self.visits.get_mut(*node) {
                *visits += 1;
            }
            if let Some(node) = graph.nodes.get(*node) {
                self.fields.insert("current_step".to_owned(), json!(node.id.as_ref()));
            }
        }
        let most = self.visits.iter().max().copied().unwrap_or_default();
        self.fields.insert("iteration_count".to_owned(), json!(most));
        self.active = nodes.iter().map(|node| Active::new(*node)).collect();
    }
}

impl Active {
    fn new(node: usize) -> Self {
        Self {
            node,
            begun: false,
            total: 1,
            outputs: Vec::new(),
            set: Fields::new(),
            goto: None,
            errors: Vec::new(),
            produced: false,
            paused_before: false,
            paused_after: false,
        }
    }
}

pub(crate) const fn is_loop(node: &Node) -> bool {
    matches!(&node.kind, Kind::Child(child) if matches!(child.shape, Shape::Repeat { .. }))
}

pub(crate) fn body(child: &Child, slot: usize) -> Option<&Body> {
    match &child.shape {
        Shape::Once(body) | Shape::Each { body, .. } | Shape::Repeat { body, .. } => Some(body),
        Shape::All(branches) => branches.get(slot).map(|(_, body)| body),
    }
}

fn initial(graph: &Graph) -> Fields {
    graph.fields.iter().map(|field| (field.name.clone(), field.initial.clone())).collect()
}

/// What a flow gives: its output, or all its fields.
fn result(program: &Program, graph: &Graph, fields: &Fields) -> Value {
    match &graph.output {
        Some(output) => program.templates.value(output, &[fields]).unwrap_or_default(),
        None => Value::Object(fields.clone()),
    }
}

/// The words that v1 uses for the roles of messages.
fn normalise_messages(fields: &mut Fields) {
    let messages = fields.get_mut("messages").and_then(Value::as_array_mut);
    for message in messages.into_iter().flatten() {
        let Some(message) = message.as_object_mut() else { continue };
        if message.contains_key("role") {
            continue;
        }
        let role = match message.get("type").and_then(Value::as_str) {
            Some("ai" | "assistant" | "AIMessage") => "assistant",
            Some("system" | "SystemMessage") => "system",
            Some("tool" | "ToolMessage") => "tool",
            _ => "user",
        };
        message.remove("type");
        message.insert("role".to_owned(), json!(role));
    }
}

pub(crate) fn reduce(graph: &Graph, fields: &mut Fields, name: String, value: Value) {
    let known = graph.fields.iter().find(|field| field.name == name);
    let reducer = known.map_or(Reducer::Replace, |field| field.reducer);
    let slot = fields.entry(name).or_insert(Value::Null);
    match (reducer, slot, value) {
        (Reducer::Append, Value::Array(list), Value::Array(more)) => list.extend(more),
        (Reducer::Append, Value::Array(list), one) => list.push(one),
        (Reducer::Merge, Value::Object(map), Value::Object(more)) => map.extend(more),
        (Reducer::Add, slot, value) => {
            *slot = match (slot.as_i64(), value.as_i64()) {
                (Some(one), Some(two)) => json!(one.saturating_add(two)),
                _ => json!(slot.as_f64().unwrap_or(0.0) + value.as_f64().unwrap_or(0.0)),
            };
        }
        (_, slot, value) => *slot = value,
    }
}
