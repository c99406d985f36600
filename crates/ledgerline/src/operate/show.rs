//! How answers are shown: tables for people, the server's JSON, or single members for scripts.

use std::io::{IsTerminal as _, Write as _};

use clap::Args;
use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

use crate::cli::say;

/// How an answer is shown.
#[derive(Clone, Debug, Args)]
pub(crate) struct How {
    /// Print the server's JSON
    #[arg(long, global = true, conflicts_with = "get")]
    json: bool,
    /// Print only these members, such as `id` or `id,api_key`: a line for each row
    #[arg(long, value_name = "MEMBERS", value_delimiter = ',', global = true)]
    get: Vec<String>,
}

/// A column of a table: its title, and where its value is in a row, such as `price/currency`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    path: &'static str,
    right: bool,
}

/// A column of text.
pub(crate) const fn text(title: &'static str, path: &'static str) -> Column {
    Column { title, path, right: false }
}

/// A column of numbers, which end in line.
pub(crate) const fn number(title: &'static str, path: &'static str) -> Column {
    Column { title, path, right: true }
}

impl How {
    /// Whether people read it.
    pub(crate) fn is_for_people(&self) -> bool {
        !self.json && self.get.is_empty()
    }

    /// Shows an answer: a list as a table of these columns, anything else member by member, the
    /// columns' first.
    pub(crate) fn show(&self, answer: &str, columns: &[Column]) -> anyhow::Result<()> {
        if self.json {
            return say(answer.trim_end());
        }
        let value: Value = serde_json::from_str(answer)?;
        let rows = rows(&value);
        if !self.get.is_empty() {
            let all = rows.unwrap_or_else(|| std::slice::from_ref(&value));
            let lines: Vec<String> = all.iter().map(|row| self.members(row)).collect();
            return if lines.is_empty() { Ok(()) } else { say(&lines.join("\n")) };
        }
        match rows {
            Some(rows) => say(&table(rows, columns)),
            None => say(&details(&value, columns)),
        }
    }

    fn members(&self, row: &Value) -> String {
        let value = |path: &String| match row.pointer(&format!("/{}", path.replace('.', "/"))) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        self.get.iter().map(value).collect::<Vec<_>>().join("\t")
    }
}

/// The rows of a list, in each of the server's forms.
fn rows(answer: &Value) -> Option<&[Value]> {
    let list = ["rows", "data"].into_iter().find_map(|name| answer.get(name)).unwrap_or(answer);
    list.as_array().map(Vec::as_slice)
}

/// Rows under their titles.
pub(crate) fn table(rows: &[Value], columns: &[Column]) -> String {
    let head = columns.iter().map(|column| column.title.to_owned()).collect();
    let line = |row: &Value| -> Vec<String> {
        columns.iter().map(|column| cell(at(row, column.path))).collect()
    };
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows.iter().map(line)).collect();
    let width = |number: usize| {
        lines.iter().filter_map(|line| line.get(number)).map(|cell| cell.width()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let lines: Vec<String> = lines
        .iter()
        .map(|line| {
            let cells = line.iter().zip(&widths).zip(columns);
            let cells = cells.map(|((cell, width), column)| pad(cell, *width, column.right));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

/// A thing member by member: the columns' first, then what else it has.
fn details(thing: &Value, columns: &[Column]) -> String {
    let Value::Object(members) = thing else { return cell(Some(thing)) };
    let known = columns.iter().map(|column| (column.path, at(thing, column.path)));
    let other = members.iter().filter(|(name, _)| {
        let begins = |column: &Column| column.path.split('/').next() == Some(name.as_str());
        !columns.iter().any(begins)
    });
    let all: Vec<(&str, Option<&Value>)> =
        known.chain(other.map(|(name, value)| (name.as_str(), Some(value)))).collect();
    let width = all.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
    let lines = all.iter().map(|(name, value)| pad(name, width, false) + "  " + &cell(*value));
    lines.collect::<Vec<_>>().join("\n")
}

fn at<'a>(row: &'a Value, path: &str) -> Option<&'a Value> {
    row.pointer(&format!("/{path}"))
}

fn pad(cell: &str, width: usize, right: bool) -> String {
    let blanks = " ".repeat(width.saturating_sub(cell.width()));
    if right { blanks + cell } else { cell.to_owned() + &blanks }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(Value::String(text)) => printable(without_fraction(text)),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) => {
            items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(",")
        }
        Some(other) => printable(other.to_string()),
    }
}

/// An instant to the second: `2026-11-21T08:00:00.000001Z` has more than people look for.
fn without_fraction(text: &str) -> String {
    let is_instant = text.len() == "2026-11-21T08:00:00.000001Z".len() && text.ends_with('Z');
    match text.split_once('.') {
        Some((seconds, _)) if is_instant && seconds.contains('T') => format!("{seconds}Z"),
        _ => text.to_owned(),
    }
}

/// Names come from strangers: what moves a terminal's cursor or turns its lines is shown as an escape.
fn printable(text: String) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let unsafe_here = |c: char| c.is_control() || turns(c);
    if !text.contains(unsafe_here) {
        return text;
    }
    let shown =
        |c: char| if unsafe_here(c) { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// How far long work has come, on the terminal's last line; nothing where there is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    on: bool,
}

impl Progress {
    /// Of so many of these.
    pub(crate) fn of(what: &'static str) -> Self {
        Self { what, on: std::io::stderr().is_terminal() }
    }

    /// So many are done.
    pub(crate) fn done(&self, count: usize) {
        if self.on {
            // It is only for people who look on.
            drop(write!(std::io::stderr(), "\r{count} {}", self.what));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.on {
            drop(write!(std::io::stderr(), "\r\u{1b}[K"));
        }
    }
}

/// Tells people what is not part of the answer.
pub(crate) fn note(text: &str) {
    // Nothing is lost if it cannot be said.
    drop(writeln!(std::io::stderr(), "{text}"));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] =
        &[text("NAME", "name"), number("CALLS", "sums/calls"), text("AT", "at")];

    #[test]
    fn tables_are_aligned_whatever_is_in_them() {
        let rows = [
            json!({"name": "客户", "sums": {"calls": 12}, "at": "2026-11-21T08:00:00.000001Z"}),
            json!({"name": "a\u{1b}[2J", "sums": {"calls": 1500}, "at": null}),
        ];
        assert_eq!(
            table(&rows, COLUMNS),
            "NAME        CALLS  AT\n客户           12  2026-11-21T08:00:00Z\na\\u{1b}[2J   1500  -"
        );
        assert_eq!(table(&[], COLUMNS), "NAME  CALLS  AT");
    }

    #[test]
    fn details_show_the_columns_first_and_leave_nothing_out() {
        let thing =
            json!({"a": true, "at": "x", "name": "n", "sums": {"calls": 1}, "z": ["p", "q"]});
        assert_eq!(
            details(&thing, COLUMNS),
            "name        n\nsums/calls  1\nat          x\na           yes\nz           p,q"
        );
    }

    #[test]
    fn members_are_printed_bare() {
        let how = How { json: false, get: vec!["id".to_owned(), "sums.calls".to_owned()] };
        assert_eq!(how.members(&json!({"id": "a b", "sums": {"calls": 3}})), "a b\t3");
        assert_eq!(how.members(&json!({})), "\t");
    }
}
