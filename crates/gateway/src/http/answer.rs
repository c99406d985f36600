//! Answers as responses: bytes as they came, and the charge in headers.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use metering::{Charged, LimitMeasure, Pace};
use web::UpstreamTime;

use crate::call::{Answered, Told};

const CHARGE_ID: HeaderName = HeaderName::from_static("x-ledgerline-charge-id");
const SEQ: HeaderName = HeaderName::from_static("x-ledgerline-seq");
const COST: HeaderName = HeaderName::from_static("x-ledgerline-cost");
const CURRENCY: HeaderName = HeaderName::from_static("x-ledgerline-currency");
const BALANCE: HeaderName = HeaderName::from_static("x-ledgerline-balance");
/// Limit, remaining and reset.
const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];
const CACHE: HeaderName = HeaderName::from_static("x-ledgerline-cache");
const MODEL: HeaderName = HeaderName::from_static("x-ledgerline-model");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        match self {
            Self::Full { content_type, body, charged, told, replayed } => {
                let mut response = Body::from(body).into_response();
                let headers = response.headers_mut();
                put(headers, CONTENT_TYPE, &content_type);
                charge_headers(headers, &charged);
                told_headers(headers, &told);
                if replayed {
                    headers.insert(REPLAYED, HeaderValue::from_static("true"));
                }
                let upstream = UpstreamTime(charged.upstream_time.unwrap_or_default());
                response.extensions_mut().insert(upstream);
                response
            }
            Self::Stream(relay) => {
                let (id, told) = (relay.id().clone(), relay.told().clone());
                let pace = rate_limits(relay.pace());
                let upstream = UpstreamTime(relay.upstream_time().unwrap_or_default());
                let mut response = Body::new(*relay).into_response();
                let headers = response.headers_mut();
                headers.insert(
                    CONTENT_TYPE,
                    HeaderValue::from_static("text/event-stream; charset=utf-8"),
                );
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                put(headers, CHARGE_ID, id.as_str());
                headers.extend(pace);
                told_headers(headers, &told);
                response.extensions_mut().insert(upstream);
                response
            }
        }
    }
}

/// A fallback is told, and the cache to those who asked for it.
fn told_headers(headers: &mut HeaderMap, told: &Told) {
    if let Some(model) = &told.fallback {
        put(headers, MODEL, model);
    }
    if let Some(cache) = told.cache {
        headers.insert(CACHE, HeaderValue::from_static(cache));
    }
}

fn charge_headers(headers: &mut HeaderMap, charged: &Charged) {
    put(headers, CHARGE_ID, charged.id.as_str());
    headers.insert(SEQ, HeaderValue::from(charged.seq));
    put(headers, COST, &charged.cost.to_string());
    put(headers, CURRENCY, charged.currency.as_str());
    put(headers, BALANCE, &charged.balance.to_string());
    headers.extend(rate_limits(&charged.pace));
}

/// The headers by which OpenAI's clients pace themselves.
pub(crate) fn rate_limits(pace: &[Pace]) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for pace in pace {
        let [limit, remaining, reset] = match pace.measure {
            LimitMeasure::Requests => REQUESTS,
            LimitMeasure::Tokens => TOKENS,
            LimitMeasure::Spend | LimitMeasure::Concurrency => continue,
        };
        headers.push((limit, HeaderValue::from(pace.most)));
        headers.push((remaining, HeaderValue::from(pace.remaining)));
        let wait = format!("{}s", pace.resets_in.as_secs_f64().ceil());
        headers.extend(HeaderValue::from_str(&wait).ok().map(|wait| (reset, wait)));
    }
    headers
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
