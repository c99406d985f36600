//! Runs of threads, and runs without one, as the LangGraph SDK asks for them.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use identity::{Authenticated, Caller};
use kernel::OrgId;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use utoipa::ToSchema;
use web::{Path, Query};

use super::order::{NewRun, Order, mode};
use crate::encode::{Mode, Part, Place};
use crate::runs::Begun;
use crate::sse::{self, Left};
use crate::store::{self, RunRow};
use crate::{Error, Protocols};

type Fields = Map<String, Value>;

/// Runs begun by one request.
const MOST_AT_ONCE: usize = 100;

impl Protocols {
    async fn run_on(
        &self,
        caller: &Arc<Caller>,
        thread_id: Option<&str>,
        order: &Order,
    ) -> web::Result<Begun> {
        let org_id = &caller.org_id;
        let thread = match thread_id {
            Some(id) if order.create => {
                let id = Some(id.to_owned());
                self.create_thread(org_id, id, Fields::new(), true).await?.thread.id
            }
            Some(id) => id.to_owned(),
            None => return Ok(self.create_run_alone(caller, order.asked.clone()).await?),
        };
        Ok(self.create_run(caller, &thread, order.asked.clone()).await?.into())
    }

    /// Cancels a run when the client leaves, if that is asked for.
    pub(super) fn left(&self, org_id: &OrgId, run: &RunRow, cancel: bool) -> Option<Left> {
        let (protocols, org_id, run) = (self.clone(), org_id.clone(), run.clone());
        cancel.then(|| -> Left {
            Box::new(move || {
                drop(tokio::spawn(async move { protocols.cancel_run(&org_id, &run).await }));
            })
        })
    }

    async fn run_json(&self, org_id: &OrgId, run: &RunRow) -> web::Result<Value> {
        let status = self.run_status(org_id, run).await?;
        let assistant = super::assistants::assistant_id(org_id, &run.assistant);
        Ok(json!({
            "run_id": run.id, "thread_id": run.thread_id, "assistant_id": assistant,
            "status": status.as_str(), "metadata": run.metadata, "multitask_strategy": "reject",
            "created_at": run.created_at, "updated_at": run.created_at, "kwargs": {},
        }))
    }
}

/// Says where a run is, and where its stream or answer can be had again.
fn located(mut response: Response, run: &RunRow, again: &str) -> Response {
    let place = format!("/threads/{}/runs/{}", run.thread_id, run.id);
    let headers = response.headers_mut();
    for (name, text) in [(CONTENT_LOCATION, place.clone()), (LOCATION, format!("{place}/{again}"))]
    {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
    response
}

fn stream_place(modes: &[Mode]) -> String {
    let names = Mode::ALL.into_iter().filter(|(_, mode)| modes.contains(mode));
    let query: Vec<String> = names.map(|(name, _)| format!("stream_mode={name}")).collect();
    format!("stream?{}", query.join("&"))
}

async fn streamed(
    protocols: &Protocols,
    caller: &Arc<Caller>,
    thread_id: Option<&str>,
    new: NewRun,
) -> web::Result<Response> {
    let org_id = &caller.org_id;
    let order = new.order(protocols, org_id).await?;
    let begun = protocols.run_on(caller, thread_id, &order).await?;
    let run = begun.run.clone();
    let follow = protocols.follow_begun(org_id, begun, order.modes.clone()).await?;
    let first = Part {
        id: "0-0".to_owned(),
        event: "metadata",
        data: json!({"run_id": run.id, "attempt": 1, "thread_id": run.thread_id}),
    };
    let left = protocols.left(org_id, &run, order.cancel_on_leave);
    let response = sse::run_response(Some(first), follow, left);
    Ok(located(response, &run, &stream_place(&order.modes)))
}

async fn waited(
    protocols: &Protocols,
    caller: &Arc<Caller>,
    thread_id: Option<&str>,
    new: NewRun,
) -> web::Result<Response> {
    let org_id = &caller.org_id;
    let order = new.order(protocols, org_id).await?;
    let begun = protocols.run_on(caller, thread_id, &order).await?;
    let run = begun.run.clone();
    let left = protocols.left(org_id, &run, order.cancel_on_leave);
    let follow = protocols.follow_begun(org_id, begun, Vec::new()).await?;
    Ok(located(sse::late_json(follow.end(), left), &run, "join"))
}

fn late_end(protocols: &Protocols, org_id: &OrgId, run: &RunRow, left: Option<Left>) -> Response {
    let (protocols, org_id, run) = (protocols.clone(), org_id.clone(), run.clone());
    sse::late_json(async move { protocols.end_of(&org_id, &run).await }, left)
}

async fn created(
    protocols: &Protocols,
    caller: &Arc<Caller>,
    thread_id: Option<&str>,
    new: NewRun,
) -> web::Result<(RunRow, Value)> {
    let order = new.order(protocols, &caller.org_id).await?;
    let run = protocols.run_on(caller, thread_id, &order).await?.run;
    let told = protocols.run_json(&caller.org_id, &run).await?;
    Ok((run, told))
}

/// Start a run on a thread
#[utoipa::path(post, path = "/threads/{thread_id}/runs", operation_id = "create_run", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread")), request_body = NewRun,
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such thread or flow of yours"), (status = 409, description = "A run of it has not ended"),
        (status = 422, description = "Something is not valid or not supported")),
    security(("api_key" = [])))]
