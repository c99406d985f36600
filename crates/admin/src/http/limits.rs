//! Limits of organizations, users and keys.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use identity::Changed;
use kernel::{Amount, Asset, KeyId, OrgId, Page, PageRequest, UserId, Zone};
use metering::{Limit, LimitMeasure, LimitScope, LimitSpan, LimitView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use web::{Path, Query};

use super::{Admin, PartQuery};
use crate::Error;
use crate::audit::Actor;

/// A limit to be set, or taken away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitRequest {
    /// Whose use it bounds.
    scope: LimitScope,
    /// The id of the user or key; absent for the organization.
    subject: Option<String>,
    /// What it bounds.
    measure: LimitMeasure,
    /// Over which window: `minute`, `day` or `month`; `now`, or absent, for concurrency.
    per: Option<LimitSpan>,
    /// Of a spend limit, such as `CNY`.
    #[schema(value_type = Option<String>)]
    currency: Option<Asset>,
    /// The most: a whole number, or for spend a decimal as a string. Null takes the limit away.
    #[schema(value_type = Option<Value>, example = 60)]
    limit: Option<Most>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Most {
    Count(i64),
    Money(Amount),
}

/// An organization's limits.
#[derive(Serialize, ToSchema)]
pub(super) struct Limits {
    /// Where its days and months begin.
    #[schema(value_type = String, example = "Asia/Shanghai")]
    time_zone: Zone,
    /// Its limits, its users' and its keys'.
    rows: Vec<LimitView>,
    /// The `cursor` of the next page; null on the last.
    next: Option<String>,
}

/// Where an organization's days and months begin.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ZoneRequest {
    /// A name of the IANA database.
    #[schema(value_type = String, example = "Asia/Shanghai")]
    time_zone: Zone,
}

/// List an organization's limits
#[utoipa::path(get, path = "/orgs/{org_id}/limits", operation_id = "list_limits", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"), PartQuery),
    responses((status = 200, body = Limits), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"),
        (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn list_limits(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(org_id): Path<OrgId>,
    Query(part): Query<PartQuery>,
) -> web::Result<Json<Limits>> {
    let org = admin.identity.org(&org_id).await?;
    Ok(Json(limits(&admin, &org.id, &part.into()).await?))
}

async fn limits(admin: &Admin, org_id: &OrgId, page: &PageRequest) -> Result<Limits, Error> {
    let time_zone = admin.metering.zone(org_id).await?;
    let Page { rows, next } = admin.metering.limits(org_id, page).await?;
    let rows = rows.into_iter().map(LimitView::from).collect();
    Ok(Limits { time_zone, rows, next: next.map(|next| next.to_string()) })
}

/// The user or key whose use is to be bounded is there, and the organization's.
async fn check_subject(admin: &Admin, org_id: &OrgId, limit: &Limit) -> Result<(), Error> {
    let id = limit.subject.as_str();
    let (what, owner) = match limit.scope {
        LimitScope::Org => return Ok(()),
        LimitScope::User => ("user", admin.identity.user(&UserId::from(id)).await?.org_id),
        LimitScope::Key => ("key", admin.identity.key(&KeyId::from(id)).await?.org_id),
    };
    if owner == *org_id {
        return Ok(());
    }
    Err(identity::Error::NotFound { what, id: id.to_owned() }.into())
}

/// Set a limit, or take it away
///
/// It holds for calls admitted from then on, everywhere within a second. The answer is the first page
/// of the organization's limits.
#[utoipa::path(put, path = "/orgs/{org_id}/limits", operation_id = "set_limit", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id")),
    request_body = LimitRequest,
    responses((status = 200, body = Limits), (status = 400, description = "The limit makes no sense"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization, or it has no such user or key")),
    security(("api_key" = [])))]
pub(super) async fn set_limit(
    State(admin): State<Admin>,
    actor: Actor,
    Path(org_id): Path<OrgId>,
    web::Json(request): web::Json<LimitRequest>,
) -> web::Result<Json<Limits>> {
    let org = admin.identity.org(&org_id).await?;
    let most = request.limit;
    let limit = limit(request, &org.id)?;
    // What was set for somebody who is gone since can be taken away.
    if most.is_some() {
        check_subject(&admin, &org.id, &limit).await?;
    }
    let (verb, after) = match most {
        Some(_) => ("set", Some(describe(&limit))),
        None => ("delete", None),
    };
    let before = admin.metering.limit_like(&org.id, &limit).await.map_err(Error::from)?;
    let changed = Changed {
        verb,
        what: "limit",
        id: limit.subject.clone(),
        org_id: Some(org.id.clone()),
        before: before.as_ref().map(describe),
        after,
    };
    let note = actor.note(admin.metering.now(), &changed);
    match most {
        Some(_) => admin.metering.set_limit(&org.id, &limit, note).await,
        None => admin.metering.remove_limit(&org.id, &limit, note).await,
    }
    .map_err(Error::from)?;
    Ok(Json(limits(&admin, &org.id, &PageRequest::default()).await?))
}

fn describe(limit: &Limit) -> Value {
    json!({
        "scope": limit.scope, "subject": limit.subject, "measure": limit.measure,
        "per": limit.span, "currency": limit.currency, "limit": limit.figure(limit.most),
    })
}

fn limit(request: LimitRequest, org_id: &OrgId) -> Result<Limit, Error> {
    let LimitRequest { scope, subject, measure, per, currency, limit } = request;
    let subject = match (scope, subject) {
        (LimitScope::Org, None) => org_id.to_string(),
        (LimitScope::Org, Some(_)) => return Err(Error::LimitSubject("no subject, or the scope")),
        (_, Some(subject)) => subject,
        (_, None) => return Err(Error::LimitSubject("the user's or key's id as subject")),
    };
    let span = match (measure, per) {
        (LimitMeasure::Concurrency, None) => LimitSpan::Now,
        (_, Some(per)) => per,
        (_, None) => return Err(Error::LimitSubject("per: minute, day or month")),
    };
    let most = match (measure, limit) {
        (LimitMeasure::Spend, Some(Most::Money(amount))) => amount.nanos(),
        (LimitMeasure::Spend, Some(Most::Count(_))) => {
            return Err(Error::LimitSubject("a spend limit as a decimal string"));
        }
        (_, Some(Most::Count(count))) => count,
        (_, Some(Most::Money(_))) => return Err(Error::LimitSubject("a whole number as limit")),
        (_, None) => 0,
    };
    Ok(Limit { scope, subject, measure, span, currency, most })
}

/// Set where an organization's days and months begin
///
/// Windows that have begun end as they were counted.
#[utoipa::path(put, path = "/orgs/{org_id}/time_zone", operation_id = "set_time_zone", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id")),
    request_body = ZoneRequest,
    responses((status = 204, description = "It is set"), (status = 400, description = "No such time zone"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn set_time_zone(
    State(admin): State<Admin>,
    actor: Actor,
    Path(org_id): Path<OrgId>,
    web::Json(request): web::Json<ZoneRequest>,
) -> web::Result<StatusCode> {
    let org = admin.identity.org(&org_id).await?;
    let before = admin.metering.zone(&org.id).await.map_err(Error::from)?;
    let changed = Changed {
        verb: "change",
        what: "time_zone",
        id: org.id.to_string(),
        org_id: Some(org.id.clone()),
        before: Some(json!(before)),
        after: Some(json!(request.time_zone)),
    };
    let note = actor.note(admin.metering.now(), &changed);
    admin.metering.set_zone(&org.id, &request.time_zone, note).await.map_err(Error::from)?;
    Ok(StatusCode::NO_CONTENT)
}
