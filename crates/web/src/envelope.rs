//! The shape of answers under `/api/v1`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// An answer as `{"status":"ok","data":…}`; refusals are written by [`crate::Dialect::Envelope`].
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Envelope<T> {
    status: &'static str,
    data: T,
}

/// A list as the `data` of an envelope.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Rows<T> {
    /// How many there are on all pages together.
    pub total: i64,
    /// Those of this page.
    pub rows: Vec<T>,
    /// The `cursor` of the next page; null on the last.
    pub next: Option<String>,
}

impl<T> Envelope<T> {
    /// The answer that it went well.
    pub const fn ok(data: T) -> Self {
        Self { status: "ok", data }
    }
}

impl<T: Serialize> IntoResponse for Envelope<T> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}
