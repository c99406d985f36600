//! Sessions as stored, and what was saved of them.

use ::store::{Database, Row, Statement, Value};
use kernel::Timestamp;

use super::{Orders, PageQuery, Where, json, text, time};
use crate::sessions::{Status, Stored};
use crate::{Error, Owner, Result, Session};

const COLUMNS: &str = "session_id, workflow_config_path, workflow_id, status, created_at, updated_at, agent_config, \
    metadata, org_id, owner, listed, state, version, history_seq, history_from";
const TABLE: &str = "agents_sessions";
/// Saved states that are kept of a session.
const SNAPSHOTS: i64 = 20;

pub(crate) const ORDERS: Orders = &[
    ("created_at", "created_at"),
    ("updated_at", "updated_at"),
    ("session_id", "session_id"),
    ("workflow_id", "COALESCE(workflow_id, '')"),
    ("status", "status"),
];

fn read(row: &Row) -> Result<Stored> {
    let status = Status::parse(row.text(3)?).ok_or(Error::Damaged("status"))?;
    Ok(Stored {
        view: Session {
            session_id: row.text(0)?.to_owned(),
            workflow_config_path: row.text(1)?.to_owned(),
            workflow_id: text(row, 2)?,
            status,
            created_at: time(row, 4)?,
            updated_at: time(row, 5)?,
            agent_config: json(row, 6)?,
            metadata: json(row, 7)?,
        },
        org_id: row.text(8)?.into(),
        owner: row.text(9)?.to_owned(),
        listed: row.flag(10)?,
        state: match json(row, 11)? {
            Some(serde_json::Value::Object(fields)) => fields,
            _ => return Err(Error::Damaged("state")),
        },
        version: row.int(12)?,
        history_seq: row.int(13)?,
        history_from: row.int(14)?,
    })
}

pub(crate) fn insert(stored: &Stored) -> Statement {
    let view = &stored.view;
    let json =
        |value: &Option<serde_json::Value>| Value::from(value.as_ref().map(ToString::to_string));
    let search = format!("{}\n{}", view.session_id, view.workflow_config_path).to_lowercase();
    let args = vec![
        view.session_id.as_str().into(),
        stored.org_id.as_str().into(),
        stored.owner.as_str().into(),
        stored.listed.into(),
        view.workflow_config_path.as_str().into(),
        Value::from(view.workflow_id.as_deref()),
        view.status.as_str().into(),
        view.created_at.micros().into(),
        view.updated_at.micros().into(),
        json(&view.agent_config),
        json(&view.metadata),
        state_text(stored).into(),
        search.into(),
    ];
    let sql = "INSERT INTO agents_sessions (session_id, org_id, owner, listed, workflow_config_path, workflow_id, \
               status, created_at, updated_at, agent_config, metadata, state, version, history_seq, history_from, \
               recorded_at, search) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 0, 1, 0, ?)";
    Statement::new(sql, args)
}

fn state_text(stored: &Stored) -> String {
    serde_json::to_string(&stored.state).unwrap_or_else(|_no_text| "{}".to_owned())
}

/// Writes status, metadata and state; changes nothing if it has changed since it was read.
pub(crate) fn update(stored: &Stored, now: Timestamp) -> Statement {
    let view = &stored.view;
    let metadata = view.metadata.as_ref().map(ToString::to_string);
    let args = vec![
        view.status.as_str().into(),
        Value::from(metadata),
        state_text(stored).into(),
        now.micros().into(),
        view.session_id.as_str().into(),
        stored.org_id.as_str().into(),
        stored.version.into(),
    ];
    let sql = "UPDATE agents_sessions SET status = ?, metadata = ?, state = ?, updated_at = ?, version = version + 1 \
               WHERE session_id = ? AND org_id = ? AND version = ?";
    Statement::one(sql, args)
}

/// Its history has grown, and its state perhaps; changes nothing if it has grown since it was read.
pub(crate) fn grow(old: &Stored, next: &Stored, now: Timestamp) -> Statement {
    let mut sql = "UPDATE agents_sessions SET history_seq = ?, recorded_at = ?".to_owned();
    let mut args = vec![Value::from(next.history_seq), Value::from(now.micros())];
    if next.state != old.state || next.view.updated_at != old.view.updated_at {
        sql.push_str(", state = ?, updated_at = ?, version = version + 1");
        args.extend([state_text(next).into(), Value::from(next.view.updated_at.micros())]);
    }
    sql.push_str(" WHERE session_id = ? AND org_id = ? AND history_seq = ? AND version = ?");
    args.extend([
        Value::from(old.view.session_id.as_str()),
        Value::from(old.org_id.as_str()),
        Value::from(old.history_seq),
        Value::from(old.version),
    ]);
    Statement::one(sql, args)
}

