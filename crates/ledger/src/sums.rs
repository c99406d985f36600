//! Sums over rows that are written with operations: kept in the same transaction, one write for all
//! rows of a batch that fall together.

use std::collections::BTreeMap;

use store::{Database, Result, Value};

use crate::state::Changes;
use crate::{Finding, Table};

/// Sums over the rows of a table, kept in another table, a row for each distinct key.
///
/// They follow from the rows: [`verify_sums`] compares them, [`Sums::rebuild`] makes them anew.
#[derive(Debug, PartialEq, Eq)]
pub struct Sums {
    /// Where they are kept; its primary key is the columns of `keys`.
    pub table: &'static str,
    /// What is summed.
    pub of: &'static Table,
    /// The columns that tell sums apart, and what they are in a row.
    pub keys: &'static [(&'static str, Key)],
    /// The columns of figures, and what a row adds to them.
    pub sums: &'static [(&'static str, Sum)],
}

/// What tells sums apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A column of the row; null counts as empty text.
    Column(&'static str),
    /// The beginning of the period of this length that a column of numbers, zero or more, falls in.
    Period(&'static str, i64),
}

/// What a row adds to a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// One.
    Rows,
    /// One, if the column is not null.
    Present(&'static str),
    /// One, if the column is this text.
    Equal(&'static str, &'static str),
    /// The number in the column. The sum over all rows must fit.
    Total(&'static str),
    /// The number in the column, but no more than this, so that no sum can leave the range.
    Capped(&'static str, i64),
    /// Nothing: it keeps the column of the first row.
    First(&'static str),
    /// Nothing: it keeps the column of the last row.
    Last(&'static str),
}

/// What a batch adds to one table of sums.
#[derive(Debug)]
pub(crate) struct Added {
    pub(crate) sums: &'static Sums,
    /// Keys and figures, as in [`Sums::columns`].
    pub(crate) rows: Vec<Vec<Value>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Int(i64),
    Text(&'a str),
}

impl Changes {
    /// What the rows of this batch add to their sums, in the order of the keys.
    pub(crate) fn added(&self) -> Vec<Added> {
        let mut all: Vec<(&'static Sums, Vec<&[Value]>)> = Vec::new();
        for (sums, table, row) in &self.summed {
            let Some(row) = self.inserts.get(*table).and_then(|insert| insert.rows.get(*row))
            else {
                continue;
            };
            for sums in *sums {
                match all.iter_mut().find(|(known, _)| std::ptr::eq(*known, sums)) {
                    Some((_, rows)) => rows.push(row),
                    None => all.push((sums, vec![row])),
                }
            }
        }
        all.into_iter().map(|(sums, rows)| Added { sums, rows: sums.fold(&rows) }).collect()
    }
}

impl Sums {
    /// All columns: keys, then figures.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &'static str> {
        let keys = self.keys.iter().map(|(name, _)| *name);
        keys.chain(self.sums.iter().map(|(name, _)| *name))
    }

    /// Rows put together by key.
    fn fold(&self, rows: &[&[Value]]) -> Vec<Vec<Value>> {
        let at = |column: &str| self.of.columns.iter().position(|known| *known == column);
        let keys: Vec<_> = self.keys.iter().map(|(_, key)| (*key, at(key.column()))).collect();
        let sums: Vec<_> =
            self.sums.iter().map(|(_, sum)| (*sum, sum.column().and_then(at))).collect();
        let mut folded: BTreeMap<Vec<Part<'_>>, Vec<i64>> = BTreeMap::new();
        for row in rows {
            let value = |at: Option<usize>| at.and_then(|at| row.get(at)).unwrap_or(&Value::Null);
            let key = keys.iter().map(|(key, at)| key.of(value(*at))).collect();
            let figures = sums.iter().map(|(sum, at)| sum.of(value(*at)));
            match folded.entry(key) {
                std::collections::btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(figures.collect());
                }
                std::collections::btree_map::Entry::Occupied(mut occupied) => {
                    let kept = occupied.get_mut().iter_mut();
                    kept.zip(figures).zip(&sums).for_each(|((kept, figure), (sum, _))| match sum {
                        Sum::First(_) => {}
                        Sum::Last(_) => *kept = figure,
                        _ => *kept = kept.saturating_add(figure),
                    });
                }
            }
        }
        let row = |(key, figures): (Vec<Part<'_>>, Vec<i64>)| {
            key.into_iter().map(Value::from).chain(figures.into_iter().map(Value::from)).collect()
        };
        folded.into_iter().map(row).collect()
    }

    /// The assignments that add a new row, named by `new` (such as `excluded.{}`), to an old one.
    pub(crate) fn update(&self, new: impl Fn(&str) -> String) -> String {
        let assign = |(name, sum): &(&'static str, Sum)| match sum {
            Sum::First(_) => None,
            Sum::Last(_) => Some(format!("{name} = {}", new(name))),
            _ => Some(format!("{name} = {name} + {}", new(name))),
        };
        self.sums.iter().filter_map(assign).collect::<Vec<_>>().join(", ")
    }

    /// The query that sums all rows anew.
    pub(crate) fn query(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(|(_, key)| key.expression()).collect();
        let keys = keys.join(", ");
        let sums: Vec<String> = self.sums.iter().map(|(_, sum)| sum.expression()).collect();
        let sums = sums.join(", ");
        format!("SELECT {keys}, {sums} FROM {} GROUP BY {keys}", self.of.name)
    }

    /// The statements that make the sums anew: attach them ([`crate::Attachment::Run`]) to an
    /// operation, so that nothing is written in between.
    pub fn rebuild(&self) -> [String; 2] {
        let columns = self.columns().collect::<Vec<_>>().join(", ");
        [
            format!("DELETE FROM {}", self.table),
            format!("INSERT INTO {} ({columns}) {}", self.table, self.query()),
        ]
    }
}

impl Key {
    const fn column(self) -> &'static str {
        match self {
            Self::Column(column) | Self::Period(column, _) => column,
        }
    }

    fn of(self, value: &Value) -> Part<'_> {
        match (self, value) {
            (Self::Period(_, length), Value::Int(number)) => Part::Int(number - number % length),
            (Self::Column(_), Value::Int(number)) => Part::Int(*number),
            (_, Value::Text(text)) => Part::Text(text),
            _ => Part::Text(""),
        }
    }

    fn expression(self) -> String {
        match self {
            Self::Column(column) => format!("COALESCE({column}, '')"),
            Self::Period(column, length) => format!("{column} - {column} % {length}"),
        }
    }
}

impl Sum {
    const fn column(self) -> Option<&'static str> {
        match self {
            Self::Rows => None,
            Self::Present(column)
            | Self::Equal(column, _)
            | Self::Total(column)
            | Self::Capped(column, _)
            | Self::First(column)
            | Self::Last(column) => Some(column),
        }
    }

    fn of(self, value: &Value) -> i64 {
        match (self, value) {
            (Self::Rows, _) => 1,
            (Self::Present(_), value) => i64::from(*value != Value::Null),
            (Self::Equal(_, wanted), Value::Text(text)) => i64::from(text == wanted),
            (Self::Capped(_, most), Value::Int(number)) => (*number).min(most),
            (_, Value::Int(number)) => *number,
            _ => 0,
        }
    }

    fn expression(self) -> String {
        let one_if = |condition: String| format!("SUM(CASE WHEN {condition} THEN 1 ELSE 0 END)");
        let sum = match self {
            Self::Rows => "COUNT(*)".to_owned(),
            Self::Present(column) => one_if(format!("{column} IS NOT NULL")),
            Self::Equal(column, text) => one_if(format!("{column} = '{text}'")),
            Self::Total(column) => format!("SUM({column})"),
            Self::Capped(column, most) => {
                format!("SUM(CASE WHEN {column} > {most} THEN {most} ELSE {column} END)")
            }
            Self::First(column) => format!("MIN({column})"),
            Self::Last(column) => format!("MAX({column})"),
        };
        format!("CAST({sum} AS SIGNED)")
    }
}

impl From<Part<'_>> for Value {
    fn from(part: Part<'_>) -> Self {
        match part {
            Part::Int(number) => Self::Int(number),
            Part::Text(text) => text.into(),
        }
    }
}

/// Compares sums with the rows they are of, in one moment; for each table, the first that does not
/// fit.
pub async fn verify_sums(database: &Database, all: &[Sums]) -> Result<Vec<Finding>> {
    let mut snapshot = database.snapshot().await?;
    let mut findings = Vec::new();
    for sums in all {
        let columns = sums.columns().collect::<Vec<_>>().join(", ");
        let kept = format!("SELECT {columns} FROM {}", sums.table);
        let made = sums.query();
        for (query, detail) in [
            (format!("{made} EXCEPT {kept} LIMIT 1"), "is missing or has other figures"),
            (format!("{kept} EXCEPT {made} LIMIT 1"), "has no rows that add up to it"),
        ] {
            if let Some(row) = snapshot.query(&query, &[]).await?.first() {
                let key: Vec<String> =
                    row.values().iter().take(sums.keys.len()).map(words).collect();
                let row = format!("{} {}", sums.table, key.join(" "));
                findings.push(Finding { check: "sums", row, detail: detail.to_owned() });
                break;
            }
        }
    }
    snapshot.end().await?;
    Ok(findings)
}

fn words(value: &Value) -> String {
    match value {
        Value::Int(number) => number.to_string(),
        Value::Text(text) if text.is_empty() => "''".to_owned(),
        Value::Text(text) => text.clone().into_owned(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Null => "null".to_owned(),
    }
}
