//! Reading sums of usage records.

use ::store::{Database, Row};
use kernel::{Amount, OrgId};
use serde::{Deserialize, Serialize};

use super::search::Where;
use crate::Result;
use crate::summary::{By, SummaryFilter};

/// Where figures are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// An organization's hours, by caller.
    Hours,
    /// Days by organization and provider.
    Days,
    /// Everybody's hours, by provider.
    Totals,
}

/// One row of sums: when it begins, what it is of, and the figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// The hour or day, if asked for.
    pub(crate) period: i64,
    /// The values asked for, in order.
    pub(crate) of: Vec<String>,
    pub(crate) currency: String,
    pub(crate) calls: i64,
    pub(crate) failed: i64,
    pub(crate) released: i64,
    pub(crate) cost: Amount,
    pub(crate) tokens: [i64; 5],
}

impl Source {
    const fn table(self) -> &'static str {
        match self {
            Self::Hours => "metering_hours",
            Self::Days => "metering_days",
            Self::Totals => "metering_totals",
        }
    }

    pub(crate) const fn period(self) -> &'static str {
        match self {
            Self::Hours | Self::Totals => "hour",
            Self::Days => "day",
        }
    }
}

/// Sums of a time, put together by `period` (an expression, or nothing) and by columns.
pub(crate) async fn summarize(
    database: &Database,
    source: Source,
    filter: &SummaryFilter,
    period: Option<i64>,
    by: &[By],
    most: usize,
) -> Result<Vec<Figures>> {
    let column = source.period();
    let times = vec![filter.from.micros().into(), filter.to.micros().into()];
    let mut condition = Where::new(&format!("{column} >= ? AND {column} < ?"), times);
    condition.and_some("org_id = ?", filter.org_id.as_ref().map(OrgId::as_str));
    condition.and_some("user_id = ?", filter.user_id.as_deref());
    condition.and_some("app_id = ?", filter.app_id.as_deref());
    condition.and_some("key_id = ?", filter.key_id.as_deref());
    condition.and_some("model = ?", filter.model.as_deref());
    condition.and_some("provider = ?", filter.provider.as_deref());
    let bucket =
        period.map_or_else(|| "0".to_owned(), |length| format!("{column} - {column} % {length}"));
    let mut columns = vec![bucket];
    columns.extend(by.iter().map(|by| by.column().to_owned()));
    columns.push("currency".to_owned());
    // A constant cannot be grouped by.
    let groups = columns.iter().skip(usize::from(period.is_none())).cloned().collect::<Vec<_>>();
    let order = groups.join(", ");
    let sums = SUMS.map(|name| format!("CAST(SUM({name}) AS SIGNED)")).join(", ");
    let sql = format!(
        "SELECT {}, {sums} FROM {} WHERE {} GROUP BY {order} ORDER BY {order} LIMIT ?",
        columns.join(", "),
        source.table(),
        condition.text
    );
    condition.args.push(i64::try_from(most).unwrap_or(i64::MAX).into());
    let rows = database.query(&sql, &condition.args).await?;
    rows.iter().map(|row| read(row, by.len())).collect()
}

const SUMS: [&str; 9] = [
    "calls",
    "failed",
    "released",
    "cost",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
];

fn read(row: &Row, by: usize) -> Result<Figures> {
    let of = (1..=by).map(|at| Ok(row.text(at)?.to_owned())).collect::<Result<_>>()?;
    let figure = |at: usize| row.int(by + 2 + at);
    Ok(Figures {
        period: row.int(0)?,
        of,
        currency: row.text(by + 1)?.to_owned(),
        calls: figure(0)?,
        failed: figure(1)?,
        released: figure(2)?,
        cost: Amount::from_nanos(figure(3)?),
        tokens: [figure(4)?, figure(5)?, figure(6)?, figure(7)?, figure(8)?],
    })
}
