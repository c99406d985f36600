//! Users and applications.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use identity::{App, Edit, Identity, MemberChange, User};
use kernel::{AppId, OrgId, UserId};
use serde::Deserialize;
use utoipa::ToSchema;
use web::{Path, Query};

use super::{Admin, ListQuery, Listing, MemberQuery};
use crate::write::{Write, versioned};

/// Somebody or something to be created in an organization.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMember {
    /// 1 to 200 characters.
    name: String,
}

/// Create a user of an organization
#[utoipa::path(post, path = "/orgs/{org_id}/users", operation_id = "create_user", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"),
        ("idempotency-key" = Option<String>, Header, description = "A repeated request with the same key creates once")), request_body = NewMember,
    responses((status = 201, body = User), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization"),
        (status = 409, description = "The Idempotency-Key was used for another request")),
    security(("api_key" = [])))]
pub(super) async fn create_user(
    State(admin): State<Admin>,
    Path(org_id): Path<OrgId>,
    write: Write,
) -> web::Result<Response> {
    write.for_org(&admin, &org_id).await?;
    let NewMember { name } = write.json()?;
    let make = |identity: Identity| async move { identity.create_user(&org_id, &name).await };
    write.create(&admin, make).await
}

/// List the users of an organization
#[utoipa::path(get, path = "/orgs/{org_id}/users", operation_id = "list_users", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"), ListQuery,
        ("role" = Option<String>, Query, description = "Only those given this role")),
    responses((status = 200, body = Listing<User>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn list_users(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(org_id): Path<OrgId>,
    Query(list): Query<ListQuery>,
    Query(of): Query<MemberQuery>,
) -> web::Result<Json<Listing<User>>> {
    let org = admin.identity.org(&org_id).await?;
    let (filter, page) = list.parts(MemberQuery { org_id: Some(org.id), ..of }.into());
    Ok(Json(admin.identity.find_users(&filter, &page).await?.into()))
}

/// List the users of all organizations
#[utoipa::path(get, path = "/users", operation_id = "find_users", tag = "admin",
    params(ListQuery, MemberQuery),
    responses((status = 200, body = Listing<User>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn find_users(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Query(list): Query<ListQuery>,
    Query(of): Query<MemberQuery>,
) -> web::Result<Json<Listing<User>>> {
    let (filter, page) = list.parts(of.into());
    Ok(Json(admin.identity.find_users(&filter, &page).await?.into()))
}

/// Show a user
#[utoipa::path(get, path = "/users/{user_id}", operation_id = "get_user", tag = "admin",
    params(("user_id" = String, Path, description = "Its id")),
    responses((status = 200, body = User), (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such user")),
    security(("api_key" = [])))]
pub(super) async fn get_user(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<UserId>,
) -> web::Result<Response> {
    let user = admin.identity.user(&id).await?;
    Ok(versioned(user.version, &user))
}

/// Rename a user, switch its keys off or on, or give it other roles
#[utoipa::path(patch, path = "/users/{user_id}", operation_id = "change_user", tag = "admin",
    params(("user_id" = String, Path, description = "Its id"),
        ("if-match" = Option<String>, Header, description = "The version from ETag; without it, whatever it is now")), request_body = MemberChange,
    responses((status = 200, body = User), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such user"),
        (status = 412, description = "It has another version than If-Match says")),
    security(("api_key" = [])))]
pub(super) async fn change_user(
    State(admin): State<Admin>,
    Path(id): Path<UserId>,
    write: Write,
) -> web::Result<Response> {
    let user = admin.identity.user(&id).await?;
    write.for_org(&admin, &user.org_id).await?;
    let edit = Edit { change: write.json::<MemberChange>()?, version: write.version };
    let user = write.identity(&admin).change_user(&id, edit).await?;
    Ok(versioned(user.version, &user))
}

/// Delete a user
///
/// Its keys stop working; what they did stays.
#[utoipa::path(delete, path = "/users/{user_id}", operation_id = "delete_user", tag = "admin",
    params(("user_id" = String, Path, description = "Its id"),
        ("if-match" = Option<String>, Header, description = "The version from ETag; without it, whatever it is now")),
    responses((status = 200, body = User), (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such user"),
        (status = 412, description = "It has another version than If-Match says")),
    security(("api_key" = [])))]
pub(super) async fn delete_user(
    State(admin): State<Admin>,
    Path(id): Path<UserId>,
    write: Write,
) -> web::Result<Response> {
    let user = admin.identity.user(&id).await?;
    write.for_org(&admin, &user.org_id).await?;
    let user = write.identity(&admin).delete_user(&id, write.version).await?;
    Ok(versioned(user.version, &user))
}

/// Create an application of an organization
#[utoipa::path(post, path = "/orgs/{org_id}/apps", operation_id = "create_app", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"),
        ("idempotency-key" = Option<String>, Header, description = "A repeated request with the same key creates once")), request_body = NewMember,
    responses((status = 201, body = App), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization"),
        (status = 409, description = "The Idempotency-Key was used for another request")),
    security(("api_key" = [])))]
