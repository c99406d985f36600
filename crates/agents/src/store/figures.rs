//! Figures as stored: added to with the records they come from.

use std::collections::BTreeMap;

use ::store::{Database, Statement, Value};
use kernel::Timestamp;

use super::Where;
use crate::records::{Figures, Sum, hour_of};
use crate::runs::Stored as Run;
use crate::{Owner, Result};

/// Rows of one statement.
const ROWS: usize = 100;

/// Adds to the session's figures and to those of all that its owner has.
pub(crate) fn add(database: &Database, run: &Run, figures: &Figures) -> Vec<Statement> {
    if figures.is_empty() {
        return Vec::new();
    }
    let mut rows: Vec<Vec<Value>> = Vec::new();
    // Always in the same order, so that instances do not wait for each other in a circle.
    for session_id in ["", run.session_id.as_str()] {
        for (hour, kind, name, sum) in figures.iter() {
            rows.push(vec![
                run.org_id.as_str().into(),
                session_id.into(),
                hour.into(),
                kind.into(),
                name.into(),
                run.owner.as_str().into(),
                sum.number.into(),
                sum.total.into(),
                sum.least.into(),
                sum.most.into(),
            ]);
        }
    }
    let conflict = match database {
        Database::Sqlite(_) => {
            "ON CONFLICT (org_id, session_id, hour, kind, name, owner) DO UPDATE SET \
             number = number + excluded.number, total = total + excluded.total, \
             least = min(least, excluded.least), most = max(most, excluded.most)"
        }
        Database::MySql(_) => {
            "ON DUPLICATE KEY UPDATE number = number + VALUES(number), total = total + VALUES(total), \
             least = LEAST(least, VALUES(least)), most = GREATEST(most, VALUES(most))"
        }
    };
    let statements = rows.chunks(ROWS).map(|part| {
        let places = vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"; part.len()].join(", ");
        let sql = format!(
            "INSERT INTO agents_figures (org_id, session_id, hour, kind, name, owner, number, total, least, most) \
             VALUES {places} {conflict}"
        );
        Statement::new(sql, part.concat())
    });
    statements.collect()
}

/// Of which time figures are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
}

/// Sums by kind and name over the whole time.
pub(crate) type Totals = BTreeMap<(String, String), Sum>;

fn condition(owner: &Owner, session_id: &str, times: Times, kinds: &[&str]) -> Where {
    let mut condition = Where::seen_by(owner);
    condition.and("session_id = ?", session_id);
    if let Some(from) = times.from {
        condition.and("hour >= ?", hour_of(from));
    }
    if let Some(to) = times.to {
        condition.and("hour <= ?", to.micros());
    }
    let kinds: Vec<String> = kinds.iter().map(|kind| (*kind).to_owned()).collect();
    condition.and_any_of("kind", &kinds);
    condition
}

/// What the owner's figures of these kinds add up to: a session's, or with an empty one all.
pub(crate) async fn totals(
    database: &Database,
    owner: &Owner,
    session_id: &str,
    times: Times,
    kinds: &[&str],
) -> Result<Totals> {
    let select = "kind, name, CAST(SUM(number) AS SIGNED), CAST(SUM(total) AS SIGNED), MIN(least), MAX(most) \
                  FROM agents_figures";
    let rows = condition(owner, session_id, times, kinds)
        .read(database, select, "GROUP BY kind, name", &[])
        .await?;
    let mut totals = Totals::new();
    for row in &rows {
        let sum =
            Sum { number: row.int(2)?, total: row.int(3)?, least: row.int(4)?, most: row.int(5)? };
        totals.insert((row.text(0)?.to_owned(), row.text(1)?.to_owned()), sum);
    }
    Ok(totals)
}

/// The same, hour by hour.
pub(crate) async fn by_hour(
    database: &Database,
    owner: &Owner,
    session_id: &str,
    times: Times,
    kinds: &[&str],
) -> Result<BTreeMap<i64, Totals>> {
    let select = "hour, kind, name, CAST(SUM(number) AS SIGNED), CAST(SUM(total) AS SIGNED), MIN(least), \
                  MAX(most) FROM agents_figures";
    let rows = condition(owner, session_id, times, kinds)
        .read(database, select, "GROUP BY hour, kind, name", &[])
        .await?;
    let mut hours: BTreeMap<i64, Totals> = BTreeMap::new();
    for row in &rows {
        let sum =
            Sum { number: row.int(3)?, total: row.int(4)?, least: row.int(5)?, most: row.int(6)? };
        let name = (row.text(1)?.to_owned(), row.text(2)?.to_owned());
        hours.entry(row.int(0)?).or_default().insert(name, sum);
    }
    Ok(hours)
}
