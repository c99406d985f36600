//! `/`

use axum::Json;
use axum::extract::State;
use serde_json::json;

use super::answer::ApiResponse;
use crate::Agents;

/// Greets whoever asks.
pub(super) async fn greet(State(agents): State<Agents>) -> Json<ApiResponse> {
    let config = &agents.parts().config;
    let version = match config.app_version.as_str() {
        "" => env!("CARGO_PKG_VERSION"),
        version => version,
    };
    let data = json!({"version": version, "environment": config.environment,
        "docs_url": "/docs"});
    ApiResponse::with(format!("欢迎使用 {}", config.app_name), data, agents.now())
}
