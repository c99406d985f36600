//! `/workflows`

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use flow::Drawing;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use web::Path;

use super::answer::{ApiResponse, Paging};
use super::asked::Asked;
use super::visitor::Visitor;
use crate::store::workflows::ORDERS;
use crate::{Agents, Error, NewWorkflow, Workflow, WorkflowChange};

/// A page of workflows.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WorkflowList {
    workflows: Vec<Workflow>,
    #[serde(flatten)]
    paging: Paging,
}

/// List your workflows
#[utoipa::path(get, path = "/workflows", operation_id = "list_workflows", tag = "workflows",
    params(("page" = Option<u32>, Query, description = "From 1"),
        ("page_size" = Option<u32>, Query, description = "1 to 100, 20 by default"),
        ("search" = Option<String>, Query, description = "Found in the name or the description"),
        ("sort_by" = Option<String>, Query,
            description = "loaded_at, updated_at, last_used, usage_count, name, version or workflow_id"),
        ("sort_order" = Option<String>, Query, description = "desc or asc")),
    responses((status = 200, body = WorkflowList), (status = 401, description = "No valid credential"),
        (status = 422, description = "The query is not valid")),
    security(("api_key" = [])))]
pub(super) async fn list_workflows(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    asked: Asked,
) -> web::Result<Json<WorkflowList>> {
    let query = asked.page(ORDERS)?;
    let (workflows, total) = agents.list_workflows(&owner, &query).await?;
    let paging = Paging::new(total, query.page, query.page_size);
    Ok(Json(WorkflowList { workflows, paging }))
}

/// Create a workflow
///
/// Of a definition, of a file below the folder of workflows, or of neither: a draft.
#[utoipa::path(post, path = "/workflows", operation_id = "create_workflow", tag = "workflows",
    request_body = NewWorkflow,
    responses((status = 200, body = Workflow), (status = 400, description = "The definition has mistakes: `findings` lists all"),
        (status = 401, description = "No valid credential"), (status = 404, description = "No such file"),
        (status = 422, description = "The body does not fit")),
    security(("api_key" = [])))]
pub(super) async fn create_workflow(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    web::Json(new): web::Json<NewWorkflow>,
) -> web::Result<Json<Workflow>> {
    Ok(Json(agents.create_workflow(&owner, new).await?))
}

/// Load a workflow
///
/// A file below the folder of workflows; one that you have loaded before is loaded anew.
#[utoipa::path(post, path = "/workflows/load", operation_id = "load_workflow", tag = "workflows",
    params(("config_path" = String, Query, description = "Such as configs/workflows/react.yaml")),
    responses((status = 200, body = ApiResponse), (status = 400, description = "The path is none, or the definition has mistakes"),
        (status = 401, description = "No valid credential"), (status = 404, description = "No such file"),
        (status = 422, description = "No path")),
    security(("api_key" = [])))]
pub(super) async fn load_workflow(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    asked: Asked,
) -> web::Result<Json<ApiResponse>> {
    let missing = || Error::Query("config_path", "name the file".to_owned());
    let path = asked.text("config_path").ok_or_else(missing)?;
    let workflow = agents.load_workflow(&owner, path).await?;
    let data = json!({"workflow_id": workflow.workflow_id});
    Ok(ApiResponse::with("工作流加载成功", data, agents.now()))
}

/// Find workflows
///
/// By name or description, the most used first; 100 at most.
#[utoipa::path(get, path = "/workflows/search/{query}", operation_id = "search_workflows", tag = "workflows",
    params(("query" = String, Path, description = "The first 100 characters count")),
    responses((status = 200, body = Vec<Workflow>), (status = 401, description = "No valid credential")),
    security(("api_key" = [])))]
pub(super) async fn search_workflows(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(query): Path<String>,
) -> web::Result<Json<Vec<Workflow>>> {
    Ok(Json(agents.search_workflows(&owner, &query).await?))
}

/// Show a workflow
#[utoipa::path(get, path = "/workflows/{workflow_id}", operation_id = "get_workflow", tag = "workflows",
    params(("workflow_id" = String, Path)),
    responses((status = 200, body = Workflow), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such workflow of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_workflow(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
) -> web::Result<Json<Workflow>> {
    Ok(Json(agents.workflow(&owner, &id).await?))
}

/// Change a workflow
///
/// Runs under way go on with the definition they began with.
#[utoipa::path(put, path = "/workflows/{workflow_id}", operation_id = "update_workflow", tag = "workflows",
    params(("workflow_id" = String, Path)), request_body = WorkflowChange,
    responses((status = 200, body = Workflow), (status = 400, description = "The definition has mistakes: `findings` lists all"),
        (status = 401, description = "No valid credential"), (status = 404, description = "No such workflow of yours"),
        (status = 422, description = "The body does not fit")),
    security(("api_key" = [])))]
pub(super) async fn update_workflow(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    web::Json(change): web::Json<WorkflowChange>,
) -> web::Result<Json<Workflow>> {
    Ok(Json(agents.change_workflow(&owner, &id, change).await?))
}

/// Unload a workflow
#[utoipa::path(delete, path = "/workflows/{workflow_id}", operation_id = "delete_workflow", tag = "workflows",
    params(("workflow_id" = String, Path)),
    responses((status = 200, body = ApiResponse), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such workflow of yours")),
    security(("api_key" = [])))]
pub(super) async fn delete_workflow(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
) -> web::Result<Json<ApiResponse>> {
    agents.delete_workflow(&owner, &id).await?;
    Ok(ApiResponse::ok("工作流已卸载", agents.now()))
}

/// Draw a workflow
///
/// Nodes with positions, and edges; or a drawing as text.
#[utoipa::path(get, path = "/workflows/{workflow_id}/visualization", operation_id = "get_visualization", tag = "workflows",
    params(("workflow_id" = String, Path),
        ("format" = Option<String>, Query, description = "json, mermaid, svg or dot")),
    responses((status = 200, body = serde_json::Value), (status = 401, description = "No valid credential"),
        (status = 404, description = "No such workflow of yours"), (status = 409, description = "It has no definition yet"),
        (status = 422, description = "No such format")),
    security(("api_key" = [])))]
pub(super) async fn get_visualization(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(id): Path<String>,
    asked: Asked,
) -> web::Result<Response> {
    let (drawing, content_type) = match asked.text("format").unwrap_or("json") {
        "json" => return Ok(Json(agents.picture(&owner, &id).await?).into_response()),
        "mermaid" => (Drawing::Mermaid, "text/plain; charset=utf-8"),
        "dot" => (Drawing::Dot, "text/vnd.graphviz; charset=utf-8"),
        "svg" => (Drawing::Svg, "image/svg+xml"),
        _ => return Err(Error::Query("format", "use json, mermaid, svg or dot".to_owned()).into()),
    };
    let text = agents.drawing(&owner, &id, drawing).await?;
    Ok(([(CONTENT_TYPE, content_type)], text).into_response())
}
