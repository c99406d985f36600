//! Whether the server lives, and whether it can work.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};

use crate::Error;

/// A part that has not answered by then counts as failing.
const PATIENCE: Duration = Duration::from_secs(1);

type Probe =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// A part of the server that can fail, and how to ask it.
#[derive(Clone)]
pub struct Check {
    name: &'static str,
    probe: Probe,
}

impl Check {
    /// The part of this name; `probe` gives the reason when it cannot work.
    pub fn new<F, P>(name: &'static str, probe: P) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
        P: Fn() -> F + Send + Sync + 'static,
    {
        Self { name, probe: Arc::new(move || Box::pin(probe())) }
    }

    async fn failure(&self) -> Option<String> {
        match tokio::time::timeout(PATIENCE, (self.probe)()).await {
            Ok(Ok(())) => None,
            Ok(Err(reason)) => Some(reason),
            Err(_elapsed) => Some("does not answer".to_owned()),
        }
    }
}

/// `/livez` (the process runs), `/readyz` (every part works, else 503 naming those that do not) and
/// `/health` (all parts, one by one).
pub fn health_router(checks: Vec<Check>) -> Router {
    Router::new()
        .route("/livez", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/readyz", get(ready))
        .route("/health", get(health))
        .with_state(Arc::<[Check]>::from(checks))
}

async fn failures(checks: &[Check]) -> Vec<(&'static str, Option<String>)> {
    let asked = checks.iter().map(|check| async { (check.name, check.failure().await) });
    futures_util::future::join_all(asked).await
}

async fn ready(State(checks): State<Arc<[Check]>>) -> Result<Json<Value>, Error> {
    let failing: Vec<String> = failures(&checks)
        .await
        .into_iter()
        .filter_map(|(name, failure)| failure.map(|reason| format!("{name}: {reason}")))
        .collect();
    if failing.is_empty() {
        return Ok(Json(json!({"status": "ok"})));
    }
    let message = format!("cannot work: {}", failing.join("; "));
    Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message).retry_after(PATIENCE))
}

async fn health(State(checks): State<Arc<[Check]>>) -> (StatusCode, Json<Value>) {
    let parts = failures(&checks).await;
    let healthy = parts.iter().all(|(_, failure)| failure.is_none());
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if healthy { "healthy" } else { "unhealthy" };
    let checks: serde_json::Map<String, Value> = parts
        .into_iter()
        .map(|(name, failure)| (name.to_owned(), json!(failure.as_deref().unwrap_or("ok"))))
        .collect();
    (status, Json(json!({"status": word, "version": env!("CARGO_PKG_VERSION"), "checks": checks})))
}
