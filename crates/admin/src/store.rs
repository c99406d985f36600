//! All SQL of this crate.

use std::time::Duration;

use kernel::{AppId, KeyId, OrgId, Timestamp, UserId};
use store::{Database, Migration, Row, Statement, Value};

use crate::Error;
use crate::audit::{AuditFilter, AuditRecord};
use crate::write::Repeat;

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0021_admin_audit",
    sqlite: include_str!("../migrations/sqlite/0021_admin_audit.sql"),
    mysql: include_str!("../migrations/mysql/0021_admin_audit.sql"),
}];

pub(crate) const INSERT_AUDIT: &str = "INSERT INTO admin_audit (id, at, org_id, user_id, app_id, key_id, ip, \
     request_id, action, target_id, target_org_id, state_before, state_after) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const SELECT_AUDIT: &str = "SELECT id, at, org_id, user_id, app_id, key_id, ip, request_id, action, \
     target_id, target_org_id, state_before, state_after FROM admin_audit";
/// How long outcomes are kept for repeated requests.
const KEPT: Duration = Duration::from_hours(24);
/// Outcomes deleted in one statement: few enough not to keep others waiting.
const PORTION: i64 = 500;

pub(crate) fn audit_insertion(record: &AuditRecord) -> Statement {
    Statement::new(INSERT_AUDIT, audit_row(record))
}

/// The values of [`INSERT_AUDIT`].
pub(crate) fn audit_row(record: &AuditRecord) -> Vec<Value> {
    let json =
        |state: &Option<serde_json::Value>| Value::from(state.as_ref().map(ToString::to_string));
    vec![
        record.id.as_str().into(),
        record.at.micros().into(),
        record.org_id.as_str().into(),
        record.user_id.as_ref().map(UserId::as_str).into(),
        record.app_id.as_ref().map(AppId::as_str).into(),
        record.key_id.as_ref().map(KeyId::as_str).into(),
        record.ip.as_deref().into(),
        record.request_id.as_str().into(),
        record.action.as_str().into(),
        record.target_id.as_str().into(),
        record.target_org_id.as_ref().map(OrgId::as_str).into(),
        json(&record.before),
        json(&record.after),
    ]
}

/// Newest first, from the row after this instant and id.
pub(crate) async fn list_audit(
    database: &Database,
    filter: &AuditFilter,
    after: Option<(i64, String)>,
    limit: i64,
) -> Result<Vec<AuditRecord>, Error> {
    let (mut conditions, mut args) = (Vec::new(), Vec::new());
    let mut add = |sql: &'static str, value: Option<Value>| {
        if let Some(value) = value {
            conditions.push(sql);
            args.push(value);
        }
    };
    add("key_id = ?", filter.key_id.as_ref().map(|id| id.as_str().into()));
    add("user_id = ?", filter.user_id.as_ref().map(|id| id.as_str().into()));
    add("action = ?", filter.action.as_deref().map(Into::into));
    add("target_id = ?", filter.target_id.as_deref().map(Into::into));
    add("target_org_id = ?", filter.org_id.as_ref().map(|id| id.as_str().into()));
    add("at >= ?", filter.since.map(|at| at.micros().into()));
    add("at < ?", filter.until.map(|at| at.micros().into()));
    if let Some((at, id)) = after {
        conditions.push("at <= ? AND (at < ? OR id < ?)");
        args.extend([at.into(), at.into(), id.into()]);
    }
    args.push(limit.into());
    let given = if conditions.is_empty() { "1 = 1".to_owned() } else { conditions.join(" AND ") };
    let sql = format!("{SELECT_AUDIT} WHERE {given} ORDER BY at DESC, id DESC LIMIT ?");
    database.query(&sql, &args).await?.iter().map(read_audit).collect()
}

fn read_audit(row: &Row) -> Result<AuditRecord, Error> {
    let json = |column| -> Result<Option<serde_json::Value>, Error> {
        let text = row.opt_text(column)?;
        text.map(serde_json::from_str).transpose().map_err(|_cause| Error::Outcome)
    };
    Ok(AuditRecord {
        id: row.text(0)?.to_owned(),
        at: Timestamp::from_micros(row.int(1)?),
        org_id: row.text(2)?.into(),
        user_id: row.opt_text(3)?.map(Into::into),
        app_id: row.opt_text(4)?.map(Into::into),
        key_id: row.opt_text(5)?.map(Into::into),
        ip: row.opt_text(6)?.map(str::to_owned),
        request_id: row.text(7)?.to_owned(),
        action: row.text(8)?.to_owned(),
        target_id: row.text(9)?.to_owned(),
        target_org_id: row.opt_text(10)?.map(Into::into),
        before: json(11)?,
        after: json(12)?,
    })
}

/// What a request with an `Idempotency-Key` created.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) request_hash: Vec<u8>,
    pub(crate) made: String,
}

pub(crate) fn outcome_insertion(repeat: &Repeat, made: &str, at: i64) -> Statement {
    let sql = "INSERT INTO admin_outcomes (key_hash, request_hash, made, at) VALUES (?, ?, ?, ?)";
    let (key, request) = (repeat.key_hash.as_slice(), repeat.request_hash.as_slice());
    Statement::new(sql, vec![key.into(), request.into(), made.into(), at.into()])
}

pub(crate) async fn find_outcome(
    database: &Database,
    key_hash: &[u8; 32],
) -> Result<Option<Outcome>, Error> {
    let sql = "SELECT request_hash, made FROM admin_outcomes WHERE key_hash = ?";
    let row = database.query_one(sql, &[key_hash.as_slice().into()]).await?;
    row.map(|row| {
        Ok(Outcome { request_hash: row.bytes(0)?.to_owned(), made: row.text(1)?.to_owned() })
    })
    .transpose()
}

/// Deletes outcomes that are older than a day; returns how many.
pub(crate) async fn purge_outcomes(database: &Database, now: Timestamp) -> store::Result<u64> {
    let before = now.micros().saturating_sub(i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX));
    let select = "SELECT key_hash FROM admin_outcomes WHERE at < ? ORDER BY at LIMIT ?";
    let mut deleted = 0;
    loop {
        let old = database.query(select, &[before.into(), PORTION.into()]).await?;
        let hashes = old.iter().map(|row| row.bytes(0).map(Value::from));
        let hashes = hashes.collect::<store::Result<Vec<_>>>()?;
        if hashes.is_empty() {
            return Ok(deleted);
        }
        let delete = "DELETE FROM admin_outcomes WHERE key_hash = ?";
        let deletion = |hash| Statement::new(delete, vec![hash]);
        deleted +=
            database.transaction(hashes.into_iter().map(deletion).collect()).await?.len() as u64;
    }
}
