//! All SQL of this crate.

use std::sync::Arc;

use ::store::{Database, Migration, Row, Statement, Value};
use identity::{Caller, Limits, OrgKind, Role};
use kernel::{Amount, OrgId, PageRequest, Timestamp};
use ledger::{Attachment, Cell, Table};
use serde_json::json;

use crate::event::{Event, Logged, Status};
use crate::{Error, Result};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0050_flow",
        sqlite: include_str!("../migrations/sqlite/0050_flow.sql"),
        mysql: include_str!("../migrations/mysql/0050_flow.sql"),
    },
    Migration {
        name: "0052_flow_names",
        sqlite: include_str!("../migrations/sqlite/0052_flow_names.sql"),
        mysql: include_str!("../migrations/mysql/0052_flow_names.sql"),
    },
];

static LOG: Table = Table {
    name: "flow_log",
    columns: &["run_id", "seq", "count", "at", "cost", "events"],
    audited: false,
};

static RUNS: Table = Table {
    name: "flow_runs",
    columns: &[
        "id",
        "org_id",
        "definition_id",
        "name",
        "caller",
        "status",
        "owner",
        "wake_at",
        "budget",
        "spent",
        "output",
        "error",
        "created_at",
        "updated_at",
    ],
    audited: false,
};

/// A run as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// Its id.
    pub id: Arc<str>,
    /// Whose it is, and who pays.
    pub org_id: OrgId,
    /// The definition it runs.
    pub definition_id: Arc<str>,
    /// The definition's name.
    pub name: Arc<str>,
    /// How it stands.
    pub status: Status,
    /// When it must be looked at although nothing comes in.
    pub wake_at: Option<Timestamp>,
    /// What its calls may cost at most.
    pub budget: Option<Amount>,
    /// What they have cost.
    pub spent: Amount,
    /// What it gave, once it has succeeded.
    pub output: Option<serde_json::Value>,
    /// Why it did not succeed: `{code, message, node}`.
    pub error: Option<serde_json::Value>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its status changed last.
    pub updated_at: Timestamp,
    /// Who started it.
    pub caller: Arc<Caller>,
}

const COLUMNS: &str = "id, org_id, definition_id, name, caller, status, wake_at, budget, spent, output, \
    error, created_at, updated_at";

/// The row of a new run.
pub(crate) fn run_row(run: &RunRecord, owner: &str) -> Attachment {
    let cells = vec![
        run.id.as_ref().into(),
        run.org_id.as_str().into(),
        run.definition_id.as_ref().into(),
        run.name.as_ref().into(),
        caller_text(&run.caller).into(),
        run.status.as_str().into(),
        owner.into(),
        Cell::Value(Value::Null),
        Value::from(run.budget.map(Amount::nanos)).into(),
        0_i64.into(),
        Cell::Value(Value::Null),
        Cell::Value(Value::Null),
        run.created_at.micros().into(),
        run.updated_at.micros().into(),
    ];
    Attachment::Insert { table: &RUNS, cells }
}

/// The row of what happened in one write: so many events as JSON, and as their cost what the
/// operation it is attached to charges.
pub(crate) fn log_row(
    run: &str,
    seq: i64,
    at: Timestamp,
    cost: Cell,
    events: (i64, String),
) -> Attachment {
    let (count, text) = events;
    let cells = vec![run.into(), seq.into(), count.into(), at.micros().into(), cost, text.into()];
    Attachment::Insert { table: &LOG, cells }
}

/// The same, written only if nothing was written to the log at or after this place: what it is
/// attached to must be written in any case.
pub(crate) fn guarded_log_row(
    run: &RunRecord,
    seq: i64,
    at: Timestamp,
    events: (i64, String),
) -> Attachment {
    let (count, text) = events;
    let cells = vec![
        run.id.as_ref().into(),
        seq.into(),
        count.into(),
        at.micros().into(),
        Cell::Amount,
        text.into(),
        run.id.as_ref().into(),
        run.org_id.as_str().into(),
        run.id.as_ref().into(),
        seq.into(),
    ];
    let sql = "INSERT INTO flow_log (run_id, seq, count, at, cost, events) SELECT ?, ?, ?, ?, ?, ? \
               FROM flow_runs r WHERE r.id = ? AND r.org_id = ? AND NOT EXISTS \
               (SELECT 1 FROM flow_log l WHERE l.run_id = ? AND l.seq >= ?)";
    Attachment::Run { sql, cells }
}

