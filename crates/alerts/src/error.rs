//! What can go wrong with alerts.

use crate::alert::MOST;

/// A refused or failed operation on alerts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Identity refused or failed; also what is not there, or has another version.
    #[error("identity refused")]
    Identity(#[from] identity::Error),
    /// A threshold below zero.
    #[error("amount must be zero or more")]
    Amount,
    /// The webhook's URL cannot be called; the text says why.
    #[error("url: {0}")]
    Url(String),
    /// An organization has as many alerts as it may.
    #[error("an organization has at most {MOST} alerts: delete one first")]
    TooMany,
    /// A stored row does not read back.
    #[error("row {0} of the alerts is damaged")]
    Damaged(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] store::Error),
}
