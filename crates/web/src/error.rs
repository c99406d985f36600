//! The one error every surface answers with.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use crate::dialect::Dialect;

/// A refusal or failure as the client sees it.
///
/// As a response it is RFC 9457 problem JSON; a surface with another shape rewrites it (see
/// [`crate::speak`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// The HTTP status.
    pub status: StatusCode,
    /// Stable, listed in `docs/errors.md`.
    pub code: &'static str,
    /// What happened, which value, and what to do. Never a secret or an inner cause.
    pub message: Cow<'static, str>,
    /// The request's field that is wrong.
    pub param: Option<Cow<'static, str>>,
    /// More for programs, such as `available` and `required`: the members of an object.
    pub details: Option<Box<Value>>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Further headers of the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Error {
    /// An error with a message.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            param: None,
            details: None,
            retry_after: None,
            headers: Vec::new(),
        }
    }

    /// A fault of the server: the cause is logged, the client is told nothing of it.
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = cause, "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something went wrong here: tell the operator the x-request-id of this answer",
        )
    }

    /// Names the field that is wrong.
    #[must_use]
    pub fn param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Adds figures for programs.
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Says when to try again.
    #[must_use]
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Dialect::Problem.render(self)
    }
}
