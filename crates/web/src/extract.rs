//! Extractors whose refusals are [`Error`]s.

use std::error::Error as StdError;

use axum::RequestExt as _;
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::request::Parts;
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError};
use serde::de::DeserializeOwned;

use crate::Error;

/// So much memory is taken for a body before it is there: who announces more has to send it first.
const MOST_AHEAD: u64 = 1024 * 1024;

/// The request's body as it came.
#[derive(Clone, Debug)]
pub struct Body(pub Bytes);

/// The request's body, read as JSON.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

/// The request's query, read as fields.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

/// The path's placeholders.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Error> {
        let body = request.into_limited_body();
        collect(body).await.map(Self).map_err(|cause| body_error(&cause))
    }
}

/// A body that comes in one piece is not copied. The pieces of another are, as they come: each of
/// them would hold the whole buffer it was read into, which may be many times as large.
async fn collect(mut body: axum::body::Body) -> Result<Bytes, axum::Error> {
    let announced = usize::try_from(body.size_hint().lower().min(MOST_AHEAD)).unwrap_or_default();
    let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.reserve(announced);
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

fn body_error(error: &axum::Error) -> Error {
    if error.source().is_some_and(<dyn StdError>::is::<LengthLimitError>) {
        return Error::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "the request body is larger than this server takes (server.max_body_bytes)",
        );
    }
    Error::new(StatusCode::BAD_REQUEST, "body_cut", "the request body ended early: send it again")
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let Body(bytes) = Body::from_request(request, state).await?;
        Self::parse(&bytes)
    }
}

impl<T: DeserializeOwned> Json<T> {
    /// Reads a body that was taken as bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        from_json(bytes).map(Self)
    }
}

/// Reads a body as JSON.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|cause| json_error(&cause))
}

fn json_error(cause: &serde_json::Error) -> Error {
    if cause.is_data() {
        return Error::new(
            StatusCode::BAD_REQUEST,
            "invalid_field",
            format!("the body does not fit: {cause}"),
        );
    }
    Error::new(
        StatusCode::BAD_REQUEST,
        "malformed_json",
        format!("the body is not JSON (line {}, column {})", cause.line(), cause.column()),
    )
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(fields)) => Ok(Self(fields)),
            Err(rejection) => Err(Error::new(
                StatusCode::BAD_REQUEST,
                "invalid_query",
                format!("the query does not fit: {}", rejection.body_text()),
            )),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(fields)) => Ok(Self(fields)),
            Err(rejection) => Err(Error::new(
                StatusCode::BAD_REQUEST,
                "invalid_path",
                format!("the path does not fit: {}", rejection.body_text()),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::DefaultBodyLimit;
    use futures_util::stream;

    use super::*;

    type Piece = Result<&'static str, std::io::Error>;

    /// The body, or its refusal's status, where ten bytes are the most.
    async fn read(body: axum::body::Body) -> Result<Bytes, StatusCode> {
        let mut request = Request::new(body);
        DefaultBodyLimit::max(10).apply(&mut request);
        let read = Body::from_request(request, &()).await;
        read.map(|Body(bytes)| bytes).map_err(|error| error.status)
    }

    /// A body whose length is not announced.
    async fn read_pieces<const N: usize>(pieces: [Piece; N]) -> Result<Bytes, StatusCode> {
        read(axum::body::Body::from_stream(stream::iter(pieces))).await
    }

    #[tokio::test]
    async fn a_body_in_one_piece_is_not_copied() {
        let sent = Bytes::from_static(b"0123456789");
        let got = read(sent.clone().into()).await.unwrap();
        assert_eq!((got.as_ptr(), got.len()), (sent.as_ptr(), 10));
        assert_eq!(read_pieces([Ok(""), Ok("one"), Ok("")]).await.unwrap(), "one");
        assert_eq!(read(axum::body::Body::empty()).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_body_in_many_pieces_is_whole() {
        assert_eq!(read_pieces([const { Ok("1") }; 10]).await.unwrap(), "1111111111");
        assert_eq!(read_pieces([Ok("ab"), Ok(""), Ok("cde"), Ok("f")]).await.unwrap(), "abcdef");
    }

    #[tokio::test]
    async fn what_is_too_large_or_cut_is_refused() {
        let too_large = Err(StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(read("0123456789x".into()).await, too_large);
        assert_eq!(read_pieces([Ok("01234567"), Ok("89x")]).await, too_large);
        assert_eq!(read_pieces([const { Ok("1") }; 11]).await, too_large);
        let cut = || Err(std::io::Error::other("reset"));
        assert_eq!(read_pieces([Ok("0123"), cut()]).await, Err(StatusCode::BAD_REQUEST));
        assert_eq!(read_pieces([cut()]).await, Err(StatusCode::BAD_REQUEST));
    }
}
