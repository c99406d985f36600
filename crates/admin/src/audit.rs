//! Who did what: written in the transaction of what was done, and never changed.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use identity::{Caller, Changed};
use kernel::{AppId, Cursor, KeyId, OrgId, Page, PageRequest, Timestamp, UserId};
use ledger::{Attachment, Cell};
use serde::Serialize;
use serde_json::Value;
use store::{Database, Statement};
use utoipa::ToSchema;
use web::{ClientIp, RequestId};

use crate::http::Admin;
use crate::{Error, store as rows};

/// The administrator who asks, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) caller: Arc<Caller>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) request_id: Arc<str>,
}

impl FromRequestParts<Admin> for Actor {
    type Rejection = web::Error;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> web::Result<Self> {
        let identity::Admin(caller) = identity::Admin::from_request_parts(parts, admin).await?;
        let RequestId(request_id) = RequestId::from_request_parts(parts, admin).await?;
        let ClientIp(ip) = ClientIp::of(parts);
        Ok(Self { caller, ip, request_id })
    }
}

impl Actor {
    /// The API key that was used.
    pub(crate) fn key(&self) -> Option<&str> {
        self.caller.key_id.as_ref().map(KeyId::as_str)
    }

    /// The row that tells of a change, for its transaction.
    pub(crate) fn note(&self, at: Timestamp, changed: &Changed) -> Statement {
        rows::audit_insertion(&self.record(at, changed))
    }

    /// The same, to be attached to an operation of the journal.
    pub(crate) fn attachment(&self, at: Timestamp, changed: &Changed) -> Attachment {
        let cells = rows::audit_row(&self.record(at, changed)).into_iter().map(Cell::Value);
        Attachment::Run { sql: rows::INSERT_AUDIT, cells: cells.collect() }
    }

    fn record(&self, at: Timestamp, changed: &Changed) -> AuditRecord {
        AuditRecord {
            id: kernel::id::new(),
            at,
            org_id: self.caller.org_id.clone(),
            user_id: self.caller.user_id.clone(),
            app_id: self.caller.app_id.clone(),
            key_id: self.caller.key_id.clone(),
            ip: self.ip.map(|ip| ip.to_string()),
            request_id: self.request_id.to_string(),
            action: format!("{}.{}", changed.what, changed.verb),
            target_id: changed.id.clone(),
            target_org_id: changed.org_id.clone(),
            before: changed.before.clone(),
            after: changed.after.clone(),
        }
    }
}

/// What an administrator did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuditRecord {
    /// Its id.
    pub id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Whose credential it was.
    #[schema(value_type = String)]
    pub org_id: OrgId,
    /// The person, if the credential belongs to one.
    #[schema(value_type = Option<String>)]
    pub user_id: Option<UserId>,
    /// The application, if the credential belongs to one.
    #[schema(value_type = Option<String>)]
    pub app_id: Option<AppId>,
    /// The API key used.
    #[schema(value_type = Option<String>)]
    pub key_id: Option<KeyId>,
    /// The client's address.
    pub ip: Option<String>,
    /// The `x-request-id` of the answer.
    pub request_id: String,
    /// Such as `key.create`.
    pub action: String,
    /// What was created or changed.
    pub target_id: String,
    /// The organization that it belongs to, if it does to one.
    #[schema(value_type = Option<String>)]
    pub target_org_id: Option<OrgId>,
    /// How it was; null when it was not there.
    #[schema(value_type = Option<Object>)]
    pub before: Option<Value>,
    /// How it is since; null when it is not there any more.
    #[schema(value_type = Option<Object>)]
    pub after: Option<Value>,
}

/// What the list is narrowed to; what is absent narrows nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditFilter {
    pub(crate) key_id: Option<KeyId>,
    pub(crate) user_id: Option<UserId>,
    pub(crate) action: Option<String>,
    pub(crate) target_id: Option<String>,
    pub(crate) org_id: Option<OrgId>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
}

/// What was done, newest first.
pub(crate) async fn list(
    database: &Database,
    filter: &AuditFilter,
    page: &PageRequest,
) -> Result<Page<AuditRecord>, Error> {
    let after = page.cursor.as_ref().map(position).transpose()?;
    let found = rows::list_audit(database, filter, after, page.fetch()).await?;
    Ok(Page::from_fetched(found, page, |record| format!("{}/{}", record.at.micros(), record.id)))
}

/// The instant and id of the last row seen.
fn position(cursor: &Cursor) -> Result<(i64, String), Error> {
    let (at, id) = cursor.key().split_once('/').ok_or(Error::Cursor)?;
    Ok((at.parse().map_err(|_no_number| Error::Cursor)?, id.to_owned()))
}
