//! What becomes of failures: tried again, replaced, led elsewhere, or passed up.

use serde_json::{Value, json};

use super::Machine;
use crate::event::{Event, Status, StepError, StepKind, Then};
use crate::expr::Fields;
use crate::graph::{Graph, Kind, Node, OnError, To};
use crate::state::{Doing, ROOT, Step};

/// The code of a failure that ends the run whatever its nodes say.
const BUDGET: &str = "budget_exceeded";
/// The code of a question that nobody answered in time.
const EXPIRED: &str = "expired";

impl Machine<'_> {
    /// A step failed: its node's policy decides.
    pub(super) fn failed(&mut self, id: u64, error: StepError, charge: Option<String>) {
        let Some(step) = self.state.steps.get(&id).cloned() else { return };
        if step.given_up {
            self.emit(Event::StepFailed { step: id, error, then: Then::Nothing, charge });
            return;
        }
        let Some(frame) = self.state.frame(step.frame) else { return };
        let Some(graph) = self.program.graphs.get(frame.graph) else { return };
        let Some(node) = graph.nodes.get(step.node) else { return };
        let error = StepError { node: Some(std::sync::Arc::clone(&node.id)), ..error };
        if error.code == BUDGET {
            let then = Then::Fail;
            self.emit(Event::StepFailed { step: id, error: error.clone(), then, charge });
            return self.stop(Status::Failed, error);
        }
        let then = self
            .retry(id, &step, node, &error)
            .unwrap_or_else(|| instead(graph, node, &step, &error, policy(node, &error)));
        let fails = then == Then::Fail;
        self.emit(Event::StepFailed { step: id, error: error.clone(), then, charge });
        if fails {
            self.fail_frame(step.frame, error);
        }
    }

    /// When it is tried again, if it is.
    fn retry(&self, id: u64, step: &Step, node: &Node, error: &StepError) -> Option<Then> {
        let tried = step.attempt - step.interruptions.min(step.attempt - 1);
        let is_effect = matches!(step.kind, StepKind::Llm | StepKind::Tool | StepKind::Http);
        if !is_effect || tried >= node.retry.attempts || error.code == "interrupted" {
            return None;
        }
        let wanted = match &node.retry.only_if {
            None => error.temporary || node.retry.attempts > 1,
            Some(expr) => {
                let mut fields = Fields::new();
                let shown = json!({"code": error.code, "message": error.message, "temporary": error.temporary});
                fields.insert("error".to_owned(), shown);
                fields.insert("attempt".to_owned(), json!(tried));
                expr.holds(&[&fields]).unwrap_or(false)
            }
        };
        let pause = node.retry.pause(tried, spread(id, step.attempt));
        wanted.then(|| Then::Retry(self.now.after(pause)))
    }

    /// A flow fails: with it the step that it is, or the run.
    pub(super) fn fail_frame(&mut self, id: u32, error: StepError) {
        if id == ROOT {
            return self.stop(Status::Failed, error);
        }
        if let Some(parent) = self.state.frame(id).and_then(|frame| frame.parent) {
            self.failed(parent, error, None);
        }
    }

    /// A step's time has come.
    pub(super) fn due(&mut self, id: u64) {
        let Some(step) = self.state.steps.get(&id).cloned() else { return };
        match (&step.doing, step.kind) {
            (Doing::Sleeping(_), StepKind::Delay) => {
                self.emit(Event::StepFinished { step: id, output: Value::Null, charge: None });
            }
            (Doing::Sleeping(_), _) => {
                let attempt = step.attempt + 1;
                self.emit(Event::StepRetried { step: id, attempt, interrupted: false });
            }
            (Doing::Waiting { .. }, _) => {
                let error = StepError::new(EXPIRED, "nobody answered in time");
                self.failed(id, error, None);
            }
            _ => {}
        }
    }
}

/// The policy that applies to this failure.
fn policy<'a>(node: &'a Node, error: &StepError) -> &'a OnError {
    match &node.kind {
        Kind::Wait(wait) if error.code == EXPIRED => &wait.on_expiry,
        _ => &node.on_error,
    }
}

fn instead(graph: &Graph, node: &Node, step: &Step, error: &StepError, policy: &OnError) -> Then {
    match policy {
        OnError::Value(value) => Then::Value(value.clone()),
        OnError::Goto(To::End) => Then::Goto(None),
        OnError::Goto(To::Node(at)) => {
            Then::Goto(graph.nodes.get(*at).map(|node| std::sync::Arc::clone(&node.id)))
        }
        OnError::Fail => match &node.kind {
            Kind::ToolCalls(calls) if calls.continue_on_error && step.kind == StepKind::Tool => {
                Then::Value(json!({"success": false, "error": error.message}))
            }
            _ => Then::Fail,
        },
    }
}

/// A number from 0 to 1 that differs from step to step and is the same whenever it is asked for.
fn spread(step: u64, attempt: u32) -> f64 {
    let mixed = step.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ u64::from(attempt).wrapping_mul(0xff51_afd7_ed55_8ccd);
    f64::from(u32::try_from(mixed >> 33).unwrap_or_default()) / f64::from(u32::MAX >> 1)
}
