//! `/api/v1/accounting`

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderMap, HeaderValue};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use identity::Authenticated;
use kernel::{Amount, Asset, OrgId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use web::{Body, Envelope, Query, Rows};

use super::listing::{ListQuery, page};
use crate::store::RECORD_ORDERS;
use crate::{AccountingRecord, Customers, Error, Post, Posted, RecordFilter};

/// Money spent, to be taken from the wallet.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostRequest {
    /// Who spent it, as you name your people; an administrator names a user whose organization pays.
    #[serde(alias = "user_id")]
    userid: Option<String>,
    /// What it was spent on.
    #[serde(alias = "model")]
    llmid: Option<String>,
    /// A decimal of zero or more, as a string, or a number of at most 15 digits.
    #[schema(value_type = String, example = "0.05")]
    amount: Amount,
    /// Such as `CNY`; the server's `customers.currency` when absent.
    #[schema(value_type = Option<String>, example = "CNY")]
    currency: Option<Asset>,
    /// What was used: any JSON.
    #[schema(value_type = Option<Object>)]
    usage: Option<Value>,
    /// Your transaction number: the same number is the same post. Also as `Idempotency-Key`.
    transno: Option<String>,
}

/// A post as it was made.
#[derive(Serialize, ToSchema)]
pub(super) struct PostView {
    /// The record's id.
    id: String,
    /// Its operation in the books.
    seq: i64,
    /// Who paid.
    #[schema(value_type = String)]
    org_id: OrgId,
    /// The key it was made under.
    transno: String,
    /// How much.
    #[schema(value_type = String)]
    amount: Amount,
    /// In which currency.
    #[schema(value_type = String)]
    currency: Asset,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<Posted> for PostView {
    fn from(posted: Posted) -> Self {
        Self {
            id: posted.seq.to_string(),
            seq: posted.seq,
            org_id: posted.org_id,
            transno: posted.transno,
            amount: posted.amount,
            currency: posted.currency,
            created_at: posted.at,
        }
    }
}

/// Post money spent
///
/// The same `Idempotency-Key` (or `transno`) posts once and is answered the same for ever, a refusal too.
/// Without one, the accounting centre's form (`userid`, `llmid`, `amount` and `usage`) is taken, and each
/// request is a post of its own. The body is JSON or a form.
#[utoipa::path(post, path = "/accounting", operation_id = "create_record", tag = "customers",
    params(("idempotency-key" = Option<String>, Header, description = "1 to 64 characters, a new one for each post")),
    request_body = PostRequest,
    responses((status = 200, body = Envelope<PostView>), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid credential"), (status = 402, description = "The wallet cannot pay it"),
        (status = 404, description = "No such user of yours"),
        (status = 409, description = "The key was used for another post"),
        (status = 503, description = "Send it again with the same key")),
    security(("api_key" = [])))]
pub(super) async fn create_record(
    State(customers): State<Customers>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    Body(body): Body,
) -> web::Result<Response> {
    let request = read(&headers, &body)?;
    let key = key(&headers, &request)?;
    let post = Post {
        key,
        user_id: request.userid,
        llmid: request.llmid,
        amount: request.amount,
        currency: request.currency,
        usage: request.usage,
    };
    let posted = customers.post(&caller, post).await?;
    let replayed = posted.replayed;
    let mut response = Envelope::ok(PostView::from(posted)).into_response();
    if replayed {
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn read(headers: &HeaderMap, body: &[u8]) -> web::Result<PostRequest> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_form = content_type.is_some_and(|value| {
        let kind = value.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    });
    if !is_form {
        return web::from_json(body);
    }
    let mut request: PostRequest = serde_urlencoded::from_bytes(body).map_err(|cause| {
        let message = format!("the form does not fit: {cause}");
        web::Error::new(::http::StatusCode::BAD_REQUEST, "invalid_field", message)
    })?;
    // A form has no objects: its usage is JSON in a text.
    if let Some(Value::String(text)) = &request.usage
        && let Ok(usage) = serde_json::from_str(text)
    {
        request.usage = Some(usage);
    }
    Ok(request)
}

/// What makes the post unique. Only the accounting centre's form, whose senders know no key, goes
/// without.
fn key(headers: &HeaderMap, request: &PostRequest) -> Result<Option<String>, Error> {
    let header = headers.get("idempotency-key");
    let header = header.map(|value| value.to_str().map_err(|_not_ascii| Error::Key)).transpose()?;
    match (header, request.transno.as_deref()) {
        (Some(one), Some(other)) if one != other => Err(Error::TwoKeys),
        (Some(key), _) | (None, Some(key)) => Ok(Some(key.to_owned())),
        (None, None) => {
            let complete =
                request.userid.is_some() && request.llmid.is_some() && request.usage.is_some();
            if complete { Ok(None) } else { Err(Error::KeyRequired) }
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RecordQuery {
    #[serde(alias = "user_id")]
    userid: Option<String>,
    transno: Option<String>,
    #[serde(default)]
    min_seq: i64,
}

/// List your posts
///
/// Newest first unless sorted otherwise. Calls that were charged are in `GET /v1/usage`; both, in the order
/// in which they moved money, in `GET /v1/statement`.
#[utoipa::path(get, path = "/accounting", operation_id = "list_records", tag = "customers",
    params(("userid" = Option<String>, Query, description = "Only this user's"),
        ("transno" = Option<String>, Query, description = "Only the one under this key"),
        ("min_seq" = Option<i64>, Query, description = "The `seq` of an answer: the list includes what it stands for"),
        ("page" = Option<u32>, Query, description = "From 1"),
        ("rows" = Option<u32>, Query, description = "Rows of a page, 1 to 1000, 50 by default; also page_size or pagerows"),
        ("sort" = Option<String>, Query, description = "created_at, id, seq or amount; `amount desc` for the largest first"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before, instead of `page`")),
    responses((status = 200, body = Envelope<Rows<AccountingRecord>>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid credential")),
    security(("api_key" = [])))]
pub(super) async fn list_records(
    State(customers): State<Customers>,
    Authenticated(caller): Authenticated,
    Query(list): Query<ListQuery>,
    Query(query): Query<RecordQuery>,
) -> web::Result<Envelope<Rows<AccountingRecord>>> {
    let request = list.read(&RECORD_ORDERS, true)?;
    let RecordQuery { userid: user_id, transno, min_seq } = query;
    let filter = RecordFilter { user_id, transno, min_seq };
    let (records, listed) = customers.records(&caller, &filter, &request).await?;
    Ok(Envelope::ok(page(records, &listed)))
}
