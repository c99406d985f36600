//! How a run stands, and how it stood: its log, added up.

mod asked;

use std::collections::VecDeque;
use std::sync::Arc;

use kernel::{OrgId, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Engine;
use crate::event::{Event, Logged, Status, StepKind};
use crate::graph::{Kind, Program};
use crate::state::{Doing, ROOT, State, Step};
use crate::{Result, store};

pub use asked::Asked;

/// How a run stood after an event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// The event's number; watching from it misses nothing.
    pub seq: i64,
    /// When that happened.
    pub at: Timestamp,
    /// How the run stood.
    pub status: Status,
    /// Its fields; of a run that has ended, those at its end.
    pub fields: Map<String, Value>,
    /// The nodes of the flow that are at work or come next.
    pub next: Vec<Arc<str>>,
    /// What it asks.
    pub questions: Vec<Question>,
}

/// A step that waits for an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Question {
    /// The step to be answered.
    pub step: u64,
    /// Its node.
    pub node: Arc<str>,
    /// `wait`, `pause_before` or `pause_after`.
    pub kind: StepKind,
    /// What is asked.
    pub message: String,
    /// What an answer must fit, if anything: a JSON schema.
    pub schema: Option<Value>,
    /// When it is withdrawn.
    pub expires: Option<Timestamp>,
}

/// What a node has set, when its flow moved on.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The node.
    pub node: Arc<str>,
    /// The fields and their new values; of lists and figures that add up, what was added.
    pub set: Map<String, Value>,
}

/// A run's log being added up, event by event.
#[derive(Debug)]
pub struct Replay {
    pub(super) run: Arc<str>,
    program: Arc<Program>,
    state: State,
    /// The fields at the end, which the state no longer has.
    last: Option<Map<String, Value>>,
    seq: i64,
    at: Timestamp,
}

impl Engine {
    /// Adds up a run's log from its beginning, as it is read or watched.
    pub async fn replay(&self, org_id: &OrgId, run: &str) -> Result<Replay> {
        let record = self.find(org_id, run).await?;
        let program = self.program(org_id, &record.definition_id).await?;
        Ok(Replay::new(record.id, program, record.created_at))
    }

    /// How a run stands now.
    pub async fn snapshot(&self, org_id: &OrgId, run: &str) -> Result<Snapshot> {
        let mut replay = self.replay(org_id, run).await?;
        for logged in store::events(&self.database, run, 0).await? {
            replay.apply(&logged);
        }
        Ok(replay.snapshot())
    }

    /// How a run stood at its start, at each question, after each step of its flow, and at its end:
    /// `most` of them before the event `before`, the newest first.
    pub async fn snapshots(
        &self,
        org_id: &OrgId,
        run: &str,
        before: Option<i64>,
        most: usize,
    ) -> Result<Vec<Snapshot>> {
        let mut replay = self.replay(org_id, run).await?;
        let mut kept: VecDeque<Snapshot> = VecDeque::new();
        let before = before.unwrap_or(i64::MAX);
        let log = store::events(&self.database, run, 0).await?;
        for logged in log.iter().take_while(|logged| logged.seq < before) {
            replay.apply(logged);
            if marks(&logged.event) && most > 0 {
                kept.truncate(most - 1);
                kept.push_front(replay.snapshot());
            }
        }
        Ok(kept.into())
    }
}

/// Whether a run is worth a look after this event.
const fn marks(event: &Event) -> bool {
    match event {
        Event::Started { .. } | Event::StepWaiting { .. } | Event::Finished { .. } => true,
        Event::FrameMoved { frame, .. } => *frame == ROOT,
        _ => false,
    }
}

impl Replay {
    pub(super) fn new(run: Arc<str>, program: Arc<Program>, at: Timestamp) -> Self {
        Self { run, program, state: State::default(), last: None, seq: 0, at }
    }

    /// Takes in the next event; gives what the nodes have set that were at work, if the flow moved
    /// on.
    pub fn apply(&mut self, logged: &Logged) -> Vec<Update> {
        let updates = match &logged.event {
            Event::FrameMoved { frame, .. } if *frame == ROOT => self.updates(),
            _ => Vec::new(),
        };
        if let Event::Finished { .. } = logged.event {
            self.last = self.state.frame(ROOT).map(|frame| frame.fields.clone());
        }
        self.state.apply(&self.program, &logged.event);
        (self.seq, self.at) = (logged.seq, logged.at);
        updates
    }

    /// The fields, as far as it has come.
    pub fn fields(&self) -> &Map<String, Value> {
        let fields = self.state.frame(ROOT).map(|frame| &frame.fields);
        fields.or(self.last.as_ref()).unwrap_or(&self.state.input)
    }

    /// Whether a question waits for its answer.
    pub fn asks(&self) -> bool {
        let waits = |step: &Step| {
            matches!(step.doing, Doing::Waiting { .. }) && step.kind != StepKind::Delay
        };
        self.state.steps.values().any(waits)
    }

    /// The node of a step that has not ended.
    pub fn node_of(&self, step: u64) -> Option<Arc<str>> {
        let node = self.state.node_of(&self.program, self.state.steps.get(&step)?)?;
        Some(Arc::clone(&node.id))
    }

    /// All about how the run stands, as far as it has come.
    pub fn snapshot(&self) -> Snapshot {
        let status = self.state.status;
        Snapshot {
            seq: self.seq,
            at: self.at,
            status,
            fields: self.fields().clone(),
            next: if status.is_final() { Vec::new() } else { self.next() },
            questions: self.questions(),
        }
    }

    fn updates(&self) -> Vec<Update> {
        let Some(root) = self.state.frame(ROOT) else { return Vec::new() };
        let Some(graph) = self.program.graphs.get(root.graph) else { return Vec::new() };
        let done = root.active.iter().filter_map(|active| {
            let node = graph.nodes.get(active.node)?;
            let set = crate::update::of(node, active, &root.fields).into_iter().collect();
            Some(Update { node: Arc::clone(&node.id), set })
        });
        done.collect()
    }

    fn next(&self) -> Vec<Arc<str>> {
        let Some(graph) = self.program.graphs.first() else { return Vec::new() };
        let node = |at: usize| graph.nodes.get(at).map(|node| Arc::clone(&node.id));
        match self.state.frame(ROOT) {
            Some(root) => root.active.iter().filter_map(|active| node(active.node)).collect(),
            // It has not begun.
            None => node(graph.entry).into_iter().collect(),
        }
    }

    fn questions(&self) -> Vec<Question> {
        let waiting = self.state.steps.iter().filter_map(|(id, step)| match &step.doing {
            Doing::Waiting { message, expires } if step.kind != StepKind::Delay => {
                let node = self.state.node_of(&self.program, step)?;
                let schema = match &node.kind {
                    Kind::Wait(wait) if step.kind == StepKind::Wait => wait.schema.clone(),
                    _ => None,
                };
                Some(Question {
                    step: *id,
                    node: Arc::clone(&node.id),
                    kind: step.kind,
                    message: message.clone(),
                    schema,
                    expires: *expires,
                })
            }
            _ => None,
        });
        waiting.collect()
    }
}
