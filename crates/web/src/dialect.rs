//! The shapes errors are written in.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use kernel::{Clock as _, SystemClock};
use serde_json::{Map, Value, json};
use tower::util::MapResponseLayer;

use crate::{Error, RequestId};

/// The shape of a surface's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `{"error":{message,type,param,code}}`, for `/v1`.
    OpenAi,
    /// `{"status":"error","data":{message,code,…}}`, for `/api/v1`; see [`crate::Envelope`].
    Envelope,
    /// `{"success":false,message,detail,error_code,code,request_id,timestamp}`, for the agent API; what
    /// does not fit the request's form is 422 there, its `detail` a list.
    Agents,
    /// RFC 9457 problem JSON, where no original says otherwise.
    Problem,
}

impl Dialect {
    /// The error as a body in this shape.
    pub fn body(self, error: &Error) -> Value {
        match self {
            Self::OpenAi => open_ai(error),
            Self::Envelope => envelope(error),
            Self::Agents => agents(error, None),
            Self::Problem => problem(error),
        }
    }

    /// The error as a response in this shape.
    pub fn render(self, error: Error) -> Response {
        self.render_in(error, None)
    }

    /// The same within a request, which shapes that name it need.
    fn render_in(self, error: Error, request: Option<&RequestId>) -> Response {
        let content_type = match self {
            Self::OpenAi | Self::Envelope | Self::Agents => "application/json",
            Self::Problem => "application/problem+json",
        };
        let (status, body) = match self {
            Self::Agents => (agents_status(&error), agents(&error, request)),
            _ => (error.status, self.body(&error)),
        };
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(wait) = error.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        headers.extend(error.headers.iter().cloned());
        if error.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(ErrorCode(error.code));
        response.extensions_mut().insert(error);
        response
    }
}

/// The code of the error that an answer is, for counting and logging it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorCode(pub(crate) &'static str);

/// Makes a surface speak its dialect: its own errors, and those of unknown paths and methods.
pub fn speak<S: Clone + Send + Sync + 'static>(router: Router<S>, dialect: Dialect) -> Router<S> {
    let router = router
        .fallback(|| async { unknown_route() })
        .method_not_allowed_fallback(|| async { method_not_allowed() });
    match dialect {
        // Errors are written so from the start.
        Dialect::Problem => router,
        // Only these errors name their request. The others need nothing of it, and whatever is done
        // around every request costs.
        Dialect::Agents => router.layer(from_fn(move |request: Request, next: Next| async move {
            let id = request.extensions().get::<RequestId>().cloned();
            retold(dialect, next.run(request).await, id.as_ref())
        })),
        Dialect::OpenAi | Dialect::Envelope => {
            router.layer(MapResponseLayer::new(move |response| retold(dialect, response, None)))
        }
    }
}

/// The answer as it is, or the refusal in it in this shape.
fn retold(dialect: Dialect, mut response: Response, request: Option<&RequestId>) -> Response {
    match response.extensions_mut().remove::<Error>() {
        Some(error) => translate(dialect, &response, error, request),
        None => response,
    }
}

/// What answers paths that nobody has: below these, in the dialect of whose they are.
pub fn unknown_paths(router: Router, owners: &'static [(&'static str, Dialect)]) -> Router {
    router.fallback(move |request: Request| async move {
        let path = request.uri().path();
        let below = |owner: &str| {
            path.strip_prefix(owner).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let owner = owners.iter().find(|(owner, _)| below(owner));
        let id = request.extensions().get::<RequestId>();
        owner.map_or(Dialect::Problem, |(_, dialect)| *dialect).render_in(unknown_route(), id)
    })
}

/// The same refusal in another shape; headers that others have set stay.
fn translate(
    dialect: Dialect,
    old: &Response,
    error: Error,
    request: Option<&RequestId>,
) -> Response {
    let mut new = dialect.render_in(error, request);
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

fn envelope(error: &Error) -> Value {
    let mut members = details(error);
    members.insert("message".into(), json!(error.message));
    members.insert("code".into(), json!(error.code));
    if let Some(param) = &error.param {
        members.insert("param".into(), json!(param));
    }
    json!({ "status": "error", "data": members })
}

/// What does not fit a request's form, where the place is not named by the error.
fn misfit(error: &Error) -> Option<&'static str> {
    match error.code {
        "invalid_query" => Some("query"),
        "invalid_path" => Some("path"),
        "invalid_field" | "malformed_json" => Some("body"),
        _ => None,
    }
}

fn agents_status(error: &Error) -> StatusCode {
    let misfits = error.status == StatusCode::BAD_REQUEST && misfit(error).is_some();
    if misfits { StatusCode::UNPROCESSABLE_ENTITY } else { error.status }
}

fn agents(error: &Error, request: Option<&RequestId>) -> Value {
    let status = agents_status(error);
    let detail = match misfit(error) {
        Some(place) if status == StatusCode::UNPROCESSABLE_ENTITY => {
            let place: Vec<&str> = std::iter::once(place).chain(error.param.as_deref()).collect();
            json!([{"type": error.code, "loc": place, "msg": error.message}])
        }
        _ => json!(error.message),
    };
    let mut members = details(error);
    members.insert("success".into(), json!(false));
    members.insert("message".into(), json!(error.message));
    members.insert("detail".into(), detail);
    members.insert("error_code".into(), json!(status.as_u16()));
    members.insert("code".into(), json!(error.code));
    members.insert("request_id".into(), json!(request.map(|RequestId(id)| id.as_ref())));
    members.insert("timestamp".into(), json!(SystemClock.now()));
    Value::Object(members)
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
    match error.details.as_deref() {
        Some(Value::Object(members)) => members.clone(),
        _ => Map::new(),
    }
}
