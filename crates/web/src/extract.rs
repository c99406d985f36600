//! Extractors whose refusals are [`Error`]s.

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::Error;

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

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        match Bytes::from_request(request, state).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(rejection) => Err(body_error(&rejection)),
        }
    }
}

fn body_error(rejection: &BytesRejection) -> Error {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
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