pub(super) async fn create_run(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(thread_id): Path<String>,
    web::Json(new): web::Json<NewRun>,
) -> web::Result<Response> {
    let (run, told) = created(&protocols, &caller, Some(&thread_id), new).await?;
    Ok(located(Json(told).into_response(), &run, "join"))
}

/// Start a run on a thread and stream it
///
/// Server-sent events with ids; `Last-Event-ID` at the `Location` takes the stream up where it was cut.
#[utoipa::path(post, path = "/threads/{thread_id}/runs/stream", operation_id = "stream_run", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread")), request_body = NewRun,
    responses((status = 200, description = "The stream", content_type = "text/event-stream", body = String),
        (status = 401, description = "No valid API key"), (status = 404, description = "No such thread or flow of yours"),
        (status = 409, description = "A run of it has not ended"), (status = 422, description = "Something is not valid or not supported")),
    security(("api_key" = [])))]
pub(super) async fn stream_run(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(thread_id): Path<String>,
    web::Json(new): web::Json<NewRun>,
) -> web::Result<Response> {
    streamed(&protocols, &caller, Some(&thread_id), new).await
}

/// Start a run on a thread and wait for its end
#[utoipa::path(post, path = "/threads/{thread_id}/runs/wait", operation_id = "wait_run", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread")), request_body = NewRun,
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such thread or flow of yours"), (status = 409, description = "A run of it has not ended"),
        (status = 422, description = "Something is not valid or not supported")),
    security(("api_key" = [])))]
pub(super) async fn wait_run(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(thread_id): Path<String>,
    web::Json(new): web::Json<NewRun>,
) -> web::Result<Response> {
    waited(&protocols, &caller, Some(&thread_id), new).await
}

/// Start a run without a thread
#[utoipa::path(post, path = "/runs", operation_id = "create_stateless_run", tag = "langgraph",
    request_body = NewRun,
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such flow of yours"), (status = 422, description = "Something is not valid or not supported")),
    security(("api_key" = [])))]
pub(super) async fn create_stateless_run(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    web::Json(new): web::Json<NewRun>,
) -> web::Result<Response> {
    let (run, told) = created(&protocols, &caller, None, new).await?;
    Ok(located(Json(told).into_response(), &run, "join"))
}

/// Start a run without a thread and stream it
#[utoipa::path(post, path = "/runs/stream", operation_id = "stream_stateless_run", tag = "langgraph",
    request_body = NewRun,
    responses((status = 200, description = "The stream", content_type = "text/event-stream", body = String),
        (status = 401, description = "No valid API key"), (status = 404, description = "No such flow of yours"),
        (status = 422, description = "Something is not valid or not supported")),
    security(("api_key" = [])))]
pub(super) async fn stream_stateless_run(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    web::Json(new): web::Json<NewRun>,
) -> web::Result<Response> {
    streamed(&protocols, &caller, None, new).await
}

/// Start a run without a thread and wait for its end
#[utoipa::path(post, path = "/runs/wait", operation_id = "wait_stateless_run", tag = "langgraph",
    request_body = NewRun,
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such flow of yours"), (status = 422, description = "Something is not valid or not supported")),
    security(("api_key" = [])))]
pub(super) async fn wait_stateless_run(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    web::Json(new): web::Json<NewRun>,
) -> web::Result<Response> {
    waited(&protocols, &caller, None, new).await
}

/// Start several runs
///
/// Up to 100, each on its thread or without one.
#[utoipa::path(post, path = "/runs/batch", operation_id = "create_run_batch", tag = "langgraph",
    request_body = Vec<NewRun>,
    responses((status = 200, body = Vec<serde_json::Value>), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such thread or flow of yours"), (status = 422, description = "Something is not valid or not supported")),
    security(("api_key" = [])))]
pub(super) async fn create_run_batch(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    web::Json(all): web::Json<Vec<NewRun>>,
) -> web::Result<Json<Vec<Value>>> {
    if all.len() > MOST_AT_ONCE {
        let why = format!("there are more than {MOST_AT_ONCE}");
        return Err(Error::Invalid("runs", why).into());
    }
    let mut told = Vec::new();
    for new in all {
        let thread_id = new.thread_id.clone();
        told.push(created(&protocols, &caller, thread_id.as_deref(), new).await?.1);
    }
    Ok(Json(told))
}