/// What was written to a log at this place.
pub(crate) async fn log_text(database: &Database, run: &str, seq: i64) -> Result<Option<String>> {
    let sql = "SELECT events FROM flow_log WHERE run_id = ? AND seq = ?";
    let row = database.query_one(sql, &[run.into(), seq.into()]).await?;
    Ok(row.map(|row| row.text(0).map(str::to_owned)).transpose()?)
}

/// How a run stands now.
pub(crate) struct Standing<'a> {
    pub(crate) status: Status,
    pub(crate) owner: Option<&'a str>,
    pub(crate) wake_at: Option<Timestamp>,
    pub(crate) output: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) at: Timestamp,
    /// Written only if the run still is this process's.
    pub(crate) only_of: Option<&'a str>,
}

pub(crate) fn stand(run: &RunRecord, standing: Standing<'_>) -> Attachment {
    let mut cells = vec![
        standing.status.as_str().into(),
        Value::from(standing.owner).into(),
        Value::from(standing.wake_at.map(Timestamp::micros)).into(),
        Value::from(standing.output).into(),
        Value::from(standing.error).into(),
        standing.at.micros().into(),
        run.id.as_ref().into(),
        run.org_id.as_str().into(),
    ];
    let any = "UPDATE flow_runs SET status = ?, owner = ?, wake_at = ?, output = ?, error = ?, updated_at = ? \
               WHERE id = ? AND org_id = ?";
    let mine = "UPDATE flow_runs SET status = ?, owner = ?, wake_at = ?, output = ?, error = ?, updated_at = ? \
                WHERE id = ? AND org_id = ? AND owner = ?";
    match standing.only_of {
        Some(owner) => {
            cells.push(owner.into());
            Attachment::Run { sql: mine, cells }
        }
        None => Attachment::Run { sql: any, cells },
    }
}

/// Adds what the operation charges to what the run has cost.
pub(crate) fn spend(run: &RunRecord) -> Attachment {
    let cells = vec![Cell::Amount, run.id.as_ref().into(), run.org_id.as_str().into()];
    let sql = "UPDATE flow_runs SET spent = spent + ? WHERE id = ? AND org_id = ?";
    Attachment::Run { sql, cells }
}

fn caller_text(caller: &Caller) -> String {
    json!({
        "user_id": caller.user_id, "app_id": caller.app_id, "key_id": caller.key_id,
        "role": caller.role, "models": caller.limits.models,
    })
    .to_string()
}

fn read_caller(org_id: &OrgId, text: &str) -> Arc<Caller> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let part = |name: &str| value.get(name).and_then(serde_json::Value::as_str);
    let admin = part("role") == Some("admin");
    let role = if admin { Role::Admin } else { Role::Member };
    let models = value.get("models").cloned().unwrap_or_default();
    let models = serde_json::from_value(models).unwrap_or_default();
    // A run's calls need to know who pays, who asked, and which models may be called; whether it
    // may run was decided at its start.
    Arc::new(Caller {
        user_id: part("user_id").map(Into::into),
        app_id: part("app_id").map(Into::into),
        key_id: part("key_id").map(Into::into),
        limits: Limits { models, ..Limits::NONE },
        ..Caller::new(org_id.clone(), OrgKind::Customer, role)
    })
}

pub(crate) async fn find_run(
    database: &Database,
    id: &str,
    org_id: Option<&OrgId>,
) -> Result<Option<RunRecord>> {
    let mut sql = format!("SELECT {COLUMNS} FROM flow_runs WHERE id = ?");
    let mut args = vec![Value::from(id)];
    if let Some(org_id) = org_id {
        sql.push_str(" AND org_id = ?");
        args.push(org_id.as_str().into());
    }
    database.query_one(&sql, &args).await?.as_ref().map(read_run).transpose()
}

/// An organization's runs, newest first.
pub(crate) async fn list_runs(
    database: &Database,
    org_id: &OrgId,
    page: &PageRequest,
) -> Result<Vec<RunRecord>> {
    let before = page.cursor.as_ref().map_or("~", |cursor| cursor.key());
    let sql = format!(
        "SELECT {COLUMNS} FROM flow_runs WHERE org_id = ? AND id < ? ORDER BY id DESC LIMIT ?"
    );
    let args = [org_id.as_str().into(), before.into(), Value::from(page.fetch())];
    database.query(&sql, &args).await?.iter().map(read_run).collect()
}

