//! How far the upstream is followed, and what was heard of it.

use ::store::{Column, Database, List, ListRequest, Listed, Reader, Row, Statement, Value};
use kernel::Timestamp;
use serde_json::value::RawValue;

use crate::{Entity, Error, FeedRow, Result};

/// What caches can be sorted by.
pub(crate) static CACHE_ORDERS: [Column; 1] = [Column { name: "id", sql: "id", at: 0 }];

/// How far one entity follows the upstream.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) entity: Entity,
    pub(crate) since_at: i64,
    /// Where a pass that failed goes on.
    pub(crate) resume: Option<(i64, String)>,
    pub(crate) upstream_now: Timestamp,
    pub(crate) synced_at: Option<Timestamp>,
    pub(crate) full_at: Option<Timestamp>,
    pub(crate) failures: i64,
    pub(crate) last_error: Option<String>,
    pub(crate) next_at: Timestamp,
    pub(crate) requested: i64,
    pub(crate) lease_owner: String,
    pub(crate) lease_until: Timestamp,
}

/// The rows of all entities are there from the first start on.
pub(crate) async fn begin(database: &Database) -> Result<()> {
    for entity in Entity::ALL {
        let sql = "INSERT INTO sync_state (entity) SELECT ? FROM (SELECT 1 AS one) AS d \
                   WHERE NOT EXISTS (SELECT 1 FROM sync_state WHERE entity = ?)";
        let name = || Value::from(entity.as_str());
        match database.execute(Statement::new(sql, vec![name(), name()])).await {
            // Another instance began in this moment.
            Err(error) if error.is_duplicate() => {}
            outcome => drop(outcome?),
        }
    }
    Ok(())
}

/// Nobody leads any more.
pub(crate) async fn free(database: &Database) -> Result<()> {
    let sql = "UPDATE sync_state SET lease_until = 0";
    Ok(database.execute(Statement::new(sql, vec![])).await.map(drop)?)
}

pub(crate) async fn states(database: &Database) -> Result<Vec<State>> {
    let sql = "SELECT entity, since_at, upstream_now, synced_at, full_at, failures, last_error, next_at, \
               requested, lease_owner, lease_until, resume_since, resume_after FROM sync_state";
    let rows = database.query(sql, &[]).await?;
    let read = |row: &Row| {
        let name = row.text(0)?;
        let entity = Entity::ALL.into_iter().find(|entity| entity.as_str() == name);
        let time = |column| row.opt_int(column).map(|at| at.map(Timestamp::from_micros));
        Ok(State {
            entity: entity.unwrap_or(Entity::Users),
            since_at: row.int(1)?,
            resume: row.opt_int(11)?.zip(row.opt_text(12)?.map(str::to_owned)),
            upstream_now: Timestamp::from_micros(row.int(2)?),
            synced_at: time(3)?,
            full_at: time(4)?,
            failures: row.int(5)?,
            last_error: row.opt_text(6)?.map(str::to_owned),
            next_at: Timestamp::from_micros(row.int(7)?),
            requested: row.int(8)?,
            lease_owner: row.text(9)?.to_owned(),
            lease_until: Timestamp::from_micros(row.int(10)?),
        })
    };
    let mut states = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    states.sort_by_key(|state| state.entity);
    Ok(states)
}

