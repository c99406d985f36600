//! `/history`, and what of it is under `/sessions`.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, TryStreamExt as _};
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use kernel::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use web::Path;

use super::answer::ApiResponse;
use super::asked::Asked;
use super::visitor::Visitor;
use crate::history::{Record, Span};
use crate::records::HOUR;
use crate::store::history::Filter;
use crate::{Agents, Bookmark, Counts, Error, Owner, Statistics};

/// A session's records.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionHistory {
    session_id: String,
    #[schema(value_type = Vec<Object>)]
    history: Vec<Record>,
    total: i64,
}

/// A page of a session's records.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecordList {
    session_id: String,
    #[schema(value_type = Vec<Object>)]
    records: Vec<Record>,
    total: i64,
    limit: u32,
    offset: u32,
}

/// What was found in a session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Found {
    session_id: String,
    query: String,
    #[schema(value_type = Vec<Object>)]
    results: Vec<Record>,
    /// All there are, not those of this answer alone.
    total: i64,
}

/// A mark to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct BookmarkRequest {
    /// The record to mark.
    message_id: String,
    /// The first 500 characters count.
    note: Option<String>,
}

/// A session's counts by span.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Aggregate {
    session_id: String,
    aggregation_type: String,
    data: BTreeMap<String, Counts>,
    total_days: usize,
}

fn filter(asked: &Asked, types: &'static str) -> web::Result<Filter> {
    Ok(Filter {
        from: asked.time("start_time")?,
        to: asked.time("end_time")?,
        types: asked.types(types)?,
    })
}

/// Show a session's history
#[utoipa::path(get, path = "/sessions/{session_id}/history", operation_id = "get_session_history", tag = "sessions",
    params(("session_id" = String, Path), ("limit" = Option<u32>, Query, description = "1 to 500, 50 by default"),
        ("start_time" = Option<String>, Query, description = "From then on; UTC unless it says otherwise"),
        ("end_time" = Option<String>, Query, description = "Up to then"),
        ("record_types" = Option<Vec<String>>, Query, description = "Only these; repeat it for several")),
    responses((status = 200, body = SessionHistory), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours"), (status = 422, description = "The query is not valid")),
    security(("api_key" = [])))]
pub(super) async fn get_session_history(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    asked: Asked,
) -> web::Result<Json<SessionHistory>> {
    let limit = asked.number("limit", 50, 1..=500)?;
    let filter = filter(&asked, "record_types")?;
    let (history, total) = agents.records(&owner, &id, &filter, (limit, 0)).await?;
    Ok(Json(SessionHistory { session_id: id, history, total }))
}

/// List sessions with a history
#[utoipa::path(get, path = "/history/sessions", operation_id = "list_histories", tag = "history",
    params(("limit" = Option<u32>, Query, description = "1 to 1000, 100 by default"),
        ("offset" = Option<u32>, Query, description = "So many of the newest are passed over")),
    responses((status = 200, body = ApiResponse), (status = 401, description = "No valid credential"),
        (status = 422, description = "The query is not valid")),
    security(("api_key" = [])))]
pub(super) async fn list_histories(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    asked: Asked,
) -> web::Result<Json<ApiResponse>> {
    let (limit, offset) = (asked.number("limit", 100, 1..=1000)?, asked.offset()?);
    let (sessions, total) = agents.histories(&owner, (limit, offset)).await?;
    let data = json!({"sessions": sessions, "total": total, "limit": limit, "offset": offset});
    Ok(ApiResponse::with("会话历史列表", data, agents.now()))
}

/// List a session's records
#[utoipa::path(get, path = "/history/sessions/{session_id}/messages", operation_id = "list_messages", tag = "history",
    params(("session_id" = String, Path), ("limit" = Option<u32>, Query, description = "1 to 500, 50 by default"),
        ("offset" = Option<u32>, Query, description = "So many of the first are passed over"),
        ("start_time" = Option<String>, Query, description = "From then on; UTC unless it says otherwise"),
        ("end_time" = Option<String>, Query, description = "Up to then"),
        ("message_types" = Option<Vec<String>>, Query, description = "Only these types of records; repeat it for several")),
    responses((status = 200, body = RecordList), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours"), (status = 422, description = "The query is not valid")),
    security(("api_key" = [])))]
