//! Roles, the rules that name them, and what the routes ask for.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use identity::{AddedRule, Change, Edit, Filter, Identity, NamedRole, Route};
use kernel::PageRequest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{Path, Query};

use super::{Admin, ListQuery, Listing};
use crate::write::{Write, versioned};

/// A role to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRole {
    /// `<kind>.<name>`, such as `customer.viewer`: lower case, digits, `-` and `_`.
    id: String,
    /// What it is called: 1 to 200 characters.
    name: String,
}

/// A rule to be added.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRule {
    /// Whom it lets in: such as `customer.viewer`, `*.admin`, `customer.*`, `logined` or `any`.
    role: String,
    /// Such as `GET`; `*` for every method.
    method: String,
    /// A path of `GET /admin/routes`; `*` stands for a segment, `**` at the end for any number.
    path: String,
}

/// Every route there is.
#[derive(Serialize, ToSchema)]
pub(super) struct Routes {
    /// By path.
    rows: Vec<Route>,
}

/// Create a role
#[utoipa::path(post, path = "/roles", operation_id = "create_role", tag = "admin", request_body = NewRole,
    params(("idempotency-key" = Option<String>, Header, description = "A repeated request with the same key creates once")),
    responses((status = 201, body = NamedRole), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 409, description = "The role is there, or was; or the Idempotency-Key was used for another request")),
    security(("api_key" = [])))]
pub(super) async fn create_role(State(admin): State<Admin>, write: Write) -> web::Result<Response> {
    write.for_administrators()?;
    let NewRole { id, name } = write.json()?;
    write.create(&admin, |identity| async move { identity.create_role(&id, &name).await }).await
}

/// List the roles that were created
///
/// Beside them, every organization's keys are `<kind>.member` or `<kind>.admin`.
#[utoipa::path(get, path = "/roles", operation_id = "list_roles", tag = "admin",
    params(ListQuery),
    responses((status = 200, body = Listing<NamedRole>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn list_roles(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Query(list): Query<ListQuery>,
) -> web::Result<Json<Listing<NamedRole>>> {
    let (filter, page) = list.parts(Filter::default());
    Ok(Json(admin.identity.list_roles(&filter, &page).await?.into()))
}

/// Show a role
#[utoipa::path(get, path = "/roles/{role_id}", operation_id = "get_role", tag = "admin",
    params(("role_id" = String, Path, description = "Such as customer.viewer")),
    responses((status = 200, body = NamedRole), (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such role")),
    security(("api_key" = [])))]
pub(super) async fn get_role(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<String>,
) -> web::Result<Response> {
    let role = admin.identity.role(&id).await?;
    Ok(versioned(role.version, &role))
}

/// Rename a role, or switch it off or on for everybody who has it
#[utoipa::path(patch, path = "/roles/{role_id}", operation_id = "change_role", tag = "admin",
    params(("role_id" = String, Path, description = "Such as customer.viewer"),
        ("if-match" = Option<String>, Header, description = "The version from ETag; without it, whatever it is now")), request_body = Change,
    responses((status = 200, body = NamedRole), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such role"),
        (status = 412, description = "It has another version than If-Match says")),
    security(("api_key" = [])))]
pub(super) async fn change_role(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    write: Write,
) -> web::Result<Response> {
    write.for_administrators()?;
    let edit = Edit { change: write.json::<Change>()?, version: write.version };
    let role = write.identity(&admin).change_role(&id, edit).await?;
    Ok(versioned(role.version, &role))
}

/// Delete a role
///
/// Nobody has it any more, and no other can be created under its id.
#[utoipa::path(delete, path = "/roles/{role_id}", operation_id = "delete_role", tag = "admin",
    params(("role_id" = String, Path, description = "Such as customer.viewer"),
        ("if-match" = Option<String>, Header, description = "The version from ETag; without it, whatever it is now")),
    responses((status = 200, body = NamedRole), (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such role"),
        (status = 412, description = "It has another version than If-Match says")),
    security(("api_key" = [])))]
pub(super) async fn delete_role(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    write: Write,
) -> web::Result<Response> {
    write.for_administrators()?;
    let role = write.identity(&admin).delete_role(&id, write.version).await?;
    Ok(versioned(role.version, &role))
}

/// Let a role use routes
///
/// Rules only ever let more callers in. What concerns everybody, under `/admin`, is for roles of the
/// platform whatever the rules say.
#[utoipa::path(post, path = "/rules", operation_id = "create_rule", tag = "admin", request_body = NewRule,
    params(("idempotency-key" = Option<String>, Header, description = "A repeated request with the same key creates once")),
    responses((status = 201, body = AddedRule), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 409, description = "The Idempotency-Key was used for another request")),
    security(("api_key" = [])))]
pub(super) async fn create_rule(State(admin): State<Admin>, write: Write) -> web::Result<Response> {
    write.for_administrators()?;
    let NewRule { role, method, path } = write.json()?;
    let make =
        |identity: Identity| async move { identity.create_rule(&role, &method, &path).await };
    write.create(&admin, make).await
}

/// List the rules that were added
///
/// `GET /admin/routes` shows what they and the built-in ones come to.
#[utoipa::path(get, path = "/rules", operation_id = "list_rules", tag = "admin",
    params(("limit" = Option<u32>, Query, description = "1 to 1000, 50 by default"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before")),
    responses((status = 200, body = Listing<AddedRule>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn list_rules(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Query(page): Query<PageRequest>,
) -> web::Result<Json<Listing<AddedRule>>> {
    Ok(Json(admin.identity.list_rules(&page).await?.into()))
}

/// Take a rule back
#[utoipa::path(delete, path = "/rules/{rule_id}", operation_id = "delete_rule", tag = "admin",
    params(("rule_id" = String, Path, description = "Its id")),
    responses((status = 200, body = AddedRule), (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such rule")),
    security(("api_key" = [])))]
pub(super) async fn delete_rule(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    write: Write,
) -> web::Result<Json<AddedRule>> {
    write.for_administrators()?;
    Ok(Json(write.identity(&admin).delete_rule(&id).await?))
}

/// List every route and who may use it
#[utoipa::path(get, path = "/routes", operation_id = "list_routes", tag = "admin",
    responses((status = 200, body = Routes), (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn list_routes(
    State(admin): State<Admin>,
    _admin: identity::Admin,
) -> Json<Routes> {
    Json(Routes { rows: admin.identity.routes() })
}
