//! Organizations.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use identity::{Change, Edit, Filter, Org, OrgKind};
use kernel::OrgId;
use serde::Deserialize;
use utoipa::ToSchema;
use web::{Path, Query};

use super::{Admin, ListQuery, Listing};
use crate::write::{Write, versioned};

/// An organization to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrg {
    /// 1 to 200 characters.
    name: String,
    /// What it is.
    kind: OrgKind,
}

#[derive(Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OrgQuery {
    /// Only of this kind
    #[serde(default)]
    kind: Option<OrgKind>,
}

/// Create an organization
#[utoipa::path(post, path = "/orgs", operation_id = "create_org", tag = "admin", request_body = NewOrg,
    params(("idempotency-key" = Option<String>, Header, description = "A repeated request with the same key creates once")),
    responses((status = 201, body = Org), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 409, description = "The Idempotency-Key was used for another request")),
    security(("api_key" = [])))]
pub(super) async fn create_org(State(admin): State<Admin>, write: Write) -> web::Result<Response> {
    let NewOrg { name, kind } = write.json()?;
    if kind == OrgKind::Platform {
        write.for_administrators()?;
    }
    write.create(&admin, |identity| async move { identity.create_org(&name, kind).await }).await
}

/// List the organizations
#[utoipa::path(get, path = "/orgs", operation_id = "list_orgs", tag = "admin",
    params(ListQuery, OrgQuery),
    responses((status = 200, body = Listing<Org>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn list_orgs(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Query(list): Query<ListQuery>,
    Query(OrgQuery { kind }): Query<OrgQuery>,
) -> web::Result<Json<Listing<Org>>> {
    let (filter, page) = list.parts(Filter { kind, ..Filter::default() });
    Ok(Json(admin.identity.find_orgs(&filter, &page).await?.into()))
}

/// Show an organization
#[utoipa::path(get, path = "/orgs/{org_id}", operation_id = "get_org", tag = "admin",
    params(("org_id" = String, Path, description = "Its id")),
    responses((status = 200, body = Org), (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn get_org(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<OrgId>,
) -> web::Result<Response> {
    let org = admin.identity.org(&id).await?;
    Ok(versioned(org.version, &org))
}

/// Rename an organization, or switch its credentials off or on
#[utoipa::path(patch, path = "/orgs/{org_id}", operation_id = "change_org", tag = "admin",
    params(("org_id" = String, Path, description = "Its id"),
        ("if-match" = Option<String>, Header, description = "The version from ETag; without it, whatever it is now")), request_body = Change,
    responses((status = 200, body = Org), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization"),
        (status = 409, description = "The platform's organization cannot be disabled"),
        (status = 412, description = "It has another version than If-Match says")),
    security(("api_key" = [])))]
pub(super) async fn change_org(
    State(admin): State<Admin>,
    Path(id): Path<OrgId>,
    write: Write,
) -> web::Result<Response> {
    write.for_org(&admin, &id).await?;
    let edit = Edit { change: write.json::<Change>()?, version: write.version };
    let org = write.identity(&admin).change_org(&id, edit).await?;
    Ok(versioned(org.version, &org))
}
