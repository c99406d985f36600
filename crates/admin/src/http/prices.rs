//! Price versions: recorded, looked at, tried out, activated.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use identity::Changed;
use kernel::{PageRequest, Timestamp};
use metering::{Simulated, Simulation, VersionRecord, VersionState};
use pricing::{Document, PriceVersion, PricingData};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use web::{Body, Path, Query};

use super::{Admin, Listing};
use crate::Error;
use crate::write::Write;

const YAML: &str = "application/yaml; charset=utf-8";
/// The largest price file, in bytes.
const LARGEST_FILE: usize = 4 * 1024 * 1024;

/// A price version.
#[derive(Serialize, ToSchema)]
pub(super) struct VersionView {
    /// 32 hexadecimal digits that follow from the content.
    id: String,
    /// For people.
    name: Option<String>,
    /// How it stands.
    state: VersionState,
    /// The models it prices.
    models: Vec<String>,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The API key by which; null for a version of the configuration.
    created_by: Option<String>,
    /// The price file; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    file: Option<Document>,
}

/// A price file without mistakes.
#[derive(Serialize, ToSchema)]
pub(super) struct ValidView {
    /// The id that its version has.
    id: String,
    /// The models it prices.
    models: Vec<String>,
}

/// In which form a price file is wanted.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum FileFormat {
    /// As a price file in YAML.
    #[default]
    Yaml,
    /// As pricing data of the system that this one grew out of.
    Original,
}

#[derive(Deserialize)]
pub(super) struct FileQuery {
    #[serde(default)]
    format: FileFormat,
}

impl VersionView {
    fn of(admin: &Admin, record: &VersionRecord) -> Self {
        let version = &record.version;
        Self {
            id: version.id().to_string(),
            name: version.document().name.clone(),
            state: admin.metering.prices().state(version.id(), admin.metering.now()),
            models: models(version),
            created_at: record.created_at,
            created_by: record.created_by.clone(),
            file: None,
        }
    }

    fn whole(admin: &Admin, record: &VersionRecord) -> Self {
        let file = Some(record.version.document().clone());
        Self { file, ..Self::of(admin, record) }
    }
}

fn models(version: &PriceVersion) -> Vec<String> {
    let mut models: Vec<String> = version.models().map(ToString::to_string).collect();
    models.sort_unstable();
    models
}

/// What the audit log says of a change of the price book.
pub(super) fn changed(verb: &'static str, what: &'static str, id: String, after: Value) -> Changed {
    Changed { verb, what, id, org_id: None, before: None, after: Some(after) }
}

/// The price file in a body, YAML or JSON.
fn read(body: &[u8]) -> Result<Document, Error> {
    if body.len() > LARGEST_FILE {
        return Err(Error::PriceFileSize(LARGEST_FILE));
    }
    let text = std::str::from_utf8(body).map_err(|_not_text| Error::PriceFileEncoding)?;
    Ok(Document::read(text)?)
}

/// Record a price version
///
/// The body is a price file in YAML or JSON, or the original's pricing data. It counts for nothing
/// until it is activated. The same content is the same version: 200 instead of 201.
#[utoipa::path(post, path = "/prices", operation_id = "create_price_version", tag = "prices",
    params(("idempotency-key" = Option<String>, Header, description = "A repeated request with the same key is answered the same")),
    request_body(content = serde_json::Value, description = "A price file, YAML or JSON",
        example = json!({"currency": "CNY", "rules": [{"model": "sim-small", "rates": {"input_per_million": "1", "output_per_million": "4"}}]})),
    responses((status = 201, body = VersionView), (status = 200, body = VersionView, description = "It was there before"),
        (status = 400, description = "The file has mistakes: all of them"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 409, description = "The Idempotency-Key was used for another request")),
    security(("api_key" = [])))]
pub(super) async fn create_price_version(
    State(admin): State<Admin>,
    write: Write,
) -> web::Result<Response> {
    let make = async {
        let version = Arc::new(PriceVersion::of(read(write.body())?));
        let (prices, now) = (admin.metering.prices(), admin.metering.now());
        let by = write.actor.key();
        let record = VersionRecord {
            version: Arc::clone(&version),
            created_at: now,
            created_by: by.map(str::to_owned),
        };
        let view = json!(VersionView::whole(&admin, &record));
        let after = json!({"name": version.document().name, "models": models(&version)});
        let changed = changed("create", "price_version", version.id().to_string(), after);
        let also = write.statements(&changed, &view, now);
        match prices.create_version(&version, by, now, also).await? {
            (_, true) => Ok((StatusCode::CREATED, view)),
            (known, false) => Ok((StatusCode::OK, json!(VersionView::whole(&admin, &known)))),
        }
    };
    write.make(&admin, make).await
}