pub(super) async fn list_messages(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    asked: Asked,
) -> web::Result<Json<RecordList>> {
    let (limit, offset) = (asked.number("limit", 50, 1..=500)?, asked.offset()?);
    let filter = filter(&asked, "message_types")?;
    let (records, total) = agents.records(&owner, &id, &filter, (limit, offset)).await?;
    Ok(Json(RecordList { session_id: id, records, total, limit, offset }))
}

/// Search a session
///
/// Messages and tool calls with this text, whatever the case, the first of them.
#[utoipa::path(get, path = "/history/sessions/{session_id}/search", operation_id = "search_messages", tag = "history",
    params(("session_id" = String, Path), ("query" = String, Query, description = "1 to 500 characters"),
        ("limit" = Option<u32>, Query, description = "1 to 100, 20 by default")),
    responses((status = 200, body = Found), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours"), (status = 422, description = "The query is not valid")),
    security(("api_key" = [])))]
pub(super) async fn search_messages(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    asked: Asked,
) -> web::Result<Json<Found>> {
    let limit = asked.number("limit", 20, 1..=100)?;
    let query = asked.text("query").unwrap_or_default().to_owned();
    let (results, total) = agents.search(&owner, &id, &query, limit).await?;
    Ok(Json(Found { session_id: id, query, results, total }))
}

/// Export a session
///
/// All its records, as JSON or CSV.
#[utoipa::path(get, path = "/history/sessions/{session_id}/export", operation_id = "export_session", tag = "history",
    params(("session_id" = String, Path), ("format" = Option<String>, Query, description = "json or csv")),
    responses((status = 200, description = "The records", content_type = "application/json"),
        (status = 400, description = "No such format"), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours")),
    security(("api_key" = [])))]
pub(super) async fn export_session(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    asked: Asked,
) -> web::Result<Response> {
    match asked.text("format").unwrap_or("json") {
        "json" => {
            let parts = agents.export_json(&owner, &id).await?;
            let mut response = body_of(parts);
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            Ok(response)
        }
        "csv" => {
            let parts = agents.export_csv(&owner, &id).await?;
            let mut response = body_of(parts);
            let csv = HeaderValue::from_static("text/csv; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, csv);
            let disposition = format!("attachment; filename=session_{id}.csv");
            if let Ok(disposition) = HeaderValue::from_str(&disposition) {
                response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
            }
            Ok(response)
        }
        _ => Err(Error::Format.into()),
    }
}

/// If a part cannot be made the answer is cut, so that nobody takes it for whole.
fn body_of(parts: impl Stream<Item = crate::Result<bytes::Bytes>> + Send + 'static) -> Response {
    Body::from_stream(parts.into_stream()).into_response()
}

/// Mark a message
#[utoipa::path(post, path = "/history/sessions/{session_id}/bookmarks", operation_id = "create_bookmark", tag = "history",
    params(("session_id" = String, Path)), request_body = BookmarkRequest,
    responses((status = 200, body = Bookmark), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours"), (status = 422, description = "The body does not fit")),
    security(("api_key" = [])))]
pub(super) async fn create_bookmark(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    web::Json(request): web::Json<BookmarkRequest>,
) -> web::Result<Json<Bookmark>> {
    Ok(Json(agents.mark(&owner, &id, &request.message_id, request.note).await?))
}

/// List your bookmarks
///
/// Newest first, 1,000 at most.
#[utoipa::path(get, path = "/history/bookmarks", operation_id = "list_bookmarks", tag = "history",
    params(("session_id" = Option<String>, Query, description = "Only this session's")),
    responses((status = 200, body = Vec<Bookmark>), (status = 401, description = "No valid credential")),
    security(("api_key" = [])))]
pub(super) async fn list_bookmarks(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    asked: Asked,
) -> web::Result<Json<Vec<Bookmark>>> {
    Ok(Json(agents.bookmarks(&owner, asked.text("session_id")).await?))
}

/// Delete a bookmark
#[utoipa::path(delete, path = "/history/bookmarks/{bookmark_id}", operation_id = "delete_bookmark", tag = "history",
    params(("bookmark_id" = String, Path)),
    responses((status = 200, body = ApiResponse), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such bookmark of yours")),
    security(("api_key" = [])))]
