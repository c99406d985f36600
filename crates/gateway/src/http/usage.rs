//! `GET /v1/usage`

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use identity::Authenticated;
use kernel::ChargeId;
use metering::{Explanation, Summary, SummaryQuery, UsageQuery, UsageRecord};
use serde::Serialize;
use utoipa::ToSchema;
use web::{Path, Query};

use crate::{Error, Gateway};

/// A page of usage records.
#[derive(Serialize, ToSchema)]
pub(super) struct UsagePage {
    /// Newest first.
    rows: Vec<UsageRecord>,
    /// The `cursor` of the next page; null on the last. A page may hold fewer rows than asked, even
    /// none, and still have a next one.
    next: Option<String>,
}

/// List your calls
///
/// The ended calls of the caller's organization, newest first.
#[utoipa::path(get, path = "/usage", operation_id = "list_usage", tag = "usage",
    params(UsageQuery),
    responses((status = 200, body = UsagePage), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"),
        (status = 403, description = "The key may not do this, or not from there")),
    security(("api_key" = [])))]
pub(super) async fn list_usage(
    State(gateway): State<Gateway>,
    Authenticated(caller): Authenticated,
    Query(query): Query<UsageQuery>,
) -> web::Result<Json<UsagePage>> {
    let (filter, page) = query.parts(Some(caller.org_id.clone()));
    let page = gateway.metering.list_usage(&filter, &page).await.map_err(Error::from)?;
    Ok(Json(UsagePage { rows: page.rows, next: page.next.map(|next| next.to_string()) }))
}

/// Report your calls
///
/// The calls of the caller's organization, added up by hour, day, model, user, application or key.
#[utoipa::path(get, path = "/usage/summary", operation_id = "summarize_usage", tag = "usage",
    params(SummaryQuery),
    responses((status = 200, body = Summary), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key")),
    security(("api_key" = [])))]
pub(super) async fn summarize_usage(
    State(gateway): State<Gateway>,
    Authenticated(caller): Authenticated,
    Query(query): Query<SummaryQuery>,
) -> web::Result<Json<Summary>> {
    let org_id = Some(caller.org_id.clone());
    let summary = gateway.metering.summarize(query, org_id).await.map_err(Error::from)?;
    Ok(Json(summary))
}

/// Export your calls
///
/// All calls that the list would give, newest first, as CSV with a head line; `limit` and `cursor`
/// do not count. The answer is streamed.
#[utoipa::path(get, path = "/usage/export", operation_id = "export_usage", tag = "usage",
    params(UsageQuery),
    responses((status = 200, description = "The calls", body = String, content_type = "text/csv"),
        (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key")),
    security(("api_key" = [])))]
pub(super) async fn export_usage(
    State(gateway): State<Gateway>,
    Authenticated(caller): Authenticated,
    Query(query): Query<UsageQuery>,
) -> web::Result<Response> {
    let (filter, _) = query.parts(Some(caller.org_id.clone()));
    let export = gateway.metering.export_usage(filter).await.map_err(Error::from)?;
    Ok(web::download("usage.csv", "text/csv; charset=utf-8", export))
}

/// Show one of your calls
///
/// A call that still runs has the status `running`, and of its figures only what is held for it.
#[utoipa::path(get, path = "/usage/{charge_id}", operation_id = "get_usage", tag = "usage",
    params(("charge_id" = String, Path, description = "The x-ledgerline-charge-id of the answer")),
    responses((status = 200, body = UsageRecord), (status = 401, description = "No valid API key"),
        (status = 403, description = "The key may not do this, or not from there"),
        (status = 404, description = "No such record of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_usage(
    State(gateway): State<Gateway>,
    Authenticated(caller): Authenticated,
    Path(id): Path<ChargeId>,
) -> web::Result<Json<UsageRecord>> {
    let record =
        gateway.metering.usage_or_running(&id, Some(&caller.org_id)).await.map_err(Error::from)?;
    Ok(Json(record.ok_or(Error::UnknownUsage)?))
}

/// Explain one of your charges
///
/// Computes it again from what was pinned, line by line: the lines add up to what was charged.
#[utoipa::path(get, path = "/usage/{charge_id}/explain", operation_id = "explain_charge", tag = "usage",
    params(("charge_id" = String, Path, description = "The x-ledgerline-charge-id of the answer")),
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 403, description = "The key may not do this, or not from there"),
        (status = 404, description = "No such record of yours")),
    security(("api_key" = [])))]
pub(super) async fn explain_charge(
    State(gateway): State<Gateway>,
    Authenticated(caller): Authenticated,
    Path(id): Path<ChargeId>,
) -> web::Result<Json<Explanation>> {
    let explained = gateway.metering.explain(&id, Some(&caller.org_id)).await;
    Ok(Json(explained.map_err(Error::from)?.ok_or(Error::UnknownUsage)?))
}
