//! `/assistants`: workflows as the LangGraph SDK sees them; `/ok` and `/info`.

use axum::Json;
use axum::extract::State;
use flow::Definition;
use http::StatusCode;
use identity::Authenticated;
use kernel::{OrgId, PageRequest};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use web::Path;

use crate::{Error, Protocols};

/// An assistant that is asked for.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewAssistant {
    /// The name of a published flow.
    graph_id: String,
    /// `raise` (the default) or `do_nothing`.
    if_exists: Option<String>,
}

/// Which assistants.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct AssistantSearch {
    /// Only that of this flow.
    graph_id: Option<String>,
    /// Only that of this name.
    name: Option<String>,
    /// Only those with this metadata: there is none, so any finds nothing.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// So many: 1 to 1000, 10 by default.
    limit: Option<u32>,
    /// Behind so many.
    offset: Option<usize>,
}

/// The id of the assistant that a name is to an organization.
pub(super) fn assistant_id(org_id: &OrgId, name: &str) -> String {
    let named = json!([org_id.as_str(), name]).to_string();
    let hash = blake3::derive_key("ledgerline assistant 1", named.as_bytes());
    let hex = blake3::Hash::from_bytes(hash).to_hex();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    // As a UUID of version 8, which is whatever its maker says.
    let (three, four) = (part(13, 16), part(17, 20));
    format!("{}-{}-8{three}-8{four}-{}", part(0, 8), part(8, 12), part(20, 32))
}

fn shown(org_id: &OrgId, definition: &Definition) -> Value {
    json!({
        "assistant_id": assistant_id(org_id, &definition.name), "graph_id": definition.name,
        "name": definition.name, "description": null, "config": {}, "context": {},
        "metadata": {}, "version": 1, "created_at": definition.created_at,
        "updated_at": definition.created_at,
    })
}

impl Protocols {
    /// The name of the workflow that is meant by an assistant's id, or by the name itself.
    pub(super) async fn graph_of(&self, org_id: &OrgId, asked: &str) -> web::Result<Definition> {
        match self.engine.definition(org_id, asked).await {
            Ok(definition) => return Ok(definition),
            Err(flow::Error::UnknownDefinition(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let all = self.assistants(org_id).await?;
        let found = all.into_iter().find(|one| assistant_id(org_id, &one.name) == asked);
        found
            .ok_or_else(|| flow::Error::UnknownDefinition(asked.chars().take(200).collect()).into())
    }

    async fn assistants(&self, org_id: &OrgId) -> web::Result<Vec<Definition>> {
        let page = PageRequest { limit: Some(1_000), cursor: None };
        Ok(self.engine.definitions(org_id, &page).await.map_err(Error::from)?.rows)
    }

    async fn searched(
        &self,
        org_id: &OrgId,
        search: &AssistantSearch,
    ) -> web::Result<Vec<Definition>> {
        let mut all = self.assistants(org_id).await?;
        let wanted = [&search.graph_id, &search.name];
        all.retain(|one| {
            wanted.iter().all(|name| name.as_ref().is_none_or(|name| *name == one.name))
        });
        if search.metadata.as_ref().is_some_and(|metadata| !metadata.is_empty()) {
            all.clear();
        }
        Ok(all)
    }
}

/// Is the server there?
#[utoipa::path(get, path = "/ok", operation_id = "get_ok", tag = "langgraph",
    responses((status = 200, body = serde_json::Value)))]
pub(super) async fn get_ok(_anyone: identity::Anyone) -> Json<Value> {
    Json(json!({"ok": true}))
}

/// What the server is
#[utoipa::path(get, path = "/info", operation_id = "get_info", tag = "langgraph",
    responses((status = 200, body = serde_json::Value)))]
pub(super) async fn get_info(_anyone: identity::Anyone) -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION"), "flags": {
        "assistants": true, "crons": false, "store": false}}))
}

/// Find an assistant by its flow
///
/// Every published flow is an assistant: there is nothing to be created. With `if_exists:
/// do_nothing` it is given.
#[utoipa::path(post, path = "/assistants", operation_id = "create_assistant", tag = "langgraph",
    request_body = NewAssistant,
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such flow of yours"), (status = 409, description = "It is there")),
    security(("api_key" = [])))]
