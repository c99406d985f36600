//! What applications sign with.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use identity::{AppSecret, AppSigning, Identity};
use kernel::{AppId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use web::Path;

use super::Admin;
use crate::write::Write;

/// How a secret follows the one before.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SecretRequest {
    /// When the secret before stops working; in a day when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    old_until: Option<Timestamp>,
}

/// A secret just made.
#[derive(Serialize, ToSchema)]
pub(super) struct SecretCreated {
    /// The application.
    #[schema(value_type = String)]
    app_id: AppId,
    /// What it signs with. It is shown here and, to a repeated request with the same
    /// `Idempotency-Key`, for a day; never again.
    app_secret: String,
}

impl From<AppSecret> for SecretCreated {
    fn from(made: AppSecret) -> Self {
        Self { app_id: made.app_id, app_secret: made.secret.expose().to_owned() }
    }
}

/// The first answer of a request that made a secret: how the application signed from then on tells
/// when.
fn made_again(identity: &Identity, signing: &Value, seed: &str) -> Value {
    let member = |name| signing.get(name).cloned().unwrap_or_default();
    let id = AppId::from(member("app_id").as_str().unwrap_or_default());
    let created_at = serde_json::from_value(member("created_at")).unwrap_or_default();
    let app_secret = identity.derived_app_secret(seed, &id, created_at);
    json!({"app_id": id, "app_secret": app_secret.expose()})
}

/// How an application may sign.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SigningChange {
    /// Whether `Authorization: Deerer` is taken.
    deerer: bool,
}

/// Make an application's secret
///
/// The application signs with it (`Deerer` or `Uapi`); the secret before works on until `old_until`.
#[utoipa::path(post, path = "/apps/{app_id}/signing/secret", operation_id = "create_app_secret", tag = "admin",
    params(("app_id" = String, Path, description = "The application's id"),
        ("idempotency-key" = Option<String>, Header, description = "A repeated request with the same key makes one secret")), request_body = SecretRequest,
    responses((status = 201, body = SecretCreated), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such application"),
        (status = 409, description = "The Idempotency-Key was used for another request")),
    security(("api_key" = [])))]
pub(super) async fn create_app_secret(
    State(admin): State<Admin>,
    Path(id): Path<AppId>,
    write: Write,
) -> web::Result<Response> {
    let app = admin.identity.app(&id).await?;
    write.for_org(&admin, &app.org_id).await?;
    let request: SecretRequest = write.json()?;
    let make = |identity: Identity| async move {
        identity.create_app_secret(&id, request.old_until).await.map(SecretCreated::from)
    };
    let again = |signing: Value, seed: &str| made_again(&admin.identity, &signing, seed);
    write.create_shown(&admin, make, again).await
}

/// Show how an application signs
#[utoipa::path(get, path = "/apps/{app_id}/signing", operation_id = "get_app_signing", tag = "admin",
    params(("app_id" = String, Path, description = "The application's id")),
    responses((status = 200, body = AppSigning), (status = 401, description = "No valid API key"),
        (status = 403, description = "Not an administrator"), (status = 404, description = "No such application")),
    security(("api_key" = [])))]
pub(super) async fn get_app_signing(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<AppId>,
) -> web::Result<Json<AppSigning>> {
    Ok(Json(admin.identity.app_signing(&id).await?))
}

/// Switch `Authorization: Deerer` off or on for an application
#[utoipa::path(patch, path = "/apps/{app_id}/signing", operation_id = "change_app_signing", tag = "admin",
    params(("app_id" = String, Path, description = "The application's id")), request_body = SigningChange,
    responses((status = 200, body = AppSigning), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such application"), (status = 409, description = "It has no secret")),
    security(("api_key" = [])))]
pub(super) async fn change_app_signing(
    State(admin): State<Admin>,
    Path(id): Path<AppId>,
    write: Write,
) -> web::Result<Json<AppSigning>> {
    let app = admin.identity.app(&id).await?;
    write.for_org(&admin, &app.org_id).await?;
    let SigningChange { deerer } = write.json()?;
    Ok(Json(write.identity(&admin).set_deerer(&id, deerer).await?))
}
