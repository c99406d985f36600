//! What can go wrong with an operation.

use std::sync::Arc;

/// An operation that has no outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// Too many operations wait. Nothing was written; try again later.
    #[error("the journal's queue is full")]
    Busy,
    /// The id was used for another operation. Nothing was written.
    #[error("the operation's id was used for another operation")]
    Conflict,
    /// The id or memo is too long. Nothing was written.
    #[error("the operation's id has more than 128 bytes, or its memo more than 255")]
    TooLong,
    /// The database could not write. Whether it did may be unknown: repeat with the same id.
    #[error("the journal cannot write")]
    Storage(#[source] Arc<store::Error>),
    /// What is attached to the operation does not fit its table. Nothing was written.
    #[error("what is attached to the operation cannot be written")]
    Attachment(#[source] Arc<store::Error>),
    /// The hold that the operation is about was decided, and could not be written then. Nothing was
    /// written.
    #[error("the hold was lost")]
    HoldLost,
    /// The journal has stopped.
    #[error("the journal has stopped")]
    Stopped,
}