pub(super) async fn delete_bookmark(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
) -> web::Result<Json<ApiResponse>> {
    agents.unmark(&owner, &id).await?;
    Ok(ApiResponse::ok("书签已删除", agents.now()))
}

/// Count a session
#[utoipa::path(get, path = "/sessions/{session_id}/statistics", operation_id = "get_session_statistics", tag = "sessions",
    params(("session_id" = String, Path)),
    responses((status = 200, body = Statistics), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_session_statistics(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
) -> web::Result<Json<Statistics>> {
    Ok(Json(agents.statistics(&owner, &id).await?))
}

/// Count a history
#[utoipa::path(get, path = "/history/sessions/{session_id}/statistics", operation_id = "get_history_statistics", tag = "history",
    params(("session_id" = String, Path)),
    responses((status = 200, body = Statistics), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_history_statistics(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
) -> web::Result<Json<Statistics>> {
    Ok(Json(agents.statistics(&owner, &id).await?))
}

/// Show what happened last
#[utoipa::path(get, path = "/history/activity", operation_id = "list_activity", tag = "history",
    params(("limit" = Option<u32>, Query, description = "1 to 200, 50 by default"),
        ("session_id" = Option<String>, Query, description = "Only this session's")),
    responses((status = 200, body = Vec<Object>), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours"), (status = 422, description = "The query is not valid")),
    security(("api_key" = [])))]
pub(super) async fn list_activity(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    asked: Asked,
) -> web::Result<Json<Vec<Record>>> {
    let limit = asked.number("limit", 50, 1..=200)?;
    Ok(Json(agents.activity(&owner, asked.text("session_id"), limit).await?))
}

/// Remove old records
///
/// Of your sessions; what they counted and cost stays in the figures.
#[utoipa::path(post, path = "/history/cleanup", operation_id = "clean_up_history", tag = "history",
    params(("days_to_keep" = Option<u32>, Query, description = "1 to 365, 30 by default")),
    responses((status = 200, body = ApiResponse), (status = 401, description = "No valid credential"),
        (status = 422, description = "The query is not valid")),
    security(("api_key" = [])))]
pub(super) async fn clean_up_history(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    asked: Asked,
) -> web::Result<Json<ApiResponse>> {
    let days = i64::from(asked.number("days_to_keep", 30, 1..=365)?);
    let cutoff = Timestamp::from_micros(agents.now().micros() - days * 24 * HOUR);
    let cleaned = agents.clean_up(&owner, cutoff).await?;
    let data = json!({"cleaned_files": cleaned.cleaned_files,
        "cleaned_records": cleaned.cleaned_records, "cutoff_date": cutoff});
    Ok(ApiResponse::with("清理完成", data, agents.now()))
}

/// Count a session by span
#[utoipa::path(get, path = "/history/sessions/{session_id}/aggregate", operation_id = "aggregate_session", tag = "history",
    params(("session_id" = String, Path),
        ("aggregation_type" = Option<String>, Query, description = "hourly, daily, weekly or monthly")),
    responses((status = 200, body = Aggregate), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours"), (status = 422, description = "No such span")),
    security(("api_key" = [])))]
pub(super) async fn aggregate_session(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    asked: Asked,
) -> web::Result<Json<Aggregate>> {
    let aggregation_type = asked.text("aggregation_type").unwrap_or("daily").to_owned();
    let span = Span::read(&aggregation_type)?;
    let data = agents.aggregate(&owner, &id, span).await?;
    let total_days = data.len();
    Ok(Json(Aggregate { session_id: id, aggregation_type, data, total_days }))
}

impl Agents {
    /// The owner's sessions with a history, and how many there are.
    async fn histories(
        &self,
        owner: &Owner,
        page: (u32, u32),
    ) -> crate::Result<(Vec<serde_json::Value>, i64)> {
        let found = crate::store::history::sessions(&self.parts().database, owner, page).await?;
        let view = |(session, records): (crate::sessions::Stored, i64)| {
            let mut view = json!(session.view);
            if let serde_json::Value::Object(members) = &mut view {
                members.insert("record_count".to_owned(), json!(records));
            }
            view
        };
        Ok((found.0.into_iter().map(view).collect(), found.1))
    }
}
