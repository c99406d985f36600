//! Carryings out of workflows as stored.

use ::store::{Database, Row, Statement, Value};
use kernel::{Amount, Timestamp};

use super::{Where, opt_time, text, time};
use crate::runs::Stored;
use crate::{Owner, Result};

const COLUMNS: &str = "execution_id, run_id, org_id, owner, workflow_id, session_id, start_key, fingerprint, \
    started_at, ended_at, deadline, stopped, carried, recorded, cost";
const TABLE: &str = "agents_runs";
/// Runs that are looked at in one go.
const AT_ONCE: i64 = 500;

fn read(row: &Row) -> Result<Stored> {
    Ok(Stored {
        execution_id: row.text(0)?.into(),
        run_id: row.text(1)?.into(),
        org_id: row.text(2)?.into(),
        owner: row.text(3)?.to_owned(),
        workflow_id: row.text(4)?.to_owned(),
        session_id: row.text(5)?.to_owned(),
        start_key: text(row, 6)?,
        fingerprint: row.text(7)?.to_owned(),
        started_at: time(row, 8)?,
        ended_at: opt_time(row, 9)?,
        deadline: opt_time(row, 10)?,
        stopped: text(row, 11)?,
        carried: usize::try_from(row.int(12)?).unwrap_or_default(),
        recorded: row.int(13)?,
        cost: Amount::from_nanos(row.int(14)?),
    })
}

pub(crate) fn insert(run: &Stored, look_at: Timestamp) -> Statement {
    let args = vec![
        run.execution_id.as_ref().into(),
        run.run_id.as_ref().into(),
        run.org_id.as_str().into(),
        run.owner.as_str().into(),
        run.workflow_id.as_str().into(),
        run.session_id.as_str().into(),
        Value::from(run.start_key.as_deref()),
        run.fingerprint.as_str().into(),
        run.started_at.micros().into(),
        Value::from(run.deadline.map(Timestamp::micros)),
        i64::try_from(run.carried).unwrap_or(i64::MAX).into(),
        look_at.micros().into(),
    ];
    let sql = "INSERT INTO agents_runs (execution_id, run_id, org_id, owner, workflow_id, session_id, start_key, \
               fingerprint, started_at, ended_at, deadline, stopped, carried, recorded, cost, look_at) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, NULL, ?, 0, 0, ?)";
    Statement::new(sql, args)
}

/// How far a run is in the history, and when it must be looked at; changes nothing if another
/// process has come further.
pub(crate) fn recorded(run: &Stored, before: i64, look_at: Option<Timestamp>) -> Statement {
    let args = vec![
        run.recorded.into(),
        run.cost.nanos().into(),
        Value::from(run.ended_at.map(Timestamp::micros)),
        Value::from(look_at.map(Timestamp::micros)),
        run.execution_id.as_ref().into(),
        run.org_id.as_str().into(),
        before.into(),
    ];
    let sql = "UPDATE agents_runs SET recorded = ?, cost = ?, ended_at = ?, look_at = ? \
               WHERE execution_id = ? AND org_id = ? AND recorded = ?";
    Statement::one(sql, args)
}

/// Why it is being stopped; the first reason stays.
pub(crate) async fn stop(database: &Database, run: &Stored, why: &str) -> Result<()> {
    let args = vec![why.into(), run.execution_id.as_ref().into(), run.org_id.as_str().into()];
    let sql = "UPDATE agents_runs SET stopped = ? WHERE execution_id = ? AND org_id = ? AND stopped IS NULL";
    database.execute(Statement::new(sql, args)).await?;
    Ok(())
}

/// A run that could not be started was never there.
pub(crate) async fn forget(database: &Database, run: &Stored) -> Result<()> {
    let of = |sql: &'static str, id: &str| {
        Statement::new(sql, vec![id.into(), run.org_id.as_str().into()])
    };
    let unused = "UPDATE agents_workflows SET usage_count = usage_count - 1 WHERE workflow_id = ? AND org_id = ?";
    let own = "DELETE FROM agents_sessions WHERE session_id = ? AND org_id = ? AND listed = 0";
    database
        .transaction(vec![
            of("DELETE FROM agents_runs WHERE execution_id = ? AND org_id = ?", &run.execution_id),
            of(own, &run.session_id),
            of(unused, &run.workflow_id),
        ])
        .await?;
    Ok(())
}

/// A run that waits, and one somebody looks after now, are looked at then.
pub(crate) async fn look_at(
    database: &Database,
    run: &Stored,
    at: Option<Timestamp>,
) -> Result<()> {
    let at = Value::from(at.map(Timestamp::micros));
    let args = vec![at, run.execution_id.as_ref().into(), run.org_id.as_str().into()];
    let sql = "UPDATE agents_runs SET look_at = ? WHERE execution_id = ? AND org_id = ? AND ended_at IS NULL";
    database.execute(Statement::new(sql, args)).await?;
    Ok(())
}

/// Runs that must be looked at by now.
pub(crate) async fn due(database: &Database, now: Timestamp) -> Result<Vec<Stored>> {
    let condition = Where::new("look_at IS NOT NULL AND look_at <= ?", now.micros());
    let tail = "ORDER BY look_at LIMIT ?";
    let select = format!("{COLUMNS} FROM {TABLE}");
    let rows = condition.read(database, &select, tail, &[AT_ONCE.into()]).await?;
    rows.iter().map(read).collect()
}

pub(crate) async fn find(database: &Database, owner: &Owner, id: &str) -> Result<Option<Stored>> {
    let mut condition = Where::seen_by(owner);
    condition.and("execution_id = ?", id);
    first(database, &condition).await
}

/// The run that the organization started under a key.
pub(crate) async fn find_by_key(
    database: &Database,
    owner: &Owner,
    key: &str,
) -> Result<Option<Stored>> {
    let mut condition = Where::new("org_id = ?", owner.org_id().as_str());
    condition.and("start_key = ?", key);
    first(database, &condition).await
}

/// As it is now, whoever's it is: for who looks after it.
pub(crate) async fn find_any(database: &Database, id: &str) -> Result<Option<Stored>> {
    first(database, &Where::new("execution_id = ?", id)).await
}

async fn first(database: &Database, condition: &Where) -> Result<Option<Stored>> {
    let rows = condition.read(database, &format!("{COLUMNS} FROM {TABLE}"), "", &[]).await?;
    rows.first().map(read).transpose()
}

/// A workflow's runs, newest first.
pub(crate) async fn list(
    database: &Database,
    owner: &Owner,
    workflow_id: &str,
    (limit, offset): (u32, u32),
) -> Result<(Vec<Stored>, i64)> {
    let mut condition = Where::seen_by(owner);
    condition.and("workflow_id = ?", workflow_id);
    let total = condition.count(database, TABLE).await?;
    let tail = "ORDER BY started_at DESC, execution_id DESC LIMIT ? OFFSET ?";
    let more = [i64::from(limit).into(), i64::from(offset).into()];
    let rows = condition.read(database, &format!("{COLUMNS} FROM {TABLE}"), tail, &more).await?;
    Ok((rows.iter().map(read).collect::<Result<_>>()?, total))
}
