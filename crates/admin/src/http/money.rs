//! Wallets, their lots, and money moved by hand.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode};
use kernel::{Amount, Asset, OrgId, Timestamp};
use ledger::{AccountKey, AccountKind, BASE_PRIORITY, Lot, LotKind, LotTerms};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{Path, Query};

use super::Admin;
use crate::Error;
use crate::audit::Actor;
use crate::movement::{Moved, Movement, reverse};

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
    /// `paid` or `promotional`. With this, a priority or an end the credit becomes a lot.
    #[schema(value_type = Option<String>, example = "promotional")]
    kind: Option<Kind>,
    /// Lower is spent first; 100 by default.
    priority: Option<i32>,
    /// When what is left of it expires: a time to come.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Paid,
    Promotional,
}

impl GrantRequest {
    fn terms(&self) -> Option<LotTerms> {
        if (self.kind, self.priority, self.expires_at) == (None, None, None) {
            return None;
        }
        let kind = match self.kind {
            Some(Kind::Promotional) => LotKind::Promotional,
            _ => LotKind::Paid,
        };
        let priority = self.priority.unwrap_or(BASE_PRIORITY);
        Some(LotTerms { kind, priority, expires_at: self.expires_at })
    }
}

/// A correction of a wallet.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AdjustmentRequest {
    /// A decimal as a string; below zero takes money away.
    #[schema(value_type = String, example = "-2.5")]
    amount: Amount,
    /// Such as `CNY`.
    #[schema(value_type = String, example = "CNY")]
    currency: Asset,
    /// Why, for the books: 1 to 200 bytes.
    reason: String,
}

/// An operation to move back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReversalRequest {
    /// The operation's id, such as `settle:…` in a statement.
    operation: String,
    /// Why, for the books: 1 to 200 bytes.
    reason: String,
}

/// A reversal as it was made.
#[derive(Serialize, ToSchema)]
pub(super) struct ReversalView {
    /// The operation in the ledger.
    id: String,
    /// Its position there.
    seq: i64,
}

/// A credit that is spent in its turn.
#[derive(Serialize, ToSchema)]
pub(super) struct LotView {
    /// The operation that created it.
    seq: i64,
    /// `paid` or `promotional`.
    kind: &'static str,
    /// Lower is spent first.
    priority: i32,
    /// When what is left expires.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// What it began with.
    #[schema(value_type = String)]
    granted: Amount,
    /// What is left.
    #[schema(value_type = String)]
    remaining: Amount,
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
    actor: Actor,
    Path(org_id): Path<OrgId>,
    headers: HeaderMap,
    web::Json(request): web::Json<GrantRequest>,
) -> web::Result<Response> {
    let org = admin.identity.org(&org_id).await?;
    let key = headers.get("idempotency-key").ok_or(Error::KeyRequired)?;
    let key = key.to_str().map_err(|_not_ascii| Error::Key)?;
    let terms = request.terms();
    let GrantRequest { amount, currency, reason, .. } = request;
    let (actor, at, org_id, reason) = (&actor, admin.metering.now(), &org.id, &reason);
    let grant = Movement { org_id, key, amount, currency, reason, terms, actor, at };
    let Moved { id, seq, available, replayed } =
        grant.grant(&admin.journal, &admin.database).await?;
    let view = GrantView { id, seq, org_id: org.id, amount, currency, available };
    Ok(created(view, replayed))
}

fn created(view: impl Serialize, replayed: bool) -> Response {
    let mut response = (StatusCode::CREATED, Json(view)).into_response();
    if replayed {
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    response
}

/// Correct an organization's wallet
///
/// Up or down, never below what running calls have set aside. The same `Idempotency-Key` corrects
/// once.
#[utoipa::path(post, path = "/orgs/{org_id}/adjustments", operation_id = "create_adjustment", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"),
        ("idempotency-key" = String, Header, description = "1 to 64 characters, a new one for each adjustment")),
    request_body = AdjustmentRequest,
    responses((status = 201, body = GrantView), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization"),
        (status = 409, description = "The wallet has not so much, or the key was used for something else")),
    security(("api_key" = [])))]
