//! Bookmarks as stored.

use ::store::{Database, Row, Statement, Value};

use super::{Where, text, time};
use crate::history::Bookmark;
use crate::{Owner, Result};

/// Bookmarks that a list gives.
const MOST: i64 = 1_000;

fn read(row: &Row) -> Result<Bookmark> {
    Ok(Bookmark {
        bookmark_id: row.text(0)?.to_owned(),
        session_id: row.text(1)?.to_owned(),
        message_id: row.text(2)?.to_owned(),
        note: text(row, 3)?,
        created_at: time(row, 4)?,
    })
}

/// Keeps a bookmark; the same one made twice in a second has the later note.
pub(crate) async fn put(database: &Database, owner: &Owner, bookmark: &Bookmark) -> Result<()> {
    let key = || {
        vec![
            Value::from(owner.org_id().as_str()),
            Value::from(owner.id()),
            Value::from(bookmark.bookmark_id.as_str()),
        ]
    };
    let delete = "DELETE FROM agents_bookmarks WHERE org_id = ? AND owner = ? AND bookmark_id = ?";
    let insert = "INSERT INTO agents_bookmarks (org_id, owner, bookmark_id, session_id, message_id, note, created_at) \
                  VALUES (?, ?, ?, ?, ?, ?, ?)";
    let mut args = key();
    args.extend([
        bookmark.session_id.as_str().into(),
        bookmark.message_id.as_str().into(),
        Value::from(bookmark.note.as_deref()),
        bookmark.created_at.micros().into(),
    ]);
    let statements = vec![Statement::new(delete, key()), Statement::new(insert, args)];
    database.transaction(statements).await?;
    Ok(())
}

pub(crate) async fn list(
    database: &Database,
    owner: &Owner,
    session_id: Option<&str>,
) -> Result<Vec<Bookmark>> {
    let mut condition = Where::seen_by(owner);
    if let Some(id) = session_id {
        condition.and("session_id = ?", id);
    }
    let select = "bookmark_id, session_id, message_id, note, created_at FROM agents_bookmarks";
    let tail = "ORDER BY created_at DESC, bookmark_id DESC LIMIT ?";
    let rows = condition.read(database, select, tail, &[MOST.into()]).await?;
    rows.iter().map(read).collect()
}

pub(crate) async fn delete(database: &Database, owner: &Owner, id: &str) -> Result<bool> {
    let (condition, mut args) = owner.condition();
    args.push(id.into());
    let sql = format!("DELETE FROM agents_bookmarks WHERE {condition} AND bookmark_id = ?");
    Ok(database.execute(Statement::new(sql, args)).await? > 0)
}
