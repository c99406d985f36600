//! The shapes errors are written in.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use crate::Error;

/// The shape of a surface's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `{"error":{message,type,param,code}}`, for `/v1`.
    OpenAi,
    /// RFC 9457 problem JSON, where no original says otherwise.
    Problem,
}

impl Dialect {
    /// The error as a body in this shape.
    pub fn body(self, error: &Error) -> Value {
        match self {
            Self::OpenAi => open_ai(error),
            Self::Problem => problem(error),
        }
    }

    /// The error as a response in this shape.
    pub fn render(self, error: Error) -> Response {
        let content_type = match self {
            Self::OpenAi => "application/json",
            Self::Problem => "application/problem+json",
        };
        let mut response = (error.status, self.body(&error).to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(wait) = error.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if error.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(error);
        response
    }
}

/// Makes a surface speak its dialect: its own errors, and those of unknown paths and methods.
pub fn speak<S: Clone + Send + Sync + 'static>(router: Router<S>, dialect: Dialect) -> Router<S> {
    let router = router
        .fallback(|| async { unknown_route() })
        .method_not_allowed_fallback(|| async { method_not_allowed() });
    if dialect == Dialect::Problem {
        // Errors are written so from the start.
        return router;
    }
    router.layer(from_fn(move |request: Request, next: Next| async move {
        let mut response = next.run(request).await;
        match response.extensions_mut().remove::<Error>() {
            Some(error) => translate(dialect, &response, error),
            None => response,
        }
    }))
}

/// The same refusal in another shape; headers that others have set stay.
fn translate(dialect: Dialect, old: &Response, error: Error) -> Response {
    let mut new = dialect.render(error);
    // An outer surface must not translate it again.
    new.extensions_mut().remove::<Error>();
    for (name, value) in old.headers() {
        if !new.headers().contains_key(name) && name != http::header::CONTENT_LENGTH {
            new.headers_mut().append(name, value.clone());
        }
    }
    new
}

fn unknown_route() -> Error {
    Error::new(StatusCode::NOT_FOUND, "unknown_route", "there is nothing at this path: see /docs")
}

fn method_not_allowed() -> Error {
    Error::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this path does not take this method: see /docs",
    )
}

fn open_ai(error: &Error) -> Value {
    let mut members = details(error);
    members.insert("message".into(), json!(error.message));
    members.insert("type".into(), json!(open_ai_type(error.status)));
    members.insert("param".into(), json!(error.param));
    members.insert("code".into(), json!(error.code));
    json!({ "error": members })
}

fn open_ai_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 => "insufficient_quota",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

fn problem(error: &Error) -> Value {
    let mut members = details(error);
    members.insert("type".into(), json!(format!("/docs/errors#{}", error.code)));
    members.insert("title".into(), json!(error.status.canonical_reason().unwrap_or_default()));
    members.insert("status".into(), json!(error.status.as_u16()));
    members.insert("detail".into(), json!(error.message));
    members.insert("code".into(), json!(error.code));
    if let Some(param) = &error.param {
        members.insert("param".into(), json!(param));
    }
    Value::Object(members)
}

fn details(error: &Error) -> Map<String, Value> {
    match &error.details {
        Some(Value::Object(members)) => members.clone(),
        _ => Map::new(),
    }
}
