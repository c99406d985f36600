//! Keyset pages: a list continues after the last row seen, not at an offset.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Rows a list gives when the caller does not say.
const DEFAULT_LIMIT: u32 = 50;
/// Rows a list gives at most.
const MAX_LIMIT: u32 = 1000;

/// Where a list continues: the sort key of the last row seen, opaque to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(String);

/// A cursor that this server did not hand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor of this list: send back the `next` of the previous page unchanged")]
pub struct CursorError;

impl Cursor {
    /// The cursor after the row with this key.
    pub fn after(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key of the last row seen.
    pub fn key(&self) -> &str {
        &self.0
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        if !text.len().is_multiple_of(2) || !text.is_ascii() {
            return Err(CursorError);
        }
        let bytes = (0..text.len())
            .step_by(2)
            .map(|at| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect::<Option<Vec<u8>>>()
            .ok_or(CursorError)?;
        String::from_utf8(bytes).map(Self).map_err(|_not_text| CursorError)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|cause| serde::de::Error::custom(format!("{text:?} {cause}")))
    }
}

/// What a caller asks of a list: how many rows, after which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct PageRequest {
    /// Rows wanted, 50 when absent, 1000 at most.
    pub limit: Option<u32>,
    /// Where to continue; the first page when absent.
    pub cursor: Option<Cursor>,
}

impl PageRequest {
    /// The number of rows to give, within 1 to 1000.
    pub fn limit(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT)
    }

    /// The rows to read: one more than asked, which tells whether there is a next page.
    pub fn fetch(&self) -> i64 {
        i64::from(self.limit()) + 1
    }
}

/// A part of a list and where it continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page<T> {
    /// The rows of this page.
    pub rows: Vec<T>,
    /// Where the next page starts; absent on the last.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// A page from the rows read with [`PageRequest::fetch`]; `key` names a row's sort key.
    pub fn from_fetched(
        mut rows: Vec<T>,
        request: &PageRequest,
        key: impl Fn(&T) -> String,
    ) -> Self {
        let limit = request.limit() as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(|row| Cursor::after(key(row))) } else { None };
        Self { rows, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_where_the_rows_do() {
        let request = PageRequest { limit: Some(2), cursor: None };
        let full = Page::from_fetched(vec![1, 2, 3], &request, ToString::to_string);
        assert_eq!((full.rows, full.next), (vec![1, 2], Some(Cursor::after("2"))));
        let last = Page::from_fetched(vec![3], &request, ToString::to_string);
        assert_eq!((last.rows, last.next), (vec![3], None));
    }

    #[test]
    fn cursors_read_back_and_foreign_ones_are_refused() {
        let cursor = Cursor::after("2026-é/7");
        assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        for text in ["x", "zz", "é", "ff"] {
            assert_eq!(Cursor::parse(text), Err(CursorError), "{text}");
        }
    }
}
