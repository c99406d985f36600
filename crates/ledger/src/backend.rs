//! Where the journal's rows are kept.

mod mysql;
mod sqlite;

pub(crate) use mysql::MySqlBackend;
pub(crate) use sqlite::{SqliteBackend, account_key};

use store::{Error, Result};

use crate::LotKind;
use crate::state::{Changes, Need, State};

/// The kind of a stored lot.
pub(crate) fn lot_kind(name: &str) -> Result<LotKind> {
    let damaged = Error::Shape { column: 3, wanted: "a kind of lot", found: "something else" };
    LotKind::parse(name).ok_or(damaged)
}

/// What happens between reading and writing: pure work on the state.
pub(crate) type Work<'a> = &'a mut dyn FnMut(&mut State) -> Changes;

/// A database the journal writes to.
pub(crate) trait Backend: Send + std::fmt::Debug {
    /// A batch takes as long as a commit to a disk of this machine, and may be written on any thread.
    fn is_local(&self) -> bool;

    /// Nobody has to be waited for before a batch can begin.
    fn is_free(&self) -> bool;

    /// Brings `state` up to what `need` names, for work that a later batch writes; only where nobody
    /// else writes ([`is_local`](Self::is_local)).
    fn read(&mut self, state: &mut State, need: &Need) -> Result<()>;

    /// One batch in one transaction, in which nobody else writes: brings `state` up to what
    /// `need` names, lets `work` change it, writes what it says and commits. When this returns,
    /// the changes are on disk; when it fails, they are not, or nobody knows, and `state` is no
    /// longer to be trusted.
    fn batch(&mut self, state: &mut State, need: &Need, work: Work<'_>) -> Result<()>;
}
