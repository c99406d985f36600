//! `/metrics`: figures for Prometheus, for administrators and for hosts that are allowed to.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, FromRequestParts as _, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use identity::{Identity, Rule};
use models::{Models, Provider, ProviderState, RouteState};
use telemetry::{Labels, Metrics};
use utoipa::openapi::OpenApi;
use web::{ClientIp, Routes};

/// Where the figures are.
pub(crate) const PATH: &str = "/metrics";
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// A proxy's request comes from the proxy's host, whoever sent it there.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

const RULES: &[Rule] =
    &[Rule { method: "GET", path: PATH, roles: &["platform.admin"], scope: "admin:read" }];

/// The route's documentation.
pub(crate) fn document() -> OpenApi {
    page().document()
}

fn page() -> Routes<Page> {
    Routes::new().routes(web::routes!(self::get_metrics))
}

#[derive(Clone, Debug)]
struct Page {
    metrics: Arc<Metrics>,
    identity: Identity,
    config: Arc<telemetry::Config>,
}

impl FromRef<Page> for Identity {
    fn from_ref(page: &Page) -> Self {
        page.identity.clone()
    }
}

/// Adds how each provider and each way to one stand in this instance.
pub(crate) fn add_ways(metrics: &mut Metrics, models: &Arc<Models>) {
    let known = Arc::clone(models);
    metrics.add_read_each(
        "ledgerline_provider_state",
        "1 for the state in which a provider is",
        move || {
            let state = |provider: &Arc<Provider>, state: ProviderState| {
                let labels = [
                    ("provider", provider.name().to_string()),
                    ("state", state.as_str().to_owned()),
                ];
                (labels.to_vec(), i64::from(provider.state() == state))
            };
            let providers = known.providers().iter();
            providers.flat_map(|one| ProviderState::ALL.map(|it| state(one, it))).collect()
        },
    );
    let known = Arc::clone(models);
    metrics.add_read_each(
        "ledgerline_provider_trouble",
        "1 while a provider is not called because the description it follows is gone or not valid",
        move || {
            let trouble = |provider: &Arc<Provider>| {
                let labels = vec![("provider", provider.name().to_string())];
                (labels, i64::from(provider.trouble().is_some()))
            };
            known.providers().iter().map(trouble).collect()
        },
    );
    let known = Arc::clone(models);
    metrics.add_read_each(
        "ledgerline_route_open",
        "1 while a model's route is left alone or probed after failures (its breaker is open)",
        move || routes(&known, |route| i64::from(!route.closed)),
    );
    let known = Arc::clone(models);
    metrics.add_read_each(
        "ledgerline_provider_calls_running",
        "Calls that a provider has running",
        move || {
            let running = |provider: &Arc<Provider>| {
                let running = i64::try_from(provider.running()).unwrap_or(i64::MAX);
                (vec![("provider", provider.name().to_string())], running)
            };
            known.providers().iter().map(running).collect()
        },
    );
}

/// A figure of each model's routes. Two routes of a model to the same upstream model are one way.
fn routes(models: &Models, figure: fn(&RouteState) -> i64) -> Vec<(Labels, i64)> {
    let mut all: BTreeMap<Labels, i64> = BTreeMap::new();
    for provider in models.providers() {
        for route in models.routes_to(provider) {
            let labels = vec![
                ("model", route.model.to_string()),
                ("provider", provider.name().to_string()),
                ("upstream_model", route.upstream_model.to_string()),
            ];
            all.insert(labels, figure(&route));
        }
    }
    all.into_iter().collect()
}

/// The route of `/metrics`.
pub(crate) fn router(metrics: Metrics, identity: Identity, config: telemetry::Config) -> Router {
    let routes = page();
    identity.govern(routes.paths(""), RULES);
    let page = Page { metrics: Arc::new(metrics), identity, config: Arc::new(config) };
    routes.router().with_state(page)
}

/// Read the figures
///
/// For Prometheus, as `OpenMetrics` text. Hosts in `telemetry.metrics_allow` need no key.
#[utoipa::path(get, path = PATH, operation_id = "get_metrics", tag = "operations",
    responses((status = 200, description = "All figures", body = String, content_type = "application/openmetrics-text"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
async fn get_metrics(State(page): State<Page>, mut parts: Parts) -> web::Result<Response> {
    if !page.allows(&parts) {
        identity::Admin::from_request_parts(&mut parts, &page).await?;
    }
    let text = page.metrics.text().map_err(|error| web::Error::internal(&error))?;
    Ok((StatusCode::OK, [(CONTENT_TYPE, TEXT)], text).into_response())
}

impl Page {
    /// The connection is a listed host's, and carries no other's request.
    fn allows(&self, parts: &Parts) -> bool {
        let forwarded = FORWARDED.iter().any(|name| parts.headers.contains_key(*name));
        let ClientIp(client) = ClientIp::of(parts);
        !forwarded && client.is_some_and(|client| self.config.allows(client))
    }
}