pub(super) async fn create_adjustment(
    State(admin): State<Admin>,
    actor: Actor,
    Path(org_id): Path<OrgId>,
    headers: HeaderMap,
    web::Json(request): web::Json<AdjustmentRequest>,
) -> web::Result<Response> {
    let org = admin.identity.org(&org_id).await?;
    let key = headers.get("idempotency-key").ok_or(Error::KeyRequired)?;
    let key = key.to_str().map_err(|_not_ascii| Error::Key)?;
    let AdjustmentRequest { amount, currency, reason } = request;
    let (actor, at, org_id, reason) = (&actor, admin.metering.now(), &org.id, &reason);
    let movement = Movement { org_id, key, amount, currency, reason, terms: None, actor, at };
    let Moved { id, seq, replayed, .. } = movement.adjust(&admin.journal).await?;
    let available = wallet(&admin, &org.id, currency).await?.available;
    let view = GrantView { id, seq, org_id: org.id, amount, currency, available };
    Ok(created(view, replayed))
}

/// Move back what an operation moved
///
/// An operation is reversed once; lots that it spent are filled again.
#[utoipa::path(post, path = "/reversals", operation_id = "create_reversal", tag = "admin",
    request_body = ReversalRequest,
    responses((status = 201, body = ReversalView), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 409, description = "There is nothing to move back, or it was moved back, or spent")),
    security(("api_key" = [])))]
pub(super) async fn create_reversal(
    State(admin): State<Admin>,
    actor: Actor,
    web::Json(request): web::Json<ReversalRequest>,
) -> web::Result<Response> {
    let ReversalRequest { operation, reason } = request;
    let by = (&actor, admin.metering.now());
    let moved = reverse(&admin.journal, &operation, &reason, by).await?;
    Ok(created(ReversalView { id: moved.id, seq: moved.seq }, moved.replayed))
}

/// List the lots of a wallet
///
/// Those with something left, in the order in which they are spent. What the wallet has beyond them
/// is its base: paid, without end, of priority 100.
#[utoipa::path(get, path = "/orgs/{org_id}/lots", operation_id = "list_lots", tag = "admin",
    params(("org_id" = String, Path, description = "The organization's id"),
        ("currency" = Option<String>, Query, description = "Such as CNY")),
    responses((status = 200, body = Vec<LotView>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid API key"), (status = 403, description = "Not an administrator"),
        (status = 404, description = "No such organization")),
    security(("api_key" = [])))]
pub(super) async fn list_lots(
    State(admin): State<Admin>,
    _admin: identity::Admin,
    Path(org_id): Path<OrgId>,
    Query(query): Query<WalletQuery>,
) -> web::Result<Json<Vec<LotView>>> {
    let org = admin.identity.org(&org_id).await?;
    let currency = match query.currency {
        Some(currency) => currency,
        None => only_currency(&admin, &org.id).await?,
    };
    let account = AccountKey::new(org.id.shared(), AccountKind::Wallet, currency);
    let lots = ledger::lots(&admin.database, &account).await.map_err(Error::from)?;
    let view = |lot: Lot| LotView {
        seq: lot.id.seq,
        kind: lot.terms.kind.as_str(),
        priority: lot.terms.priority,
        expires_at: lot.terms.expires_at,
        granted: lot.granted,
        remaining: lot.remaining,
    };
    Ok(Json(lots.into_iter().map(view).collect()))
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
    Ok(Json(wallet(&admin, &org.id, currency).await?))
}

async fn wallet(admin: &Admin, org_id: &OrgId, currency: Asset) -> Result<WalletView, Error> {
    let account = AccountKey::new(org_id.shared(), AccountKind::Wallet, currency);
    let (balance, as_of_seq) = ledger::balance(&admin.database, &account).await?;
    Ok(WalletView {
        currency,
        posted: balance.posted,
        held: balance.held,
        available: balance.available(),
        as_of_seq,
    })
}

async fn only_currency(admin: &Admin, org_id: &OrgId) -> Result<Asset, Error> {
    Ok(admin.metering.only_currency(org_id).await?)
}
