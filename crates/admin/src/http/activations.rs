//! Which price version counts when, and for whom: activations, and the terms of organizations.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use identity::Changed;
use kernel::{OrgId, PageRequest, Timestamp};
use metering::{Activation, Terms};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;
use web::{Path, Query};

use super::prices::changed;
use super::{Admin, Listing};
use crate::Error;
use crate::audit::Actor;
use crate::write::Write;

const LONGEST_NAME: usize = 64;

/// An activation to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewActivation {
    /// The version; null to go back to the prices of the configuration.
    version_id: Option<String>,
    /// When it starts; at once when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    starts_at: Option<Timestamp>,
}

/// Let a price version count
///
/// From the given time on, or at once, until the next activation starts. Calls keep the price that
/// counted when they were admitted. Other instances follow within a second.
#[utoipa::path(post, path = "/prices/activations", operation_id = "activate_prices", tag = "prices",
    params(("idempotency-key" = Option<String>, Header, description = "A repeated request with the same key activates once")),
    request_body = NewActivation,
    responses((status = 201, body = Activation), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such version"),
        (status = 409, description = "Too many wait to start, others change prices at the same time, or the Idempotency-Key was used for another request")),
    security(("api_key" = [])))]
pub(super) async fn activate_prices(
    State(admin): State<Admin>,
    write: Write,
) -> web::Result<Response> {
    let new: NewActivation = write.json()?;
    let make = async {
        let (prices, now) = (admin.metering.prices(), admin.metering.now());
        let also = |made: &Activation| write.statements(&change("create", made), &json!(made), now);
        let (version_id, by) = (new.version_id.as_deref(), write.actor.key());
        let made = prices.activate(version_id, new.starts_at, by, now, also).await?;
        Ok((StatusCode::CREATED, made))
    };
    write.make(&admin, make).await
}

/// List the activations of price versions
///
/// The last made first, cancelled ones too.
#[utoipa::path(get, path = "/prices/activations", operation_id = "list_price_activations", tag = "prices",
    params(("limit" = Option<u32>, Query, description = "1 to 1000, 50 by default"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before")),
    responses((status = 200, body = Listing<Activation>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn list_price_activations(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Query(page): Query<PageRequest>,
) -> web::Result<Json<Listing<Activation>>> {
    let page = admin.metering.prices().list_activations(&page).await.map_err(Error::from)?;
    Ok(Json(page.into()))
}

/// Cancel an activation that has not started
#[utoipa::path(delete, path = "/prices/activations/{revision}", operation_id = "cancel_price_activation", tag = "prices",
    params(("revision" = i64, Path, description = "Its number")),
    responses((status = 200, body = Activation), (status = 400, description = "The path is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 409, description = "It has started, was cancelled, or is not there")),
    security(("api_key" = [])))]
pub(super) async fn cancel_price_activation(
    State(admin): State<Admin>,
    actor: Actor,
    Path(revision): Path<i64>,
) -> web::Result<Json<Activation>> {
    let now = admin.metering.now();
    let note = |cancelled: &Activation| vec![actor.note(now, &change("cancel", cancelled))];
    Ok(Json(admin.metering.prices().cancel(revision, now, note).await.map_err(Error::from)?))
}

fn change(verb: &'static str, activation: &Activation) -> Changed {
    let after = json!({"version_id": activation.version_id, "starts_at": activation.starts_at});
    changed(verb, "price_activation", activation.revision.to_string(), after)
}

/// Show what an organization's prices depend on
#[utoipa::path(get, path = "/orgs/{org_id}/price-terms", operation_id = "get_price_terms", tag = "prices",
    params(("org_id" = String, Path, description = "The organization's id")),
    responses((status = 200, body = Terms), (status = 401, description = "No valid API key"),
        (status = 403, description = "Not an administrator"), (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn get_price_terms(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(org_id): Path<OrgId>,
) -> web::Result<Json<Terms>> {
    let org = admin.identity.org(&org_id).await?;
    Ok(Json(admin.metering.prices().terms(&org.id).await.map_err(Error::from)?))
}

/// Set what an organization's prices depend on
///
/// Its distributor and its plan, as price files name them. Counts for calls from now on.
#[utoipa::path(put, path = "/orgs/{org_id}/price-terms", operation_id = "set_price_terms", tag = "prices",
    params(("org_id" = String, Path, description = "The organization's id")), request_body = Terms,
    responses((status = 200, body = Terms), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn set_price_terms(
    State(admin): State<Admin>,
    actor: Actor,
    Path(org_id): Path<OrgId>,
    web::Json(terms): web::Json<Terms>,
) -> web::Result<Json<Terms>> {
    let org = admin.identity.org(&org_id).await?;
    let names = [terms.distributor_id.as_deref(), terms.plan.as_deref()];
    if names.into_iter().flatten().any(|name| name.is_empty() || name.len() > LONGEST_NAME) {
        return Err(Error::Terms.into());
    }
    let (prices, now) = (admin.metering.prices(), admin.metering.now());
    let before = prices.terms(&org.id).await.map_err(Error::from)?;
    let change = Changed {
        org_id: Some(org.id.clone()),
        before: Some(json!(before)),
        ..changed("set", "price_terms", org.id.to_string(), json!(terms))
    };
    let note = vec![actor.note(now, &change)];
    prices.set_terms(&org.id, &terms, actor.key(), now, note).await.map_err(Error::from)?;
    Ok(Json(terms))
}
