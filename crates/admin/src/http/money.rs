//! Grants and wallets.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode};
use kernel::{Amount, Asset, OrgId};
use ledger::{AccountKey, AccountKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{Path, Query};

use super::Admin;
use crate::Error;
use crate::grant::Grant;

/// A wallet without a currency is asked for in this one.
const DEFAULT_CURRENCY: &str = "CNY";

/// Money to give.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantRequest {
    /// A decimal above zero, as a string.
    #[schema(value_type = String, example = "100")]
    amount: Amount,
    /// Such as `CNY`.
    #[schema(value_type = String, example = "CNY")]
    currency: Asset,
    /// Why, for the books: 1 to 200 bytes.
    reason: String,
}

/// A grant as it was made.
#[derive(Serialize, ToSchema)]
pub(super) struct GrantView {
    /// The operation in the ledger.
    id: String,
    /// Its position there.
    seq: i64,
    /// Who got it.
    #[schema(value_type = String)]
    org_id: OrgId,
    /// How much.
    #[schema(value_type = String)]
    amount: Amount,
    /// In which currency.
    #[schema(value_type = String)]
    currency: Asset,
    /// What the wallet had free right after.
    #[schema(value_type = String)]
    available: Amount,
}

/// A wallet.
#[derive(Serialize, ToSchema)]
pub(super) struct WalletView {
    /// The currency of the amounts.
    #[schema(value_type = String)]
    currency: Asset,
    /// The sum of all movements.
    #[schema(value_type = String)]
    posted: Amount,
    /// Set aside for running calls.
    #[schema(value_type = String)]
    held: Amount,
    /// What can be spent: `posted` less `held`.
    #[schema(value_type = String)]
    available: Amount,
    /// The last operation that these figures include.
    as_of_seq: i64,
}

#[derive(Deserialize)]
pub(super) struct WalletQuery {
    currency: Option<Asset>,
}

/// Give an organization money to spend
///
/// The same `Idempotency-Key` gives once, and answers the same again.
#[utoipa::path(post, path = "/orgs/{org_id}/grants", operation_id = "create_grant", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"),
        ("idempotency-key" = String, Header, description = "1 to 64 characters, a new one for each grant")),
    request_body = GrantRequest,
    responses((status = 201, body = GrantView), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization"),
        (status = 409, description = "The key was used for another grant")),
    security(("api_key" = [])))]
pub(super) async fn create_grant(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(org_id): Path<OrgId>,
    headers: HeaderMap,
    web::Json(request): web::Json<GrantRequest>,
) -> web::Result<Response> {
    let org = admin.identity.org(&org_id).await?;
    let key = headers.get("idempotency-key").ok_or(Error::KeyRequired)?;
    let key = key.to_str().map_err(|_not_ascii| Error::Key)?;
    let GrantRequest { amount, currency, reason } = request;
    let grant = Grant { org_id: &org.id, key, amount, currency, reason: &reason };
    let granted = grant.make(&admin.journal).await?;
    let (id, seq, available) = (granted.id, granted.seq, granted.available);
    let view = GrantView { id, seq, org_id: org.id, amount, currency, available };
    let mut response = (StatusCode::CREATED, Json(view)).into_response();
    if granted.replayed {
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Show an organization's wallet
///
/// Without `currency`, the organization's only wallet, or the one in CNY.
#[utoipa::path(get, path = "/orgs/{org_id}/wallet", operation_id = "get_wallet", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"),
        ("currency" = Option<String>, Query, description = "Such as CNY")),
    responses((status = 200, body = WalletView), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn get_wallet(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(org_id): Path<OrgId>,
    Query(query): Query<WalletQuery>,
) -> web::Result<Json<WalletView>> {
    let org = admin.identity.org(&org_id).await?;
    let currency = match query.currency {
        Some(currency) => currency,
        None => only_currency(&admin, &org.id).await?,
    };
    let wallet = AccountKey::new(org.id.shared(), AccountKind::Wallet, currency);
    let (balance, as_of_seq) =
        ledger::balance(&admin.database, &wallet).await.map_err(Error::from)?;
    Ok(Json(WalletView {
        currency,
        posted: balance.posted,
        held: balance.held,
        available: balance.available(),
        as_of_seq,
    }))
}

async fn only_currency(admin: &Admin, org_id: &OrgId) -> Result<Asset, Error> {
    let wallets = ledger::holdings(&admin.database, org_id.as_str(), AccountKind::Wallet).await?;
    let default: Asset = DEFAULT_CURRENCY.parse().map_err(|_not_a_currency| Error::Amount)?;
    match wallets.as_slice() {
        [only] => Ok(only.account.asset),
        _ => Ok(default),
    }
}
