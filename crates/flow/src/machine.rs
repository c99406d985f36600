//! What a run does next: from its state and what has come in to new events. Pure: no I/O, no clock.

mod effect;
mod nodes;
mod policy;

use std::sync::Arc;

use kernel::Timestamp;
use serde_json::Value;

pub(crate) use effect::{Effect, effect_of};

use crate::event::{Event, Status, StepError, StepKind, Then};
use crate::expr::Fields;
use crate::graph::{Graph, Kind, Node, Program, Shape, Test, To};
use crate::state::{Doing, Frame, ROOT, State, is_loop};

/// What a run may use at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) steps: u64,
    pub(crate) fan_out: usize,
    pub(crate) state_bytes: usize,
}

/// What comes in from outside.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// The run's turn has come.
    Start { deadline: Option<Timestamp> },
    /// An effect ended well.
    Finished { step: u64, output: Value, charge: Option<String> },
    /// An effect failed.
    Failed { step: u64, error: StepError, charge: Option<String> },
    /// Somebody answered.
    Answer { step: u64, answer: Value },
    /// It may be time for something.
    Wake,
    /// Somebody wants it to end.
    Cancel,
    /// A process took it over from one that is gone.
    Recover,
}

/// Why an answer is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No such step waits.
    NotWaiting,
    /// The answer does not fit the schema.
    Mismatch(String),
}

/// A step whose process was lost so often is not tried again.
const MOST_INTERRUPTIONS: u32 = 5;

/// Takes in `input`: the state moves on, and what happened is returned.
pub(crate) fn step(
    program: &Program,
    state: &mut State,
    bounds: Bounds,
    input: Input,
    now: Timestamp,
) -> Result<Vec<Event>, Refused> {
    let mut machine = Machine { program, state, bounds, now, events: Vec::new() };
    machine.take(input)?;
    Ok(machine.events)
}

struct Machine<'a> {
    program: &'a Program,
    state: &'a mut State,
    bounds: Bounds,
    now: Timestamp,
    events: Vec<Event>,
}