/// Everything that is a session's goes with it; its figures stay.
pub(crate) async fn delete(database: &Database, stored: &Stored) -> Result<()> {
    let (id, org_id) = (stored.view.session_id.as_str(), stored.org_id.as_str());
    let of = |sql: &'static str| Statement::new(sql, vec![id.into()]);
    let statements = vec![
        Statement::one(
            "DELETE FROM agents_sessions WHERE session_id = ? AND org_id = ?",
            vec![id.into(), org_id.into()],
        ),
        of("DELETE FROM agents_history WHERE session_id = ?"),
        of("DELETE FROM agents_search WHERE session_id = ?"),
        of("DELETE FROM agents_snapshots WHERE session_id = ?"),
        of("DELETE FROM agents_bookmarks WHERE session_id = ?"),
    ];
    match database.transaction(statements).await {
        // Somebody else has deleted it in this moment.
        Err(::store::Error::Unexpected { .. }) => Err(Error::UnknownSession(id.to_owned())),
        outcome => Ok(outcome.map(drop)?),
    }
}

pub(crate) async fn find(database: &Database, owner: &Owner, id: &str) -> Result<Option<Stored>> {
    let mut condition = Where::seen_by(owner);
    condition.and("session_id = ?", id);
    let rows = condition.read(database, &format!("{COLUMNS} FROM {TABLE}"), "", &[]).await?;
    rows.first().map(read).transpose()
}

pub(crate) async fn read_where(
    database: &Database,
    condition: &Where,
    tail: &str,
    more: &[Value],
) -> Result<Vec<Stored>> {
    let rows = condition.read(database, &format!("{COLUMNS} FROM {TABLE}"), tail, more).await?;
    rows.iter().map(read).collect()
}

/// A session, whoever's it is: for what goes on in its runs.
pub(crate) async fn find_any(database: &Database, id: &str) -> Result<Option<Stored>> {
    let condition = Where::new("session_id = ?", id);
    let rows = condition.read(database, &format!("{COLUMNS} FROM {TABLE}"), "", &[]).await?;
    rows.first().map(read).transpose()
}

pub(crate) async fn list(
    database: &Database,
    owner: &Owner,
    status: Option<Status>,
    query: &PageQuery,
) -> Result<(Vec<Session>, i64)> {
    let mut condition = Where::seen_by(owner);
    condition.and("listed = ?", true);
    if let Some(status) = status {
        condition.and("status = ?", status.as_str());
    }
    let (rows, total) = condition.page(database, (COLUMNS, TABLE, "session_id"), query).await?;
    let views = rows.iter().map(|row| read(row).map(|stored| stored.view));
    Ok((views.collect::<Result<_>>()?, total))
}

/// Keeps the session's state as it is, and forgets the oldest of many.
pub(crate) async fn save(database: &Database, stored: &Stored, now: Timestamp) -> Result<()> {
    let id = stored.view.session_id.as_str();
    let insert = "INSERT INTO agents_snapshots (session_id, number, at, state) \
                  SELECT ?, COALESCE(MAX(number), 0) + 1, ?, ? FROM agents_snapshots WHERE session_id = ?";
    let args = vec![id.into(), now.micros().into(), state_text(stored).into(), id.into()];
    let newest = "SELECT COALESCE(MAX(number), 0) FROM agents_snapshots WHERE session_id = ?";
    database.execute(Statement::new(insert, args)).await?;
    let newest = database.query_one(newest, &[id.into()]).await?.map_or(Ok(0), |row| row.int(0))?;
    let forget = "DELETE FROM agents_snapshots WHERE session_id = ? AND number <= ?";
    let args = vec![id.into(), (newest - SNAPSHOTS).into()];
    database.execute(Statement::new(forget, args)).await?;
    Ok(())
}

/// The state that was saved last.
pub(crate) async fn saved(
    database: &Database,
    session_id: &str,
) -> Result<Option<serde_json::Map<String, serde_json::Value>>> {
    let sql =
        "SELECT state FROM agents_snapshots WHERE session_id = ? ORDER BY number DESC LIMIT 1";
    let row = database.query_one(sql, &[session_id.into()]).await?;
    let Some(row) = row else { return Ok(None) };
    match json(&row, 0)? {
        Some(serde_json::Value::Object(fields)) => Ok(Some(fields)),
        _ => Err(Error::Damaged("state")),
    }
}
