//! Organizations, users, applications and keys; from a credential to a [`Caller`].
//!
//! Invariants:
//! - a key's secret exists in full only in the answer that creates it; stored is its keyed hash;
//! - a disabled or expired key, and every key of a disabled organization, user or application,
//!   stops working within a second on every instance;
//! - a handler that takes an [`Authenticated`] or [`Admin`] is reached by nobody else.
//!
//! Tables: `identity_settings`, `identity_orgs`, `identity_users`, `identity_apps`, `identity_keys`.

mod authenticate;
mod caller;
mod error;
mod extract;
mod jobs;
mod keys;
mod members;
mod model;
mod secret;
mod service;
mod store;

pub use caller::{Caller, Role};
pub use error::Error;
pub use extract::{Admin, Authenticated};
pub use model::{App, Change, CreatedKey, Key, NewKey, Org, OrgKind, Rotation, User};
pub use secret::{Config, ServerSecret};
pub use service::{Identity, PLATFORM};
pub use store::MIGRATIONS;

/// What an identity operation gives.
pub type Result<T> = std::result::Result<T, Error>;
