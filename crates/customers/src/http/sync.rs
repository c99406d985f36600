//! `/admin/sync`: how the upstream is followed.

use ::http::StatusCode;
use axum::Json;
use axum::Router;
use axum::extract::State;
use identity::{Admin, Rule};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{Path, Query, Routes, routes};

use super::State as Service;
use crate::{Entity, Run, Sync, SyncStatus};

/// Who may use which route, and what scope a key needs for it.
const RULES: &[Rule] = &[
    Rule { method: "GET", path: "/admin/sync", roles: &["platform.admin"], scope: "admin:read" },
    Rule { method: "*", path: "/admin/sync/**", roles: &["platform.admin"], scope: "admin:write" },
];

/// The routes of `/admin/sync`, by their whole paths.
pub fn sync_router(sync: &Sync) -> Router {
    let routes = routes();
    sync.customers().parts().identity.govern(routes.paths(""), RULES);
    routes.router().with_state(Service::new(sync.clone(), Vec::new()))
}

/// Their documentation.
pub fn sync_document() -> utoipa::openapi::OpenApi {
    routes().document()
}

fn routes() -> Routes<Service> {
    Routes::new().routes(routes!(self::get_sync)).routes(routes!(self::run_sync))
}

/// How each entity follows the upstream.
#[derive(Serialize, ToSchema)]
pub(super) struct SyncView {
    /// One for each entity.
    rows: Vec<SyncStatus>,
}

/// Show how the upstream is followed
#[utoipa::path(get, path = "/admin/sync", operation_id = "get_sync", tag = "admin",
    responses((status = 200, body = SyncView), (status = 401, description = "No valid API key"),
        (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn get_sync(
    State(sync): State<Sync>,
    _admin: Admin,
) -> web::Result<Json<SyncView>> {
    Ok(Json(SyncView { rows: sync.status().await? }))
}

#[derive(Deserialize)]
pub(super) struct RunQuery {
    #[serde(default)]
    full: bool,
    #[serde(default)]
    force: bool,
}

/// Ask the upstream now
///
/// Answers at once; `GET /admin/sync` tells how it went.
#[utoipa::path(post, path = "/admin/sync/{entity}/run", operation_id = "run_sync", tag = "admin",
    params(("entity" = Entity, Path, description = "What is to be followed"),
        ("full" = Option<bool>, Query, description = "Ask for everything instead of changes"),
        ("force" = Option<bool>, Query, description = "Ask for everything, and believe that much of what is kept is gone")),
    responses((status = 202, description = "It will run"), (status = 400, description = "There is no such entity"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 409, description = "No upstream is configured")),
    security(("api_key" = [])))]
pub(super) async fn run_sync(
    State(sync): State<Sync>,
    _admin: Admin,
    Path(entity): Path<Entity>,
    Query(query): Query<RunQuery>,
) -> web::Result<StatusCode> {
    let run = match (query.full, query.force) {
        (_, true) => Run::EvenMassDeletion,
        (true, false) => Run::Everything,
        (false, false) => Run::Changes,
    };
    sync.request(entity, run).await?;
    Ok(StatusCode::ACCEPTED)
}
