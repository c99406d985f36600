//! `GET /api/v1/health`

use std::sync::Arc;

use ::http::StatusCode;
use axum::extract::FromRef;
use axum::extract::State as Given;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;
use web::Envelope;

use super::State;

/// How the server is.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `healthy`.
    status: &'static str,
    /// The server's version.
    version: &'static str,
}

/// What health is made of.
#[derive(Clone)]
pub(super) struct Checks(Arc<[web::Check]>);

impl FromRef<State> for Checks {
    fn from_ref(state: &State) -> Self {
        Self(Arc::clone(&state.checks))
    }
}

/// Tell whether the server can work
#[utoipa::path(get, path = "/health", operation_id = "get_customer_health", tag = "customers",
    responses((status = 200, body = Envelope<Health>), (status = 503, description = "A part cannot work")))]
pub(super) async fn get_health(Given(Checks(checks)): Given<Checks>) -> Response {
    let needed = checks.iter().filter(|check| check.is_needed());
    let asked = needed.map(web::Check::failure);
    let failures = futures_util::future::join_all(asked).await;
    if failures.iter().all(Option::is_none) {
        let version = env!("CARGO_PKG_VERSION");
        return Envelope::ok(Health { status: "healthy", version }).into_response();
    }
    // The operator is told which, at `/readyz`: this route is open.
    let message = "a part of this server cannot work: send requests again later";
    web::Error::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message).into_response()
}
