//! Why a call fails, and how it is told.

use std::time::Duration;

use http::StatusCode;
use kernel::Amount;
use metering::{LimitMeasure, Pace};
use models::{CallError, NoWay, Refusal, RequestError};
use serde_json::json;

use crate::http::rate_limits;

/// When to look again after a provider that an administrator has switched off.
const SWITCHED_OFF: Duration = Duration::from_secs(30);

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
    /// No route of the model can be asked.
    #[error("no route can be asked")]
    NoWay(#[source] NoWay),
    /// The guard lets the request or answer not pass.
    #[error("the guard does not let it pass")]
    ContentRefused,
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
                format!(
                    "model {model:?} does not do {surface}: choose another from GET /v1/models"
                ),
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
            Error::NoWay(why) => no_way(why),
            Error::ContentRefused => Self::new(
                StatusCode::BAD_REQUEST,
                "content_refused",
                "the request or its answer holds what is not allowed here: change the request",
            ),
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
        Metering::LimitReached(reached) => limited(&reached),
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
                "the call could not be recorded, and is not charged: send it again later",
            )
            .retry_after(Duration::from_secs(5))
        }
        query if query.is_query() => {
            web::Error::new(StatusCode::BAD_REQUEST, "invalid_query", query.to_string())
        }
        other @ (Metering::Repeated
        | Metering::Refused(_)
        | Metering::Sweep(_)
        | Metering::Limits(_)
        | Metering::InvalidLimit(_)
        | Metering::Pricing(_)
        | Metering::Store(_)
        | Metering::DamagedPrice(_)
        | Metering::PriceBook(_)
        | Metering::DamagedRecord(_)
        | Metering::NeedsOrganization
        | Metering::Cursor
        | Metering::GroupBy(_)
        | Metering::TimeZone(_)
        | Metering::Times
        | Metering::TooManyRows) => web::Error::internal(&other),
    }
}

/// 429 as the OpenAI API has it. A call that is beyond the limit by itself is told so: waiting
/// would not help it.
fn limited(reached: &metering::Reached) -> web::Error {
    let seconds = reached.retry_after.as_secs();
    let advice = if reached.most == 0 {
        "it allows nothing: ask the operator".to_owned()
    } else if reached.too_large {
        "this call alone is more than that: ask for fewer max_tokens".to_owned()
    } else {
        format!("send the request again in {seconds} s")
    };
    let figure = |value: i64| match reached.measure {
        LimitMeasure::Spend => json!(Amount::from_nanos(value)),
        _ => json!(value),
    };
    let message = format!("the limit of {} is reached: {advice}", reached.what);
    let mut error = match reached.measure {
        LimitMeasure::Spend => {
            web::Error::new(StatusCode::TOO_MANY_REQUESTS, "spend_limit_reached", message)
        }
        LimitMeasure::Concurrency => {
            web::Error::new(StatusCode::TOO_MANY_REQUESTS, "concurrency_limit_reached", message)
        }
        LimitMeasure::Requests | LimitMeasure::Tokens => {
            web::Error::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message)
        }
    }
    .details(json!({
        "limit": figure(reached.most),
        "used": figure(reached.used),
        "wanted": figure(reached.wanted),
        "reset_seconds": seconds,
    }))
    .retry_after(reached.retry_after);
    error.headers = rate_limits(&[Pace {
        measure: reached.measure,
        most: reached.most,
        remaining: reached.most.saturating_sub(reached.used).max(0),
        resets_in: reached.retry_after,
    }]);
    error
}

fn request(error: &RequestError) -> web::Error {
    match error {
        RequestError::Malformed { line, column } => web::Error::new(
            StatusCode::BAD_REQUEST,
            "malformed_json",
            format!("the body is not JSON (line {line}, column {column})"),
        ),
        RequestError::Field { field, reason } => {
            web::Error::new(StatusCode::BAD_REQUEST, "invalid_field", format!("{field}: {reason}"))
                .param(field.clone())
        }
    }
}

