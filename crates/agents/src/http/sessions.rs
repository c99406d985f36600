//! `/sessions`

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use web::Path;

use super::answer::{ApiResponse, Paging};
use super::asked::Asked;
use super::visitor::Visitor;
use crate::sessions::Status;
use crate::store::sessions::ORDERS;
use crate::{Agents, NewSession, Session, SessionChange};

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionList {
    sessions: Vec<Session>,
    #[serde(flatten)]
    paging: Paging,
}

/// List your sessions
#[utoipa::path(get, path = "/sessions", operation_id = "list_sessions", tag = "sessions",
    params(("page" = Option<u32>, Query, description = "From 1"),
        ("page_size" = Option<u32>, Query, description = "1 to 100, 20 by default"),
        ("status" = Option<String>, Query, description = "Only those that stand so"),
        ("search" = Option<String>, Query, description = "Found in the id or the workflow's path"),
        ("sort_by" = Option<String>, Query, description = "created_at, updated_at, session_id, workflow_id or status"),
        ("sort_order" = Option<String>, Query, description = "desc or asc")),
    responses((status = 200, body = SessionList), (status = 401, description = "No valid credential"),
        (status = 422, description = "The query is not valid")),
    security(("api_key" = [])))]
pub(super) async fn list_sessions(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    asked: Asked,
) -> web::Result<Json<SessionList>> {
    let query = asked.page(ORDERS)?;
    let status = asked.text("status").map(Status::read).transpose()?;
    let (sessions, total) = agents.list_sessions(&owner, status, &query).await?;
    let paging = Paging::new(total, query.page, query.page_size);
    Ok(Json(SessionList { sessions, paging }))
}

/// Create a session
#[utoipa::path(post, path = "/sessions", operation_id = "create_session", tag = "sessions",
    request_body = NewSession,
    responses((status = 200, body = Session), (status = 400, description = "The path is none, or the workflow has mistakes"),
        (status = 401, description = "No valid credential"), (status = 404, description = "No such file or workflow"),
        (status = 422, description = "The body does not fit")),
    security(("api_key" = [])))]
pub(super) async fn create_session(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    web::Json(new): web::Json<NewSession>,
) -> web::Result<Json<Session>> {
    Ok(Json(agents.create_session(&owner, new).await?))
}

/// Show a session
#[utoipa::path(get, path = "/sessions/{session_id}", operation_id = "get_session", tag = "sessions",
    params(("session_id" = String, Path)),
    responses((status = 200, body = Session), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_session(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
) -> web::Result<Json<Session>> {
    Ok(Json(agents.session(&owner, &id).await?))
}

/// Change a session
#[utoipa::path(put, path = "/sessions/{session_id}", operation_id = "update_session", tag = "sessions",
    params(("session_id" = String, Path)), request_body = SessionChange,
    responses((status = 200, body = Session), (status = 400, description = "There is no such status"),
        (status = 401, description = "No valid credential"), (status = 404, description = "No such session of yours"),
        (status = 422, description = "The body does not fit")),
    security(("api_key" = [])))]
pub(super) async fn update_session(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    web::Json(change): web::Json<SessionChange>,
) -> web::Result<Json<Session>> {
    Ok(Json(agents.change_session(&owner, &id, change).await?))
}

/// Delete a session
///
/// Its history goes with it.
#[utoipa::path(delete, path = "/sessions/{session_id}", operation_id = "delete_session", tag = "sessions",
    params(("session_id" = String, Path)),
    responses((status = 200, body = ApiResponse), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours")),
    security(("api_key" = [])))]
pub(super) async fn delete_session(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
) -> web::Result<Json<ApiResponse>> {
    agents.delete_session(&owner, &id).await?;
    Ok(ApiResponse::ok("会话已删除", agents.now()))
}

/// Save a session's state
#[utoipa::path(post, path = "/sessions/{session_id}/save", operation_id = "save_session", tag = "sessions",
    params(("session_id" = String, Path)),
    responses((status = 200, body = ApiResponse), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours")),
    security(("api_key" = [])))]
pub(super) async fn save_session(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
) -> web::Result<Json<ApiResponse>> {
    agents.save_session(&owner, &id).await?;
    Ok(ApiResponse::ok("会话状态已保存", agents.now()))
}

/// Restore a session's state
///
/// The state that was saved last; the session becomes active.
#[utoipa::path(post, path = "/sessions/{session_id}/restore", operation_id = "restore_session", tag = "sessions",
    params(("session_id" = String, Path)),
    responses((status = 200, body = Session), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours, or it was never saved")),
    security(("api_key" = [])))]
pub(super) async fn restore_session(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
) -> web::Result<Json<Session>> {
    Ok(Json(agents.restore_session(&owner, &id).await?))
}