impl Machine<'_> {
    fn emit(&mut self, event: Event) {
        self.state.apply(self.program, &event);
        self.events.push(event);
    }

    fn take(&mut self, input: Input) -> Result<(), Refused> {
        if self.state.status.is_final() {
            return match input {
                Input::Answer { .. } => Err(Refused::NotWaiting),
                _ => Ok(()),
            };
        }
        match input {
            Input::Start { deadline } if self.state.status == Status::Queued => {
                self.emit(Event::Started { deadline });
            }
            Input::Start { .. } | Input::Wake => {}
            Input::Finished { step, output, charge } => self.finished(step, output, charge),
            Input::Failed { step, error, charge } => self.failed(step, error, charge),
            Input::Answer { step, answer } => self.answered(step, answer)?,
            Input::Cancel => {
                let error = StepError::new("cancelled", "the run was cancelled");
                self.stop(Status::Cancelled, error);
            }
            Input::Recover => self.recover(),
        }
        if self.state.status != Status::Queued {
            self.look_at_the_clock();
            self.proceed();
        }
        Ok(())
    }

    fn finished(&mut self, step: u64, output: Value, charge: Option<String>) {
        if !self.is_under_way(step) {
            return;
        }
        let given_up = self.state.steps.get(&step).is_some_and(|step| step.given_up);
        // What nobody waits for is not kept.
        let output = if given_up { Value::Null } else { output };
        self.emit(Event::StepFinished { step, output, charge });
    }

    fn is_under_way(&self, step: u64) -> bool {
        self.state.steps.get(&step).is_some_and(|step| step.doing == Doing::Effect)
    }

    fn answered(&mut self, step: u64, answer: Value) -> Result<(), Refused> {
        refuses(self.program, self.state, step, &answer)?;
        self.emit(Event::StepAnswered { step, answer });
        Ok(())
    }

    /// What was under way in a process that is gone is tried again.
    fn recover(&mut self) {
        self.emit(Event::Recovered);
        let lost: Vec<(u64, u32, u32, bool)> = self
            .state
            .effects()
            .map(|(id, step)| (id, step.attempt, step.interruptions, step.given_up))
            .collect();
        for (step, attempt, interruptions, given_up) in lost {
            if given_up {
                let error = StepError::new("interrupted", "its process ended");
                self.emit(Event::StepFailed { step, error, then: Then::Nothing, charge: None });
            } else if interruptions >= MOST_INTERRUPTIONS {
                let message = format!("its process ended {interruptions} times during it");
                self.failed(step, StepError::new("interrupted", message), None);
            } else {
                let attempt = attempt + 1;
                self.emit(Event::StepRetried { step, attempt, interrupted: true });
            }
        }
    }

    /// Ends what was to end by now, and tries again what was to be tried again.
    fn look_at_the_clock(&mut self) {
        if self.state.stopping.is_none()
            && self.state.deadline.is_some_and(|deadline| deadline <= self.now)
        {
            let error = StepError::new("run_timeout", "the run's time is over");
            return self.stop(Status::TimedOut, error);
        }
        let due: Vec<u64> = self
            .state
            .steps
            .iter()
            .filter(|(_, step)| match &step.doing {
                Doing::Sleeping(until) => *until <= self.now,
                Doing::Waiting { expires, .. } => expires.is_some_and(|at| at <= self.now),
                Doing::Effect | Doing::Flow => false,
            })
            .map(|(id, _)| *id)
            .collect();
        due.into_iter().for_each(|step| self.due(step));
    }

    /// Ends the run before its end; what is under way is cut off first.
    fn stop(&mut self, status: Status, error: StepError) {
        if self.state.stopping.is_none() {
            self.emit(Event::Stopping { status, error });
        }
    }

    /// Does everything that can be done at once.
    fn proceed(&mut self) {
        while self.state.stopping.is_none() && self.advance() {}
        let ended = self.state.frame(ROOT).is_some_and(|root| root.ended);
        if self.state.effects().next().is_some() || self.state.status.is_final() {
            return;
        }
        match self.state.stopping.clone() {
            Some((status, error)) => self.emit(Event::Finished { status, error: Some(error) }),
            None if ended => self.emit(Event::Finished { status: Status::Succeeded, error: None }),
            None => {}
        }
    }

    /// Does one thing, if there is one to do; the innermost flows first.
    fn advance(&mut self) -> bool {
        let frames: Vec<u32> = self.state.frames.keys().rev().copied().collect();
        frames.into_iter().any(|id| self.advance_frame(id))
    }

    fn advance_frame(&mut self, id: u32) -> bool {
        let Some(frame) = self.state.frame(id) else { return false };
        if frame.ended {
            if id == ROOT {
                return false;
            }
            self.emit(Event::FrameClosed { frame: id });
            return true;
        }
        let Some(graph) = self.program.graphs.get(frame.graph) else { return false };
        for at in 0..frame.active.len() {
            if self.advance_node(id, graph, at) {
                return true;
            }
        }
        let Some(frame) = self.state.frame(id) else { return true };
        let done = |active: &crate::state::Active| {
            let node = graph.nodes.get(active.node);
            active.produced && (active.paused_after || node.is_none_or(|node| !node.pause_after))
        };
        if !frame.active.iter().all(done) {
            return false;
        }
        self.move_on(id, graph);
        true
    }

    /// All nodes at work are done: decides what comes next.
    fn move_on(&mut self, id: u32, graph: &Graph) {
        let Some(frame) = self.state.frame(id) else { return };
        // The decision is about the fields as they will be.
        let mut ahead = State::default();
        ahead.frames.insert(id, frame.clone());
        ahead.merge(self.program, id);
        let Some(fields) = ahead.frames.remove(&id).map(|frame| frame.fields) else { return };
        if size_of(&fields) > self.bounds.state_bytes {
            let most = self.bounds.state_bytes;
            let message = format!("the state has more than {most} bytes");
            return self.stop(Status::Failed, StepError::new("state_too_large", message));
        }
        let mut next: Vec<usize> = Vec::new();
        for active in &frame.active {
            let Some(node) = graph.nodes.get(active.node) else { continue };
            match targets(node, active.goto, &fields) {
                Ok(targets) => next.extend(targets),
                Err(message) => {
                    let mut error = StepError::new("bad_expression", message);
                    error.node = Some(Arc::clone(&node.id));
                    return self.fail_frame(id, error);
                }
            }
        }
        next.sort_unstable();
        next.dedup();
        let names = next.iter().filter_map(|at| graph.nodes.get(*at));
        let to = names.map(|node| Arc::clone(&node.id)).collect();
        self.emit(Event::FrameMoved { frame: id, to });
    }
}

