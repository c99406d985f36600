//! The shape of answers that are no thing of their own.

use axum::Json;
use kernel::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// That something went well.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiResponse {
    success: bool,
    message: String,
    #[schema(value_type = Option<Object>)]
    data: Value,
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
}

impl ApiResponse {
    pub(super) fn with(message: impl Into<String>, data: Value, now: Timestamp) -> Json<Self> {
        Json(Self { success: true, message: message.into(), data, timestamp: now })
    }

    pub(super) fn ok(message: &str, now: Timestamp) -> Json<Self> {
        Self::with(message, Value::Null, now)
    }
}

/// A page of a list by number, beside its rows.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Paging {
    /// How many there are on all pages together.
    total: i64,
    page: u32,
    page_size: u32,
    total_pages: i64,
    has_next: bool,
    has_prev: bool,
}

impl Paging {
    pub(super) fn new(total: i64, page: u32, page_size: u32) -> Self {
        let pages = total.unsigned_abs().div_ceil(u64::from(page_size.max(1)));
        let total_pages = i64::try_from(pages).unwrap_or(i64::MAX);
        let has_next = i64::from(page) < total_pages;
        Self { total, page, page_size, total_pages, has_next, has_prev: page > 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_from_one() {
        let shown = |total, page| {
            let paging = Paging::new(total, page, 20);
            (paging.total_pages, paging.has_next, paging.has_prev)
        };
        assert_eq!(shown(0, 1), (0, false, false));
        assert_eq!(shown(20, 1), (1, false, false));
        assert_eq!(shown(21, 1), (2, true, false));
        assert_eq!(shown(21, 2), (2, false, true));
    }
}
