//! Low-balance alerts of organizations, and what was told.

use alerts::{
    Alert, AlertChange, Alerts, CreatedAlert, Delivery, DeliveryFilter, DeliveryState, NewAlert,
};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use identity::Identity;
use kernel::OrgId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use web::{Path, Query};

use super::{Admin, Listing, PartQuery};
use crate::Error;
use crate::write::{Write, versioned};

/// An alert just created.
#[derive(Serialize, ToSchema)]
pub(super) struct AlertCreated {
    #[serde(flatten)]
    alert: Alert,
    /// What its webhooks are signed with. It is shown here and, to a repeated request with the same
    /// `Idempotency-Key`, for a day; never again.
    secret: String,
}

impl From<CreatedAlert> for AlertCreated {
    fn from(created: CreatedAlert) -> Self {
        Self { alert: created.alert, secret: created.secret.expose().to_owned() }
    }
}

/// Which deliveries.
#[derive(Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveryQuery {
    /// Only those of this alert
    alert_id: Option<String>,
    /// Only those of which this became
    #[param(value_type = Option<String>)]
    state: Option<DeliveryState>,
}

/// Create a low-balance alert
///
/// When the wallet falls to the amount, that is told to the URL by a signed webhook (docs/alerts.md); at
/// once, if it has so little already.
#[utoipa::path(post, path = "/orgs/{org_id}/alerts", operation_id = "create_alert", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"),
        ("idempotency-key" = Option<String>, Header, description = "A repeated request with the same key creates once")), request_body = NewAlert,
    responses((status = 201, body = AlertCreated), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization"),
        (status = 409, description = "It has as many alerts as it may, or the Idempotency-Key was used for another request")),
    security(("api_key" = [])))]
pub(super) async fn create_alert(
    State(admin): State<Admin>,
    Path(org_id): Path<OrgId>,
    write: Write,
) -> web::Result<Response> {
    write.for_org(&admin, &org_id).await?;
    let new: NewAlert = write.json()?;
    let alerts = &admin.alerts;
    let make = |identity: Identity| async move {
        let created = alerts.create(&identity, &org_id, new).await;
        created.map(AlertCreated::from).map_err(Error::from)
    };
    let again = |made: Value, seed: &str| Alerts::created_again(&admin.identity, made, seed);
    write.create_shown(&admin, make, again).await
}

/// List an organization's alerts
#[utoipa::path(get, path = "/orgs/{org_id}/alerts", operation_id = "list_alerts", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"), PartQuery),
    responses((status = 200, body = Listing<Alert>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn list_alerts(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(org_id): Path<OrgId>,
    Query(part): Query<PartQuery>,
) -> web::Result<Json<Listing<Alert>>> {
    let org = admin.identity.org(&org_id).await?;
    Ok(Json(admin.alerts.list(&org.id, &part.into()).await.map_err(Error::from)?.into()))
}

/// Show an alert, without its secret
#[utoipa::path(get, path = "/orgs/{org_id}/alerts/{alert_id}", operation_id = "get_alert", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"),
        ("alert_id" = String, Path, description = "The alert's id")),
    responses((status = 200, body = Alert), (status = 401, description = "No valid API key"),
        (status = 403, description = "Not an administrator"), (status = 404, description = "No such alert")),
    security(("api_key" = [])))]
pub(super) async fn get_alert(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path((org_id, id)): Path<(OrgId, String)>,
) -> web::Result<Response> {
    let alert = admin.alerts.get(&org_id, &id).await.map_err(Error::from)?;
    Ok(versioned(alert.version, &alert))
}

/// Change an alert's amount or URL
///
/// With another amount it counts as not told yet. What waits to be sent goes to the new URL.
#[utoipa::path(patch, path = "/orgs/{org_id}/alerts/{alert_id}", operation_id = "change_alert", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"),
        ("alert_id" = String, Path, description = "The alert's id"),
        ("if-match" = Option<String>, Header, description = "The version from ETag; without it, whatever it is now")), request_body = AlertChange,
    responses((status = 200, body = Alert), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such alert"),
        (status = 412, description = "It has another version than If-Match says")),
    security(("api_key" = [])))]
pub(super) async fn change_alert(
    State(admin): State<Admin>,
    Path((org_id, id)): Path<(OrgId, String)>,
    write: Write,
) -> web::Result<Response> {
    write.for_org(&admin, &org_id).await?;
    let (change, identity) = (write.json::<AlertChange>()?, write.identity(&admin));
    let changed = admin.alerts.change(&identity, (&org_id, &id), write.version, &change).await;
    let alert = changed.map_err(Error::from)?;
    Ok(versioned(alert.version, &alert))
}

/// Delete an alert
///
/// What it still had to tell is given up; what it told stays listed.
#[utoipa::path(delete, path = "/orgs/{org_id}/alerts/{alert_id}", operation_id = "delete_alert", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"),
        ("alert_id" = String, Path, description = "The alert's id"),
        ("if-match" = Option<String>, Header, description = "The version from ETag; without it, whatever it is now")),
    responses((status = 200, body = Alert), (status = 401, description = "No valid API key"),
        (status = 403, description = "Not an administrator"), (status = 404, description = "No such alert"),
        (status = 412, description = "It has another version than If-Match says")),
    security(("api_key" = [])))]
pub(super) async fn delete_alert(
    State(admin): State<Admin>,
    Path((org_id, id)): Path<(OrgId, String)>,
    write: Write,
) -> web::Result<Response> {
    write.for_org(&admin, &org_id).await?;
    let identity = write.identity(&admin);
    let deleted = admin.alerts.delete(&identity, (&org_id, &id), write.version).await;
    let alert = deleted.map_err(Error::from)?;
    Ok(versioned(alert.version, &alert))
}

/// List what was told of an organization's alerts, newest first
///
/// What has ended is kept for `alerts.keep_days`.
#[utoipa::path(get, path = "/orgs/{org_id}/alerts/deliveries", operation_id = "list_alert_deliveries", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"), PartQuery, DeliveryQuery),
    responses((status = 200, body = Listing<Delivery>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn list_alert_deliveries(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(org_id): Path<OrgId>,
    Query(part): Query<PartQuery>,
    Query(of): Query<DeliveryQuery>,
) -> web::Result<Json<Listing<Delivery>>> {
    let org = admin.identity.org(&org_id).await?;
    let filter = DeliveryFilter { alert_id: of.alert_id, state: of.state };
    let found = admin.alerts.deliveries(&org.id, &filter, &part.into()).await;
    Ok(Json(found.map_err(Error::from)?.into()))
}

/// Send a webhook again
///
/// At once and under its own id, whatever became of it.
#[utoipa::path(post, path = "/orgs/{org_id}/alerts/deliveries/{delivery_id}/redeliver",
    operation_id = "redeliver_alert", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"),
        ("delivery_id" = String, Path, description = "The delivery's id, its `webhook-id`")),
    responses((status = 200, body = Delivery), (status = 401, description = "No valid API key"),
        (status = 403, description = "Not an administrator"), (status = 404, description = "No such delivery")),
    security(("api_key" = [])))]
pub(super) async fn redeliver_alert(
    State(admin): State<Admin>,
    Path((org_id, id)): Path<(OrgId, String)>,
    write: Write,
) -> web::Result<Json<Delivery>> {
    write.for_org(&admin, &org_id).await?;
    let identity = write.identity(&admin);
    Ok(Json(admin.alerts.redeliver(&identity, &org_id, &id).await.map_err(Error::from)?))
}
