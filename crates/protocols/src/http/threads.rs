//! `/threads`: threads and how they stand, as the LangGraph SDK asks for them.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use identity::Authenticated;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use web::{Path, Query};

use crate::threads::{Standing, Wanted, checkpoint_json, state_json, thread_json};
use crate::{Error, Protocols};

type Fields = Map<String, Value>;

/// A new thread.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct NewThread {
    /// Its id; a new one without it.
    thread_id: Option<String>,
    /// Whatever it is to be found by, up to 16 KiB.
    #[schema(value_type = Object)]
    metadata: Fields,
    /// `raise` (the default) or `do_nothing`.
    if_exists: Option<String>,
    /// Not supported.
    #[schema(value_type = Option<Object>)]
    supersteps: Option<Value>,
    /// Not supported.
    #[schema(value_type = Option<Object>)]
    ttl: Option<Value>,
}

/// What of a thread is to change.
#[derive(Deserialize, ToSchema)]
pub(super) struct ThreadChange {
    /// Put into its metadata.
    #[schema(value_type = Object)]
    metadata: Fields,
    /// Not supported.
    #[schema(value_type = Option<Object>)]
    ttl: Option<Value>,
}

/// Which threads. The last changed 1,000 are looked at.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct ThreadSearch {
    /// Only those with all of this.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Fields>,
    /// Not supported.
    #[schema(value_type = Option<Object>)]
    values: Option<Value>,
    /// Only these.
    ids: Option<Vec<String>>,
    /// Only those that are `idle`, `busy`, `interrupted` or `error`.
    status: Option<String>,
    /// So many: 1 to 1000, 10 by default.
    limit: Option<usize>,
    /// Behind so many.
    offset: Option<usize>,
    /// `updated_at`, which is the order they come in.
    sort_by: Option<String>,
    /// `desc`, which is the order they come in.
    sort_order: Option<String>,
}

/// Fields to be set.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewState {
    /// The fields; those that add up are added to.
    #[schema(value_type = Option<Object>)]
    values: Option<Fields>,
    /// Not supported.
    as_node: Option<String>,
    /// Not supported.
    #[schema(value_type = Option<Object>)]
    checkpoint: Option<Value>,
    /// Not supported.
    checkpoint_id: Option<String>,
}

/// Which checkpoint.
#[derive(Deserialize, ToSchema)]
pub(super) struct CheckpointQuery {
    /// As a state names it.
    #[schema(value_type = Object)]
    checkpoint: Value,
}

/// Which part of the history.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct HistorySearch {
    /// So many: 1 to 1000, 10 by default.
    limit: Option<usize>,
    /// Only what was before this checkpoint: its id, or the checkpoint.
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
}

/// Which part of the history.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// So many: 1 to 1000, 10 by default.
    limit: Option<usize>,
    /// Only what was before this checkpoint.
    before: Option<String>,
}

/// Refuses what is given although it is not supported.
pub(super) fn refuse(given: &[(&str, bool)]) -> Result<(), Error> {
    match given.iter().find(|(_, given)| *given) {
        Some((name, _)) => Err(Error::Unsupported((*name).to_owned())),
        None => Ok(()),
    }
}

/// Create a thread
#[utoipa::path(post, path = "/threads", operation_id = "create_thread", tag = "langgraph",
    request_body = NewThread,
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 409, description = "The id is taken"), (status = 422, description = "Something is not valid or not supported")),
    security(("api_key" = [])))]
pub(super) async fn create_thread(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    web::Json(new): web::Json<NewThread>,
) -> web::Result<Json<Value>> {
    refuse(&[("supersteps", new.supersteps.is_some()), ("ttl", new.ttl.is_some())])?;
    let may_exist = new.if_exists.as_deref() == Some("do_nothing");
    let thread =
        protocols.create_thread(&caller.org_id, new.thread_id, new.metadata, may_exist).await?;
    Ok(Json(thread_json(&thread)))
}

async fn searched(
    protocols: &Protocols,
    caller: &identity::Caller,
    search: ThreadSearch,
    most: usize,
) -> web::Result<Vec<Standing>> {
    let other =
        |given: &Option<String>, known: &str| given.as_deref().is_some_and(|one| one != known);
    refuse(&[
        ("values", search.values.is_some()),
        ("another sort_by than updated_at", other(&search.sort_by, "updated_at")),
        ("another sort_order than desc", other(&search.sort_order, "desc")),
    ])?;
    let wanted = Wanted {
        metadata: search.metadata.unwrap_or_default(),
        ids: search.ids,
        status: search.status,
    };
    let page = (search.offset.unwrap_or(0), most);
    Ok(protocols.search_threads(&caller.org_id, &wanted, page).await?)
}

