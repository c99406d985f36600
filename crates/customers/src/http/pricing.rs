//! `GET /api/v1/pricing`

use std::cmp::Ordering;

use ::store::Column;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use identity::Authenticated;
use kernel::Cursor;
use serde::Deserialize;
use web::{Envelope, Query, Rows};

use super::listing::{ListQuery, SourceQuery, upstream};
use crate::{Customers, Entity, Price};

/// Prices are few and in memory: they are sorted by model, one way or the other.
static PRICE_ORDERS: [Column; 2] =
    [Column { name: "model", sql: "model", at: 0 }, Column { name: "llmid", sql: "model", at: 0 }];

#[derive(Deserialize)]
pub(super) struct PriceQuery {
    #[serde(alias = "llmid")]
    model: Option<String>,
    cursor: Option<Cursor>,
}

/// List the prices in force
#[utoipa::path(get, path = "/pricing", operation_id = "list_prices", tag = "customers",
    params(("model" = Option<String>, Query, description = "Only this model's; also llmid"),
        ("source" = Option<String>, Query, description = "`upstream` for those of the upstream that this server follows"),
        ("page" = Option<u32>, Query, description = "From 1"),
        ("rows" = Option<u32>, Query, description = "Rows of a page, 1 to 1000, 50 by default; also page_size or pagerows"),
        ("sort" = Option<String>, Query, description = "model, or `model desc`"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before, instead of `page`")),
    responses((status = 200, body = Envelope<Rows<Price>>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid credential")),
    security(("api_key" = [])))]
pub(super) async fn list_prices(
    State(customers): State<Customers>,
    Authenticated(caller): Authenticated,
    Query(list): Query<ListQuery>,
    Query(filter): Query<PriceQuery>,
    Query(source): Query<SourceQuery>,
) -> web::Result<Response> {
    if source.is_upstream() {
        return upstream(&customers, &caller, Entity::Pricing, &list).await;
    }
    // The cursor of this list is the last model itself.
    let request = list.without_cursor().read(&PRICE_ORDERS, false)?;
    let mut prices = customers.prices(&caller.org_id)?;
    prices.retain(|price| filter.model.as_ref().is_none_or(|model| *model == price.model));
    let total = i64::try_from(prices.len()).unwrap_or(i64::MAX);
    if request.order.descending {
        prices.reverse();
    }
    if let Some(cursor) = &filter.cursor {
        let ahead = if request.order.descending { Ordering::is_lt } else { Ordering::is_gt };
        prices.retain(|price| ahead(price.model.as_str().cmp(cursor.key())));
    }
    let rest = prices.split_off((request.skip as usize).min(prices.len()));
    let more = rest.len() > request.rows as usize;
    let rows: Vec<Price> = rest.into_iter().take(request.rows as usize).collect();
    let last = rows.last().filter(|_| more);
    let next = last.map(|price| Cursor::after(price.model.as_str()).to_string());
    Ok(Envelope::ok(Rows { total, rows, next }).into_response())
}
