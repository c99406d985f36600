//! What has changed since, for the files that follow.

use ::store::{Database, Row, Value};
use kernel::Timestamp;

use super::{Where, time};
use crate::Result;
use crate::mirror::AT_ONCE;

/// A session whose history has grown.
pub(crate) struct Recorded {
    pub(crate) session_id: String,
    pub(crate) history_seq: i64,
    pub(crate) at: Timestamp,
}

/// A row as its file has it.
pub(crate) struct Mirrored {
    pub(crate) id: String,
    /// When it was changed.
    pub(crate) at: Timestamp,
    pub(crate) cells: Vec<Value>,
}

/// Behind this time and id, in their order.
fn behind((at, id): &(Timestamp, String), column: &str, key: &str) -> Where {
    let mut condition = Where::new(&format!("{column} >= ?"), at.micros());
    condition.and(&format!("({column} > ?"), at.micros());
    condition.or(&format!("{key} > ?)"), id.as_str());
    condition
}

fn most() -> Value {
    i64::try_from(AT_ONCE).unwrap_or(i64::MAX).into()
}

pub(crate) async fn recorded(
    database: &Database,
    from: &(Timestamp, String),
) -> Result<Vec<Recorded>> {
    let mut condition = behind(from, "recorded_at", "session_id");
    condition.and("recorded_at > ?", 0);
    let select = "session_id, history_seq, recorded_at FROM agents_sessions";
    let tail = "ORDER BY recorded_at, session_id LIMIT ?";
    let rows = condition.read(database, select, tail, &[most()]).await?;
    let read = |row: &Row| {
        let (session_id, history_seq) = (row.text(0)?.to_owned(), row.int(1)?);
        Ok(Recorded { session_id, history_seq, at: time(row, 2)? })
    };
    rows.iter().map(read).collect()
}

pub(crate) async fn sessions(
    database: &Database,
    from: &(Timestamp, String),
) -> Result<Vec<Mirrored>> {
    let mut condition = behind(from, "updated_at", "session_id");
    condition.and("listed = ?", true);
    let select = "updated_at, session_id, workflow_config_path, workflow_id, status, created_at, updated_at, \
                  agent_config, metadata FROM agents_sessions";
    let tail = "ORDER BY updated_at, session_id LIMIT ?";
    let rows = condition.read(database, select, tail, &[most()]).await?;
    rows.iter().map(|row| mirrored(row, &[5, 6])).collect()
}

pub(crate) async fn workflows(
    database: &Database,
    from: &(Timestamp, String),
) -> Result<Vec<Mirrored>> {
    let condition = behind(from, "updated_at", "workflow_id");
    let select = "updated_at, workflow_id, name, description, version, config_path, loaded_at, last_used, \
                  usage_count, config_data FROM agents_workflows";
    let tail = "ORDER BY updated_at, workflow_id LIMIT ?";
    let rows = condition.read(database, select, tail, &[most()]).await?;
    rows.iter().map(|row| mirrored(row, &[6, 7])).collect()
}

/// The row behind its time, instants as text.
fn mirrored(row: &Row, times: &[usize]) -> Result<Mirrored> {
    let cells = row.values().iter().enumerate().skip(1).map(|(at, value)| match value {
        Value::Int(micros) if times.contains(&at) => {
            Value::from(Timestamp::from_micros(*micros).to_string())
        }
        // A server gives text that is compared byte by byte as bytes.
        Value::Bytes(bytes) => Value::from(String::from_utf8_lossy(bytes).into_owned()),
        other => other.clone(),
    });
    Ok(Mirrored { id: row.text(1)?.to_owned(), at: time(row, 0)?, cells: cells.collect() })
}
