//! Organizations, their users and applications.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use identity::{App, Change, Org, OrgKind, User};
use kernel::{AppId, OrgId, PageRequest, UserId};
use serde::Deserialize;
use utoipa::ToSchema;
use web::{Path, Query};

use super::{Admin, Listing};

/// An organization to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrg {
    /// 1 to 200 characters.
    name: String,
    /// What it is.
    kind: OrgKind,
}

/// Somebody or something to be created in an organization.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMember {
    /// 1 to 200 characters.
    name: String,
}

/// Create an organization
#[utoipa::path(post, path = "/orgs", operation_id = "create_org", tag = "admin", request_body = NewOrg,
    responses((status = 201, body = Org), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn create_org(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    web::Json(new): web::Json<NewOrg>,
) -> web::Result<(StatusCode, Json<Org>)> {
    let org = admin.identity.create_org(&new.name, new.kind).await?;
    Ok((StatusCode::CREATED, Json(org)))
}

/// List the organizations
#[utoipa::path(get, path = "/orgs", operation_id = "list_orgs", tag = "admin",
    params(("limit" = Option<u32>, Query, description = "1 to 1000, 50 by default"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before")),
    responses((status = 200, body = Listing<Org>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn list_orgs(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Query(page): Query<PageRequest>,
) -> web::Result<Json<Listing<Org>>> {
    Ok(Json(admin.identity.list_orgs(&page).await?.into()))
}

/// Show an organization
#[utoipa::path(get, path = "/orgs/{org_id}", operation_id = "get_org", tag = "admin",
    params(("org_id" = String, Path, description = "Its id")),
    responses((status = 200, body = Org), (status = 401, description = "No valid API key"),
        (status = 403, description = "Not an administrator"), (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn get_org(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<OrgId>,
) -> web::Result<Json<Org>> {
    Ok(Json(admin.identity.org(&id).await?))
}

/// Rename an organization, or switch its credentials off or on
#[utoipa::path(patch, path = "/orgs/{org_id}", operation_id = "change_org", tag = "admin",
    params(("org_id" = String, Path, description = "Its id")), request_body = Change,
    responses((status = 200, body = Org), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization"),
        (status = 409, description = "The platform's organization cannot be disabled")),
    security(("api_key" = [])))]
pub(super) async fn change_org(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<OrgId>,
    web::Json(change): web::Json<Change>,
) -> web::Result<Json<Org>> {
    Ok(Json(admin.identity.change_org(&id, change).await?))
}

/// Create a user of an organization
#[utoipa::path(post, path = "/orgs/{org_id}/users", operation_id = "create_user", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id")), request_body = NewMember,
    responses((status = 201, body = User), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn create_user(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<OrgId>,
    web::Json(new): web::Json<NewMember>,
) -> web::Result<(StatusCode, Json<User>)> {
    Ok((StatusCode::CREATED, Json(admin.identity.create_user(&id, &new.name).await?)))
}

/// List the users of an organization
#[utoipa::path(get, path = "/orgs/{org_id}/users", operation_id = "list_users", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 50 by default"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before")),
    responses((status = 200, body = Listing<User>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn list_users(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<OrgId>,
    Query(page): Query<PageRequest>,
) -> web::Result<Json<Listing<User>>> {
    Ok(Json(admin.identity.list_users(&id, &page).await?.into()))
}

/// Rename a user, or switch its keys off or on
#[utoipa::path(patch, path = "/users/{user_id}", operation_id = "change_user", tag = "admin",
    params(("user_id" = String, Path, description = "Its id")), request_body = Change,
    responses((status = 200, body = User), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such user")),
    security(("api_key" = [])))]
pub(super) async fn change_user(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<UserId>,
    web::Json(change): web::Json<Change>,
) -> web::Result<Json<User>> {
    Ok(Json(admin.identity.change_user(&id, change).await?))
}

/// Create an application of an organization
#[utoipa::path(post, path = "/orgs/{org_id}/apps", operation_id = "create_app", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id")), request_body = NewMember,
    responses((status = 201, body = App), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn create_app(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<OrgId>,
    web::Json(new): web::Json<NewMember>,
) -> web::Result<(StatusCode, Json<App>)> {
    Ok((StatusCode::CREATED, Json(admin.identity.create_app(&id, &new.name).await?)))
}

/// List the applications of an organization
#[utoipa::path(get, path = "/orgs/{org_id}/apps", operation_id = "list_apps", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 50 by default"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before")),
    responses((status = 200, body = Listing<App>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn list_apps(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<OrgId>,
    Query(page): Query<PageRequest>,
) -> web::Result<Json<Listing<App>>> {
    Ok(Json(admin.identity.list_apps(&id, &page).await?.into()))
}

/// Rename an application, or switch its keys off or on
#[utoipa::path(patch, path = "/apps/{app_id}", operation_id = "change_app", tag = "admin",
    params(("app_id" = String, Path, description = "Its id")), request_body = Change,
    responses((status = 200, body = App), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such application")),
    security(("api_key" = [])))]
pub(super) async fn change_app(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<AppId>,
    web::Json(change): web::Json<Change>,
) -> web::Result<Json<App>> {
    Ok(Json(admin.identity.change_app(&id, change).await?))
}
