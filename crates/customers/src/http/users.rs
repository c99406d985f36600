//! `GET /api/v1/users`

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use identity::{Authenticated, USER_ORDERS};
use web::{Envelope, Query, Rows};

use super::listing::{ListQuery, SourceQuery, page, upstream};
use crate::{Customers, Entity, UserRow};

/// List the users of your organization
#[utoipa::path(get, path = "/users", operation_id = "list_customer_users", tag = "customers",
    params(("source" = Option<String>, Query, description = "`upstream` for those of the upstream that this server follows"),
        ("page" = Option<u32>, Query, description = "From 1"),
        ("rows" = Option<u32>, Query, description = "Rows of a page, 1 to 1000, 50 by default; also page_size or pagerows"),
        ("sort" = Option<String>, Query, description = "id, username or created_at; `username desc` for the last first"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before, instead of `page`")),
    responses((status = 200, body = Envelope<Rows<UserRow>>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid credential")),
    security(("api_key" = [])))]
pub(super) async fn list_users(
    State(customers): State<Customers>,
    Authenticated(caller): Authenticated,
    Query(query): Query<ListQuery>,
    Query(source): Query<SourceQuery>,
) -> web::Result<Response> {
    if source.is_upstream() {
        return upstream(&customers, &caller, Entity::Users, &query).await;
    }
    let request = query.read(&USER_ORDERS, false)?;
    let (users, listed) = customers.users(&caller, &request).await?;
    Ok(Envelope::ok(page(users, &listed)).into_response())
}
