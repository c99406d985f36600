//! Runs: of a workflow, of a session, and what becomes of them.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use web::{Body, Path};

use super::answer::ApiResponse;
use super::asked::Asked;
use super::visitor::Visitor;
use crate::stream::Place;
use crate::{Agents, Error, Execution, Owner, Result, RunRequest};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const LAST_EVENT_ID: &str = "last-event-id";
const LONGEST_KEY: usize = 200;
/// A stream that has nothing to say says so, this often.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A page of a workflow's runs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExecutionList {
    executions: Vec<Execution>,
    total: i64,
    limit: u32,
    offset: u32,
}

/// An answer to a run's question.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct AnswerRequest {
    /// The step that asks; the only one there is when absent.
    step: Option<u64>,
    /// Any JSON that fits the question's schema.
    #[schema(value_type = Object)]
    answer: Value,
}

fn read(body: &[u8]) -> web::Result<RunRequest> {
    // A run needs nothing: no body is a request too.
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(RunRequest::default());
    }
    web::from_json(body)
}

fn key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = value.to_str().map_err(|_not_ascii| Error::Key)?;
    if text.is_empty() || text.len() > LONGEST_KEY {
        return Err(Error::Key);
    }
    Ok(Some(text.to_owned()))
}

fn place(headers: &HeaderMap) -> Result<Option<Place>> {
    let value = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    value.filter(|text| !text.is_empty()).map(Place::read).transpose()
}

impl Agents {
    fn patience(&self) -> Duration {
        Duration::from_secs(self.parts().config.run_wait_seconds)
    }
}

/// Run a workflow
///
/// Answers when the run has ended, waits for an answer, or `agents.run_wait_seconds` have passed; a run
/// that failed is `status: error` with 200. It goes on whatever becomes of the request. The same
/// `Idempotency-Key` and request are one run.
#[utoipa::path(post, path = "/workflows/{workflow_id}/run", operation_id = "run_workflow", tag = "workflows",
    params(("workflow_id" = String, Path),
        ("idempotency-key" = Option<String>, Header, description = "1 to 200 characters, a new one for each run")),
    request_body = RunRequest,
    responses((status = 200, body = Execution), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such workflow or session of yours"),
        (status = 409, description = "It has no definition yet, or the key was used for another run"),
        (status = 413, description = "What it begins with is too large"), (status = 422, description = "The body does not fit"),
        (status = 429, description = "Too many runs wait for their turn")),
    security(("api_key" = [])))]
pub(super) async fn run_workflow(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> web::Result<Json<Execution>> {
    let execution = agents.start(&owner, &id, read(&body)?, key(&headers)?).await?;
    Ok(Json(agents.wait(&owner, &execution, agents.patience()).await?))
}

/// Run a workflow and follow it
///
/// Server-sent events: each event of the run as `state_update`, the last as `completed` or `error`.
/// Sent again with the last event's id as `Last-Event-ID`, the same run is followed from there.
#[utoipa::path(post, path = "/workflows/{workflow_id}/stream", operation_id = "stream_workflow", tag = "workflows",
    params(("workflow_id" = String, Path),
        ("last-event-id" = Option<String>, Header, description = "Where a stream that was cut goes on"),
        ("idempotency-key" = Option<String>, Header, description = "1 to 200 characters, a new one for each run")),
    request_body = RunRequest,
    responses((status = 200, description = "The events", content_type = "text/event-stream"),
        (status = 401, description = "No valid credential"), (status = 404, description = "No such workflow or session of yours"),
        (status = 409, description = "It has no definition yet, or the key was used for another run"),
        (status = 422, description = "The body does not fit")),
    security(("api_key" = [])))]
pub(super) async fn stream_workflow(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> web::Result<Response> {
    if let Some(place) = place(&headers)? {
        return events(&agents, &owner, &place.execution_id, place.seq).await;
    }
    let execution = agents.start(&owner, &id, read(&body)?, key(&headers)?).await?;
    events(&agents, &owner, &execution, 0).await
}

/// Run a session's workflow
///
/// With the session's messages and those sent; what comes of it stays in the session.
#[utoipa::path(post, path = "/sessions/{session_id}/run", operation_id = "run_session", tag = "sessions",
    params(("session_id" = String, Path),
        ("idempotency-key" = Option<String>, Header, description = "1 to 200 characters, a new one for each run")),
    request_body = RunRequest,
    responses((status = 200, body = Execution), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such session of yours"),
        (status = 409, description = "Its workflow is gone or a draft, or the key was used for another run"),
        (status = 422, description = "The body does not fit")),
    security(("api_key" = [])))]
