//! Usage records of everybody.

use axum::Json;
use axum::extract::State;
use kernel::{Cursor, OrgId, PageRequest};
use metering::{UsageFilter, UsageRecord};
use serde::Deserialize;
use web::Query;

use super::{Admin, Listing};
use crate::Error;

#[derive(Deserialize)]
pub(super) struct UsageQuery {
    org_id: Option<OrgId>,
    limit: Option<u32>,
    cursor: Option<Cursor>,
}

/// List calls
///
/// Ended calls of one organization or of all, newest first.
#[utoipa::path(get, path = "/usage", operation_id = "list_all_usage", tag = "admin",
    params(("org_id" = Option<String>, Query, description = "Only this organization's"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 50 by default"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before")),
    responses((status = 200, body = Listing<UsageRecord>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn list_usage(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Query(query): Query<UsageQuery>,
) -> web::Result<Json<Listing<UsageRecord>>> {
    let page = PageRequest { limit: query.limit, cursor: query.cursor };
    let filter = UsageFilter { org_id: query.org_id };
    Ok(Json(admin.metering.list_usage(&filter, &page).await.map_err(Error::from)?.into()))
}
