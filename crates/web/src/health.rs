//! Whether the server lives, and whether it can work.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use kernel::{Clock as _, SystemClock};
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
    needed: bool,
}

impl Check {
    /// The part of this name; `probe` gives the reason when it cannot work.
    pub fn new<F, P>(name: &'static str, probe: P) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
        P: Fn() -> F + Send + Sync + 'static,
    {
        Self { name, probe: Arc::new(move || Box::pin(probe())), needed: true }
    }

    /// A part without which the server works on: its failure is told, and not a failure of the whole.
    pub fn lesser<F, P>(name: &'static str, probe: P) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
        P: Fn() -> F + Send + Sync + 'static,
    {
        Self { needed: false, ..Self::new(name, probe) }
    }

    /// The server cannot work without the part.
    pub const fn is_needed(&self) -> bool {
        self.needed
    }

    /// Why the part cannot work; a part that does not answer within a second cannot.
    pub async fn failure(&self) -> Option<String> {
        match tokio::time::timeout(PATIENCE, (self.probe)()).await {
            Ok(Ok(())) => None,
            Ok(Err(reason)) => Some(reason),
            Err(_elapsed) => Some("does not answer".to_owned()),
        }
    }
}

/// `/livez` (the process runs), `/readyz` (every part that is needed works, else 503 naming those that
/// do not; `notes` names the lesser ones that do not) and `/health` (all parts, one by one).
pub fn health_router(checks: Vec<Check>) -> Router {
    Router::new()
        .route("/livez", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/readyz", get(ready))
        .route("/health", get(health))
        .with_state(Arc::<[Check]>::from(checks))
}

async fn failures(checks: &[Check]) -> Vec<(&Check, Option<String>)> {
    let asked = checks.iter().map(|check| async move { (check, check.failure().await) });
    futures_util::future::join_all(asked).await
}

async fn ready(State(checks): State<Arc<[Check]>>) -> Result<Json<Value>, Error> {
    let (mut failing, mut notes) = (Vec::new(), Vec::new());
    for (check, failure) in failures(&checks).await {
        let Some(reason) = failure else { continue };
        let told = if check.needed { &mut failing } else { &mut notes };
        told.push(format!("{}: {reason}", check.name));
    }
    if !failing.is_empty() {
        let message = format!("cannot work: {}", failing.join("; "));
        let error = Error::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message);
        return Err(error.retry_after(PATIENCE));
    }
    if notes.is_empty() {
        return Ok(Json(json!({"status": "ok"})));
    }
    Ok(Json(json!({"status": "ok", "notes": notes})))
}

async fn health(State(checks): State<Arc<[Check]>>) -> (StatusCode, Json<Value>) {
    let parts = failures(&checks).await;
    let healthy = parts.iter().all(|(check, failure)| failure.is_none() || !check.needed);
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if healthy { "healthy" } else { "unhealthy" };
    let checks: serde_json::Map<String, Value> = parts
        .into_iter()
        .map(|(check, failure)| (check.name.to_owned(), json!(failure.as_deref().unwrap_or("ok"))))
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    // The agent API's form, and ours.
    let message = if healthy { "服务运行正常" } else { "服务异常" };
    let body = json!({
        "success": healthy, "message": message, "timestamp": SystemClock.now(),
        "data": {"status": word, "version": version},
        "status": word, "version": version, "checks": checks,
    });
    (status, Json(body))
}
