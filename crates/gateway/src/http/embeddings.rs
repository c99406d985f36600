//! `POST /v1/embeddings`

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use identity::Authenticated;
use metering::Surface;
use models::{EmbeddingsRequest, Endpoint, ModelKind};
use web::{Body, RequestId};

use super::chat::respond;
use crate::call::{Prepared, Request};
use crate::replay::RepeatKey;
use crate::{Error, Gateway};

const PATH: &str = "/v1/embeddings";

/// Turn texts into vectors
///
/// OpenAI's request and answer, held before it is made and charged when it ends.
#[utoipa::path(
    post, path = "/embeddings", operation_id = "create_embeddings", tag = "openai",
    request_body(content = serde_json::Value, description = "OpenAI's embeddings request",
        example = json!({"model": "sim-embed", "input": "hello"})),
    params(("idempotency-key" = Option<String>, Header, description = "A repeated request with the same key is charged once"),
        ("x-ledgerline-cache" = Option<String>, Header, description = "`on`: the answer may be one given before to the same request, at a lower price")),
    responses(
        (status = 200, description = "The vectors", body = serde_json::Value),
        (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"),
        (status = 403, description = "The key may not do this, from there or with this model"),
        (status = 402, description = "The wallet cannot cover the call"),
        (status = 404, description = "No such model"),
        (status = 409, description = "The Idempotency-Key is in use, or was used for another request"),
        (status = 413, description = "The request is too large"),
        (status = 502, description = "The upstream failed"),
        (status = 503, description = "Overloaded, no provider available, or the call cannot be recorded")),
    security(("api_key" = [])))]
pub(super) async fn create_embeddings(
    State(gateway): State<Gateway>,
    Authenticated(caller): Authenticated,
    RequestId(request_id): RequestId,
    headers: HeaderMap,
    Body(body): Body,
) -> web::Result<Response> {
    let request = EmbeddingsRequest::parse(&body).map_err(Error::from)?;
    caller.limits.check_model(request.model())?;
    let (request, refused) = gateway.guarded(request, &body, EmbeddingsRequest::parse)?;
    let model = gateway.model(request.model(), ModelKind::Embedding)?;
    let prepared = Prepared {
        repeat: RepeatKey::read(&headers, &caller.org_id, PATH, &body)?,
        surface: Surface::Embeddings,
        endpoint: Endpoint::Embeddings,
        stream: false,
        strip_usage: false,
        input_bound: request.input_bound(),
        output_bound: 0,
        request_id,
        caching: gateway.answers.caching(&headers, &caller, &model, (PATH, request.body())),
        refused,
        trace: gateway.trace("embeddings", model.name(), &headers, request.body()),
        request: Request::Embeddings(request),
        caller,
        model,
    };
    respond(&gateway, prepared).await
}
