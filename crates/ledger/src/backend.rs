//! Where the journal's rows are kept.

mod mysql;
mod sqlite;

pub(crate) use mysql::MySqlBackend;
pub(crate) use sqlite::{SqliteBackend, account_key};

use store::Result;

use crate::state::{Changes, Need, State};

/// What happens between reading and writing: pure work on the state.
pub(crate) type Work<'a> = &'a mut dyn FnMut(&mut State) -> Changes;

/// A database the journal writes to.
pub(crate) trait Backend: Send {
    /// One batch in one transaction, in which nobody else writes: brings `state` up to what
    /// `need` names, lets `work` change it, writes what it says and commits. When this returns,
    /// the changes are on disk; when it fails, they are not, or nobody knows, and `state` is no
    /// longer to be trusted.
    fn batch(&mut self, state: &mut State, need: &Need, work: Work<'_>) -> Result<()>;
}