/// Why this answer would not be taken.
pub(crate) fn refuses(
    program: &Program,
    state: &State,
    step: u64,
    answer: &Value,
) -> Result<(), Refused> {
    let step = state.steps.get(&step).filter(|step| is_waiting(&step.doing));
    let step = step.ok_or(Refused::NotWaiting)?;
    if let Some(Node { kind: Kind::Wait(wait), .. }) = state.node_of(program, step)
        && step.kind == StepKind::Wait
        && let Some(schema) = &wait.schema
    {
        crate::schema::validate(schema, answer).map_err(Refused::Mismatch)?;
    }
    Ok(())
}

const fn is_waiting(doing: &Doing) -> bool {
    matches!(doing, Doing::Waiting { .. })
}

/// Where a node leads, with these fields.
fn targets(node: &Node, goto: Option<To>, fields: &Fields) -> Result<Vec<usize>, String> {
    let index = |to: To| match to {
        To::Node(at) => Some(at),
        To::End => None,
    };
    if let Some(to) = goto {
        return Ok(index(to).into_iter().collect());
    }
    if matches!(node.kind, Kind::End) {
        return Ok(Vec::new());
    }
    let mut open = Vec::new();
    let mut otherwise = Vec::new();
    for way in &node.ways {
        let is_open = match &way.test {
            Test::Always => true,
            Test::Check(check) => check.holds(fields),
            Test::Route(route, word) => route.word(fields) == *word,
            Test::Expr(expr) => expr.holds(&[fields])?,
            Test::FieldIs(name, value) => fields.get(name).is_some_and(|field| is(field, value)),
            Test::Otherwise => {
                otherwise.push(way.to);
                false
            }
        };
        if is_open {
            open.push(way.to);
            if node.first_only {
                break;
            }
        }
    }
    if open.is_empty() {
        otherwise.truncate(if node.first_only { 1 } else { usize::MAX });
        open = otherwise;
    }
    Ok(open.into_iter().filter_map(index).collect())
}

/// An answer counts by itself, or by its `decision`, `result` or `value`.
fn is(field: &Value, value: &Value) -> bool {
    let inner = || ["decision", "result", "value"].iter().find_map(|name| field.get(name));
    field == value || inner() == Some(value)
}

/// How many bytes fields take as JSON, roughly.
pub(crate) fn size_of(fields: &Fields) -> usize {
    fields.iter().map(|(name, value)| name.len() + 4 + value_size(value)).sum()
}

/// How many bytes a value takes as JSON, roughly.
pub(crate) fn value_size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| value_size(item) + 1).sum::<usize>() + 2,
        Value::Object(members) => size_of(members) + 2,
    }
}

/// How many things a child node works on, where that is known.
fn planned(program: &Program, node: &Node, frame: &Frame) -> Result<Option<usize>, String> {
    let Kind::Child(child) = &node.kind else { return Ok(None) };
    match &child.shape {
        Shape::Once(_) => Ok(Some(1)),
        Shape::All(branches) => Ok(Some(branches.len())),
        Shape::Repeat { .. } => Ok(None),
        Shape::Each { items, .. } => {
            let items = program.templates.value(items, &[&frame.fields])?;
            items
                .as_array()
                .map(|items| Some(items.len()))
                .ok_or_else(|| "the items of a map must be a list".to_owned())
        }
    }
}

/// Whether a loop has to go round again.
fn goes_on(
    program: &Program,
    node: &Node,
    frame: &Frame,
    outputs: &[Option<Value>],
) -> Result<bool, String> {
    debug_assert!(is_loop(node));
    let Kind::Child(child) = &node.kind else { return Ok(false) };
    let Shape::Repeat { until, most, .. } = &child.shape else { return Ok(false) };
    if outputs.len() as u64 >= *most {
        return Ok(false);
    }
    let Some(until) = until else { return Ok(true) };
    let mut extra = Fields::new();
    extra.insert("last".to_owned(), outputs.last().cloned().flatten().unwrap_or_default());
    extra.insert("index".to_owned(), Value::from(outputs.len().saturating_sub(1)));
    Ok(!program.templates.holds(until, &[&frame.fields, &extra])?)
}
