//! Why an administrator's request is refused.

use std::time::Duration;

use http::StatusCode;
use ledger::JournalError;

/// A refused or failed administration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A write of money came without an `Idempotency-Key`.
    #[error("no idempotency key was sent")]
    KeyRequired,
    /// The key is empty, too long or not plain ASCII.
    #[error("the idempotency key is not 1 to 64 ASCII characters")]
    Key,
    /// The key was used for another grant.
    #[error("the idempotency key was used for another grant")]
    Conflict,
    /// Only amounts above zero can be granted.
    #[error("the amount must be above zero")]
    Amount,
    /// The reason is missing or too long.
    #[error("the reason must have 1 to 200 bytes")]
    Reason,
    /// The wallet would leave the range of amounts.
    #[error("the grant was refused")]
    Refused(#[source] ledger::Refusal),
    /// Identity refused or failed.
    #[error("identity refused")]
    Identity(#[from] identity::Error),
    /// The journal could not write.
    #[error("the journal failed")]
    Journal(#[source] JournalError),
    /// Metering failed.
    #[error("metering failed")]
    Metering(#[from] metering::Error),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] store::Error),
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Conflict => Self::Conflict,
            other => Self::Journal(other),
        }
    }
}

impl From<Error> for web::Error {
    fn from(error: Error) -> Self {
        let bad = |code, message: &'static str| Self::new(StatusCode::BAD_REQUEST, code, message);
        match error {
            Error::KeyRequired => bad(
                "idempotency_key_required",
                "send an Idempotency-Key, so that a repeated request is not a second grant",
            ),
            Error::Key => {
                bad("invalid_idempotency_key", "Idempotency-Key must be 1 to 64 ASCII characters")
            }
            Error::Amount => bad("invalid_amount", "amount must be above zero").param("amount"),
            Error::Reason => {
                bad("invalid_reason", "reason must have 1 to 200 bytes").param("reason")
            }
            Error::Conflict => Self::new(
                StatusCode::CONFLICT,
                "idempotency_conflict",
                "this Idempotency-Key was used for another grant: use a new key",
            ),
            Error::Refused(refusal) => Self::new(
                StatusCode::CONFLICT,
                "grant_refused",
                format!("the grant is refused: {refusal}"),
            ),
            Error::Identity(cause) => cause.into(),
            Error::Journal(JournalError::Busy) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "too many operations are waiting: send the request again later",
            )
            .retry_after(Duration::from_secs(1)),
            Error::Journal(cause) => Self::internal(&cause),
            Error::Metering(cause) => Self::internal(&cause),
            Error::Store(cause) => Self::internal(&cause),
        }
    }
}
