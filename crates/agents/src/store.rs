//! All SQL of this crate.

pub(crate) mod bookmarks;
pub(crate) mod figures;
pub(crate) mod history;
pub(crate) mod mirror;
pub(crate) mod runs;
pub(crate) mod search;
pub(crate) mod sessions;
pub(crate) mod workflows;

use ::store::{Database, Migration, Row, Value};
use kernel::Timestamp;

use crate::{Error, Owner, Result};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0080_agents",
    sqlite: include_str!("../migrations/sqlite/0080_agents.sql"),
    mysql: include_str!("../migrations/mysql/0080_agents.sql"),
}];

/// What a list can be sorted by: what callers call it, and its column.
pub(crate) type Orders = &'static [(&'static str, &'static str)];

/// A page of a list as callers ask for it.
#[derive(Clone, Debug)]
pub(crate) struct PageQuery {
    /// From 1.
    pub(crate) page: u32,
    pub(crate) page_size: u32,
    /// In lower case; found anywhere in a row's searchable text.
    pub(crate) search: Option<String>,
    /// A column of the list's [`Orders`].
    pub(crate) order: &'static str,
    pub(crate) descending: bool,
}

/// Conditions of a statement, and a value for each of their places.
#[derive(Clone, Debug)]
pub(crate) struct Where {
    text: String,
    args: Vec<Value>,
}

impl Where {
    /// What this owner sees.
    pub(crate) fn seen_by(owner: &Owner) -> Self {
        let (text, args) = owner.condition();
        Self { text: text.to_owned(), args }
    }

    pub(crate) fn new(text: &str, value: impl Into<Value>) -> Self {
        Self { text: text.to_owned(), args: vec![value.into()] }
    }

    pub(crate) fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.text.push_str(" AND ");
        self.text.push_str(condition);
        self.args.push(value.into());
    }

    pub(crate) fn or(&mut self, condition: &str, value: impl Into<Value>) {
        self.text.push_str(" OR ");
        self.text.push_str(condition);
        self.args.push(value.into());
    }

    pub(crate) fn and_any_of(&mut self, column: &str, values: &[String]) {
        if values.is_empty() {
            return;
        }
        let places = vec!["?"; values.len()].join(", ");
        self.text.extend([" AND ", column, " IN (", &places, ")"]);
        self.args.extend(values.iter().map(|value| Value::from(value.as_str())));
    }

    /// `SELECT {select} FROM {table}` where this holds, with what follows and its values.
    pub(crate) async fn read(
        &self,
        database: &Database,
        select: &str,
        tail: &str,
        more: &[Value],
    ) -> Result<Vec<Row>> {
        let sql = format!("SELECT {select} WHERE {} {tail}", self.text);
        let args = [self.args.as_slice(), more].concat();
        Ok(database.query(&sql, &args).await?)
    }

    pub(crate) async fn count(&self, database: &Database, table: &str) -> Result<i64> {
        let rows = self.read(database, &format!("COUNT(*) FROM {table}"), "", &[]).await?;
        rows.first().map_or(Ok(0), |row| Ok(row.int(0)?))
    }

    /// A page of a table's rows, and how many there are on all pages together.
    async fn page(
        mut self,
        database: &Database,
        (columns, table, key): (&str, &str, &str),
        query: &PageQuery,
    ) -> Result<(Vec<Row>, i64)> {
        if let Some(search) = &query.search {
            self.and("search LIKE ? ESCAPE '!'", like(search));
        }
        let total = self.count(database, table).await?;
        let direction = if query.descending { "DESC" } else { "ASC" };
        let tail =
            format!("ORDER BY {} {direction}, {key} {direction} LIMIT ? OFFSET ?", query.order);
        let (size, skip) = (i64::from(query.page_size), i64::from(query.page.saturating_sub(1)));
        let more = [Value::from(size), Value::from(skip.saturating_mul(size))];
        let rows = self.read(database, &format!("{columns} FROM {table}"), &tail, &more).await?;
        Ok((rows, total))
    }
}

/// The pattern that finds this text anywhere.
fn like(text: &str) -> String {
    let escaped = text.replace('!', "!!").replace('%', "!%").replace('_', "!_");
    format!("%{escaped}%")
}

pub(crate) fn json(row: &Row, column: usize) -> Result<Option<serde_json::Value>> {
    let text = row.opt_text(column)?;
    text.map(|text| serde_json::from_str(text).map_err(|_damaged| Error::Damaged("JSON")))
        .transpose()
}

pub(crate) fn text(row: &Row, column: usize) -> Result<Option<String>> {
    Ok(row.opt_text(column)?.map(str::to_owned))
}

pub(crate) fn time(row: &Row, column: usize) -> Result<Timestamp> {
    Ok(Timestamp::from_micros(row.int(column)?))
}

pub(crate) fn opt_time(row: &Row, column: usize) -> Result<Option<Timestamp>> {
    Ok(row.opt_int(column)?.map(Timestamp::from_micros))
}