/// Search threads
#[utoipa::path(post, path = "/threads/search", operation_id = "search_threads", tag = "langgraph",
    request_body = ThreadSearch,
    responses((status = 200, body = Vec<serde_json::Value>), (status = 401, description = "No valid API key"),
        (status = 422, description = "Something is not supported")),
    security(("api_key" = [])))]
pub(super) async fn search_threads(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    web::Json(search): web::Json<ThreadSearch>,
) -> web::Result<Json<Vec<Value>>> {
    let most = search.limit.unwrap_or(10).clamp(1, 1_000);
    let found = searched(&protocols, &caller, search, most).await?;
    Ok(Json(found.iter().map(thread_json).collect()))
}

/// Count threads
#[utoipa::path(post, path = "/threads/count", operation_id = "count_threads", tag = "langgraph",
    request_body = ThreadSearch,
    responses((status = 200, body = usize), (status = 401, description = "No valid API key"),
        (status = 422, description = "Something is not supported")),
    security(("api_key" = [])))]
pub(super) async fn count_threads(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    web::Json(search): web::Json<ThreadSearch>,
) -> web::Result<Json<usize>> {
    Ok(Json(searched(&protocols, &caller, search, usize::MAX).await?.len()))
}

/// Show a thread
#[utoipa::path(get, path = "/threads/{thread_id}", operation_id = "get_thread", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread")),
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such thread of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_thread(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> web::Result<Json<Value>> {
    Ok(Json(thread_json(&protocols.thread(&caller.org_id, &id).await?)))
}

/// Change a thread's metadata
#[utoipa::path(patch, path = "/threads/{thread_id}", operation_id = "change_thread", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread")), request_body = ThreadChange,
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such thread of yours")),
    security(("api_key" = [])))]
pub(super) async fn change_thread(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    web::Json(change): web::Json<ThreadChange>,
) -> web::Result<Json<Value>> {
    refuse(&[("ttl", change.ttl.is_some())])?;
    let thread = protocols.change_thread(&caller.org_id, &id, change.metadata).await?;
    Ok(Json(thread_json(&thread)))
}

/// Delete a thread
///
/// What runs of it is cancelled. What its calls have cost stays in the books.
#[utoipa::path(delete, path = "/threads/{thread_id}", operation_id = "delete_thread", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread")),
    responses((status = 204, description = "Done"), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such thread of yours")),
    security(("api_key" = [])))]
pub(super) async fn delete_thread(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> web::Result<StatusCode> {
    protocols.delete_thread(&caller.org_id, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Copy a thread
#[utoipa::path(post, path = "/threads/{thread_id}/copy", operation_id = "copy_thread", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread")),
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such thread of yours")),
    security(("api_key" = [])))]
pub(super) async fn copy_thread(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> web::Result<Json<Value>> {
    Ok(Json(thread_json(&protocols.copy_thread(&caller.org_id, &id).await?)))
}

/// How a thread stands, as a state.
fn state_of(standing: &Standing) -> Value {
    let id = &standing.thread.id;
    match (&standing.run, &standing.snapshot) {
        (Some(run), Some(snapshot)) => state_json(id, run, snapshot),
        _ => json!({"values": crate::messages::shown(&standing.fields()), "next": [], "tasks": [],
            "interrupts": [], "checkpoint": checkpoint_json(id, "", 0), "parent_checkpoint": null,
            "metadata": standing.thread.metadata, "created_at": standing.thread.created_at}),
    }
}

/// Show a thread's state
#[utoipa::path(get, path = "/threads/{thread_id}/state", operation_id = "get_thread_state", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread")),
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such thread of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_thread_state(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> web::Result<Json<Value>> {
    let standing = protocols.thread(&caller.org_id, &id).await?;
    let mut state = state_of(&standing);
    if let (Some(_), Some(members)) = (&standing.thread.fields, state.as_object_mut()) {
        let values = crate::messages::shown(&standing.fields());
        members.insert("values".to_owned(), Value::Object(values));
    }
    Ok(Json(state))
}

/// Set fields of a thread at rest
///
/// Its next run begins with them.
#[utoipa::path(post, path = "/threads/{thread_id}/state", operation_id = "set_thread_state", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread")), request_body = NewState,
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such thread of yours"), (status = 409, description = "A run of it has not ended"),
        (status = 422, description = "Something is not supported")),
    security(("api_key" = [])))]
