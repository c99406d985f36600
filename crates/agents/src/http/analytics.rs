//! `/analytics`

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use web::Path;

use super::asked::Asked;
use super::visitor::Visitor;
use crate::analytics::{Metric, read_span};
use crate::history::Record;
use crate::store::figures::Times;
use crate::{Agents, Error};

fn times(asked: &Asked) -> web::Result<Times> {
    Ok(Times { from: asked.time("start_time")?, to: asked.time("end_time")? })
}

/// Show response times
///
/// Of model calls, in milliseconds; percentiles to an eighth.
#[utoipa::path(get, path = "/analytics/performance", operation_id = "get_performance", tag = "analytics",
    params(("session_id" = Option<String>, Query, description = "Only this session's"),
        ("start_time" = Option<String>, Query, description = "From then on; UTC unless it says otherwise"),
        ("end_time" = Option<String>, Query, description = "Up to then")),
    responses((status = 200, body = Object), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours"), (status = 422, description = "The query is not valid")),
    security(("api_key" = [])))]
pub(super) async fn get_performance(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    asked: Asked,
) -> web::Result<Json<Value>> {
    Ok(Json(agents.performance(&owner, asked.text("session_id"), times(&asked)?).await?))
}

/// Show a session's tokens
#[utoipa::path(get, path = "/analytics/tokens/{session_id}", operation_id = "get_tokens", tag = "analytics",
    params(("session_id" = String, Path)),
    responses((status = 200, body = Object), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_tokens(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
) -> web::Result<Json<Value>> {
    Ok(Json(agents.tokens(&owner, &id).await?))
}

/// Show what a session has cost
///
/// As the usage records of its calls say.
#[utoipa::path(get, path = "/analytics/cost/{session_id}", operation_id = "get_cost", tag = "analytics",
    params(("session_id" = String, Path)),
    responses((status = 200, body = Object), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_cost(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
) -> web::Result<Json<Record>> {
    Ok(Json(agents.cost(&owner, &id).await?))
}

/// Show what failed
#[utoipa::path(get, path = "/analytics/errors", operation_id = "get_errors", tag = "analytics",
    params(("session_id" = Option<String>, Query, description = "Only this session's"),
        ("start_time" = Option<String>, Query, description = "From then on; UTC unless it says otherwise"),
        ("end_time" = Option<String>, Query, description = "Up to then")),
    responses((status = 200, body = Object), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours"), (status = 422, description = "The query is not valid")),
    security(("api_key" = [])))]
pub(super) async fn get_errors(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    asked: Asked,
) -> web::Result<Json<Value>> {
    Ok(Json(agents.errors(&owner, asked.text("session_id"), times(&asked)?).await?))
}

/// Show a trend
///
/// By hour up to two days, by day (UTC) beyond.
#[utoipa::path(get, path = "/analytics/trends", operation_id = "get_trends", tag = "analytics",
    params(("metric" = String, Query, description = "performance, tokens, cost or errors"),
        ("time_range" = Option<String>, Query, description = "Such as 7d (the default) or 24h, at most 366d"),
        ("session_id" = Option<String>, Query, description = "Only this session's")),
    responses((status = 200, body = Object), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours"), (status = 422, description = "The query is not valid")),
    security(("api_key" = [])))]
pub(super) async fn get_trends(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    asked: Asked,
) -> web::Result<Json<Value>> {
    let missing = || Error::Query("metric", "name performance, tokens, cost or errors".to_owned());
    let metric = Metric::read(asked.text("metric").ok_or_else(missing)?)?;
    let hours = read_span(asked.text("time_range").unwrap_or("7d"))?;
    Ok(Json(agents.trend(&owner, metric, hours, asked.text("session_id")).await?))
}

/// Show it all
#[utoipa::path(get, path = "/analytics/dashboard", operation_id = "get_dashboard", tag = "analytics",
    params(("session_id" = Option<String>, Query, description = "This session's tokens, cost and errors too")),
    responses((status = 200, body = Object), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_dashboard(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    asked: Asked,
) -> web::Result<Json<Value>> {
    Ok(Json(agents.dashboard(&owner, asked.text("session_id")).await?))
}

/// Say that the figures can be asked for
#[utoipa::path(get, path = "/analytics/health", operation_id = "get_analytics_health", tag = "analytics",
    responses((status = 200, body = Object), (status = 401, description = "No valid credential")),
    security(("api_key" = [])))]
pub(super) async fn get_analytics_health(
    State(agents): State<Agents>,
    Visitor(_owner): Visitor,
) -> web::Result<Json<Value>> {
    agents.parts().database.ping().await.map_err(Error::from)?;
    Ok(Json(json!({"status": "healthy", "timestamp": agents.now(), "service": "analytics"})))
}
