//! Workflows as stored.

use ::store::{Database, Row, Statement, Value};
use kernel::Timestamp;

use super::{Orders, PageQuery, Where, json, opt_time, text, time};
use crate::workflows::Stored;
use crate::{Owner, Result, Workflow};

const COLUMNS: &str = "workflow_id, name, description, version, config_path, loaded_at, last_used, usage_count, \
    nodes, edges, definition_id, config_data, org_id, owner";
const TABLE: &str = "agents_workflows";

pub(crate) const ORDERS: Orders = &[
    ("loaded_at", "loaded_at"),
    ("updated_at", "updated_at"),
    ("last_used", "COALESCE(last_used, 0)"),
    ("usage_count", "usage_count"),
    ("name", "name"),
    ("version", "version"),
    ("workflow_id", "workflow_id"),
];

fn read(row: &Row) -> Result<Stored> {
    Ok(Stored {
        view: Workflow {
            workflow_id: row.text(0)?.to_owned(),
            name: row.text(1)?.to_owned(),
            description: row.text(2)?.to_owned(),
            version: row.text(3)?.to_owned(),
            config_path: text(row, 4)?,
            loaded_at: time(row, 5)?,
            last_used: opt_time(row, 6)?,
            usage_count: row.int(7)?,
            nodes: json(row, 8)?.unwrap_or_default(),
            edges: json(row, 9)?.unwrap_or_default(),
        },
        definition_id: text(row, 10)?,
        config_data: text(row, 11)?,
        org_id: row.text(12)?.into(),
        owner: row.text(13)?.to_owned(),
    })
}

/// What the list is searched by.
fn searchable(stored: &Stored) -> String {
    format!("{}\n{}", stored.view.name, stored.view.description).to_lowercase()
}

pub(crate) async fn insert(database: &Database, stored: &Stored) -> Result<()> {
    let view = &stored.view;
    let args = vec![
        view.workflow_id.as_str().into(),
        stored.org_id.as_str().into(),
        stored.owner.as_str().into(),
        view.name.as_str().into(),
        view.description.as_str().into(),
        view.version.as_str().into(),
        Value::from(view.config_path.as_deref()),
        view.loaded_at.micros().into(),
        Value::from(stored.config_data.as_deref()),
        Value::from(stored.definition_id.as_deref()),
        view.nodes.to_string().into(),
        view.edges.to_string().into(),
        view.loaded_at.micros().into(),
        searchable(stored).into(),
    ];
    let sql = "INSERT INTO agents_workflows (workflow_id, org_id, owner, name, description, version, config_path, \
               loaded_at, last_used, usage_count, config_data, definition_id, nodes, edges, updated_at, search) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, 0, ?, ?, ?, ?, ?, ?)";
    database.execute(Statement::new(sql, args)).await?;
    Ok(())
}

/// Writes all that can be changed; false if it is gone.
pub(crate) async fn update(database: &Database, stored: &Stored, now: Timestamp) -> Result<bool> {
    let view = &stored.view;
    let args = vec![
        view.name.as_str().into(),
        view.description.as_str().into(),
        view.version.as_str().into(),
        view.loaded_at.micros().into(),
        Value::from(stored.config_data.as_deref()),
        Value::from(stored.definition_id.as_deref()),
        view.nodes.to_string().into(),
        view.edges.to_string().into(),
        now.micros().into(),
        searchable(stored).into(),
        view.workflow_id.as_str().into(),
        stored.org_id.as_str().into(),
    ];
    let sql = "UPDATE agents_workflows SET name = ?, description = ?, version = ?, loaded_at = ?, config_data = ?, \
               definition_id = ?, nodes = ?, edges = ?, updated_at = ?, search = ? \
               WHERE workflow_id = ? AND org_id = ?";
    Ok(database.execute(Statement::new(sql, args)).await? > 0)
}

/// It was run: once more, and now.
pub(crate) fn used(owner: &Owner, workflow_id: &str, now: Timestamp) -> Statement {
    let args = vec![
        now.micros().into(),
        now.micros().into(),
        workflow_id.into(),
        owner.org_id().as_str().into(),
    ];
    let sql = "UPDATE agents_workflows SET usage_count = usage_count + 1, last_used = ?, updated_at = ? \
               WHERE workflow_id = ? AND org_id = ?";
    Statement::new(sql, args)
}

pub(crate) async fn delete(database: &Database, owner: &Owner, id: &str) -> Result<bool> {
    let (condition, mut args) = owner.condition();
    args.push(id.into());
    let sql = format!("DELETE FROM agents_workflows WHERE {condition} AND workflow_id = ?");
    Ok(database.execute(Statement::new(sql, args)).await? > 0)
}

pub(crate) async fn find(database: &Database, owner: &Owner, id: &str) -> Result<Option<Stored>> {
    let mut condition = Where::seen_by(owner);
    condition.and("workflow_id = ?", id);
    let rows = condition.read(database, &format!("{COLUMNS} FROM {TABLE}"), "", &[]).await?;
    rows.first().map(read).transpose()
}

/// The owner's own workflow of this file, if it was loaded before.
pub(crate) async fn find_by_path(
    database: &Database,
    owner: &Owner,
    path: &str,
) -> Result<Option<Stored>> {
    let mut condition = Where::seen_by(owner);
    condition.and("config_path = ?", path);
    condition.and("owner = ?", owner.id());
    let tail = "ORDER BY workflow_id LIMIT 1";
    let rows = condition.read(database, &format!("{COLUMNS} FROM {TABLE}"), tail, &[]).await?;
    rows.first().map(read).transpose()
}

pub(crate) async fn list(
    database: &Database,
    owner: &Owner,
    query: &PageQuery,
) -> Result<(Vec<Workflow>, i64)> {
    let condition = Where::seen_by(owner);
    let (rows, total) = condition.page(database, (COLUMNS, TABLE, "workflow_id"), query).await?;
    let views = rows.iter().map(|row| read(row).map(|stored| stored.view));
    Ok((views.collect::<Result<_>>()?, total))
}
