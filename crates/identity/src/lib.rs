//! Organizations, users, applications and keys; from a credential to a [`Caller`]; who may use what.
//!
//! Invariants:
//! - a key's secret exists in full only in the answer that creates it; stored is its keyed hash;
//! - a disabled, deleted or expired key, every key of a disabled organization, user or application,
//!   and what a changed role or rule let through, stop working within a second on every instance;
//! - a handler that takes an [`Authenticated`] or [`Admin`] is reached by nobody else, and by nobody
//!   whom no [`Rule`] lets in;
//! - a change and what its [witness](Identity::witnessed) writes are in one transaction; a change
//!   made for another version than the present one is none;
//! - a signed request is answered once, within its time, and by one application's own secret, which is
//!   sealed at rest.
//!
//! Tables: `identity_settings`, `identity_orgs`, `identity_users`, `identity_apps`, `identity_keys`,
//! `identity_roles`, `identity_rules`, `identity_app_secrets`, `identity_replays`.

mod access;
mod authenticate;
mod caller;
mod deerer;
mod directory;
mod edit;
mod error;
mod extract;
mod jobs;
mod keys;
mod limits;
mod members;
mod model;
mod roles;
mod rules;
mod seal;
mod secret;
mod service;
mod signing;
mod signing_error;
mod store;
mod uapi;

pub use caller::{Caller, Role};
pub use deerer::deerer_header;
pub use directory::USER_ORDERS;
pub use edit::{Changed, Edit};
pub use error::Error;
pub use extract::{Admin, Anyone, Authenticated};
pub use limits::{Limits, SCOPES};
pub use model::{
    AddedRule, App, Change, CreatedKey, Expiry, Key, KeyChange, MemberChange, NamedRole, NewKey,
    Org, OrgKind, Rotation, User,
};
pub use roles::RolePattern;
pub use rules::{Route, Rule};
pub use secret::{Config, ServerSecret};
pub use service::{Identity, PLATFORM};
pub use signing::{AppSecret, AppSigning, SigningConfig, SigningError};
pub use store::{Filter, MIGRATIONS};
pub use uapi::{ReadSigned, ReadsSigned, sign};

/// What an identity operation gives.
pub type Result<T> = std::result::Result<T, Error>;
