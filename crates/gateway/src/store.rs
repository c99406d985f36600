//! All SQL of this crate.

use std::time::Duration;

use bytes::Bytes;
use kernel::{ChargeId, OrgId, Timestamp};
use ledger::{Attachment, Cell, Table};
use store::{Database, Migration, Result, Statement, Value};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0004_gateway",
    sqlite: include_str!("../migrations/sqlite/0004_gateway.sql"),
    mysql: include_str!("../migrations/mysql/0004_gateway.sql"),
}];

static ANSWERS: Table = Table {
    name: "gateway_answers",
    columns: &["charge_id", "org_id", "content_type", "body", "created_at"],
    audited: false,
};

/// How long an answer can be had again.
const KEPT: Duration = Duration::from_hours(24);
/// Rows deleted at once, so that the writer is never held for long.
const PORTION: i64 = 500;

/// An answer as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

/// The row that keeps an answer; written with the operation that settles its call.
pub(crate) fn answer_row(id: &ChargeId, org_id: &OrgId, answer: &Answer) -> Attachment {
    let cells = vec![
        id.as_str().into(),
        org_id.as_str().into(),
        answer.content_type.as_str().into(),
        answer.body.as_ref().into(),
        Cell::At,
    ];
    Attachment::Insert { table: &ANSWERS, cells }
}

pub(crate) async fn find_answer(
    database: &Database,
    id: &ChargeId,
    org_id: &OrgId,
) -> Result<Option<Answer>> {
    let sql = "SELECT content_type, body FROM gateway_answers WHERE charge_id = ? AND org_id = ?";
    let args = [Value::from(id.as_str()), Value::from(org_id.as_str())];
    let row = database.query_one(sql, &args).await?;
    row.map(|row| {
        Ok(Answer {
            content_type: row.text(0)?.to_owned(),
            body: Bytes::copy_from_slice(row.bytes(1)?),
        })
    })
    .transpose()
}

/// Deletes answers that are too old to be had again; returns how many.
pub(crate) async fn purge_answers(database: &Database, now: Timestamp) -> Result<u64> {
    let oldest = Timestamp::from_micros(now.micros() - Timestamp::default().after(KEPT).micros());
    let mut purged = 0;
    loop {
        let ids = "SELECT charge_id FROM gateway_answers WHERE created_at < ? LIMIT ?";
        let rows =
            database.query(ids, &[Value::from(oldest.micros()), Value::from(PORTION)]).await?;
        if rows.is_empty() {
            return Ok(purged);
        }
        let deletes = rows.iter().map(|row| {
            let id = Value::from(row.text(0)?);
            Ok(Statement::new("DELETE FROM gateway_answers WHERE charge_id = ?", vec![id]))
        });
        purged += database.transaction(deletes.collect::<Result<_>>()?).await?.iter().sum::<u64>();
    }
}