pub(super) async fn create_app(
    State(admin): State<Admin>,
    Path(org_id): Path<OrgId>,
    write: Write,
) -> web::Result<Response> {
    write.for_org(&admin, &org_id).await?;
    let NewMember { name } = write.json()?;
    let make = |identity: Identity| async move { identity.create_app(&org_id, &name).await };
    write.create(&admin, make).await
}

/// List the applications of an organization
#[utoipa::path(get, path = "/orgs/{org_id}/apps", operation_id = "list_apps", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"), ListQuery,
        ("role" = Option<String>, Query, description = "Only those given this role")),
    responses((status = 200, body = Listing<App>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn list_apps(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(org_id): Path<OrgId>,
    Query(list): Query<ListQuery>,
    Query(of): Query<MemberQuery>,
) -> web::Result<Json<Listing<App>>> {
    let org = admin.identity.org(&org_id).await?;
    let (filter, page) = list.parts(MemberQuery { org_id: Some(org.id), ..of }.into());
    Ok(Json(admin.identity.find_apps(&filter, &page).await?.into()))
}

/// List the applications of all organizations
#[utoipa::path(get, path = "/apps", operation_id = "find_apps", tag = "admin",
    params(ListQuery, MemberQuery),
    responses((status = 200, body = Listing<App>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn find_apps(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Query(list): Query<ListQuery>,
    Query(of): Query<MemberQuery>,
) -> web::Result<Json<Listing<App>>> {
    let (filter, page) = list.parts(of.into());
    Ok(Json(admin.identity.find_apps(&filter, &page).await?.into()))
}

/// Show an application
#[utoipa::path(get, path = "/apps/{app_id}", operation_id = "get_app", tag = "admin",
    params(("app_id" = String, Path, description = "Its id")),
    responses((status = 200, body = App), (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such application")),
    security(("api_key" = [])))]
pub(super) async fn get_app(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<AppId>,
) -> web::Result<Response> {
    let app = admin.identity.app(&id).await?;
    Ok(versioned(app.version, &app))
}

/// Rename an application, switch its keys off or on, or give it other roles
#[utoipa::path(patch, path = "/apps/{app_id}", operation_id = "change_app", tag = "admin",
    params(("app_id" = String, Path, description = "Its id"),
        ("if-match" = Option<String>, Header, description = "The version from ETag; without it, whatever it is now")), request_body = MemberChange,
    responses((status = 200, body = App), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such application"),
        (status = 412, description = "It has another version than If-Match says")),
    security(("api_key" = [])))]
pub(super) async fn change_app(
    State(admin): State<Admin>,
    Path(id): Path<AppId>,
    write: Write,
) -> web::Result<Response> {
    let app = admin.identity.app(&id).await?;
    write.for_org(&admin, &app.org_id).await?;
    let edit = Edit { change: write.json::<MemberChange>()?, version: write.version };
    let app = write.identity(&admin).change_app(&id, edit).await?;
    Ok(versioned(app.version, &app))
}

/// Delete an application
///
/// Its keys stop working; what they did stays.
#[utoipa::path(delete, path = "/apps/{app_id}", operation_id = "delete_app", tag = "admin",
    params(("app_id" = String, Path, description = "Its id"),
        ("if-match" = Option<String>, Header, description = "The version from ETag; without it, whatever it is now")),
    responses((status = 200, body = App), (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such application"),
        (status = 412, description = "It has another version than If-Match says")),
    security(("api_key" = [])))]
pub(super) async fn delete_app(
    State(admin): State<Admin>,
    Path(id): Path<AppId>,
    write: Write,
) -> web::Result<Response> {
    let app = admin.identity.app(&id).await?;
    write.for_org(&admin, &app.org_id).await?;
    let app = write.identity(&admin).delete_app(&id, write.version).await?;
    Ok(versioned(app.version, &app))
}
