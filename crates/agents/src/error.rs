//! Why a request to the agent API is refused.

use std::time::Duration;

use ::http::StatusCode;

/// A refused or failed operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no session's id.
    #[error("无效的会话ID格式: {0:?} is no session id such as react-20261121-174800-1f73e8a0")]
    SessionId(String),
    /// The text is no workflow's id.
    #[error("无效的工作流ID格式: {0:?} is no workflow id such as react_20261121_174800_1f73e8a0")]
    WorkflowId(String),
    /// The caller has no such session.
    #[error("会话不存在: there is no session {0:?}")]
    UnknownSession(String),
    /// The caller has no such workflow.
    #[error("工作流不存在: there is no workflow {0:?}")]
    UnknownWorkflow(String),
    /// The caller has no such execution.
    #[error("there is no execution {0:?}")]
    UnknownExecution(String),
    /// The caller has no such bookmark.
    #[error("书签不存在: there is no bookmark {0:?}")]
    UnknownBookmark(String),
    /// Nothing was saved that could be restored.
    #[error("会话不存在或无法恢复: session {0:?} was never saved")]
    NothingSaved(String),
    /// A session cannot stand like this.
    #[error("{0:?} is no status: use active, paused, completed, error or archived")]
    Status(String),
    /// The path leads out of the folder of workflows, or names no YAML file.
    #[error("{0:?} is no path of a .yaml file below {1}, with no .. in it")]
    WorkflowPath(String, String),
    /// There is no such file in the folder of workflows.
    #[error("there is no workflow file {0:?}")]
    UnknownFile(String),
    /// The workflow has no nodes yet.
    #[error("workflow {0:?} has no definition yet: give it one with PUT and config_data")]
    Empty(String),
    /// There is no such format of an export.
    #[error("不支持的导出格式: use json or csv")]
    Format,
    /// A field is out of range: which, and what it may be.
    #[error("{0}: {1}")]
    Field(&'static str, String),
    /// A part of the query is out of range: which, and what it may be.
    #[error("{0}: {1}")]
    Query(&'static str, String),
    /// The session's workflow is gone.
    #[error("session {0:?} has no workflow any more")]
    NoWorkflow(String),
    /// The session was changed by others again and again.
    #[error("others change session {0:?} at this moment")]
    Contended(String),
    /// The address has sent so many requests within a minute; when it may go on.
    #[error(
        "Rate limit exceeded: an address may send {0} requests in a minute; wait as Retry-After says"
    )]
    TooFast(usize, Duration),
    /// The key is empty, too long or not plain ASCII.
    #[error("an Idempotency-Key has 1 to 200 ASCII characters")]
    Key,
    /// The key was used for another run.
    #[error("this Idempotency-Key was used for another run: use a new one")]
    Conflict,
    /// The caller has as many connections as it may.
    #[error("this caller has {0} connections already")]
    TooManyConnections(usize),
    /// A page of another origin asks.
    #[error("pages of {0:?} may not connect: add the origin to server.cors_origins")]
    Origin(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// A row holds what this program did not write.
    #[error("a row's {0} cannot be read")]
    Damaged(&'static str),
    /// A file could not be read.
    #[error("a file cannot be read")]
    File(#[from] std::io::Error),
    /// The engine refused or failed.
    #[error("the engine refused")]
    Flow(#[from] flow::Error),
    /// Metering failed.
    #[error("usage records cannot be read")]
    Metering(#[from] metering::Error),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] store::Error),
}

impl From<Error> for web::Error {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::SessionId(_)
            | Error::WorkflowId(_)
            | Error::UnknownSession(_)
            | Error::UnknownWorkflow(_)
            | Error::UnknownExecution(_)
            | Error::UnknownBookmark(_)
            | Error::NothingSaved(_)
            | Error::UnknownFile(_) => missing(&error, message),
            Error::Field(param, _) => {
                Self::new(StatusCode::BAD_REQUEST, "invalid_field", message).param(param)
            }
            Error::Query(param, _) => {
                Self::new(StatusCode::BAD_REQUEST, "invalid_query", message).param(param)
            }
            Error::Random
            | Error::Damaged(_)
            | Error::File(_)
            | Error::Metering(_)
            | Error::Store(_) => Self::internal(&error),
            Error::Flow(error) => error.into(),
            other => refused(&other, message),
        }
    }
}

/// What is not there, or cannot be.
fn missing(error: &Error, message: String) -> web::Error {
    let (status, code) = match error {
        Error::SessionId(_) => (StatusCode::BAD_REQUEST, "invalid_session_id"),
        Error::WorkflowId(_) => (StatusCode::BAD_REQUEST, "invalid_workflow_id"),
        Error::UnknownSession(_) => (StatusCode::NOT_FOUND, "session_not_found"),
        Error::UnknownWorkflow(_) => (StatusCode::NOT_FOUND, "workflow_not_found"),
        Error::UnknownBookmark(_) => (StatusCode::NOT_FOUND, "bookmark_not_found"),
        Error::NothingSaved(_) => (StatusCode::NOT_FOUND, "nothing_saved"),
        Error::UnknownFile(_) => (StatusCode::NOT_FOUND, "workflow_file_not_found"),
        _ => (StatusCode::NOT_FOUND, "execution_not_found"),
    };
    web::Error::new(status, code, message)
}

/// What cannot be done as things are.
fn refused(error: &Error, message: String) -> web::Error {
    match error {
        Error::Status(_) => {
            web::Error::new(StatusCode::BAD_REQUEST, "invalid_status", message).param("status")
        }
        Error::WorkflowPath(..) => {
            web::Error::new(StatusCode::BAD_REQUEST, "invalid_workflow_path", message)
        }
        Error::Format => {
            web::Error::new(StatusCode::BAD_REQUEST, "invalid_format", message).param("format")
        }
        Error::Empty(_) => web::Error::new(StatusCode::CONFLICT, "workflow_empty", message),
        Error::NoWorkflow(_) => web::Error::new(StatusCode::CONFLICT, "workflow_gone", message),
        Error::Key => web::Error::new(StatusCode::BAD_REQUEST, "invalid_idempotency_key", message),
        Error::Conflict => web::Error::new(StatusCode::CONFLICT, "idempotency_conflict", message),
        Error::TooFast(_, wait) => {
            web::Error::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message)
                .retry_after(*wait)
        }
        Error::TooManyConnections(_) => {
            web::Error::new(StatusCode::TOO_MANY_REQUESTS, "too_many_connections", message)
                .retry_after(Duration::from_secs(1))
        }
        Error::Origin(_) => web::Error::new(StatusCode::FORBIDDEN, "origin_not_allowed", message),
        _ => web::Error::new(StatusCode::SERVICE_UNAVAILABLE, "contended", message)
            .retry_after(Duration::from_secs(1)),
    }
}
