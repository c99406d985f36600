//! Why something is not done, and how it is told.

use ::http::StatusCode;

/// A refused or failed operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thread of this organization.
    #[error("there is no thread {0}")]
    UnknownThread(String),
    /// There is no such run of this thread.
    #[error("there is no run {0}")]
    UnknownRun(String),
    /// There is no such checkpoint in the thread.
    #[error("there is no checkpoint {0}")]
    UnknownCheckpoint(String),
    /// The thread's id is taken.
    #[error("there is a thread {0}")]
    ThreadExists(String),
    /// A run of the thread has not ended.
    #[error("a run of the thread has not ended")]
    Busy,
    /// The request asks for what this server cannot do.
    #[error("{0} is not supported here")]
    Unsupported(String),
    /// A part of the request is not valid.
    #[error("{0}: {1}")]
    Invalid(&'static str, String),
    /// The engine refused or failed.
    #[error(transparent)]
    Flow(#[from] flow::Error),
    /// The database could not be read or written.
    #[error("the database failed")]
    Store(#[from] store::Error),
}

impl From<Error> for web::Error {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::UnknownThread(_) => {
                Self::new(StatusCode::NOT_FOUND, "thread_not_found", message)
            }
            Error::UnknownRun(_) => Self::new(StatusCode::NOT_FOUND, "run_not_found", message),
            Error::UnknownCheckpoint(_) => {
                Self::new(StatusCode::NOT_FOUND, "checkpoint_not_found", message)
            }
            Error::ThreadExists(_) => Self::new(
                StatusCode::CONFLICT,
                "thread_exists",
                format!("{message}: choose another id, or send if_exists: do_nothing"),
            ),
            Error::Busy => Self::new(
                StatusCode::CONFLICT,
                "thread_busy",
                format!("{message}: wait for it, cancel it, or send multitask_strategy: interrupt"),
            ),
            Error::Unsupported(_) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "unsupported",
                format!("{message}: leave it out"),
            ),
            Error::Invalid(param, _) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", message).param(param)
            }
            Error::Flow(cause) => cause.into(),
            Error::Store(cause) => Self::internal(&cause),
        }
    }
}
