//! Reading usage records by what they are looked for by.

use ::store::{Database, Value};
use kernel::Timestamp;

use super::{USAGE_COLUMNS, USAGE_TABLES, read_usage};
use crate::search::Span;
use crate::{Result, UsageFilter, UsageRecord};

/// Conditions of a statement, and a value for each of their places.
pub(super) struct Where {
    pub(super) text: String,
    pub(super) args: Vec<Value>,
}

impl Where {
    pub(super) fn new(text: &str, args: Vec<Value>) -> Self {
        Self { text: text.to_owned(), args }
    }

    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.text.push_str(" AND ");
        self.text.push_str(condition);
        self.args.push(value.into());
    }

    pub(super) fn and_some(&mut self, condition: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.and(condition, value);
        }
    }
}

/// Records before an operation, newest first.
pub(crate) async fn list_usage(
    database: &Database,
    filter: &UsageFilter,
    before: i64,
    most: i64,
) -> Result<Vec<UsageRecord>> {
    list(database, filter, Where::new("op_seq < ?", vec![before.into()]), most).await
}

/// Records of a span and before an operation, newest first.
pub(crate) async fn list_span(
    database: &Database,
    filter: &UsageFilter,
    span: &Span,
    before: i64,
    most: i64,
) -> Result<Vec<UsageRecord>> {
    let range = vec![span.first_seq.into(), span.last_seq.min(before - 1).into()];
    list(database, filter, Where::new("op_seq >= ? AND op_seq <= ?", range), most).await
}

async fn list(
    database: &Database,
    filter: &UsageFilter,
    mut condition: Where,
    most: i64,
) -> Result<Vec<UsageRecord>> {
    condition.and_some("org_id = ?", filter.org_id.as_ref().map(kernel::OrgId::as_str));
    condition.and_some("user_id = ?", filter.user_id.as_deref());
    condition.and_some("app_id = ?", filter.app_id.as_deref());
    condition.and_some("key_id = ?", filter.key_id.as_deref());
    condition.and_some("model = ?", filter.model.as_deref());
    condition.and_some("provider = ?", filter.provider.as_deref());
    condition.and_some("status = ?", filter.status.map(crate::UsageStatus::as_str));
    condition.and_some("error_code = ?", filter.error_code.as_deref());
    condition.and_some("request_id = ?", filter.request_id.as_deref());
    condition.and_some("run_id = ?", filter.run_id.as_deref());
    if let Some(from) = filter.from {
        condition.and("ended_at >= ?", from.micros());
    }
    if let Some(to) = filter.to {
        condition.and("ended_at < ?", to.micros());
    }
    let sql = format!(
        "SELECT {USAGE_COLUMNS} FROM {USAGE_TABLES} WHERE {} ORDER BY op_seq DESC LIMIT ?",
        condition.text
    );
    condition.args.push(most.into());
    let rows = database.query(&sql, &condition.args).await?;
    rows.iter().map(read_usage).collect()
}

/// The hours, newest first, in which calls ended that may fit, as the sums say: an organization's,
/// or everybody's.
pub(crate) async fn spans(
    database: &Database,
    filter: &UsageFilter,
    before_hour: i64,
    from_hour: i64,
    most: usize,
) -> Result<Vec<Span>> {
    let times = vec![from_hour.into(), before_hour.into()];
    let mut condition = Where::new("hour >= ? AND hour < ?", times);
    let table = if let Some(org_id) = &filter.org_id {
        condition.and("org_id = ?", org_id.as_str());
        condition.and_some("user_id = ?", filter.user_id.as_deref());
        condition.and_some("app_id = ?", filter.app_id.as_deref());
        condition.and_some("key_id = ?", filter.key_id.as_deref());
        "metering_hours"
    } else {
        condition.and_some("provider = ?", filter.provider.as_deref());
        "metering_totals"
    };
    condition.and_some("model = ?", filter.model.as_deref());
    if filter.error_code.is_some() {
        condition.and("failed > ?", 0);
    }
    if filter.status == Some(crate::UsageStatus::Released) {
        condition.and("released > ?", 0);
    }
    let sql = format!(
        "SELECT hour, MIN(first_seq), MAX(last_seq), CAST(SUM(calls) AS SIGNED) FROM {table} \
         WHERE {} GROUP BY hour ORDER BY hour DESC LIMIT ?",
        condition.text
    );
    condition.args.push(i64::try_from(most).unwrap_or(i64::MAX).into());
    let rows = database.query(&sql, &condition.args).await?;
    let read = |row: &::store::Row| {
        Ok(Span {
            hour: Timestamp::from_micros(row.int(0)?),
            first_seq: row.int(1)?,
            last_seq: row.int(2)?,
            calls: row.int(3)?,
        })
    };
    rows.iter().map(read).collect()
}
