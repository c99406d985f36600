//! The routes of `/v1`.

mod answer;
mod chat;
mod embeddings;
mod models;
mod usage;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Gateway;

/// The routes of `/v1`, to be nested there.
pub fn router(gateway: Gateway) -> Router {
    let (routes, _document) = routes().split_for_parts();
    web::speak(routes, web::Dialect::OpenAi).with_state(gateway)
}

/// Their documentation.
pub fn document() -> utoipa::openapi::OpenApi {
    let (_routes, document) = routes().split_for_parts();
    utoipa::openapi::OpenApi::default().nest("/v1", document)
}

fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(chat::create_chat_completion))
        .routes(routes!(embeddings::create_embeddings))
        .routes(routes!(models::list_models))
        .routes(routes!(models::get_model))
        .routes(routes!(usage::list_usage))
        .routes(routes!(usage::get_usage))
}
