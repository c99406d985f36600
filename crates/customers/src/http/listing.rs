//! How lists are asked for: `page`, `rows`, `sort`, or a cursor.

use ::store::{Column, ListRequest, Listed, Order};
use axum::response::{IntoResponse as _, Response};
use identity::Caller;
use kernel::Cursor;
use serde::Deserialize;
use web::{Envelope, Rows};

use crate::store::sync::CACHE_ORDERS;
use crate::{Customers, Entity, Error, Result};

const DEFAULT_ROWS: u32 = 50;
const MOST_ROWS: u32 = 1000;
/// Rows that may be skipped by number; further in, cursors go on.
const DEEPEST: u32 = 100_000;

/// What every list takes.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ListQuery {
    /// From 1.
    page: Option<u32>,
    #[serde(alias = "page_size", alias = "pagerows", alias = "limit")]
    rows: Option<u32>,
    sort: Option<String>,
    cursor: Option<Cursor>,
}

impl ListQuery {
    /// The request, sorted by one of these columns; by the first, in the given direction, when
    /// nothing is said.
    pub(super) fn read(&self, columns: &'static [Column], descending: bool) -> Result<ListRequest> {
        let rows = self.rows.unwrap_or(DEFAULT_ROWS).clamp(1, MOST_ROWS);
        let skip = self.page.unwrap_or(1).saturating_sub(1).saturating_mul(rows);
        if skip > DEEPEST {
            return Err(Error::PageTooDeep);
        }
        let order = self.order(columns, descending)?;
        let position = |cursor| order.position(cursor).map_err(|_foreign| Error::Cursor);
        let after = self.cursor.as_ref().map(position).transpose()?;
        Ok(ListRequest { rows, skip, order, after })
    }

    /// The same question from the start of the list.
    pub(super) fn without_cursor(self) -> Self {
        Self { cursor: None, ..self }
    }

    /// `amount`, `amount asc`, `amount desc` or `-amount`.
    fn order(&self, columns: &'static [Column], descending: bool) -> Result<Order> {
        let unknown = |asked: &str| {
            let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
            Error::Sort(asked.chars().take(64).collect(), names.join(", "))
        };
        let Some(asked) = self.sort.as_deref().map(str::trim).filter(|sort| !sort.is_empty())
        else {
            let column = columns.first().ok_or_else(|| unknown(""))?;
            return Ok(Order { column, descending });
        };
        let (name, descending) = match asked.split_once(char::is_whitespace) {
            Some((name, word)) if word.trim().eq_ignore_ascii_case("desc") => (name, true),
            Some((name, word)) if word.trim().eq_ignore_ascii_case("asc") => (name, false),
            Some(_) => return Err(unknown(asked)),
            None => asked.strip_prefix('-').map_or((asked, false), |name| (name, true)),
        };
        let column = columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        Ok(Order { column: column.ok_or_else(|| unknown(asked))?, descending })
    }
}

/// Which rows are meant: this server's own, or those of the upstream it follows.
#[derive(Debug, Deserialize)]
pub(super) struct SourceQuery {
    source: Option<Source>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    Local,
    Upstream,
}

impl SourceQuery {
    pub(super) const fn is_upstream(&self) -> bool {
        matches!(self.source, Some(Source::Upstream))
    }
}

/// A page of what the upstream has, as it was last heard.
pub(super) async fn upstream(
    customers: &Customers,
    caller: &Caller,
    entity: Entity,
    query: &ListQuery,
) -> web::Result<Response> {
    let request = query.read(&CACHE_ORDERS, false)?;
    let (rows, listed) = customers.cached(caller, entity, &request).await?;
    Ok(Envelope::ok(page(rows, &listed)).into_response())
}

/// A page as it is answered.
pub(super) fn page<T>(rows: Vec<T>, listed: &Listed) -> Rows<T> {
    Rows { total: listed.total, rows, next: listed.next.as_ref().map(ToString::to_string) }
}

#[cfg(test)]
mod tests {
    use super::*;

    static COLUMNS: [Column; 2] = [
        Column { name: "id", sql: "op_seq", at: 0 },
        Column { name: "amount", sql: "amount", at: 1 },
    ];

    fn sorted(sort: &str) -> Option<(&'static str, bool)> {
        let query = ListQuery { sort: Some(sort.to_owned()), ..ListQuery::default() };
        let request = query.read(&COLUMNS, true).ok()?;
        Some((request.order.column.sql, request.order.descending))
    }

    #[test]
    fn only_the_columns_allowed_are_sorted_by() {
        assert_eq!(sorted(""), Some(("op_seq", true)));
        assert_eq!(sorted("amount"), Some(("amount", false)));
        assert_eq!(sorted(" Amount  DESC "), Some(("amount", true)));
        assert_eq!(sorted("-amount"), Some(("amount", true)));
        for hostile in ["op_seq", "amount desc, id", "(SELECT 1)", "amount;drop", "org_id"] {
            assert_eq!(sorted(hostile), None, "{hostile}");
        }
    }
}
