//! Answers as responses: bytes as they came, and the charge in headers.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use metering::Charged;

use crate::call::Answered;

const CHARGE_ID: HeaderName = HeaderName::from_static("x-ledgerline-charge-id");
const COST: HeaderName = HeaderName::from_static("x-ledgerline-cost");
const CURRENCY: HeaderName = HeaderName::from_static("x-ledgerline-currency");
const BALANCE: HeaderName = HeaderName::from_static("x-ledgerline-balance");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        match self {
            Self::Full { content_type, body, charged, replayed } => {
                let mut response = Body::from(body).into_response();
                let headers = response.headers_mut();
                put(headers, CONTENT_TYPE, &content_type);
                charge_headers(headers, &charged);
                if replayed {
                    headers.insert(REPLAYED, HeaderValue::from_static("true"));
                }
                response
            }
            Self::Stream(relay) => {
                let id = relay.id().clone();
                let mut response = Body::new(*relay).into_response();
                let headers = response.headers_mut();
                headers.insert(
                    CONTENT_TYPE,
                    HeaderValue::from_static("text/event-stream; charset=utf-8"),
                );
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                put(headers, CHARGE_ID, id.as_str());
                response
            }
        }
    }
}

fn charge_headers(headers: &mut HeaderMap, charged: &Charged) {
    put(headers, CHARGE_ID, charged.id.as_str());
    put(headers, COST, &charged.cost.to_string());
    put(headers, CURRENCY, charged.currency.as_str());
    put(headers, BALANCE, &charged.balance.to_string());
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
