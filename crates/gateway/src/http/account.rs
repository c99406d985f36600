//! What a caller may know of its own account: `GET /v1/limits` and `GET /v1/statement`.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use identity::Authenticated;
use kernel::Zone;
use metering::{Format, LimitView, StatementQuery};
use serde::Serialize;
use utoipa::ToSchema;
use web::Query;

use crate::{Error, Gateway};

/// The limits that a caller is under.
#[derive(Serialize, ToSchema)]
pub(super) struct Limits {
    /// Where days and months begin.
    #[schema(value_type = String, example = "Asia/Shanghai")]
    time_zone: Zone,
    /// Its organization's, its user's and its key's.
    rows: Vec<LimitView>,
}

/// Show the limits you are under
///
/// Those of your organization, your user and your key, with what is used and left in the present window.
#[utoipa::path(get, path = "/limits", operation_id = "get_own_limits", tag = "usage",
    responses((status = 200, body = Limits), (status = 401, description = "No valid API key"),
        (status = 403, description = "The key may not do this, or not from there")),
    security(("api_key" = [])))]
pub(super) async fn get_own_limits(
    State(gateway): State<Gateway>,
    Authenticated(caller): Authenticated,
) -> web::Result<Json<Limits>> {
    let time_zone = gateway.metering.zone(&caller.org_id).await.map_err(Error::from)?;
    let states = gateway.metering.limits_of(&caller).await.map_err(Error::from)?;
    Ok(Json(Limits { time_zone, rows: states.into_iter().map(LimitView::from).collect() }))
}

/// Export your statement
///
/// Every movement of your organization's wallet in the period, with the balance after it, streamed. A
/// period that has ended gives the same bytes whenever it is asked for. A charge names its call.
#[utoipa::path(get, path = "/statement", operation_id = "get_own_statement", tag = "usage",
    params(StatementQuery),
    responses((status = 200, description = "The statement", body = serde_json::Value),
        (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"),
        (status = 403, description = "The key may not do this, or not from there")),
    security(("api_key" = [])))]
pub(super) async fn get_own_statement(
    State(gateway): State<Gateway>,
    Authenticated(caller): Authenticated,
    Query(query): Query<StatementQuery>,
) -> web::Result<Response> {
    let pages = gateway.metering.statement(&caller.org_id, &query).await.map_err(Error::from)?;
    let name = match query.format {
        Format::Json => "statement.json",
        Format::Csv => "statement.csv",
    };
    Ok(web::download(name, query.format.content_type(), pages))
}
