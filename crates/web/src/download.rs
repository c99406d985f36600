//! A file that is made while it is sent.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::Stream;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

/// An answer that is saved as a file of this name (plain ASCII, no quotes). If a part cannot be made
/// the answer is cut, so that nobody takes it for whole.
pub fn download<S, E>(name: &'static str, content_type: &'static str, parts: S) -> Response
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [(CONTENT_TYPE, content_type.to_owned()), (CONTENT_DISPOSITION, disposition)];
    (headers, Body::from_stream(parts)).into_response()
}
