//! Streams of events, and answers that take long.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::Result;
use crate::encode::Part;
use crate::runs::Follow;

/// So often something is sent while nothing happens, so that nobody takes the connection for dead.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);

/// An event as it is sent.
pub(crate) fn frame(id: Option<&str>, event: Option<&str>, data: &Value) -> String {
    let mut frame = String::new();
    if let Some(id) = id {
        frame.extend(["id: ", id, "\n"]);
    }
    if let Some(event) = event {
        frame.extend(["event: ", event, "\n"]);
    }
    frame.extend(["data: ", &data.to_string(), "\n\n"]);
    frame
}

fn part(part: &Part) -> String {
    frame(Some(&part.id), Some(part.event), &part.data)
}

/// A response that streams these bytes as events.
pub(crate) fn response(
    frames: impl Stream<Item = std::result::Result<Bytes, std::io::Error>> + Send + 'static,
) -> Response {
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// What is done when a client leaves a stream before its end.
pub(crate) type Left = Box<dyn FnOnce() + Send>;

/// Calls it unless the stream has come to its end.
pub(crate) struct Guard(Option<Left>);

impl Guard {
    pub(crate) const fn new(left: Option<Left>) -> Self {
        Self(left)
    }

    /// The stream has come to its end.
    pub(crate) fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(left) = self.0.take() {
            left();
        }
    }
}

/// A run's stream: what came before it, then all that it tells.
pub(crate) fn run_response(first: Option<Part>, follow: Follow, left: Option<Left>) -> Response {
    let first = first.map(|first| Ok(Bytes::from(part(&first))));
    let rest =
        stream::unfold((follow, Guard(left), false), |(mut follow, mut guard, over)| async move {
            if over {
                return None;
            }
            let (bytes, over) = match tokio::time::timeout(HEARTBEAT, follow.next()).await {
                Err(_quiet) => (": heartbeat\n\n".to_owned(), false),
                Ok(Ok(Some(parts))) => (parts.iter().map(part).collect(), false),
                Ok(Ok(None)) => {
                    guard.ended();
                    return None;
                }
                // Without an end: the client takes the stream up again.
                Ok(Err(error)) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a run's stream is cut"
                    );
                    (": cut\n\n".to_owned(), true)
                }
            };
            Some((Ok(Bytes::from(bytes)), (follow, guard, over)))
        });
    response(stream::StreamExt::chain(stream::iter(first), rest))
}

/// An answer that takes long: white space until it is there.
pub(crate) fn late_json(
    answer: impl Future<Output = Result<Value>> + Send + 'static,
    left: Option<Left>,
) -> Response {
    let state = Some((Box::pin(answer), Guard(left)));
    let body = stream::unfold(state, |state| async move {
        let (mut answer, mut guard) = state?;
        match tokio::time::timeout(HEARTBEAT, &mut answer).await {
            Err(_quiet) => Some((Ok(Bytes::from_static(b"\n")), Some((answer, guard)))),
            Ok(Ok(value)) => {
                guard.ended();
                Some((Ok::<_, std::io::Error>(Bytes::from(value.to_string())), None))
            }
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "an answer is cut");
                Some((Err(std::io::Error::other("cut")), None))
            }
        }
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