/// Which runs.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RunsQuery {
    /// So many: 1 to 1000, 10 by default.
    limit: Option<usize>,
    /// Behind so many.
    offset: Option<usize>,
    /// Only those that stand so.
    status: Option<String>,
}

/// List a thread's runs
///
/// The newest first.
#[utoipa::path(get, path = "/threads/{thread_id}/runs", operation_id = "list_runs", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread"), RunsQuery),
    responses((status = 200, body = Vec<serde_json::Value>), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such thread of yours")),
    security(("api_key" = [])))]
pub(super) async fn list_runs(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(thread_id): Path<String>,
    Query(query): Query<RunsQuery>,
) -> web::Result<Json<Vec<Value>>> {
    let org_id = &caller.org_id;
    protocols.thread(org_id, &thread_id).await?;
    let runs = store::list_runs(&protocols.database, org_id, &thread_id, 1_000).await?;
    let limit = query.limit.unwrap_or(10).clamp(1, 1_000);
    let (mut skip, mut told) = (query.offset.unwrap_or(0), Vec::new());
    for run in &runs {
        if told.len() >= limit {
            break;
        }
        if let Some(wanted) = &query.status
            && protocols.run_status(org_id, run).await?.as_str() != wanted
        {
            continue;
        }
        if skip > 0 {
            skip -= 1;
            continue;
        }
        told.push(protocols.run_json(org_id, run).await?);
    }
    Ok(Json(told))
}

/// Show a run
#[utoipa::path(get, path = "/threads/{thread_id}/runs/{run_id}", operation_id = "get_run", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread"), ("run_id" = String, Path, description = "The run")),
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such run of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_run(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path((thread_id, id)): Path<(String, String)>,
) -> web::Result<Json<Value>> {
    let run = protocols.run(&caller.org_id, &thread_id, &id).await?;
    Ok(Json(protocols.run_json(&caller.org_id, &run).await?))
}

/// Delete a run
///
/// One that has not ended is cancelled first.
#[utoipa::path(delete, path = "/threads/{thread_id}/runs/{run_id}", operation_id = "delete_run", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread"), ("run_id" = String, Path, description = "The run")),
    responses((status = 204, description = "Done"), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such run of yours")),
    security(("api_key" = [])))]
pub(super) async fn delete_run(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path((thread_id, id)): Path<(String, String)>,
) -> web::Result<StatusCode> {
    let run = protocols.run(&caller.org_id, &thread_id, &id).await?;
    protocols.cancel_run(&caller.org_id, &run).await?;
    protocols.forget_run(&caller.org_id, &run).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How a run is joined.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct JoinQuery {
    /// Cancel the run when the client leaves.
    #[serde(default, deserialize_with = "flag")]
    cancel_on_disconnect: bool,
}

impl JoinQuery {
    /// What is done when the client leaves. Whoever may only look may not cancel.
    fn left(
        &self,
        protocols: &Protocols,
        caller: &Caller,
        run: &RunRow,
    ) -> web::Result<Option<Left>> {
        if self.cancel_on_disconnect {
            caller.limits.check_scope("flows:run")?;
        }
        Ok(protocols.left(&caller.org_id, run, self.cancel_on_disconnect))
    }
}

/// `1`, `true`, `0`, `false`: as clients of every kind write it.
fn flag<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "1" | "true" | "True" => Ok(true),
        "" | "0" | "false" | "False" => Ok(false),
        other => Err(serde::de::Error::custom(format!("{other:?} is neither true nor false"))),
    }
}

/// Wait for a run's end
#[utoipa::path(get, path = "/threads/{thread_id}/runs/{run_id}/join", operation_id = "join_run", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread"), ("run_id" = String, Path, description = "The run"), JoinQuery),
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such run of yours")),
    security(("api_key" = [])))]
pub(super) async fn join_run(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path((thread_id, id)): Path<(String, String)>,
    Query(query): Query<JoinQuery>,
) -> web::Result<Response> {
    let run = protocols.run(&caller.org_id, &thread_id, &id).await?;
    let left = query.left(&protocols, &caller, &run)?;
    Ok(located(late_end(&protocols, &caller.org_id, &run, left), &run, "join"))
}