fn read_run(row: &Row) -> Result<RunRecord> {
    let id: Arc<str> = row.text(0)?.into();
    let org_id = OrgId::from(row.text(1)?);
    let json = |column| -> Result<Option<serde_json::Value>> {
        Ok(row.opt_text(column)?.and_then(|text| serde_json::from_str(text).ok()))
    };
    let status = Status::parse(row.text(5)?)
        .ok_or_else(|| Error::Damaged(id.to_string(), "its status is unknown".to_owned()))?;
    Ok(RunRecord {
        caller: read_caller(&org_id, row.text(4)?),
        definition_id: row.text(2)?.into(),
        name: row.text(3)?.into(),
        status,
        wake_at: row.opt_int(6)?.map(Timestamp::from_micros),
        budget: row.opt_int(7)?.map(Amount::from_nanos),
        spent: Amount::from_nanos(row.int(8)?),
        output: json(9)?,
        error: json(10)?,
        created_at: Timestamp::from_micros(row.int(11)?),
        updated_at: Timestamp::from_micros(row.int(12)?),
        id,
        org_id,
    })
}

/// A run's events after the one of this number, in order.
pub(crate) async fn events(database: &Database, run: &str, after: i64) -> Result<Vec<Logged>> {
    events_page(database, run, after, i64::MAX).await
}

/// The same, of so many rows of the log at most.
pub(crate) async fn events_page(
    database: &Database,
    run: &str,
    after: i64,
    most: i64,
) -> Result<Vec<Logged>> {
    let sql = "SELECT seq, at, cost, events FROM flow_log WHERE run_id = ? AND seq >= \
               COALESCE((SELECT MAX(seq) FROM flow_log WHERE run_id = ? AND seq <= ?), 0) \
               ORDER BY seq LIMIT ?";
    let args = [run.into(), run.into(), Value::from(after.saturating_add(1)), Value::from(most)];
    let rows = database.query(sql, &args).await?;
    let mut all = Vec::new();
    for row in &rows {
        let damaged =
            |error: &dyn std::fmt::Display| Error::Damaged(run.to_owned(), error.to_string());
        let events: Vec<Event> =
            serde_json::from_str(row.text(3)?).map_err(|error| damaged(&error))?;
        let (first, at) = (row.int(0)?, Timestamp::from_micros(row.int(1)?));
        let cost = Amount::from_nanos(row.int(2)?);
        all.extend(Logged::numbered(first, at, cost, events).filter(|logged| logged.seq > after));
    }
    Ok(all)
}

/// A run whose turn may have come, and whether it had begun.
pub(crate) struct Open {
    pub(crate) id: Arc<str>,
    pub(crate) org_id: OrgId,
    pub(crate) begun: bool,
}

/// Runs that are no process's any more: those of no owner in `living`, a page at a time.
pub(crate) async fn orphans(
    database: &Database,
    status: Status,
    after: &str,
    now: Timestamp,
) -> Result<Vec<Open>> {
    let sql = "SELECT r.id, r.org_id FROM flow_runs r WHERE r.status = ? AND r.id > ? AND NOT EXISTS \
               (SELECT 1 FROM flow_owners o WHERE o.id = r.owner AND o.lease_until > ?) \
               ORDER BY r.id LIMIT 500";
    let args = [status.as_str().into(), after.into(), Value::from(now.micros())];
    let rows = database.query(sql, &args).await?;
    let begun = status != Status::Queued;
    rows.iter()
        .map(|row| Ok(Open { id: row.text(0)?.into(), org_id: row.text(1)?.into(), begun }))
        .collect()
}

/// Waiting runs whose time has come, and when the next one's comes.
pub(crate) async fn due(
    database: &Database,
    now: Timestamp,
) -> Result<(Vec<Open>, Option<Timestamp>)> {
    let sql = "SELECT id, org_id, wake_at FROM flow_runs WHERE status = 'waiting' AND wake_at IS NOT NULL \
               ORDER BY wake_at LIMIT 501";
    let rows = database.query(sql, &[]).await?;
    let mut due = Vec::new();
    for row in &rows {
        let at = Timestamp::from_micros(row.int(2)?);
        if at > now || due.len() >= 500 {
            return Ok((due, Some(at)));
        }
        due.push(Open { id: row.text(0)?.into(), org_id: row.text(1)?.into(), begun: true });
    }
    Ok((due, None))
}

