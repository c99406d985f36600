//! What each kind of node does when it is at work.

use std::sync::Arc;

use super::{Machine, goes_on, planned};
use crate::compile::seconds;
use crate::event::{Event, Status, StepError, StepKind};
use crate::expr::Fields;
use crate::graph::{Graph, Kind, Node};
use crate::state::is_loop;
use crate::update::tool_calls;

impl Machine<'_> {
    /// Does one thing about the node at this position, if there is one to do.
    pub(super) fn advance_node(&mut self, id: u32, graph: &Graph, at: usize) -> bool {
        let Some(frame) = self.state.frame(id) else { return false };
        let Some(active) = frame.active.get(at) else { return false };
        let Some(node) = graph.nodes.get(active.node) else { return false };
        if active.produced {
            return self.pause_after(id, node, active.paused_after);
        }
        if !active.begun {
            if node.pause_before && !active.paused_before {
                return self.pause_before(id, node);
            }
            if self.state.counted >= self.bounds.steps {
                let message = format!("the run took more than {} steps", self.bounds.steps);
                self.stop(Status::Failed, StepError::new("too_many_steps", message));
                return true;
            }
            return self.begin(id, node);
        }
        let (next, parallel) = (active.outputs.len(), parallel(node));
        let busy = active.outputs.iter().filter(|output| output.is_none()).count();
        if is_loop(node) {
            return busy == 0 && self.go_round(id, node);
        }
        if next < active.total && busy < parallel {
            return self.open_slot(id, node, next);
        }
        false
    }

    fn pause_before(&mut self, id: u32, node: &Node) -> bool {
        let waits = self.state.steps.values().any(|step| {
            step.frame == id && step.kind == StepKind::PauseBefore && self.is(step, node)
        });
        if waits {
            return false;
        }
        self.pause(id, node, StepKind::PauseBefore, format!("before {}", node.id));
        true
    }

    fn pause_after(&mut self, id: u32, node: &Node, paused: bool) -> bool {
        if !node.pause_after || paused {
            return false;
        }
        let waits = self.state.steps.values().any(|step| {
            step.frame == id && step.kind == StepKind::PauseAfter && self.is(step, node)
        });
        if waits {
            return false;
        }
        self.pause(id, node, StepKind::PauseAfter, format!("after {}", node.id));
        true
    }

    fn is(&self, step: &crate::state::Step, node: &Node) -> bool {
        self.state.node_of(self.program, step).is_some_and(|other| other.id == node.id)
    }

    fn pause(&mut self, id: u32, node: &Node, kind: StepKind, message: String) {
        let step = self.start_step(id, node, 0, kind);
        self.emit(Event::StepWaiting { step, message, expires: None });
    }

    pub(super) fn start_step(&mut self, frame: u32, node: &Node, slot: u32, kind: StepKind) -> u64 {
        let step = self.state.next_step;
        let node = Arc::clone(&node.id);
        self.emit(Event::StepStarted { step, frame, node, slot, kind });
        step
    }

    /// Begins a node; always does something.
    fn begin(&mut self, id: u32, node: &Node) -> bool {
        let Some(frame) = self.state.frame(id) else { return false };
        match &node.kind {
            Kind::Pass | Kind::End => {
                let (frame, node) = (id, Arc::clone(&node.id));
                self.emit(Event::Passed { frame, node, set: Fields::new() });
            }
            Kind::Transform(set) => {
                let values: Result<Fields, String> = set
                    .iter()
                    .map(|(name, data)| {
                        let value = self.program.templates.value(data, &[&frame.fields])?;
                        Ok((name.clone(), value))
                    })
                    .collect();
                let (frame, name) = (id, Arc::clone(&node.id));
                match values {
                    Ok(set) => self.emit(Event::Passed { frame, node: name, set }),
                    Err(message) => self.cannot_begin(id, node, message),
                }
            }
            Kind::Llm(_) => drop(self.start_step(id, node, 0, StepKind::Llm)),
            Kind::Tool(_) => drop(self.start_step(id, node, 0, StepKind::Tool)),
            Kind::Http(_) => drop(self.start_step(id, node, 0, StepKind::Http)),
            Kind::Wait(wait) => {
                match self.program.templates.text(&wait.message, &[&frame.fields]) {
                    Ok(message) => {
                        let expires = wait.expires.map(|after| self.now.after(after));
                        let step = self.start_step(id, node, 0, StepKind::Wait);
                        self.emit(Event::StepWaiting { step, message, expires });
                    }
                    Err(message) => self.cannot_begin(id, node, message),
                }
            }
            Kind::Delay(data) => {
                let span = self.program.templates.value(data, &[&frame.fields]);
                match span.map(|span| span.as_f64()) {
                    Ok(Some(span)) => {
                        let until = self.now.after(seconds(span.clamp(0.0, 1e9)));
                        let step = self.start_step(id, node, 0, StepKind::Delay);
                        self.emit(Event::StepSleeping { step, until });
                    }
                    Ok(None) => self.cannot_begin(id, node, "seconds must be a number".to_owned()),
                    Err(message) => self.cannot_begin(id, node, message),
                }
            }
            Kind::ToolCalls(_) => {
                let count = tool_calls(&frame.fields).len();
                self.plan(id, node, count);
            }
            Kind::Child(_) => match planned(self.program, node, frame) {
                Ok(Some(count)) => self.plan(id, node, count),
                Ok(None) => return self.go_round(id, node),
                Err(message) => self.cannot_begin(id, node, message),
            },
        }
        true
    }

    fn plan(&mut self, frame: u32, node: &Node, count: usize) {
        if count > self.bounds.fan_out {
            let most = self.bounds.fan_out;
            let error =
                StepError::new("fan_out_too_large", format!("{count} at once, {most} are allowed"));
            return self.fail_node(frame, node, error);
        }
        let slots = u32::try_from(count).unwrap_or(u32::MAX);
        self.emit(Event::Planned { frame, node: Arc::clone(&node.id), slots });
    }

    fn open_slot(&mut self, id: u32, node: &Node, slot: usize) -> bool {
        if self.state.counted >= self.bounds.steps {
            let message = format!("the run took more than {} steps", self.bounds.steps);
            self.stop(Status::Failed, StepError::new("too_many_steps", message));
            return true;
        }
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        if matches!(node.kind, Kind::ToolCalls(_)) {
            self.start_step(id, node, slot, StepKind::Tool);
        } else {
            self.open_frame(id, node, slot);
        }
        true
    }

    fn open_frame(&mut self, id: u32, node: &Node, slot: u32) {
        let step = self.start_step(id, node, slot, StepKind::Flow);
        match self.state.child_fields(self.program, step) {
            Ok(_) => {
                let frame = self.state.next_frame;
                self.emit(Event::FrameOpened { frame, step });
            }
            Err(message) => self.failed(step, StepError::new("bad_expression", message), None),
        }
    }

    /// A loop's round is over, or its first one is to begin.
    fn go_round(&mut self, id: u32, node: &Node) -> bool {
        let Some(frame) = self.state.frame(id) else { return false };
        let position = self.program.graphs.get(frame.graph).and_then(|graph| graph.index(&node.id));
        let outputs = position.and_then(|at| frame.active_at(at)).map(|active| &active.outputs);
        let Some(outputs) = outputs else { return false };
        let round = outputs.len();
        let again = if round == 0 { Ok(true) } else { goes_on(self.program, node, frame, outputs) };
        match again {
            Ok(true) => self.open_slot(id, node, round),
            Ok(false) => {
                self.emit(Event::LoopEnded { frame: id, node: Arc::clone(&node.id) });
                true
            }
            Err(message) => {
                self.fail_node(id, node, StepError::new("bad_expression", message));
                true
            }
        }
    }

    fn cannot_begin(&mut self, frame: u32, node: &Node, message: String) {
        self.fail_node(frame, node, StepError::new("bad_expression", message));
    }

    /// A node fails before any step of it has begun: by a step that fails at once.
    pub(super) fn fail_node(&mut self, frame: u32, node: &Node, error: StepError) {
        let step = self.start_step(frame, node, 0, StepKind::Delay);
        self.failed(step, error, None);
    }
}

const fn parallel(node: &Node) -> usize {
    match &node.kind {
        Kind::ToolCalls(calls) => calls.parallel,
        Kind::Child(child) => child.parallel,
        _ => 1,
    }
}
