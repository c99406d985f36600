//! `GET /v1/usage`

use axum::Json;
use axum::extract::State;
use identity::Authenticated;
use kernel::{ChargeId, PageRequest};
use metering::{UsageFilter, UsageRecord};
use serde::Serialize;
use utoipa::ToSchema;
use web::{Path, Query};

use crate::{Error, Gateway};

/// A page of usage records.
#[derive(Serialize, ToSchema)]
pub(super) struct UsagePage {
    /// Newest first.
    rows: Vec<UsageRecord>,
    /// The `cursor` of the next page; null on the last.
    next: Option<String>,
}

/// List your calls
///
/// The ended calls of the caller's organization, newest first.
#[utoipa::path(get, path = "/usage", operation_id = "list_usage", tag = "usage",
    params(("limit" = Option<u32>, Query, description = "Rows wanted: 1 to 1000, 50 by default"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before")),
    responses((status = 200, body = UsagePage), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key")),
    security(("api_key" = [])))]
pub(super) async fn list_usage(
    State(gateway): State<Gateway>,
    Authenticated(caller): Authenticated,
    Query(page): Query<PageRequest>,
) -> web::Result<Json<UsagePage>> {
    let filter = UsageFilter { org_id: Some(caller.org_id.clone()) };
    let page = gateway.metering.list_usage(&filter, &page).await.map_err(Error::from)?;
    Ok(Json(UsagePage { rows: page.rows, next: page.next.map(|next| next.to_string()) }))
}

/// Show one of your calls
#[utoipa::path(get, path = "/usage/{charge_id}", operation_id = "get_usage", tag = "usage",
    params(("charge_id" = String, Path, description = "The x-ledgerline-charge-id of the answer")),
    responses((status = 200, body = UsageRecord), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such record of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_usage(
    State(gateway): State<Gateway>,
    Authenticated(caller): Authenticated,
    Path(id): Path<ChargeId>,
) -> web::Result<Json<UsageRecord>> {
    let record = gateway.metering.usage(&id, Some(&caller.org_id)).await.map_err(Error::from)?;
    Ok(Json(record.ok_or(Error::UnknownUsage)?))
}