pub(super) async fn create_assistant(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    web::Json(new): web::Json<NewAssistant>,
) -> web::Result<Json<Value>> {
    let definition = protocols.graph_of(&caller.org_id, &new.graph_id).await?;
    if new.if_exists.as_deref() == Some("do_nothing") {
        return Ok(Json(shown(&caller.org_id, &definition)));
    }
    let message = "every published flow is an assistant: send if_exists: do_nothing to be given it";
    Err(web::Error::new(StatusCode::CONFLICT, "assistant_exists", message))
}

/// Search assistants
#[utoipa::path(post, path = "/assistants/search", operation_id = "search_assistants", tag = "langgraph",
    request_body = AssistantSearch,
    responses((status = 200, body = Vec<serde_json::Value>), (status = 401, description = "No valid API key")),
    security(("api_key" = [])))]
pub(super) async fn search_assistants(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    web::Json(search): web::Json<AssistantSearch>,
) -> web::Result<Json<Vec<Value>>> {
    let all = protocols.searched(&caller.org_id, &search).await?;
    let limit = search.limit.unwrap_or(10).clamp(1, 1_000) as usize;
    let some = all.iter().skip(search.offset.unwrap_or(0)).take(limit);
    Ok(Json(some.map(|one| shown(&caller.org_id, one)).collect()))
}

/// Count assistants
#[utoipa::path(post, path = "/assistants/count", operation_id = "count_assistants", tag = "langgraph",
    request_body = AssistantSearch,
    responses((status = 200, body = usize), (status = 401, description = "No valid API key")),
    security(("api_key" = [])))]
pub(super) async fn count_assistants(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    web::Json(search): web::Json<AssistantSearch>,
) -> web::Result<Json<usize>> {
    Ok(Json(protocols.searched(&caller.org_id, &search).await?.len()))
}

/// Show an assistant
#[utoipa::path(get, path = "/assistants/{assistant_id}", operation_id = "get_assistant", tag = "langgraph",
    params(("assistant_id" = String, Path, description = "Its id, or its flow's name")),
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such flow of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_assistant(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> web::Result<Json<Value>> {
    let definition = protocols.graph_of(&caller.org_id, &id).await?;
    Ok(Json(shown(&caller.org_id, &definition)))
}

/// Show an assistant's graph
#[utoipa::path(get, path = "/assistants/{assistant_id}/graph", operation_id = "get_assistant_graph", tag = "langgraph",
    params(("assistant_id" = String, Path, description = "Its id, or its flow's name")),
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such flow of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_assistant_graph(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> web::Result<Json<Value>> {
    let definition = protocols.graph_of(&caller.org_id, &id).await?;
    let workflow = protocols.workflow(&caller.org_id, &definition.id).await?;
    let picture = workflow.program.picture();
    let list =
        |name: &str| picture.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let entry = picture.get("entry_point").cloned().unwrap_or_default();
    let mut nodes = vec![json!({"id": "__start__", "type": "schema", "data": "__start__"})];
    nodes.extend(list("nodes").iter().map(|node| {
        json!({"id": node.get("id"), "type": "runnable",
            "data": {"id": [node.get("type")], "name": node.get("id")}})
    }));
    nodes.push(json!({"id": "__end__", "type": "schema", "data": "__end__"}));
    let mut edges = vec![json!({"source": "__start__", "target": entry})];
    edges.extend(list("edges").iter().map(|edge| {
        json!({"source": edge.get("from"), "target": edge.get("to"),
            "conditional": edge.get("type") == Some(&json!("conditional")), "data": edge.get("condition")})
    }));
    Ok(Json(json!({"nodes": nodes, "edges": edges})))
}

/// Show what an assistant takes
#[utoipa::path(get, path = "/assistants/{assistant_id}/schemas", operation_id = "get_assistant_schemas", tag = "langgraph",
    params(("assistant_id" = String, Path, description = "Its id, or its flow's name")),
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such flow of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_assistant_schemas(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> web::Result<Json<Value>> {
    let definition = protocols.graph_of(&caller.org_id, &id).await?;
    let workflow = protocols.workflow(&caller.org_id, &definition.id).await?;
    let schema = workflow.program.input_schema();
    Ok(Json(json!({"graph_id": definition.name, "input_schema": schema, "output_schema": schema,
        "state_schema": schema, "config_schema": {}, "context_schema": {}})))
}
