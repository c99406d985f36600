//! Why a run is not started, answered or read, and how every surface tells it.

use std::time::Duration;

use http::StatusCode;
use ledger::JournalError;
use serde_json::json;

use crate::{Finding, Severity};

/// A refused or failed operation on flows and runs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The definition has errors; all of what was found is here.
    #[error("the definition has errors")]
    Invalid(Vec<Finding>),
    /// There is no such definition of this organization.
    #[error("there is no definition {0}")]
    UnknownDefinition(String),
    /// There is no such run of this organization.
    #[error("there is no run {0}")]
    UnknownRun(String),
    /// The key was used for another start.
    #[error("the key was used for another run")]
    Conflict,
    /// Too many runs of the organization wait for their turn.
    #[error("{0} runs wait for their turn already")]
    TooManyRuns(usize),
    /// The input or answer is too large.
    #[error("a value of {bytes} bytes is larger than {most}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest allowed.
        most: usize,
    },
    /// No such question waits for an answer.
    #[error("the run waits for no such answer")]
    NotWaiting,
    /// The question has been answered before, and otherwise.
    #[error("the question has been answered otherwise")]
    Answered,
    /// The answer does not fit its schema.
    #[error("the answer does not fit: {0}")]
    Mismatch(String),
    /// Another process has taken the run over in this moment: try again.
    #[error("the run was taken over by another process")]
    TakenOver,
    /// The engine is stopping.
    #[error("the engine is stopping")]
    Stopping,
    /// The journal could not write.
    #[error("the journal failed")]
    Journal(#[source] JournalError),
    /// The database could not be read.
    #[error("the database failed")]
    Store(#[from] store::Error),
    /// A stored run cannot be read back.
    #[error("run {0} is damaged: {1}")]
    Damaged(String, String),
    /// A tool of the configuration cannot be used.
    #[error("tool {0}: {1}")]
    Tool(String, String),
}

/// Before a request that failed for a moment's reason is sent again.
const SOON: Duration = Duration::from_secs(1);

impl From<Error> for web::Error {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(findings) => invalid(&findings),
            Error::UnknownDefinition(_) => {
                Self::new(StatusCode::NOT_FOUND, "definition_not_found", message)
            }
            Error::UnknownRun(_) => Self::new(StatusCode::NOT_FOUND, "run_not_found", message),
            Error::Conflict => Self::new(
                StatusCode::CONFLICT,
                "idempotency_conflict",
                "this key was used for another run: use a new key",
            ),
            Error::TooManyRuns(_) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_runs",
                format!("{message}: start more when some have ended"),
            )
            .retry_after(SOON),
            Error::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "value_too_large", message)
            }
            Error::NotWaiting => Self::new(
                StatusCode::CONFLICT,
                "not_waiting",
                "the run does not wait for this answer: look at what it asks",
            ),
            Error::Answered => Self::new(
                StatusCode::CONFLICT,
                "already_answered",
                "the question was answered before, and otherwise: the first answer counts",
            ),
            Error::Mismatch(_) => Self::new(StatusCode::BAD_REQUEST, "answer_mismatch", message),
            Error::TakenOver => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "run_moved",
                "another instance has just taken the run over: send the request again",
            )
            .retry_after(SOON),
            Error::Stopping => {
                unavailable("stopping", "the server is stopping: send the request again")
            }
            Error::Journal(cause) => journal(&cause),
            other @ (Error::Store(_) | Error::Damaged(..) | Error::Tool(..)) => {
                Self::internal(&other)
            }
        }
    }
}

fn invalid(findings: &[Finding]) -> web::Error {
    let first = findings.iter().find(|finding| finding.severity == Severity::Error);
    let message = first.map_or_else(|| "the definition has errors".to_owned(), ToString::to_string);
    web::Error::new(StatusCode::BAD_REQUEST, "invalid_definition", message)
        .details(json!({"findings": findings}))
}

fn journal(cause: &JournalError) -> web::Error {
    if matches!(cause, JournalError::Busy) {
        return unavailable(
            "overloaded",
            "too many operations are waiting: send the request again later",
        );
    }
    tracing::error!(error = cause as &dyn std::error::Error, "the journal could not write");
    unavailable(
        "storage_unavailable",
        "this could not be recorded, so it was not done: send it again later",
    )
}

fn unavailable(code: &'static str, message: &'static str) -> web::Error {
    web::Error::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after(SOON)
}
