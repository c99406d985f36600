//! Flows: workflows as graphs, carried out durably, their calls metered.
//!
//! A definition (YAML) is compiled to a [`Program`]: checked as a whole, named by the hash of its
//! text. A run is a log of events; its state is what they add up to. What a run does next is decided
//! by a pure machine and written by the journal before anything of it is done.
//!
//! Invariants:
//! - an event's number has no gaps, and an event is never changed;
//! - an effect begins after its beginning is on disk; its outcome is written once, with its charge;
//! - a finished effect is never performed again; after a crash a run goes on where it was;
//! - two processes never both write a run: the later one finds its place in the log taken;
//! - expressions and templates compute within limits and do nothing else.
//!
//! Tables: `flow_definitions`, `flow_runs`, `flow_log`, `flow_owners`.

mod budget;
mod calls;
mod check;
mod compile;
mod config;
mod draw;
mod engine;
mod error;
mod event;
mod expr;
mod fetch;
mod findings;
mod graph;
mod import;
mod layout;
mod machine;
mod metered;
mod reader;
mod schema;
mod state;
mod store;
mod template;
mod tools;
#[cfg(test)]
mod trials;
mod update;

pub use budget::{Budget, Reserved};
pub use calls::{Calling, ModelCall, ModelCaller, StepEnd};
pub use compile::{Compiled, Surroundings, compile};
pub use config::{Config, HttpTool, McpServer};
pub use draw::Drawing;
pub use engine::{
    Asked, Ending, Engine, News, Question, Replay, Said, Snapshot, Start, Started, Update, Watch,
};
pub use error::Error;
pub use event::{Event, Logged, Status, StepError, StepKind, Then};
pub use findings::{Finding, Severity};
pub use graph::Program;
pub use import::{Imported, Note, import};
pub use store::{Definition, MIGRATIONS, RunRecord};

/// What an operation on flows gives.
pub type Result<T> = std::result::Result<T, Error>;
