//! `GET /v1/models`

use axum::Json;
use axum::extract::State;
use identity::{Anyone, Caller};
use kernel::OrgId;
use models::Model;
use pricing::{Quote, Rates, Rule};
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
    /// Decimals per million tokens, if there is nothing more to the price.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    rates: Option<Rates>,
    /// The rules that count for the caller, as in price files; absent where rates say it all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    rules: Vec<Rule>,
}

/// List the models
///
/// Those that the API key may call.
#[utoipa::path(get, path = "/models", operation_id = "list_models", tag = "openai",
    responses((status = 200, body = ModelList), (status = 401, description = "No valid API key"),
        (status = 403, description = "The key may not do this, or not from there")),
    security(("api_key" = [])))]
pub(super) async fn list_models(
    State(gateway): State<Gateway>,
    Anyone(caller): Anyone,
) -> Json<ModelList> {
    let allowed =
        |model: &str| caller.as_ref().is_none_or(|caller| caller.limits.allows_model(model));
    let models = gateway.models.list();
    let models = models.iter().filter(|model| allowed(model.name()));
    let data = models.map(|model| view(&gateway, model, caller.as_deref())).collect();
    Json(ModelList { object: "list", data })
}

/// Show a model
#[utoipa::path(get, path = "/models/{model}", operation_id = "get_model", tag = "openai",
    params(("model" = String, Path, description = "The model's name")),
    responses((status = 200, body = ModelView), (status = 401, description = "No valid API key"),
        (status = 403, description = "The key may not call this model"),
        (status = 404, description = "No such model")),
    security(("api_key" = [])))]
pub(super) async fn get_model(
    State(gateway): State<Gateway>,
    Anyone(caller): Anyone,
    Path(name): Path<String>,
) -> web::Result<Json<ModelView>> {
    if let Some(caller) = &caller {
        caller.limits.check_model(&name)?;
    }
    let model = gateway.models.find(&name).ok_or(Error::UnknownModel(name))?;
    Ok(Json(view(&gateway, model, caller.as_deref())))
}

/// What the model costs this caller; without one, what it costs everybody.
fn view(gateway: &Gateway, model: &Model, caller: Option<&Caller>) -> ModelView {
    let org_id = caller.map_or_else(|| OrgId::from(""), |caller| caller.org_id.clone());
    let now = gateway.metering.now();
    let quote = gateway.metering.prices().quote(model.name(), &org_id, None, now).ok();
    ModelView {
        id: model.name().to_string(),
        object: "model",
        created: 0,
        owned_by: "ledgerline",
        price: quote.map(|(quote, _terms)| PriceView::of(&quote)),
    }
}

impl PriceView {
    fn of(quote: &Quote) -> Self {
        let rates = quote.rates();
        Self {
            id: quote.id().to_string(),
            currency: quote.currency().to_string(),
            rules: if rates.is_some() { Vec::new() } else { quote.rules().cloned().collect() },
            rates,
        }
    }
}