/// Says that this process lives.
pub(crate) async fn renew(database: &Database, owner: &str, until: Timestamp) -> Result<()> {
    let args = vec![Value::from(until.micros()), Value::from(owner)];
    let update = "UPDATE flow_owners SET lease_until = ? WHERE id = ?";
    if database.execute(Statement::new(update, args.clone())).await? > 0 {
        return Ok(());
    }
    let first = vec![Value::from(owner), Value::from(until.micros())];
    let insert = "INSERT INTO flow_owners (id, lease_until) VALUES (?, ?)";
    match database.execute(Statement::new(insert, first)).await {
        // Another task of this process was first in this moment.
        Err(error) if error.is_duplicate() => {
            database.execute(Statement::new(update, args)).await?;
            Ok(())
        }
        outcome => Ok(outcome.map(drop)?),
    }
}

/// Forgets a process that stops.
pub(crate) async fn forget_owner(database: &Database, owner: &str) -> Result<()> {
    let sql = "DELETE FROM flow_owners WHERE id = ?";
    database.execute(Statement::new(sql, vec![owner.into()])).await?;
    Ok(())
}

/// Forgets processes that are gone.
pub(crate) async fn forget_owners(database: &Database, before: Timestamp) -> Result<()> {
    let sql = "DELETE FROM flow_owners WHERE lease_until < ?";
    database.execute(Statement::new(sql, vec![before.micros().into()])).await?;
    Ok(())
}

/// A stored definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The hash of its text.
    pub id: Arc<str>,
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
    /// When it was published, the last time.
    pub created_at: Timestamp,
}

pub(crate) async fn put_definition(
    database: &Database,
    org_id: &OrgId,
    definition: &Definition,
) -> Result<()> {
    let insert = Statement::new(
        "INSERT INTO flow_definitions (org_id, id, name, text, created_at) VALUES (?, ?, ?, ?, ?)",
        vec![
            org_id.as_str().into(),
            definition.id.as_ref().into(),
            definition.name.as_str().into(),
            definition.text.as_str().into(),
            definition.created_at.micros().into(),
        ],
    );
    match database.execute(insert).await {
        // The same text was published before: now it is its name's newest again.
        Err(error) if error.is_duplicate() => {
            let again = Statement::new(
                "UPDATE flow_definitions SET created_at = ? WHERE org_id = ? AND id = ?",
                vec![
                    definition.created_at.micros().into(),
                    org_id.as_str().into(),
                    definition.id.as_ref().into(),
                ],
            );
            Ok(database.execute(again).await.map(drop)?)
        }
        outcome => Ok(outcome.map(drop)?),
    }
}

const DEFINITION: &str = "SELECT d.id, d.name, d.text, d.created_at FROM flow_definitions d";

pub(crate) async fn find_definition(
    database: &Database,
    org_id: &OrgId,
    id: &str,
) -> Result<Option<Definition>> {
    let sql = format!("{DEFINITION} WHERE d.org_id = ? AND d.id = ?");
    let row = database.query_one(&sql, &[org_id.as_str().into(), id.into()]).await?;
    row.as_ref().map(read_definition).transpose()
}

/// The newest definition of a name.
pub(crate) async fn newest_definition(
    database: &Database,
    org_id: &OrgId,
    name: &str,
) -> Result<Option<Definition>> {
    let sql = format!(
        "{DEFINITION} WHERE d.org_id = ? AND d.name = ? ORDER BY d.created_at DESC, d.id DESC LIMIT 1"
    );
    let row = database.query_one(&sql, &[org_id.as_str().into(), name.into()]).await?;
    row.as_ref().map(read_definition).transpose()
}

/// The newest definition of every name, by name.
pub(crate) async fn list_definitions(
    database: &Database,
    org_id: &OrgId,
    page: &PageRequest,
) -> Result<Vec<Definition>> {
    let after = page.cursor.as_ref().map_or("", |cursor| cursor.key());
    let sql = format!(
        "{DEFINITION} WHERE d.org_id = ? AND d.name > ? AND NOT EXISTS (SELECT 1 FROM flow_definitions n \
         WHERE n.org_id = d.org_id AND n.name = d.name AND (n.created_at > d.created_at OR \
         (n.created_at = d.created_at AND n.id > d.id))) ORDER BY d.name LIMIT ?"
    );
    let args = [org_id.as_str().into(), after.into(), Value::from(page.fetch())];
    database.query(&sql, &args).await?.iter().map(read_definition).collect()
}

fn read_definition(row: &Row) -> Result<Definition> {
    Ok(Definition {
        id: row.text(0)?.into(),
        name: row.text(1)?.to_owned(),
        text: row.text(2)?.to_owned(),
        created_at: Timestamp::from_micros(row.int(3)?),
    })
}