pub(super) async fn run_session(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> web::Result<Json<Execution>> {
    let workflow = agents.workflow_of(&owner, &id).await?;
    let request = RunRequest { session_id: Some(id), ..read(&body)? };
    let execution = agents.start(&owner, &workflow, request, key(&headers)?).await?;
    Ok(Json(agents.wait(&owner, &execution, agents.patience()).await?))
}

/// Run a session's workflow and follow it
#[utoipa::path(post, path = "/sessions/{session_id}/stream", operation_id = "stream_session", tag = "sessions",
    params(("session_id" = String, Path),
        ("last-event-id" = Option<String>, Header, description = "Where a stream that was cut goes on"),
        ("idempotency-key" = Option<String>, Header, description = "1 to 200 characters, a new one for each run")),
    request_body = RunRequest,
    responses((status = 200, description = "The events", content_type = "text/event-stream"),
        (status = 401, description = "No valid credential"), (status = 404, description = "No such session of yours"),
        (status = 409, description = "Its workflow is gone or a draft, or the key was used for another run"),
        (status = 422, description = "The body does not fit")),
    security(("api_key" = [])))]
pub(super) async fn stream_session(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> web::Result<Response> {
    if let Some(place) = place(&headers)? {
        return events(&agents, &owner, &place.execution_id, place.seq).await;
    }
    let workflow = agents.workflow_of(&owner, &id).await?;
    let request = RunRequest { session_id: Some(id), ..read(&body)? };
    let execution = agents.start(&owner, &workflow, request, key(&headers)?).await?;
    events(&agents, &owner, &execution, 0).await
}

async fn events(agents: &Agents, owner: &Owner, id: &str, after: i64) -> web::Result<Response> {
    let stream = agents.stream(owner, id, after).await?;
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let mut response = Sse::new(stream).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    let unbuffered = HeaderName::from_static("x-accel-buffering");
    headers.insert(unbuffered, HeaderValue::from_static("no"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static("x-execution-id"), id);
    }
    Ok(response)
}

/// List a workflow's runs
#[utoipa::path(get, path = "/workflows/{workflow_id}/executions", operation_id = "list_executions", tag = "workflows",
    params(("workflow_id" = String, Path),
        ("limit" = Option<u32>, Query, description = "1 to 100, 20 by default"),
        ("offset" = Option<u32>, Query, description = "So many of the newest are passed over")),
    responses((status = 200, body = ExecutionList), (status = 401, description = "No valid credential"),
        (status = 422, description = "The query is not valid")),
    security(("api_key" = [])))]
pub(super) async fn list_executions(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    asked: Asked,
) -> web::Result<Json<ExecutionList>> {
    let (limit, offset) = (asked.number("limit", 20, 1..=100)?, asked.offset()?);
    let (executions, total) = agents.executions(&owner, &id, (limit, offset)).await?;
    Ok(Json(ExecutionList { executions, total, limit, offset }))
}

/// Show a run
#[utoipa::path(get, path = "/workflows/executions/{execution_id}", operation_id = "get_execution", tag = "workflows",
    params(("execution_id" = String, Path)),
    responses((status = 200, body = Execution), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such run of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_execution(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
) -> web::Result<Json<Execution>> {
    Ok(Json(agents.execution(&owner, &id).await?))
}

/// Follow a run
///
/// From its beginning, or from behind `Last-Event-ID`; see running and following.
#[utoipa::path(get, path = "/workflows/executions/{execution_id}/stream", operation_id = "stream_execution", tag = "workflows",
    params(("execution_id" = String, Path),
        ("last-event-id" = Option<String>, Header, description = "Where a stream that was cut goes on")),
    responses((status = 200, description = "The events", content_type = "text/event-stream"),
        (status = 401, description = "No valid credential"), (status = 404, description = "No such run of yours")),
    security(("api_key" = [])))]
pub(super) async fn stream_execution(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> web::Result<Response> {
    let place = place(&headers)?.filter(|place| place.execution_id == id);
    events(&agents, &owner, &id, place.map_or(0, |place| place.seq)).await
}

/// Answer a run's question
///
/// The first answer counts; the same again is fine.
#[utoipa::path(post, path = "/workflows/executions/{execution_id}/answer", operation_id = "answer_execution", tag = "workflows",
    params(("execution_id" = String, Path)), request_body = AnswerRequest,
    responses((status = 200, body = ApiResponse), (status = 400, description = "It does not fit the question"),
        (status = 401, description = "No valid credential"), (status = 404, description = "No such run of yours"),
        (status = 409, description = "Nothing is asked, or another answer was given")),
    security(("api_key" = [])))]
pub(super) async fn answer_execution(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    web::Json(request): web::Json<AnswerRequest>,
) -> web::Result<Json<ApiResponse>> {
    agents.answer(&owner, &id, request.step, request.answer).await?;
    Ok(ApiResponse::with("已回答", json!({"execution_id": id}), agents.now()))
}

/// Cancel a run
///
/// What is under way is cut off, and charged for what it used.
#[utoipa::path(post, path = "/workflows/executions/{execution_id}/cancel", operation_id = "cancel_execution", tag = "workflows",
    params(("execution_id" = String, Path)),
    responses((status = 200, body = ApiResponse), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such run of yours")),
    security(("api_key" = [])))]
pub(super) async fn cancel_execution(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
) -> web::Result<Json<ApiResponse>> {
    agents.cancel(&owner, &id).await?;
    Ok(ApiResponse::with("已取消", json!({"execution_id": id}), agents.now()))
}
