//! The one layer around every request: its id, its log line, its figures, and a shield against
//! panics.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::runtime::Handle;

use crate::dialect::ErrorCode;
use crate::traffic::InFlight;
use crate::{Error, Traffic};

const OVERHEAD: HeaderName = HeaderName::from_static("x-ledgerline-overhead-ms");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LONGEST_ID: usize = 64;

/// Names a request in answers, logs and records: the caller's `x-request-id`, or a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

/// Who pays, for the log line: put it into the answer's extensions.
#[derive(Clone, Debug)]
pub struct Billed(pub kernel::OrgId);

/// How long the answer was waited for upstream, for the overhead: put it into the answer's
/// extensions.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamTime(pub Duration);

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self(kernel::id::shared())))
    }
}

/// Gives the request its id, answers it even if its handler panics, and counts and logs it when its
/// body has been sent or dropped.
pub async fn observe(
    State(traffic): State<Arc<Traffic>>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let route = traffic.route(&request);
    let (in_flight, tells_overhead) = (InFlight::new(route), route.tells_overhead);
    let id = accepted_id(&request).unwrap_or_else(kernel::id::shared);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let answered = std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_panic| panicked().into_response());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
        .headers_mut()
        .insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if tells_overhead {
        tell_overhead(&mut response, &in_flight, begun);
    }
    let code = response.extensions_mut().remove::<ErrorCode>().map(|ErrorCode(code)| code);
    if let Some(code) = code {
        traffic.failed(code);
    }
    let org = response.extensions_mut().remove::<Billed>().map(|Billed(org)| org);
    let status = response.status();
    let line = Line { id, method, path, status, code, org, took: Duration::ZERO, bytes: 0 };
    let answer = Answer { line: Some(line), begun, in_flight };
    response.map(|body| axum::body::Body::new(Observed { body, answer }))
}

/// Says how long the request was here, beyond waiting for the upstream.
fn tell_overhead(response: &mut Response, in_flight: &InFlight, begun: Instant) {
    let upstream = response.extensions_mut().remove::<UpstreamTime>();
    let upstream = upstream.map_or(Duration::ZERO, |UpstreamTime(time)| time);
    let here = begun.elapsed().saturating_sub(upstream);
    in_flight.spent(here);
    let micros = here.as_micros();
    let text = format!("{}.{:03}", micros / 1000, micros % 1000);
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
        response.headers_mut().insert(OVERHEAD, value);
    }
}

fn panicked() -> Error {
    tracing::error!("a handler panicked");
    Error::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "something went wrong here: tell the operator the x-request-id of this answer",
    )
}

fn accepted_id(request: &Request) -> Option<Arc<str>> {
    let id = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (!id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(plain)).then(|| id.into())
}

/// What the log says of a request, written when this is dropped.
struct Line {
    id: Arc<str>,
    method: Method,
    path: String,
    status: StatusCode,
    code: Option<&'static str>,
    org: Option<kernel::OrgId>,
    took: Duration,
    bytes: u64,
}

impl Drop for Line {
    fn drop(&mut self) {
        tracing::info!(
            target: "access",
            request_id = %self.id,
            method = %self.method,
            path = %self.path,
            status = self.status.as_u16(),
            code = self.code,
            org_id = self.org.as_ref().map(kernel::OrgId::as_str),
            duration_us = u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX),
            bytes = self.bytes,
            "answered"
        );
    }
}

/// An answer on its way: counted and logged when it has been sent or dropped.
struct Answer {
    line: Option<Line>,
    begun: Instant,
    in_flight: InFlight,
}

impl Drop for Answer {
    fn drop(&mut self) {
        let Some(mut line) = self.line.take() else { return };
        line.took = self.begun.elapsed();
        self.in_flight.answered(line.status, line.took);
        // The last bytes leave when the connection's task has ended its turn: the client need not wait for
        // the log.
        if let Ok(runtime) = Handle::try_current() {
            drop(runtime.spawn(async move { drop(line) }));
        }
    }
}

/// A body that ends its answer when it has been sent or dropped.
struct Observed {
    body: axum::body::Body,
    answer: Answer,
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let (Some(Ok(frame)), Some(line)) = (&frame, &mut self.answer.line) {
            line.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