pub(super) async fn set_thread_state(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    web::Json(new): web::Json<NewState>,
) -> web::Result<Json<Value>> {
    refuse(&[
        ("as_node", new.as_node.is_some()),
        ("checkpoint", new.checkpoint.is_some() || new.checkpoint_id.is_some()),
    ])?;
    let standing = protocols.set_fields(&caller, &id, new.values.unwrap_or_default()).await?;
    let checkpoint = state_of(&standing).get("checkpoint").cloned().unwrap_or_default();
    let configurable = checkpoint.clone();
    Ok(Json(json!({"checkpoint": checkpoint, "configurable": configurable})))
}

/// Show how a thread stood
#[utoipa::path(get, path = "/threads/{thread_id}/state/{checkpoint_id}", operation_id = "get_thread_checkpoint",
    tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread"),
        ("checkpoint_id" = String, Path, description = "The checkpoint")),
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such thread of yours, or no such checkpoint")),
    security(("api_key" = [])))]
pub(super) async fn get_thread_checkpoint(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path((id, checkpoint)): Path<(String, String)>,
) -> web::Result<Json<Value>> {
    protocols.thread(&caller.org_id, &id).await?;
    let (run, snapshot) = protocols.checkpoint(&caller.org_id, &id, &checkpoint).await?;
    Ok(Json(state_json(&id, &run, &snapshot)))
}

/// Show how a thread stood
#[utoipa::path(post, path = "/threads/{thread_id}/state/checkpoint", operation_id = "find_thread_checkpoint",
    tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread")), request_body = CheckpointQuery,
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such thread of yours, or no such checkpoint")),
    security(("api_key" = [])))]
pub(super) async fn find_thread_checkpoint(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    web::Json(query): web::Json<CheckpointQuery>,
) -> web::Result<Json<Value>> {
    protocols.thread(&caller.org_id, &id).await?;
    let checkpoint = checkpoint_id(&query.checkpoint).unwrap_or_default();
    let (run, snapshot) = protocols.checkpoint(&caller.org_id, &id, &checkpoint).await?;
    Ok(Json(state_json(&id, &run, &snapshot)))
}

/// The id in a checkpoint, written as an id, a checkpoint, or a config that holds one.
fn checkpoint_id(value: &Value) -> Option<String> {
    let inner = value.get("configurable").unwrap_or(value);
    let inner = inner.get("checkpoint_id").unwrap_or(inner);
    inner.as_str().map(str::to_owned)
}

async fn history(
    protocols: &Protocols,
    caller: &identity::Caller,
    id: &str,
    (before, limit): (Option<String>, Option<usize>),
) -> web::Result<Json<Vec<Value>>> {
    let limit = limit.unwrap_or(10).clamp(1, 1_000);
    // One more than is wanted, which is the last one's parent.
    let all = protocols.history(&caller.org_id, id, before.as_deref(), limit + 1).await?;
    let mut states: Vec<Value> =
        all.iter().map(|(run, snapshot)| state_json(id, run, snapshot)).collect();
    let checkpoints: Vec<Option<Value>> =
        states.iter().map(|state| state.get("checkpoint").cloned()).collect();
    for (state, parent) in states.iter_mut().zip(checkpoints.into_iter().skip(1)) {
        if let (Some(members), Some(parent)) = (state.as_object_mut(), parent) {
            members.insert("parent_checkpoint".to_owned(), parent);
        }
    }
    states.truncate(limit);
    Ok(Json(states))
}

/// Show a thread's history
#[utoipa::path(get, path = "/threads/{thread_id}/history", operation_id = "get_thread_history", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread"), HistoryQuery),
    responses((status = 200, body = Vec<serde_json::Value>), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such thread of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_thread_history(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    Query(query): Query<HistoryQuery>,
) -> web::Result<Json<Vec<Value>>> {
    history(&protocols, &caller, &id, (query.before, query.limit)).await
}

/// Show a thread's history
#[utoipa::path(post, path = "/threads/{thread_id}/history", operation_id = "search_thread_history", tag = "langgraph",
    params(("thread_id" = String, Path, description = "The thread")), request_body = HistorySearch,
    responses((status = 200, body = Vec<serde_json::Value>), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such thread of yours")),
    security(("api_key" = [])))]
pub(super) async fn search_thread_history(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    web::Json(search): web::Json<HistorySearch>,
) -> web::Result<Json<Vec<Value>>> {
    let before = search.before.as_ref().and_then(checkpoint_id);
    history(&protocols, &caller, &id, (before, search.limit)).await
}
