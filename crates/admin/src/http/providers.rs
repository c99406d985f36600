//! Upstream accounts: how they fare, and whether they are called.

use axum::Json;
use axum::extract::State;
use identity::Changed;
use models::{Models, Provider, ProviderState};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use web::Path;

use super::{Admin, Listing};
use crate::Error;
use crate::audit::Actor;

/// An upstream account, as the instance that answers sees it.
#[derive(Serialize, ToSchema)]
pub(super) struct ProviderView {
    /// Its name in the configuration.
    name: String,
    /// `active`, `draining` or `disabled`.
    #[schema(value_type = String)]
    state: ProviderState,
    /// The same in the configuration, which counts until an administrator decides.
    #[schema(value_type = String)]
    configured_state: ProviderState,
    /// Calls that run there now, from this instance. A drained provider has none.
    running: usize,
    /// The most that may; null for any number.
    max_concurrency: Option<usize>,
    /// Why it is not called whatever its state: the description that it follows is missing or not
    /// valid. Null if nothing is wrong.
    trouble: Option<String>,
    /// The routes to it.
    routes: Vec<RouteView>,
}

/// A route to a provider.
#[derive(Serialize, ToSchema)]
pub(super) struct RouteView {
    /// The public model name.
    model: String,
    /// The model's name at the provider.
    upstream_model: String,
    /// `closed` lets every call through, `open` none, `half_open` one to see whether it is back.
    breaker: &'static str,
    /// How long it is left alone, in milliseconds.
    rests_ms: u64,
    /// The time to its first byte, smoothed, in milliseconds; null if there was none yet.
    first_byte_ms: Option<u64>,
}

/// Whether a provider is to be called.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StateRequest {
    /// `active`; `draining`: no new calls, those that run end by themselves; `disabled`: no new
    /// calls, and streams that run are cut off at their next frame.
    #[schema(value_type = String)]
    state: ProviderState,
}

impl ProviderView {
    fn new(models: &Models, provider: &Provider) -> Self {
        let routes = models.routes_to(provider).into_iter().map(|route| RouteView {
            model: route.model.to_string(),
            upstream_model: route.upstream_model.to_string(),
            breaker: match (route.closed, route.rests_ms) {
                (true, _) => "closed",
                (false, 0) => "half_open",
                (false, _) => "open",
            },
            rests_ms: route.rests_ms,
            first_byte_ms: (route.first_byte_micros > 0)
                .then_some(route.first_byte_micros.div_ceil(1000)),
        });
        Self {
            name: provider.name().to_string(),
            state: provider.state(),
            configured_state: provider.configured(),
            running: provider.running(),
            max_concurrency: provider.max_concurrency(),
            trouble: provider.trouble(),
            routes: routes.collect(),
        }
    }
}

/// List the providers
///
/// All upstream accounts with what this instance sees of them.
#[utoipa::path(get, path = "/providers", operation_id = "list_providers", tag = "admin",
    responses((status = 200, body = Listing<ProviderView>),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn list_providers(
    State(admin): State<Admin>,
    _admin: identity::Admin,
) -> Json<Listing<ProviderView>> {
    let all = admin.models.providers().iter();
    let rows = all.map(|provider| ProviderView::new(&admin.models, provider)).collect();
    Json(Listing { rows, next: None })
}

/// Take a provider out of use, or back into it
///
/// Kept over restarts. Other instances follow within a second.
#[utoipa::path(put, path = "/providers/{name}/state", operation_id = "set_provider_state", tag = "admin",
    params(("name" = String, Path, description = "The provider's name")), request_body = StateRequest,
    responses((status = 200, body = ProviderView), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such provider")),
    security(("api_key" = [])))]
pub(super) async fn set_provider_state(
    State(admin): State<Admin>,
    actor: Actor,
    Path(name): Path<String>,
    web::Json(request): web::Json<StateRequest>,
) -> web::Result<Json<ProviderView>> {
    let provider = admin.models.provider(&name).ok_or(Error::UnknownProvider)?;
    let now = admin.metering.now();
    let changed = Changed {
        verb: "change",
        what: "provider",
        id: name,
        org_id: None,
        before: Some(json!({"state": provider.state()})),
        after: Some(json!({"state": request.state})),
    };
    let note = actor.note(now, &changed);
    admin
        .models
        .decide(&admin.database, provider, request.state, now, note)
        .await
        .map_err(Error::from)?;
    Ok(Json(ProviderView::new(&admin.models, provider)))
}