/// Stream a run that was started before
///
/// From its beginning, or behind the event that `Last-Event-ID` names.
#[utoipa::path(get, path = "/threads/{thread_id}/runs/{run_id}/stream", operation_id = "join_run_stream", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread"), ("run_id" = String, Path, description = "The run"), JoinQuery,
        ("stream_mode" = Option<String>, Query, description = "As when a run is started; may be repeated"),
        ("last-event-id" = Option<String>, Header, description = "The id of the last event that came")),
    responses((status = 200, description = "The stream", content_type = "text/event-stream", body = String),
        (status = 401, description = "No valid API key"), (status = 404, description = "No such run of yours")),
    security(("api_key" = [])))]
pub(super) async fn join_run_stream(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path((thread_id, id)): Path<(String, String)>,
    Query(query): Query<JoinQuery>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> web::Result<Response> {
    let run = protocols.run(&caller.org_id, &thread_id, &id).await?;
    let raw = raw.unwrap_or_default();
    let names = raw.split('&').filter_map(|pair| pair.strip_prefix("stream_mode="));
    let mut modes: Vec<Mode> = names.map(mode).collect::<Result<_, _>>()?;
    if modes.is_empty() {
        modes.push(Mode::Values);
    }
    let place = match headers.get("last-event-id").and_then(|id| id.to_str().ok()) {
        None | Some("" | "-1") => Place::default(),
        Some(id) => Place::parse(id)
            .ok_or_else(|| Error::Invalid("last-event-id", "is no id of this stream".to_owned()))?,
    };
    let follow = protocols.follow(&caller.org_id, &run, modes.clone(), place).await?;
    let left = query.left(&protocols, &caller, &run)?;
    Ok(located(sse::run_response(None, follow, left), &run, &stream_place(&modes)))
}

/// How a run is cancelled.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CancelQuery {
    /// Answer when it has ended.
    #[serde(default, deserialize_with = "flag")]
    wait: bool,
    /// `interrupt` (the default), or `rollback`: its thread is then as it was before it.
    action: Option<String>,
}

/// Cancel a run
///
/// Its call of a model is cut off at once and charged for what had come of it.
#[utoipa::path(post, path = "/threads/{thread_id}/runs/{run_id}/cancel", operation_id = "cancel_run", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread"), ("run_id" = String, Path, description = "The run"), CancelQuery),
    responses((status = 202, description = "It is being cancelled"), (status = 204, description = "It has ended"),
        (status = 401, description = "No valid API key"), (status = 404, description = "No such run of yours")),
    security(("api_key" = [])))]
pub(super) async fn cancel_run(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path((thread_id, id)): Path<(String, String)>,
    Query(query): Query<CancelQuery>,
) -> web::Result<StatusCode> {
    let org_id = &caller.org_id;
    let run = protocols.run(org_id, &thread_id, &id).await?;
    let rollback = match query.action.as_deref() {
        None | Some("interrupt") => false,
        Some("rollback") => true,
        Some(_) => {
            let why = "must be interrupt or rollback".to_owned();
            return Err(Error::Invalid("action", why).into());
        }
    };
    protocols.cancel_run(org_id, &run).await?;
    if query.wait || rollback {
        protocols.end_of(org_id, &run).await?;
    }
    if rollback {
        protocols.forget_run(org_id, &run).await?;
    }
    Ok(if query.wait { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED })
}

/// Which runs to cancel.
#[derive(Deserialize, ToSchema)]
pub(super) struct CancelMany {
    /// Of this thread.
    thread_id: Option<String>,
    /// These; all that have not ended without it.
    run_ids: Option<Vec<String>>,
    /// `pending`, `running` or `all`.
    status: Option<String>,
}

/// Cancel several runs of a thread
#[utoipa::path(post, path = "/runs/cancel", operation_id = "cancel_runs", tag = "langgraph",
    request_body = CancelMany,
    responses((status = 204, description = "They are being cancelled"), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such thread of yours"), (status = 422, description = "Without a thread")),
    security(("api_key" = [])))]
pub(super) async fn cancel_runs(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    web::Json(asked): web::Json<CancelMany>,
) -> web::Result<StatusCode> {
    let org_id = &caller.org_id;
    let Some(thread_id) = &asked.thread_id else {
        return Err(Error::Unsupported("cancelling runs of all threads".to_owned()).into());
    };
    protocols.thread(org_id, thread_id).await?;
    let runs = store::list_runs(&protocols.database, org_id, thread_id, 1_000).await?;
    let named = |run: &&RunRow| asked.run_ids.as_ref().is_none_or(|ids| ids.contains(&run.id));
    for run in runs.iter().filter(named) {
        let status = protocols.run_status(org_id, run).await?;
        let wanted = match asked.status.as_deref() {
            None | Some("all") => status.is_active(),
            Some(name) => status.is_active() && status.as_str() == name,
        };
        if wanted {
            protocols.cancel_run(org_id, run).await?;
        }
    }
    Ok(StatusCode::NO_CONTENT)
}