/// What the client did wrong it is told in the upstream's words; what is between the operator and
/// the upstream stays there.
fn upstream(error: &CallError) -> web::Error {
    tracing::warn!(%error, "the upstream failed");
    match error {
        CallError::Connect(_) => web::Error::new(
            StatusCode::BAD_GATEWAY,
            "upstream_unreachable",
            "the model's upstream cannot be reached: send the request again",
        ),
        CallError::Timeout(_) => web::Error::new(
            StatusCode::GATEWAY_TIMEOUT,
            "upstream_timeout",
            "the model's upstream took too long: send the request again",
        ),
        CallError::Broken(_) => web::Error::new(
            StatusCode::BAD_GATEWAY,
            "upstream_broken",
            "the model's upstream stopped in the middle of its answer: send the request again",
        ),
        CallError::TooLarge(limit) => web::Error::new(
            StatusCode::BAD_GATEWAY,
            "upstream_too_large",
            format!("the model's answer is larger than {limit} bytes: ask for less, or stream it"),
        ),
        CallError::CutOff => unavailable(SWITCHED_OFF),
        CallError::Refused(refusal) => refused(refusal),
    }
}

fn no_way(why: NoWay) -> web::Error {
    match why {
        NoWay::Full => web::Error::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "provider_busy",
            "the model's providers have as many calls as they may: send the request again later",
        )
        .retry_after(Duration::from_secs(1)),
        NoWay::Resting(rest) => unavailable(rest),
        NoWay::Off => unavailable(SWITCHED_OFF),
    }
}

fn unavailable(rest: Duration) -> web::Error {
    web::Error::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "provider_unavailable",
        "the model's providers are not available now: send the request again later, or use another model",
    )
    .retry_after(rest.max(Duration::from_secs(1)))
}

fn refused(refusal: &Refusal) -> web::Error {
    match refusal.status {
        400 | 413 | 422 => web::Error::new(
            StatusCode::BAD_REQUEST,
            "upstream_invalid_request",
            format!("the model's upstream does not take this request: {}", said(refusal)),
        ),
        429 => web::Error::new(
            StatusCode::TOO_MANY_REQUESTS,
            "upstream_rate_limited",
            "the model's upstream is asked too often: send the request again later",
        )
        .retry_after(refusal.retry_after.unwrap_or(Duration::from_secs(1))),
        401 | 403 => web::Error::new(
            StatusCode::BAD_GATEWAY,
            "upstream_denied",
            "the model's upstream does not accept this installation's key: tell the operator",
        ),
        status => web::Error::new(
            StatusCode::BAD_GATEWAY,
            "upstream_error",
            format!("the model's upstream answered {status}: send the request again"),
        ),
    }
}

/// The message in an upstream's refusal, if it is one.
fn said(refusal: &Refusal) -> String {
    let body: serde_json::Value = serde_json::from_slice(&refusal.body).unwrap_or_default();
    let message = body.pointer("/error/message").and_then(serde_json::Value::as_str);
    message.unwrap_or("it does not say why").chars().take(500).collect()
}

impl Error {
    /// The code that a usage record keeps of a call that failed.
    pub(crate) fn record_code(&self) -> &'static str {
        match self {
            Self::Upstream(error) => Self::call_code(error),
            Self::ContentRefused => "content_refused",
            Self::NoWay(NoWay::Full) => "provider_busy",
            Self::NoWay(NoWay::Resting(_) | NoWay::Off) => "provider_unavailable",
            Self::Metering(metering::Error::InsufficientFunds { .. }) => "insufficient_balance",
            _ => "internal",
        }
    }

    /// The code of a failed attempt.
    pub(crate) fn call_code(error: &CallError) -> &'static str {
        match error {
            CallError::Connect(_) => "upstream_unreachable",
            CallError::Timeout(_) => "upstream_timeout",
            CallError::Broken(_) => "upstream_broken",
            CallError::TooLarge(_) => "upstream_too_large",
            CallError::CutOff => "provider_unavailable",
            CallError::Refused(refusal) => match refusal.status {
                400 | 413 | 422 => "upstream_invalid_request",
                429 => "upstream_rate_limited",
                401 | 403 => "upstream_denied",
                _ => "upstream_error",
            },
        }
    }
}