/// Check a price file
///
/// Says everything that is wrong with it, and records nothing.
#[utoipa::path(post, path = "/prices/validate", operation_id = "validate_prices", tag = "prices",
    request_body(content = serde_json::Value, description = "A price file, YAML or JSON"),
    responses((status = 200, body = ValidView), (status = 400, description = "The file has mistakes: all of them"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn validate_prices(
    _admin: identity::Admin,
    Body(body): Body,
) -> web::Result<Json<ValidView>> {
    let version = PriceVersion::of(read(&body)?);
    Ok(Json(ValidView { id: version.id().to_string(), models: models(&version) }))
}

/// List the price versions
///
/// The last recorded first.
#[utoipa::path(get, path = "/prices", operation_id = "list_price_versions", tag = "prices",
    params(("limit" = Option<u32>, Query, description = "1 to 1000, 50 by default"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before")),
    responses((status = 200, body = Listing<VersionView>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator")),
    security(("api_key" = [])))]
pub(super) async fn list_price_versions(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Query(page): Query<PageRequest>,
) -> web::Result<Json<Listing<VersionView>>> {
    let page = admin.metering.prices().list_versions(&page).await.map_err(Error::from)?;
    let rows = page.rows.iter().map(|record| VersionView::of(&admin, record)).collect();
    Ok(Json(kernel::Page { rows, next: page.next }.into()))
}

/// Show a price version
#[utoipa::path(get, path = "/prices/{version_id}", operation_id = "get_price_version", tag = "prices",
    params(("version_id" = String, Path, description = "Its id")),
    responses((status = 200, body = VersionView), (status = 401, description = "No valid API key"),
        (status = 403, description = "Not an administrator"), (status = 404, description = "No such version")),
    security(("api_key" = [])))]
pub(super) async fn get_price_version(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<String>,
) -> web::Result<Json<VersionView>> {
    let record = admin.metering.prices().version(&id).await.map_err(Error::from)?;
    Ok(Json(VersionView::whole(&admin, &record)))
}

/// Show the file of a price version
#[utoipa::path(get, path = "/prices/{version_id}/file", operation_id = "get_price_file", tag = "prices",
    params(("version_id" = String, Path, description = "Its id"),
        ("format" = Option<FileFormat>, Query, description = "`yaml`, or `original` for the original's pricing data")),
    responses((status = 200, body = String, content_type = "application/yaml"),
        (status = 400, description = "The original's pricing data cannot say it all"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such version")),
    security(("api_key" = [])))]
pub(super) async fn get_price_file(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<String>,
    Query(query): Query<FileQuery>,
) -> web::Result<Response> {
    let record = admin.metering.prices().version(&id).await.map_err(Error::from)?;
    let document = record.version.document();
    let text = match query.format {
        FileFormat::Yaml => document.to_yaml(),
        FileFormat::Original => {
            PricingData::from_document(document).map_err(Error::PriceFile)?.to_string()
        }
    };
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, http::HeaderValue::from_static(YAML))]);
    Ok((headers, text).into_response())
}

/// Try a price version on past calls
///
/// Computes the calls that ended in the period again, and says for each organization and model
/// what they cost and would have cost. Changes nothing.
#[utoipa::path(post, path = "/prices/{version_id}/simulate", operation_id = "simulate_prices", tag = "prices",
    params(("version_id" = String, Path, description = "The version's id")), request_body = Simulation,
    responses((status = 200, body = Simulated), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such version")),
    security(("api_key" = [])))]
pub(super) async fn simulate_prices(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(id): Path<String>,
    web::Json(asked): web::Json<Simulation>,
) -> web::Result<Json<Simulated>> {
    if asked.from >= asked.to {
        return Err(Error::Period.into());
    }
    Ok(Json(admin.metering.simulate(&id, &asked).await.map_err(Error::from)?))
}
