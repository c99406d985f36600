//! `POST /v1/chat/completions`

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use identity::Authenticated;
use metering::Surface;
use models::{ChatRequest, Endpoint, ModelKind};
use web::{Billed, Body, RequestId};

use crate::call::{Prepared, Request};
use crate::replay::RepeatKey;
use crate::{Error, Gateway};

const PATH: &str = "/v1/chat/completions";

/// Answer a conversation
///
/// OpenAI's request and answer; streamed with `stream: true`. The call is held before it is made
/// and charged when it ends.
#[utoipa::path(
    post, path = "/chat/completions", operation_id = "create_chat_completion", tag = "openai",
    request_body(content = serde_json::Value, description = "OpenAI's chat completion request",
        example = json!({"model": "sim-small", "messages": [{"role": "user", "content": "hello"}]})),
    params(("idempotency-key" = Option<String>, Header, description = "A repeated request with the same key is charged once"),
        ("x-ledgerline-cache" = Option<String>, Header, description = "`on`: the answer may be one given before to the same request, at a lower price")),
    responses(
        (status = 200, description = "The answer, or its stream", body = serde_json::Value, headers(
            ("x-ledgerline-charge-id" = String, description = "The usage record's id"),
            ("x-ledgerline-cache" = String, description = "`hit`, `miss` or `off`, if it was asked for"),
            ("x-ledgerline-model" = String, description = "The model that answered, if it is a fallback"),
            ("x-ledgerline-cost" = String, description = "What was charged (not when streaming)"),
            ("x-ledgerline-balance" = String, description = "What the wallet has free now (not when streaming)"))),
        (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"),
        (status = 403, description = "The key may not do this, from there or with this model"),
        (status = 402, description = "The wallet cannot cover the call"),
        (status = 404, description = "No such model"),
        (status = 409, description = "The Idempotency-Key is in use, or was used for another request"),
        (status = 413, description = "The request is too large"),
        (status = 429, description = "The upstream is asked too often"),
        (status = 502, description = "The upstream failed"),
        (status = 503, description = "Overloaded, no provider available, or the call cannot be recorded"),
        (status = 504, description = "The upstream took too long")),
    security(("api_key" = [])))]
pub(super) async fn create_chat_completion(
    State(gateway): State<Gateway>,
    Authenticated(caller): Authenticated,
    RequestId(request_id): RequestId,
    headers: HeaderMap,
    Body(body): Body,
) -> web::Result<Response> {
    let request = ChatRequest::parse(&body).map_err(Error::from)?;
    caller.limits.check_model(request.model())?;
    let (request, refused) = gateway.guarded(request, &body, ChatRequest::parse)?;
    let model = gateway.model(request.model(), ModelKind::Chat)?;
    let config = model.config();
    let whole = request.output_bound(config.max_output_tokens);
    // A stream is paid for in parts as it grows; a complete answer cannot be.
    let output_bound = if request.stream() { whole.min(config.output_slice_tokens) } else { whole };
    let prepared = Prepared {
        repeat: RepeatKey::read(&headers, &caller.org_id, PATH, &body)?,
        surface: Surface::Chat,
        endpoint: Endpoint::Chat,
        stream: request.stream(),
        strip_usage: !request.include_usage(),
        input_bound: request.input_bound(config.image_tokens),
        output_bound,
        request_id,
        caching: gateway.answers.caching(&headers, &caller, &model, (PATH, request.body())),
        refused,
        trace: gateway.trace("chat", model.name(), &headers, request.body()),
        request: Request::Chat(request),
        caller,
        model,
    };
    respond(&gateway, prepared).await
}

/// Makes the call and renders its answer.
pub(super) async fn respond(gateway: &Gateway, prepared: Prepared) -> web::Result<Response> {
    let org_id = prepared.caller.org_id.clone();
    let mut response = gateway.call(prepared).await?.into_response();
    response.extensions_mut().insert(Billed(org_id));
    Ok(response)
}
