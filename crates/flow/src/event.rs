//! What happens to a run, in order: the log from which its state is made again.

use std::sync::Arc;

use kernel::{Amount, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::expr::Fields;

/// One thing that happened to a run. Its number in the run's log has no gaps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Event {
    /// The run was asked for; its definition and options are in the run itself.
    #[serde(rename = "run.created")]
    Created {
        /// What it was given.
        input: Fields,
    },
    /// Its turn has come.
    #[serde(rename = "run.started")]
    Started {
        /// When it is stopped unless it has ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// A process took the run over; effects under way before may have been lost.
    #[serde(rename = "run.recovered")]
    Recovered,
    /// A node that works on several things at once, or none, knows how many.
    #[serde(rename = "node.planned")]
    Planned {
        /// Where.
        frame: u32,
        /// Which node.
        node: Arc<str>,
        /// How many.
        slots: u32,
    },
    /// A node that only computes is done.
    #[serde(rename = "node.passed")]
    Passed {
        /// Where.
        frame: u32,
        /// Which node.
        node: Arc<str>,
        /// The fields it sets.
        #[serde(default, skip_serializing_if = "Fields::is_empty")]
        set: Fields,
    },
    /// A loop has gone round for the last time.
    #[serde(rename = "node.finished")]
    LoopEnded {
        /// Where.
        frame: u32,
        /// Which node.
        node: Arc<str>,
    },
    /// Something that takes time begins: an effect, a wait, or another flow.
    #[serde(rename = "step.started")]
    StepStarted {
        /// Its number in the run.
        step: u64,
        /// Where.
        frame: u32,
        /// Which node.
        node: Arc<str>,
        /// Its position among several of the node.
        #[serde(default, skip_serializing_if = "is_zero")]
        slot: u32,
        /// What kind of step.
        kind: StepKind,
    },
    /// A step waits for a person or an event from outside.
    #[serde(rename = "step.waiting")]
    StepWaiting {
        /// Which.
        step: u64,
        /// What is asked.
        message: String,
        /// When the question is withdrawn.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires: Option<Timestamp>,
    },
    /// A step waits for a time.
    #[serde(rename = "step.sleeping")]
    StepSleeping {
        /// Which.
        step: u64,
        /// Until when.
        until: Timestamp,
    },
    /// A waiting step got its answer.
    #[serde(rename = "step.answered")]
    StepAnswered {
        /// Which.
        step: u64,
        /// The answer.
        answer: Value,
    },
    /// An effect ended well.
    #[serde(rename = "step.finished")]
    StepFinished {
        /// Which.
        step: u64,
        /// What it gave.
        output: Value,
        /// The charge it made, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        charge: Option<String>,
    },
    /// A step failed, or nobody answered it in time.
    #[serde(rename = "step.failed")]
    StepFailed {
        /// Which.
        step: u64,
        /// Why.
        error: StepError,
        /// What becomes of it.
        then: Then,
        /// The charge it made all the same, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        charge: Option<String>,
    },
    /// A step is tried again.
    #[serde(rename = "step.retried")]
    StepRetried {
        /// Which.
        step: u64,
        /// For the how-many-th time.
        attempt: u32,
        /// The attempt before was lost with its process; it has not failed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        interrupted: bool,
    },
    /// Another flow begins as a step.
    #[serde(rename = "frame.opened")]
    FrameOpened {
        /// Its number in the run.
        frame: u32,
        /// The step it is.
        step: u64,
    },
    /// All nodes at work are done: their outputs are in the state, and these come next.
    #[serde(rename = "frame.moved")]
    FrameMoved {
        /// Where.
        frame: u32,
        /// The nodes that come next; none when the flow is at its end.
        to: Vec<Arc<str>>,
    },
    /// A flow that was a step has ended; its output is the step's.
    #[serde(rename = "frame.closed")]
    FrameClosed {
        /// Which.
        frame: u32,
    },
    /// The run is to end before its end; what is under way is cut off first.
    #[serde(rename = "run.stopping")]
    Stopping {
        /// How it will end.
        status: Status,
        /// Why.
        error: StepError,
    },
    /// The run has ended.
    #[serde(rename = "run.finished")]
    Finished {
        /// How.
        status: Status,
        /// Why, if not well.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<StepError>,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An event with its place in the log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Logged {
    /// 1, 2, 3, … without gaps.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// What was charged with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Amount>,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

impl Logged {
    /// Events that were written together, from this number on; what was charged with them belongs
    /// to the step that ended.
    pub(crate) fn numbered(
        first: i64,
        at: Timestamp,
        cost: Amount,
        events: Vec<Event>,
    ) -> impl Iterator<Item = Self> {
        let mut cost = Some(cost).filter(|cost| *cost != Amount::ZERO);
        (first..).zip(events).map(move |(seq, event)| {
            let ends = matches!(event, Event::StepFinished { .. } | Event::StepFailed { .. });
            let cost = if ends { cost.take() } else { None };
            Self { seq, at, cost, event }
        })
    }
}

/// How a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits for its turn.
    #[default]
    Queued,
    /// It is at work.
    Running,
    /// It waits for a person, an event or a time, and costs nothing meanwhile.
    Waiting,
    /// It was cancelled, and what is under way is being cut off.
    Cancelling,
    /// It reached its end.
    Succeeded,
    /// It could not go on.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// Its time was over.
    TimedOut,
}

impl Status {
    pub(crate) const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
    ];

    /// The name in answers and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }

    /// The status of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Nothing happens to the run any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::TimedOut)
    }
}

/// What kind of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// A call of a model.
    Llm,
    /// A call of a tool.
    Tool,
    /// An HTTP request.
    Http,
    /// A wait for an answer.
    Wait,
    /// A pause before the node.
    PauseBefore,
    /// A pause after the node.
    PauseAfter,
    /// A wait for a time.
    Delay,
    /// Another flow.
    Flow,
}

/// Why a step or a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// A stable name, such as `tool_timeout`.
    pub code: String,
    /// What happened.
    pub message: String,
    /// The node, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Arc<str>>,
    /// Trying again may help.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub temporary: bool,
}

impl StepError {
    /// An error that trying again does not help.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), node: None, temporary: false }
    }

    /// An error that may be gone when tried again.
    pub fn temporary(code: &str, message: impl Into<String>) -> Self {
        Self { temporary: true, ..Self::new(code, message) }
    }
}

/// What becomes of a failed step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It is tried again at this time.
    Retry(Timestamp),
    /// This is its output instead.
    Value(Value),
    /// The flow goes on there: the node's name, or none for the end.
    Goto(Option<Arc<str>>),
    /// The flow it is in fails.
    Fail,
    /// Nothing: it was given up before.
    Nothing,
}
