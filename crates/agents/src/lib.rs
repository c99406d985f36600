//! The agent API: `/sessions`, `/workflows`, `/history`, `/analytics` and `/ws`.
//!
//! A workflow is a definition of the flow engine under a name; a session is a conversation with one.
//! Runs are the engine's: durable, and metered like every call. What happened in them is told from
//! their logs: pushed while it happens, and written into the history behind it.
//!
//! Invariants:
//! - a caller sees its own sessions and workflows ([`Owner`]); others' are not there (404);
//! - no file outside the folder of workflows is read;
//! - every event of a run is in the history once, numbered within its session without gaps, and its
//!   figures are added in the same transaction;
//! - the cost of a session is what the usage records of its runs' calls say, to the last digit;
//! - whoever listens slowly misses pushes and is told how things stand, and never slows a run.
//!
//! Tables: `agents_workflows`, `agents_sessions`, `agents_snapshots`, `agents_runs`, `agents_history`,
//! `agents_search`, `agents_figures`, `agents_bookmarks`.

mod analytics;
mod config;
mod connections;
mod error;
mod folder;
mod follow;
mod history;
mod http;
mod hub;
mod ids;
mod mirror;
mod owner;
mod records;
mod runs;
mod service;
mod sessions;
mod store;
mod stream;
mod workflows;

pub use config::Config;
pub use error::Error;
pub use history::{Bookmark, Cleaned, Counts, Statistics};
pub use http::{PATHS, document, router};
pub use owner::Owner;
pub use runs::{Execution, RunRequest};
pub use service::{Agents, Parts};
pub use sessions::{NewSession, Session, SessionChange};
pub use store::MIGRATIONS;
pub use workflows::{NewWorkflow, Workflow, WorkflowChange};

/// What an operation of this crate gives.
pub type Result<T> = std::result::Result<T, Error>;
