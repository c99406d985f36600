//! The audit log.

use axum::Json;
use axum::extract::State;
use kernel::{Cursor, KeyId, OrgId, PageRequest, Timestamp, UserId};
use serde::Deserialize;
use web::Query;

use super::{Admin, Listing};
use crate::audit::{self, AuditFilter, AuditRecord};

/// Which actions.
#[derive(Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// 1 to 1000, 50 by default
    limit: Option<u32>,
    /// The `next` of the page before
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
    /// Only those done with this API key
    #[param(value_type = Option<String>)]
    key_id: Option<KeyId>,
    /// Only those done by this user
    #[param(value_type = Option<String>)]
    user_id: Option<UserId>,
    /// Such as `key.create`
    action: Option<String>,
    /// Only those done to what has this id
    target_id: Option<String>,
    /// Only those done to what is this organization's
    #[param(value_type = Option<String>)]
    org_id: Option<OrgId>,
    /// Not before this time
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Before this time
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// List what administrators did, newest first
///
/// Every change of organizations, users, applications, keys, roles and rules, and every grant: who,
/// from where, what, and how it was before and after.
#[utoipa::path(get, path = "/audit", operation_id = "list_audit", tag = "admin",
    params(AuditQuery),
    responses((status = 200, body = Listing<AuditRecord>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn list_audit(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Query(query): Query<AuditQuery>,
) -> web::Result<Json<Listing<AuditRecord>>> {
    let page = PageRequest { limit: query.limit, cursor: query.cursor };
    let filter = AuditFilter {
        key_id: query.key_id,
        user_id: query.user_id,
        action: query.action,
        target_id: query.target_id,
        org_id: query.org_id,
        since: query.since,
        until: query.until,
    };
    Ok(Json(audit::list(&admin.database, &filter, &page).await?.into()))
}
