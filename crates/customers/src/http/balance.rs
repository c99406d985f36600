//! `GET /api/v1/balance`

use axum::Json;
use axum::extract::State;
use identity::Authenticated;
use kernel::Asset;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use web::Query;

use crate::{Customers, Wallet};

#[derive(Deserialize)]
pub(super) struct BalanceQuery {
    #[serde(alias = "user_id")]
    userid: Option<String>,
    currency: Option<Asset>,
}

/// A balance, also in the accounting centre's form.
#[derive(Serialize, ToSchema)]
pub(super) struct BalanceAnswer {
    /// `ok`.
    status: &'static str,
    /// What can be spent, as a number: only when a `userid` was named.
    #[schema(value_type = Option<f64>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<Box<RawValue>>,
    /// The wallet.
    data: Wallet,
}

/// Show the balance of your organization
///
/// Balances belong to organizations. With `userid` the answer has the balance at its top level, too, as
/// an accounting centre gives it; an administrator may name any user and gets the balance of that user's
/// organization.
#[utoipa::path(get, path = "/balance", operation_id = "get_balance", tag = "customers",
    params(("userid" = Option<String>, Query, description = "A user of the organization"),
        ("currency" = Option<String>, Query, description = "Such as CNY; the only wallet's when absent")),
    responses((status = 200, body = BalanceAnswer), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid credential"), (status = 404, description = "No such user of yours")),
    security(("api_key" = [])))]
pub(super) async fn get_balance(
    State(customers): State<Customers>,
    Authenticated(caller): Authenticated,
    Query(query): Query<BalanceQuery>,
) -> web::Result<Json<BalanceAnswer>> {
    let data = customers.balance(&caller, query.userid.as_deref(), query.currency).await?;
    let balance = query.userid.is_some().then(|| data.balance.clone());
    Ok(Json(BalanceAnswer { status: "ok", balance, data }))
}
