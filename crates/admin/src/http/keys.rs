//! API keys.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use identity::{
    CreatedKey, Edit, Filter, Identity, Key, KeyChange, Limits, NewKey, Role, Rotation,
};
use kernel::{AppId, KeyId, OrgId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use web::{Network, Path, Query};

use super::{Admin, ListQuery, Listing};
use crate::write::{Write, versioned};

/// A key to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRequest {
    /// 1 to 200 characters.
    name: String,
    /// `member` (the default) or `admin` of the organization.
    role: Option<Role>,
    /// Roles beside that, such as `customer.viewer`.
    #[serde(default)]
    roles: Vec<String>,
    /// What it may be used for; everything when empty.
    #[serde(default)]
    scopes: Vec<String>,
    /// The models it may call, such as `gpt-*`; all when empty.
    #[serde(default)]
    models: Vec<String>,
    /// The addresses it may be used from, such as `10.0.0.0/8`; all when empty.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    allowed_ips: Vec<Network>,
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

impl KeyRequest {
    fn key_of(self, org_id: OrgId) -> NewKey {
        let (scopes, models, allowed_ips) = (self.scopes, self.models, self.allowed_ips);
        NewKey {
            org_id,
            user_id: self.user_id,
            app_id: self.app_id,
            name: self.name,
            role: self.role.unwrap_or(Role::Member),
            roles: self.roles,
            limits: Limits { scopes, models, allowed_ips },
            expires_at: self.expires_at,
        }
    }
}

/// Which keys.
#[derive(Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct KeyQuery {
    /// Only this organization's
    #[param(value_type = Option<String>)]
    org_id: Option<OrgId>,
    /// Only this user's
    #[param(value_type = Option<String>)]
    user_id: Option<UserId>,
    /// Only this application's
    #[param(value_type = Option<String>)]
    app_id: Option<AppId>,
    /// Only those given this role
    role: Option<String>,
}

impl From<KeyQuery> for Filter {
    fn from(KeyQuery { org_id, user_id, app_id, role }: KeyQuery) -> Self {
        Self { org_id, user_id, app_id, role, ..Self::default() }
    }
}

/// A key just created.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyCreated {
    /// Its id.
    #[schema(value_type = String)]
    id: KeyId,
    /// The secret to call with. It is shown here and, to a repeated request with the same
    /// `Idempotency-Key`, for a day; never again.
    api_key: String,
}

impl From<CreatedKey> for KeyCreated {
    fn from(created: CreatedKey) -> Self {
        Self { id: created.id, api_key: created.api_key.expose().to_owned() }
    }
}

/// The first answer of a request that created this key.
fn created_again(identity: &Identity, key: &Value, seed: &str) -> Value {
    let id = KeyId::from(key.get("id").and_then(Value::as_str).unwrap_or_default());
    let api_key = identity.derived_key(seed, &id);
    json!({"id": id, "api_key": api_key.expose()})
}

/// Create an API key for an organization
#[utoipa::path(post, path = "/orgs/{org_id}/keys", operation_id = "create_key", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"),
        ("idempotency-key" = Option<String>, Header, description = "A repeated request with the same key creates once")), request_body = KeyRequest,
    responses((status = 201, body = KeyCreated), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization, user or application"),
        (status = 409, description = "The Idempotency-Key was used for another request")),
    security(("api_key" = [])))]
pub(super) async fn create_key(
    State(admin): State<Admin>,
    Path(org_id): Path<OrgId>,
    write: Write,
) -> web::Result<Response> {
    write.for_org(&admin, &org_id).await?;
    let new = write.json::<KeyRequest>()?.key_of(org_id);
    let make =
        |identity: Identity| async move { identity.create_key(new).await.map(KeyCreated::from) };
    let again = |key: Value, seed: &str| created_again(&admin.identity, &key, seed);
    write.create_shown(&admin, make, again).await
}

