//! Statements: what happened on a wallet in a period.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use kernel::OrgId;
use metering::StatementQuery;
use web::{Path, Query};

use super::Admin;
use crate::Error;

/// Export an organization's statement
///
/// Every movement of the wallet in the period, with the balance after it, streamed. A period that
/// has ended gives the same bytes whenever it is asked for. A charge names the usage record it is for.
#[utoipa::path(get, path = "/orgs/{org_id}/statement", operation_id = "get_statement", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"), StatementQuery),
    responses((status = 200, description = "The statement", body = serde_json::Value),
        (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn get_statement(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(org_id): Path<OrgId>,
    Query(query): Query<StatementQuery>,
) -> web::Result<Response> {
    let org = admin.identity.org(&org_id).await?;
    if query.to <= query.from {
        return Err(Error::Period.into());
    }
    let pages = admin.metering.statement(&org.id, &query).await.map_err(Error::from)?;
    let content_type = [(CONTENT_TYPE, query.format.content_type())];
    Ok((content_type, Body::from_stream(pages)).into_response())
}
