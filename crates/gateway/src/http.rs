//! The routes of `/v1`.

mod account;
mod answer;
mod chat;
mod embeddings;
mod models;
mod usage;

use axum::Router;
use identity::Rule;
use web::{Routes, routes};

pub(crate) use self::answer::rate_limits;
use crate::Gateway;

/// Who may use which route, and what scope a key needs for it.
const RULES: &[Rule] = &[
    rule("POST", "/v1/chat/completions", "chat"),
    rule("POST", "/v1/embeddings", "embeddings"),
    rule("GET", "/v1/models", "models:read"),
    rule("GET", "/v1/models/{model}", "models:read"),
    rule("GET", "/v1/usage", "usage:read"),
    rule("GET", "/v1/usage/summary", "usage:read"),
    rule("GET", "/v1/usage/export", "usage:read"),
    rule("GET", "/v1/usage/{charge_id}", "usage:read"),
    rule("GET", "/v1/usage/{charge_id}/explain", "usage:read"),
    rule("GET", "/v1/limits", "usage:read"),
    rule("GET", "/v1/statement", "usage:read"),
];

const fn rule(method: &'static str, path: &'static str, scope: &'static str) -> Rule {
    Rule { method, path, roles: &["logined"], scope }
}

/// The routes of `/v1`, to be nested there.
pub fn router(gateway: Gateway) -> Router {
    let routes = routes();
    gateway.identity.govern(routes.paths("/v1"), RULES);
    web::speak(routes.router(), web::Dialect::OpenAi).with_state(gateway)
}

/// Their documentation.
pub fn document() -> utoipa::openapi::OpenApi {
    utoipa::openapi::OpenApi::default().nest("/v1", routes().document())
}

fn routes() -> Routes<Gateway> {
    Routes::new()
        .routes(routes!(chat::create_chat_completion))
        .routes(routes!(embeddings::create_embeddings))
        .routes(routes!(models::list_models))
        .routes(routes!(models::get_model))
        .routes(routes!(usage::list_usage))
        .routes(routes!(usage::summarize_usage))
        .routes(routes!(usage::export_usage))
        .routes(routes!(usage::get_usage))
        .routes(routes!(usage::explain_charge))
        .routes(routes!(account::get_own_limits))
        .routes(routes!(account::get_own_statement))
}
