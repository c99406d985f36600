//! The one error every surface answers with, and the shapes it is written in.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::Value;

/// A refusal or failure as the client sees it.
///
/// As a response it is RFC 9457 problem JSON; a surface with another shape rewrites it with its
/// [`Dialect`]'s layer.
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
    /// More for programs, such as `available` and `required`.
    pub details: Option<Value>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

/// The shape of a surface's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `{"error":{message,type,param,code}}`, for `/v1`.
    OpenAi,
    /// RFC 9457 problem JSON, where no original says otherwise.
    Problem,
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
        }
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
        self.details = Some(details);
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
        let status = self.status;
        let mut response = (status, "").into_response();
        response.extensions_mut().insert(self);
        response
    }
}