/// List the API keys of an organization
#[utoipa::path(get, path = "/orgs/{org_id}/keys", operation_id = "list_keys", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"), ListQuery,
        ("user_id" = Option<String>, Query, description = "Only this user's"),
        ("app_id" = Option<String>, Query, description = "Only this application's"),
        ("role" = Option<String>, Query, description = "Only those given this role")),
    responses((status = 200, body = Listing<Key>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn list_keys(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(org_id): Path<OrgId>,
    Query(list): Query<ListQuery>,
    Query(of): Query<KeyQuery>,
) -> web::Result<Json<Listing<Key>>> {
    let org = admin.identity.org(&org_id).await?;
    let (filter, page) = list.parts(KeyQuery { org_id: Some(org.id), ..of }.into());
    Ok(Json(admin.identity.find_keys(&filter, &page).await?.into()))
}

/// List the API keys of all organizations
#[utoipa::path(get, path = "/keys", operation_id = "find_keys", tag = "admin",
    params(ListQuery, KeyQuery),
    responses((status = 200, body = Listing<Key>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn find_keys(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Query(list): Query<ListQuery>,
    Query(of): Query<KeyQuery>,
) -> web::Result<Json<Listing<Key>>> {
    let (filter, page) = list.parts(of.into());
    Ok(Json(admin.identity.find_keys(&filter, &page).await?.into()))
}

/// Show an API key, without its secret
#[utoipa::path(get, path = "/keys/{key_id}", operation_id = "get_key", tag = "admin",
    params(("key_id" = String, Path, description = "The key's id")),
    responses((status = 200, body = Key), (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such key")),
    security(("api_key" = [])))]
pub(super) async fn get_key(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<KeyId>,
) -> web::Result<Response> {
    let key = admin.identity.key(&id).await?;
    Ok(versioned(key.version, &key))
}

/// Change what an API key is called and may do, or switch it off or on
#[utoipa::path(patch, path = "/keys/{key_id}", operation_id = "change_key", tag = "admin",
    params(("key_id" = String, Path, description = "The key's id"),
        ("if-match" = Option<String>, Header, description = "The version from ETag; without it, whatever it is now")), request_body = KeyChange,
    responses((status = 200, body = Key), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such key"),
        (status = 412, description = "It has another version than If-Match says")),
    security(("api_key" = [])))]
pub(super) async fn change_key(
    State(admin): State<Admin>,
    Path(id): Path<KeyId>,
    write: Write,
) -> web::Result<Response> {
    let key = admin.identity.key(&id).await?;
    write.for_org(&admin, &key.org_id).await?;
    let edit = Edit { change: write.json::<KeyChange>()?, version: write.version };
    let key = write.identity(&admin).change_key(&id, edit).await?;
    Ok(versioned(key.version, &key))
}

/// Delete an API key
///
/// It stops working; what it did stays.
#[utoipa::path(delete, path = "/keys/{key_id}", operation_id = "delete_key", tag = "admin",
    params(("key_id" = String, Path, description = "The key's id"),
        ("if-match" = Option<String>, Header, description = "The version from ETag; without it, whatever it is now")),
    responses((status = 200, body = Key), (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such key"),
        (status = 412, description = "It has another version than If-Match says")),
    security(("api_key" = [])))]
pub(super) async fn delete_key(
    State(admin): State<Admin>,
    Path(id): Path<KeyId>,
    write: Write,
) -> web::Result<Response> {
    let key = admin.identity.key(&id).await?;
    write.for_org(&admin, &key.org_id).await?;
    let key = write.identity(&admin).delete_key(&id, write.version).await?;
    Ok(versioned(key.version, &key))
}

/// Create an API key's successor
///
/// The new key may do what the old one may; the old one works on until `old_until`.
#[utoipa::path(post, path = "/keys/{key_id}/rotate", operation_id = "rotate_key", tag = "admin",
    params(("key_id" = String, Path, description = "The old key's id"),
        ("idempotency-key" = Option<String>, Header, description = "A repeated request with the same key creates once"),
        ("if-match" = Option<String>, Header, description = "The version from ETag; without it, whatever it is now")), request_body = Rotation,
    responses((status = 201, body = KeyCreated), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such key"),
        (status = 409, description = "The key does not work any more, or the Idempotency-Key was used for another request"),
        (status = 412, description = "It has another version than If-Match says")),
    security(("api_key" = [])))]
pub(super) async fn rotate_key(
    State(admin): State<Admin>,
    Path(id): Path<KeyId>,
    write: Write,
) -> web::Result<Response> {
    let key = admin.identity.key(&id).await?;
    write.for_org(&admin, &key.org_id).await?;
    let edit = Edit { change: write.json::<Rotation>()?, version: write.version };
    let make = |identity: Identity| async move {
        identity.rotate_key(&id, edit).await.map(KeyCreated::from)
    };
    let again = |key: Value, seed: &str| created_again(&admin.identity, &key, seed);
    write.create_shown(&admin, make, again).await
}
