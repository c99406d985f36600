//! Lists in pages, by number or by cursor, sorted by columns that are allowed.

use kernel::{Cursor, CursorError};

use crate::{Cache, Database, Pending, Result, Row, Value};

/// Between the parts of a cursor; in no name and no id.
const SEPARATOR: char = '\u{1f}';
/// A list of so many rows takes long to count: how many it has may be a few seconds old.
const LONG: i64 = 10_000;

/// A column that a list can be sorted by. It is never null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// What callers call it.
    pub name: &'static str,
    /// Its name in the table.
    pub sql: &'static str,
    /// Its place among the columns selected.
    pub at: usize,
}

/// What a list is sorted by; rows that are equal there are sorted by the list's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The column.
    pub column: &'static Column,
    /// The largest first.
    pub descending: bool,
}

/// What a caller asks of a list.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// How many rows, at least 1.
    pub rows: u32,
    /// How many rows before them, counted from the cursor if there is one.
    pub skip: u32,
    /// In which order.
    pub order: Order,
    /// Where to continue.
    pub after: Option<Position>,
}

/// A place in a list: behind the row with these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    value: Value,
    key: Value,
}

/// The rows of one owner in one table.
#[derive(Clone, Debug)]
pub struct List {
    /// The columns, as written after `SELECT`.
    pub select: &'static str,
    /// The table.
    pub table: &'static str,
    /// Columns and the values they must have: the owner first.
    pub filters: Vec<(&'static str, Value)>,
    /// What is different for every row.
    pub key: &'static Column,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its rows.
    pub rows: Vec<Row>,
    /// How many there are on all pages together; from 10,000 on, as of up to five seconds ago.
    pub total: i64,
    /// Where the next page starts; absent on the last.
    pub next: Option<Cursor>,
}

impl Order {
    /// The place that a cursor of a list in this order names.
    pub fn position(self, cursor: &Cursor) -> std::result::Result<Position, CursorError> {
        let mut parts = cursor.key().splitn(3, SEPARATOR);
        let (order, key, value) = (parts.next(), parts.next(), parts.next());
        if order != Some(self.name().as_str()) {
            return Err(CursorError);
        }
        let read = |text: Option<&str>| text.and_then(read_value).ok_or(CursorError);
        Ok(Position { value: read(value)?, key: read(key)? })
    }

    fn name(self) -> String {
        format!("{}{}", self.column.name, if self.descending { "-" } else { "+" })
    }

    fn cursor(self, row: &Row, key: &Column) -> Option<Cursor> {
        let part = |at: usize| row.values().get(at).and_then(write_value);
        let (value, key) = (part(self.column.at)?, part(key.at)?);
        Some(Cursor::after(format!("{}{SEPARATOR}{key}{SEPARATOR}{value}", self.name())))
    }
}

fn write_value(value: &Value) -> Option<String> {
    match value {
        Value::Int(number) => Some(format!("i{number}")),
        Value::Text(text) => Some(format!("t{text}")),
        // A server gives text that is compared byte by byte as bytes.
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok().map(|text| format!("t{text}")),
        Value::Null => None,
    }
}

fn read_value(text: &str) -> Option<Value> {
    match text.strip_prefix('i') {
        Some(number) => number.parse().ok().map(Value::Int),
        None => text.strip_prefix('t').map(Value::from),
    }
}

impl List {
    /// One page, and how many rows there are.
    pub fn page<'a>(
        &'a self,
        database: &'a Database,
        cache: &'a Cache,
        request: &'a ListRequest,
    ) -> Pending<'a, Listed> {
        Box::pin(self.read(database, cache, request))
    }

    async fn read(
        &self,
        database: &Database,
        cache: &Cache,
        request: &ListRequest,
    ) -> Result<Listed> {
        let (sql, args) = self.statement(request);
        let mut rows = database.query(&sql, &args).await?;
        let more = rows.len() > request.rows as usize;
        rows.truncate(request.rows as usize);
        let next = rows.last().filter(|_| more);
        let next = next.and_then(|row| request.order.cursor(row, self.key));
        let total = match (&request.after, more) {
            // The first page holds all there are: nothing to count.
            (None, false) if request.skip == 0 => rows.len().try_into().unwrap_or(i64::MAX),
            _ => self.count(database, cache).await?,
        };
        Ok(Listed { rows, total, next })
    }

    fn statement(&self, request: &ListRequest) -> (String, Vec<Value>) {
        let (mut conditions, mut args) = self.conditions();
        let Order { column, descending } = request.order;
        let (beyond, direction) = if descending { ("<", "DESC") } else { (">", "ASC") };
        if let Some(after) = &request.after {
            let (column, key) = (column.sql, self.key.sql);
            conditions
                .push(format!("({column} {beyond} ? OR ({column} = ? AND {key} {beyond} ?))"));
            args.extend([after.value.clone(), after.value.clone(), after.key.clone()]);
        }
        let by_key = if column.sql == self.key.sql {
            String::new()
        } else {
            format!(", {} {direction}", self.key.sql)
        };
        let sql = format!(
            "SELECT {} FROM {}{} ORDER BY {} {direction}{by_key} LIMIT ? OFFSET ?",
            self.select,
            self.table,
            clause(&conditions),
            column.sql
        );
        args.extend([(i64::from(request.rows) + 1).into(), i64::from(request.skip).into()]);
        (sql, args)
    }

    async fn count(&self, database: &Database, cache: &Cache) -> Result<i64> {
        let (conditions, args) = self.conditions();
        let sql = format!("SELECT COUNT(*) FROM {}{}", self.table, clause(&conditions));
        let count =
            || async { database.query_one(&sql, &args).await?.map_or(Ok(0), |row| row.int(0)) };
        match cache.read(&format!("{sql} {args:?}"), |count| *count >= LONG, count).await {
            Ok(total) => Ok(total),
            // It was somebody else's failure, too.
            Err(_shared) => count().await,
        }
    }

    fn conditions(&self) -> (Vec<String>, Vec<Value>) {
        self.filters.iter().map(|(column, value)| (format!("{column} = ?"), value.clone())).unzip()
    }
}

fn clause(conditions: &[String]) -> String {
    if conditions.is_empty() {
        return String::new();
    }
    format!(" WHERE {}", conditions.join(" AND "))
}