/// Becomes the one that follows, if nobody else is; takes the requests with it.
pub(crate) async fn lead(
    database: &Database,
    entity: Entity,
    owner: &str,
    (now, until): (Timestamp, Timestamp),
) -> Result<bool> {
    let sql = "UPDATE sync_state SET lease_owner = ?, lease_until = ? \
               WHERE entity = ? AND (lease_owner = ? OR lease_until < ?)";
    let args = vec![
        owner.into(),
        until.micros().into(),
        entity.as_str().into(),
        owner.into(),
        now.micros().into(),
    ];
    match database.transaction(vec![Statement::one(sql, args)]).await {
        Ok(_) => Ok(true),
        Err(::store::Error::Unexpected { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What a leader writes of its progress; nothing is written when it is not the leader any more.
pub(crate) fn progress(
    (entity, owner): (Entity, &str),
    set: &str,
    values: Vec<Value>,
) -> Statement {
    let sql = format!("UPDATE sync_state SET {set} WHERE entity = ? AND lease_owner = ?");
    let mut args = values;
    args.extend([entity.as_str().into(), owner.into()]);
    Statement::one(sql, args)
}

/// Asks whoever leads for a run.
pub(crate) async fn request(database: &Database, entity: Entity, what: i64) -> Result<()> {
    let sql = "UPDATE sync_state SET requested = CASE WHEN requested < ? THEN ? ELSE requested END \
               WHERE entity = ?";
    let args = vec![what.into(), what.into(), entity.as_str().into()];
    Ok(database.execute(Statement::new(sql, args)).await.map(drop)?)
}

/// A row as the upstream has it; what is here stays if it is newer, unless the upstream is believed
/// whatever its times.
pub(crate) fn keep(entity: Entity, row: &FeedRow, seen: &str, believed: bool) -> Vec<Statement> {
    let table = entity.cache();
    let id = || Value::from(row.id.as_str());
    let newest = if believed { i64::MAX } else { row.updated_at };
    let delete = format!("DELETE FROM {table} WHERE id = ? AND updated_at <= ?");
    let insert = format!(
        "INSERT INTO {table} (id, org_id, data, deleted, updated_at, seen) \
         SELECT ?, ?, ?, ?, ?, ? FROM (SELECT 1 AS one) AS d \
         WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE id = ?)"
    );
    let cells = vec![
        id(),
        row.org_id.as_str().into(),
        row.data.get().into(),
        row.deleted.into(),
        row.updated_at.into(),
        seen.into(),
        id(),
    ];
    vec![Statement::new(delete, vec![id(), newest.into()]), Statement::new(insert, cells)]
}

/// How many rows there are, and how many of them a complete pass has not seen.
pub(crate) async fn unseen(database: &Database, entity: Entity, seen: &str) -> Result<(i64, i64)> {
    let table = entity.cache();
    let all = format!("SELECT COUNT(*) FROM {table} WHERE deleted = 0");
    let missing = format!("SELECT COUNT(*) FROM {table} WHERE deleted = 0 AND seen <> ?");
    let all = database.query_one(&all, &[]).await?.map_or(Ok(0), |row| row.int(0))?;
    let missing = database.query_one(&missing, &[seen.into()]).await?;
    Ok((all, missing.map_or(Ok(0), |row| row.int(0))?))
}

/// What a complete pass has not seen is gone.
pub(crate) fn bury_unseen(entity: Entity, seen: &str) -> Statement {
    let table = entity.cache();
    let sql = format!("UPDATE {table} SET deleted = 1 WHERE deleted = 0 AND seen <> ?");
    Statement::new(sql, vec![seen.into()])
}

/// How far one entity was heard. Whatever changes what is kept of it changes one of these, in the same
/// transaction: a page its upstream's time, a complete pass when it ended.
pub(crate) async fn heard(database: &Database, entity: Entity) -> Result<Vec<Value>> {
    let sql = "SELECT since_at, resume_since, resume_after, upstream_now, synced_at, full_at, failures, next_at \
               FROM sync_state WHERE entity = ?";
    let row = database.query_one(sql, &[entity.as_str().into()]).await?;
    Ok(row.map_or_else(Vec::new, |row| row.values().to_vec()))
}

/// All that is kept of an entity, by id.
pub(crate) async fn kept(
    database: &Database,
    entity: Entity,
) -> Result<Vec<(String, Box<RawValue>)>> {
    let table = entity.cache();
    let sql = format!("SELECT id, data FROM {table} WHERE deleted = 0 ORDER BY id");
    let rows = database.query(&sql, &[]).await?;
    let read = |row: &Row| {
        let data = RawValue::from_string(row.text(1)?.to_owned()).map_err(Error::Render)?;
        Ok((row.text(0)?.to_owned(), data))
    };
    rows.iter().map(read).collect()
}

/// A page of what is kept of an organization's, or of everybody's.
pub(crate) async fn list_cache(
    reader: &Reader,
    entity: Entity,
    org_id: &str,
    request: &ListRequest,
) -> Result<(Vec<Box<RawValue>>, Listed)> {
    let list = List {
        select: "id, data",
        table: entity.cache(),
        filters: vec![("org_id", org_id.into()), ("deleted", 0.into())],
        key: &CACHE_ORDERS[0],
    };
    let listed = list.page(reader.primary(), reader.cache(), request).await?;
    let data = |row: &Row| RawValue::from_string(row.text(1)?.to_owned()).map_err(Error::Render);
    let rows = listed.rows.iter().map(data).collect::<Result<_>>()?;
    Ok((rows, listed))
}
