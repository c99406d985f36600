//! API keys.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use identity::{Change, CreatedKey, Key, NewKey, Role, Rotation};
use kernel::{AppId, KeyId, OrgId, PageRequest, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{Path, Query};

use super::{Admin, Listing};

/// A key to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRequest {
    /// 1 to 200 characters.
    name: String,
    /// `member` (the default) or `admin`.
    role: Option<Role>,
    /// When it stops working; never when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// The person it belongs to.
    #[schema(value_type = Option<String>)]
    user_id: Option<UserId>,
    /// The application it belongs to.
    #[schema(value_type = Option<String>)]
    app_id: Option<AppId>,
}

/// A key just created.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyCreated {
    /// Its id.
    #[schema(value_type = String)]
    id: KeyId,
    /// The secret to call with. It is shown here and never again.
    api_key: String,
}

impl From<CreatedKey> for KeyCreated {
    fn from(created: CreatedKey) -> Self {
        Self { id: created.id, api_key: created.api_key.expose().to_owned() }
    }
}

/// Create an API key for an organization
#[utoipa::path(post, path = "/orgs/{org_id}/keys", operation_id = "create_key", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id")), request_body = KeyRequest,
    responses((status = 201, body = KeyCreated), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization, user or application")),
    security(("api_key" = [])))]
pub(super) async fn create_key(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(org_id): Path<OrgId>,
    web::Json(request): web::Json<KeyRequest>,
) -> web::Result<(StatusCode, Json<KeyCreated>)> {
    let new = NewKey {
        org_id,
        user_id: request.user_id,
        app_id: request.app_id,
        name: request.name,
        role: request.role.unwrap_or(Role::Member),
        expires_at: request.expires_at,
    };
    Ok((StatusCode::CREATED, Json(admin.identity.create_key(new).await?.into())))
}

/// List the API keys of an organization
#[utoipa::path(get, path = "/orgs/{org_id}/keys", operation_id = "list_keys", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 50 by default"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before")),
    responses((status = 200, body = Listing<Key>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn list_keys(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(org_id): Path<OrgId>,
    Query(page): Query<PageRequest>,
) -> web::Result<Json<Listing<Key>>> {
    Ok(Json(admin.identity.list_keys(&org_id, &page).await?.into()))
}

/// Rename an API key, or switch it off or on
#[utoipa::path(patch, path = "/keys/{key_id}", operation_id = "change_key", tag = "admin",
    params(("key_id" = String, Path, description = "The key's id")), request_body = Change,
    responses((status = 200, body = Key), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such key")),
    security(("api_key" = [])))]
pub(super) async fn change_key(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<KeyId>,
    web::Json(change): web::Json<Change>,
) -> web::Result<Json<Key>> {
    Ok(Json(admin.identity.change_key(&id, change).await?))
}

/// Create an API key's successor
///
/// The new key may do what the old one may; the old one works on until `old_until`.
#[utoipa::path(post, path = "/keys/{key_id}/rotate", operation_id = "rotate_key", tag = "admin",
    params(("key_id" = String, Path, description = "The old key's id")), request_body = Rotation,
    responses((status = 201, body = KeyCreated), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such key"), (status = 409, description = "The key does not work any more")),
    security(("api_key" = [])))]
pub(super) async fn rotate_key(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<KeyId>,
    web::Json(rotation): web::Json<Rotation>,
) -> web::Result<(StatusCode, Json<KeyCreated>)> {
    Ok((StatusCode::CREATED, Json(admin.identity.rotate_key(&id, rotation).await?.into())))
}
