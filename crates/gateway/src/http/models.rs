//! `GET /v1/models`

use axum::Json;
use axum::extract::State;
use identity::Authenticated;
use models::Model;
use pricing::Rates;
use serde::Serialize;
use utoipa::ToSchema;
use web::Path;

use crate::{Error, Gateway};

/// A list in OpenAI's shape.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelList {
    /// `list`
    object: &'static str,
    /// The models.
    data: Vec<ModelView>,
}

/// A model in OpenAI's shape, with its price.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelView {
    /// The name to call it by.
    id: String,
    /// `model`
    object: &'static str,
    /// Always 0: models here have no date.
    created: u64,
    /// `ledgerline`
    owned_by: &'static str,
    /// What it costs; absent for a model that cannot be called.
    price: Option<PriceView>,
}

/// What a model costs.
#[derive(Serialize, ToSchema)]
pub(super) struct PriceView {
    /// The price version that a call made now would pin.
    id: String,
    /// The currency of the rates.
    currency: String,
    /// Decimals per million tokens.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    rates: Rates,
}

/// List the models
#[utoipa::path(get, path = "/models", operation_id = "list_models", tag = "openai",
    responses((status = 200, body = ModelList), (status = 401, description = "No valid API key")),
    security(("api_key" = [])))]
pub(super) async fn list_models(
    State(gateway): State<Gateway>,
    Authenticated(_caller): Authenticated,
) -> Json<ModelList> {
    let data = gateway.models.list().iter().map(|model| view(&gateway, model)).collect();
    Json(ModelList { object: "list", data })
}

/// Show a model
#[utoipa::path(get, path = "/models/{model}", operation_id = "get_model", tag = "openai",
    params(("model" = String, Path, description = "The model's name")),
    responses((status = 200, body = ModelView), (status = 401, description = "No valid API key"),
        (status = 404, description = "No such model")),
    security(("api_key" = [])))]
pub(super) async fn get_model(
    State(gateway): State<Gateway>,
    Authenticated(_caller): Authenticated,
    Path(name): Path<String>,
) -> web::Result<Json<ModelView>> {
    let model = gateway.models.find(&name).ok_or(Error::UnknownModel(name))?;
    Ok(Json(view(&gateway, model)))
}

fn view(gateway: &Gateway, model: &Model) -> ModelView {
    let price = gateway.metering.prices().quote(model.name()).ok();
    ModelView {
        id: model.name().to_string(),
        object: "model",
        created: 0,
        owned_by: "ledgerline",
        price: price.map(|price| PriceView {
            id: price.id.clone(),
            currency: price.currency.to_string(),
            rates: price.rates,
        }),
    }
}
