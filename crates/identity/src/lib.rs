//! Organizations, users, applications and keys; from a credential to a [`Caller`].

mod caller;

pub use caller::{Caller, Role};
