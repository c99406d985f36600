//! Why a call fails, and how it is told.

use std::time::Duration;

use http::StatusCode;
use models::{CallError, RequestError};
use serde_json::json;

/// A refused or failed call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is not one the surface takes.
    #[error("the request is not valid")]
    Request(#[from] RequestError),
    /// No such model is offered.
    #[error("no model is called {0:?}")]
    UnknownModel(String),
    /// The model is of another kind.
    #[error("model {model:?} does not do {surface}")]
    WrongKind {
        /// The public model name.
        model: String,
        /// What was asked of it.
        surface: &'static str,
    },
    /// The `Idempotency-Key` is empty, too long or not plain ASCII.
    #[error("the idempotency key is not 1 to 255 ASCII characters")]
    IdempotencyKey,
    /// The first request with this key still runs.
    #[error("the first request with this idempotency key still runs")]
    InProgress,
    /// The key's call is charged, and its answer is no longer kept.
    #[error("the answer of this idempotency key is no longer kept")]
    AnswerGone,
    /// The key's attempts have all ended without an answer.
    #[error("the attempts of this idempotency key are used up")]
    AttemptsUsedUp,
    /// There is no such usage record for this caller.
    #[error("no usage record has this id")]
    UnknownUsage,
    /// Metering refused or failed.
    #[error("metering refused the call")]
    Metering(#[from] metering::Error),
    /// The upstream refused or failed.
    #[error("the upstream failed")]
    Upstream(#[source] CallError),
    /// The database could not be read.
    #[error("the database failed")]
    Store(#[from] store::Error),
    /// The server stops.
    #[error("the server is stopping")]
    Stopping,
}

impl From<Error> for web::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Request(cause) => request(&cause),
            Error::UnknownModel(model) => Self::new(
                StatusCode::NOT_FOUND,
                "model_not_found",
                format!("no model is called {model:?}: GET /v1/models lists those that are"),
            )
            .param("model"),
            Error::WrongKind { model, surface } => Self::new(
                StatusCode::BAD_REQUEST,
                "model_kind",
                format!("model {model:?} does not do {surface}: choose another from GET /v1/models"),
            )
            .param("model"),
            Error::IdempotencyKey => Self::new(
                StatusCode::BAD_REQUEST,
                "invalid_idempotency_key",
                "Idempotency-Key must be 1 to 255 ASCII characters",
            ),
            Error::InProgress => Self::new(
                StatusCode::CONFLICT,
                "call_in_progress",
                "the first request with this Idempotency-Key still runs: send it again later",
            )
            .retry_after(Duration::from_secs(1)),
            Error::AnswerGone => Self::new(
                StatusCode::CONFLICT,
                "answer_gone",
                "the call with this Idempotency-Key was charged, and its answer is no longer kept: use a new key",
            ),
            Error::AttemptsUsedUp => Self::new(
                StatusCode::CONFLICT,
                "attempts_used_up",
                "this Idempotency-Key failed too often: use a new key",
            ),
            Error::UnknownUsage => Self::new(
                StatusCode::NOT_FOUND,
                "usage_not_found",
                "no usage record of yours has this id",
            ),
            Error::Metering(cause) => metering(cause),
            Error::Upstream(cause) => upstream(&cause),
            Error::Store(cause) => Self::internal(&cause),
            Error::Stopping => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "stopping",
                "the server is stopping: send the request again",
            )
            .retry_after(Duration::from_secs(1)),
        }
    }
}

fn metering(error: metering::Error) -> web::Error {
    use metering::Error as Metering;
    match error {
        Metering::Unpriced(model) => web::Error::new(
            StatusCode::BAD_REQUEST,
            "unpriced_model",
            format!("model {model:?} has no price and cannot be called: the operator must set one"),
        )
        .param("model"),
        Metering::InsufficientFunds { required, available, currency } => web::Error::new(
            StatusCode::PAYMENT_REQUIRED,
            "insufficient_balance",
            format!("the call needs {required} {currency} and {available} {currency} is available: top up, or ask for fewer max_tokens"),
        )
        .details(json!({"required": required, "available": available, "currency": currency})),
        Metering::Conflict => web::Error::new(
            StatusCode::CONFLICT,
            "idempotency_conflict",
            "this Idempotency-Key was used for another request: use a new key",
        ),
        Metering::Busy => web::Error::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "too many operations are waiting: send the request again later",
        )
        .retry_after(Duration::from_secs(1)),
        Metering::Journal(cause) => {
            tracing::error!(error = &cause as &dyn std::error::Error, "the journal could not write");
            web::Error::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "storage_unavailable",
                "the call could not be recorded, so it was not made: send it again later",
            )
            .retry_after(Duration::from_secs(5))
        }
        other @ (Metering::Repeated
        | Metering::Refused(_)
        | Metering::Pricing(_)
        | Metering::Store(_)
        | Metering::DamagedPrice(_)
        | Metering::DamagedRecord(_)) => web::Error::internal(&other),
    }
}
