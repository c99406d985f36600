//! `/flows`: definitions, published and listed.

use axum::Json;
use axum::extract::State;
use flow::{Definition, Finding, Imported, Note, Program};
use http::StatusCode;
use identity::Authenticated;
use kernel::{Cursor, PageRequest, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{Body, Path, Query};

use crate::{Error, Protocols};

/// A published flow.
#[derive(Serialize, ToSchema)]
pub(super) struct Flow {
    /// The hash of its text: runs name it.
    id: String,
    /// Its name; of several with one name the newest counts.
    name: String,
    /// When it was published, the last time.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Its text; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// What was found in it; absent in lists.
    #[schema(value_type = Vec<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    findings: Option<Vec<Finding>>,
}

/// A page of flows.
#[derive(Serialize, ToSchema)]
pub(super) struct FlowPage {
    /// By name.
    rows: Vec<Flow>,
    /// The `cursor` of the next page; null on the last.
    next: Option<String>,
}

/// Which page.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// 1 to 1000, 50 by default.
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

impl Flow {
    fn short(definition: Definition) -> Self {
        Self {
            id: definition.id.to_string(),
            name: definition.name,
            created_at: definition.created_at,
            text: None,
            findings: None,
        }
    }
}

/// Publish a flow
///
/// The body is the definition, YAML or JSON (docs/flows.md). The same text again is the same flow,
/// and its name's newest.
#[utoipa::path(post, path = "/flows", operation_id = "publish_flow", tag = "flows",
    request_body(content = String, content_type = "application/yaml"),
    responses((status = 201, body = Flow), (status = 400, description = "The definition has errors: `findings`"),
        (status = 401, description = "No valid API key")),
    security(("api_key" = [])))]
pub(super) async fn publish_flow(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Body(body): Body,
) -> web::Result<(StatusCode, Json<Flow>)> {
    let text = text_of(&body)?;
    let program = protocols.publish(&caller.org_id, text).await?;
    let flow = published(&protocols, &caller.org_id, &program, text).await?;
    Ok((StatusCode::CREATED, Json(flow)))
}

pub(super) fn text_of(body: &[u8]) -> web::Result<&str> {
    std::str::from_utf8(body)
        .map_err(|_other| Error::Invalid("body", "is not UTF-8".to_owned()).into())
}

async fn published(
    protocols: &Protocols,
    org_id: &kernel::OrgId,
    program: &Program,
    text: &str,
) -> web::Result<Flow> {
    let definition =
        protocols.engine.definition(org_id, program.id()).await.map_err(Error::from)?;
    let findings = protocols.check(text).findings;
    let text = Some(definition.text.clone());
    Ok(Flow { text, findings: Some(findings), ..Flow::short(definition) })
}

/// What came of an import.
#[derive(Serialize, ToSchema)]
pub(super) struct ImportedFlow {
    /// What the text was: `dify` or `langgraph`.
    format: &'static str,
    /// The definition, as JSON, which is YAML too.
    definition: String,
    /// What was not taken over, or not as it was.
    #[schema(value_type = Vec<Object>)]
    notes: Vec<Note>,
    /// What was found in the definition.
    #[schema(value_type = Vec<Object>)]
    findings: Vec<Finding>,
    /// The flow, if it was to be published and has no errors.
    flow: Option<Flow>,
}

/// What becomes of an import.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ImportQuery {
    /// Publish it, if it has no errors.
    #[serde(default)]
    publish: bool,
}

/// Import a flow
///
/// The body is Dify's DSL, or the JSON of a LangGraph graph. Nothing of it is run; what cannot be
/// taken over is in `notes`.
#[utoipa::path(post, path = "/flows/import", operation_id = "import_flow", tag = "flows", params(ImportQuery),
    request_body(content = String, content_type = "application/yaml"),
    responses((status = 200, body = ImportedFlow), (status = 401, description = "No valid API key"),
        (status = 422, description = "The text is none of these")),
    security(("api_key" = [])))]
pub(super) async fn import_flow(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Query(query): Query<ImportQuery>,
    Body(body): Body,
) -> web::Result<Json<ImportedFlow>> {
    let imported = flow::import(text_of(&body)?).map_err(|why| Error::Invalid("body", why))?;
    let checked = protocols.check(&imported.definition);
    let mut flow = None;
    if query.publish && checked.program.is_some() {
        let program = protocols.publish(&caller.org_id, &imported.definition).await?;
        let org_id = &caller.org_id;
        flow = Some(published(&protocols, org_id, &program, &imported.definition).await?);
    }
    let Imported { format, definition, notes } = imported;
    Ok(Json(ImportedFlow { format, definition, notes, findings: checked.findings, flow }))
}

/// List flows
///
/// The newest of every name.
#[utoipa::path(get, path = "/flows", operation_id = "list_flows", tag = "flows", params(PageQuery),
    responses((status = 200, body = FlowPage), (status = 401, description = "No valid API key")),
    security(("api_key" = [])))]
pub(super) async fn list_flows(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Query(query): Query<PageQuery>,
) -> web::Result<Json<FlowPage>> {
    let page = PageRequest { limit: query.limit, cursor: query.cursor };
    let page = protocols.engine.definitions(&caller.org_id, &page).await.map_err(Error::from)?;
    let next = page.next.map(|next| next.to_string());
    Ok(Json(FlowPage { rows: page.rows.into_iter().map(Flow::short).collect(), next }))
}

/// Show a flow
#[utoipa::path(get, path = "/flows/{flow}", operation_id = "get_flow", tag = "flows",
    params(("flow" = String, Path, description = "Its name (the newest) or id")),
    responses((status = 200, body = Flow), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such flow of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_flow(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
) -> web::Result<Json<Flow>> {
    let workflow = protocols.workflow(&caller.org_id, &name).await?;
    let text = workflow.definition.text.clone();
    Ok(Json(published(&protocols, &caller.org_id, &workflow.program, &text).await?))
}
