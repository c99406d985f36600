//! What a call's span says, by OpenTelemetry's conventions for generative AI.

use std::time::{Duration, UNIX_EPOCH};

use kernel::Timestamp;
use telemetry::CallSpan;

use crate::UsageStatus;
use crate::metrics::Ended;

/// Ends the span of a call whose end is on disk.
pub(crate) fn trace(mut span: CallSpan, ended: &Ended<'_>) {
    let Ended { admission, bill, status, charged, .. } = ended;
    let call = &admission.call;
    if let Some(route) = &bill.route {
        span.note("gen_ai.provider.name", route.provider.to_string());
        span.note("gen_ai.response.model", route.upstream_model.to_string());
    }
    if *status == UsageStatus::Settled {
        let tokens = &bill.usage.tokens;
        let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        span.note("gen_ai.usage.input_tokens", count(tokens.context()));
        span.note("gen_ai.usage.cache_read.input_tokens", count(tokens.cached_input));
        span.note("gen_ai.usage.cache_creation.input_tokens", count(tokens.cache_write));
        span.note("gen_ai.usage.output_tokens", count(tokens.produced()));
    }
    span.note("ledgerline.org_id", call.caller.org_id.to_string());
    span.note("ledgerline.charge_id", call.id.to_string());
    span.note("ledgerline.request_id", call.request_id.to_string());
    span.note("ledgerline.cost", charged.to_string());
    span.note("ledgerline.currency", admission.price.currency().to_string());
    span.note("ledgerline.stream", call.stream);
    if let Some(code) = bill.upstream_status {
        span.note("http.response.status_code", i64::from(code));
    }
    if let Some(first) = bill.first_token_at.filter(|_| call.stream) {
        span.event("first_token", system_time(first));
    }
    if bill.client_gone {
        span.note("ledgerline.client_gone", true);
    }
    if let Some(code) = bill.error_code {
        span.failed(code);
    }
}

fn system_time(at: Timestamp) -> std::time::SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(at.micros()).unwrap_or(0))
}
