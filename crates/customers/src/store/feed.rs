//! The change feed's table.

use std::collections::HashMap;

use ::store::{Database, Row, Statement};
use kernel::OrgId;
use serde_json::value::RawValue;

use crate::feed::FeedRequest;
use crate::{Entity, Error, FeedRow, Result};

/// What was last published of a thing.
pub(crate) struct Published {
    pub(crate) hash: [u8; 16],
    pub(crate) deleted: bool,
    pub(crate) updated_at: i64,
}

pub(crate) async fn published(
    database: &Database,
    entity: Entity,
) -> Result<HashMap<String, Published>> {
    let sql = "SELECT id, hash, deleted, updated_at FROM customers_feed WHERE entity = ?";
    let rows = database.query(sql, &[entity.as_str().into()]).await?;
    let read = |row: &Row| {
        let hash = row.bytes(1)?.try_into().unwrap_or_default();
        let published = Published { hash, deleted: row.flag(2)?, updated_at: row.int(3)? };
        Ok((row.text(0)?.to_owned(), published))
    };
    rows.iter().map(read).collect()
}

/// A thing as it is now, in place of what was published of it.
pub(crate) fn put(
    entity: Entity,
    (id, org_id, data): (String, String, String),
    hash: [u8; 16],
    at: i64,
) -> Vec<Statement> {
    let delete = "DELETE FROM customers_feed WHERE entity = ? AND id = ?";
    let insert = "INSERT INTO customers_feed (entity, id, org_id, data, hash, deleted, updated_at) \
                  VALUES (?, ?, ?, ?, ?, 0, ?)";
    let name = || ::store::Value::from(entity.as_str());
    let cells = vec![
        name(),
        id.clone().into(),
        org_id.into(),
        data.into(),
        hash.as_slice().into(),
        at.into(),
    ];
    vec![Statement::new(delete, vec![name(), id.into()]), Statement::new(insert, cells)]
}

/// A thing that is gone: what was last known of it stays.
pub(crate) fn bury(entity: Entity, id: String, at: i64) -> Statement {
    let sql = "UPDATE customers_feed SET deleted = 1, updated_at = ? WHERE entity = ? AND id = ?";
    Statement::new(sql, vec![at.into(), entity.as_str().into(), id.into()])
}

/// One row more than asked for tells whether there is more.
pub(crate) async fn read(
    database: &Database,
    org_id: Option<&OrgId>,
    request: &FeedRequest,
) -> Result<Vec<FeedRow>> {
    let mut sql =
        "SELECT id, org_id, updated_at, deleted, data FROM customers_feed WHERE entity = ?"
            .to_owned();
    let mut args = vec![request.entity.as_str().into()];
    if let Some(org_id) = org_id {
        sql.push_str(" AND org_id IN ('', ?)");
        args.push(org_id.as_str().into());
    }
    if request.full {
        sql.push_str(" AND deleted = 0 AND id > ? ORDER BY id LIMIT ?");
        args.push(request.after.as_str().into());
    } else {
        sql.push_str(
            " AND (updated_at > ? OR (updated_at = ? AND id > ?)) ORDER BY updated_at, id LIMIT ?",
        );
        args.extend([request.since.into(), request.since.into(), request.after.as_str().into()]);
    }
    args.push((i64::from(request.rows()) + 1).into());
    database.query(&sql, &args).await?.iter().map(read_row).collect()
}

fn read_row(row: &Row) -> Result<FeedRow> {
    Ok(FeedRow {
        id: row.text(0)?.to_owned(),
        org_id: row.text(1)?.to_owned(),
        updated_at: row.int(2)?,
        deleted: row.flag(3)?,
        data: RawValue::from_string(row.text(4)?.to_owned()).map_err(Error::Render)?,
    })
}
