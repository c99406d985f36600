//! Usage records of everybody.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use kernel::{ChargeId, OrgId};
use metering::{Explanation, OperatorRecord, Summary, SummaryQuery, UsageQuery};
use serde::Deserialize;
use web::{Path, Query};

use super::{Admin, Listing};
use crate::Error;

/// Whose calls.
#[derive(Deserialize)]
pub(super) struct Whose {
    org_id: Option<OrgId>,
}

/// List calls
///
/// Ended calls of one organization or of all, newest first, with their attempts and what they cost
/// upstream. To look for a user, application or key,
/// name the organization.
#[utoipa::path(get, path = "/usage", operation_id = "list_all_usage", tag = "admin",
    params(("org_id" = Option<String>, Query, description = "Only this organization's"), UsageQuery),
    responses((status = 200, body = Listing<OperatorRecord>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn list_usage(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Query(whose): Query<Whose>,
    Query(query): Query<UsageQuery>,
) -> web::Result<Json<Listing<OperatorRecord>>> {
    let (filter, page) = query.parts(whose.org_id);
    Ok(Json(admin.metering.list_calls(&filter, &page).await.map_err(Error::from)?.into()))
}

/// Report calls
///
/// The calls of one organization or of all, added up. Users, applications and keys are told apart
/// within an organization; by organization, or by provider within one, there are days (UTC).
#[utoipa::path(get, path = "/usage/summary", operation_id = "summarize_all_usage", tag = "admin",
    params(("org_id" = Option<String>, Query, description = "Only this organization's"), SummaryQuery),
    responses((status = 200, body = Summary), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn summarize_usage(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Query(whose): Query<Whose>,
    Query(query): Query<SummaryQuery>,
) -> web::Result<Json<Summary>> {
    Ok(Json(admin.metering.summarize(query, whose.org_id).await.map_err(Error::from)?))
}

/// Export calls
///
/// All calls that the list would give, newest first, as CSV with a head line; `limit` and `cursor`
/// do not count. The answer is streamed.
#[utoipa::path(get, path = "/usage/export", operation_id = "export_all_usage", tag = "admin",
    params(("org_id" = Option<String>, Query, description = "Only this organization's"), UsageQuery),
    responses((status = 200, description = "The calls", body = String, content_type = "text/csv"),
        (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn export_usage(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Query(whose): Query<Whose>,
    Query(query): Query<UsageQuery>,
) -> web::Result<Response> {
    let (filter, _) = query.parts(whose.org_id);
    let export = admin.metering.export_usage(filter).await.map_err(Error::from)?;
    Ok(web::download("usage.csv", "text/csv; charset=utf-8", export))
}

/// Show a call
///
/// A call that still runs has the status `running`, and of its figures only what is held for it.
#[utoipa::path(get, path = "/usage/{charge_id}", operation_id = "get_any_usage", tag = "admin",
    params(("charge_id" = String, Path, description = "The call's charge id")),
    responses((status = 200, body = OperatorRecord), (status = 401, description = "No valid API key"),
        (status = 403, description = "Not an administrator"), (status = 404, description = "No call has this id")),
    security(("api_key" = [])))]
pub(super) async fn get_usage(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<ChargeId>,
) -> web::Result<Json<OperatorRecord>> {
    let found = admin.metering.call(&id).await.map_err(Error::from)?;
    Ok(Json(found.ok_or(Error::UnknownUsage)?))
}

/// Explain a charge
///
/// Computes it again from what was pinned, line by line: the lines add up to what was charged.
#[utoipa::path(get, path = "/usage/{charge_id}/explain", operation_id = "explain_any_charge", tag = "admin",
    params(("charge_id" = String, Path, description = "The call's charge id")),
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 403, description = "Not an administrator"), (status = 404, description = "No ended call has this id")),
    security(("api_key" = [])))]
pub(super) async fn explain_charge(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<ChargeId>,
) -> web::Result<Json<Explanation>> {
    let explained = admin.metering.explain(&id, None).await.map_err(Error::from)?;
    Ok(Json(explained.ok_or(Error::UnknownUsage)?))
}
