//! What a query asks, part by part.

use std::ops::RangeInclusive;

use axum::extract::FromRequestParts;
use http::request::Parts;
use kernel::Timestamp;
use serde_json::Value;

use crate::store::{Orders, PageQuery};
use crate::{Error, Result, records};

/// Rows that may be skipped.
const DEEPEST: u32 = 1_000_000;
/// The longest text that lists are searched for.
const LONGEST_SEARCH: usize = 100;

/// The parts of a query; those that nobody asks for are passed over.
#[derive(Debug, Default)]
pub(super) struct Asked(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = web::Error;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> std::result::Result<Self, web::Error> {
        let web::Query(pairs) = web::Query::from_request_parts(parts, state).await?;
        Ok(Self(pairs))
    }
}

impl Asked {
    /// The last part of this name, if it is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// Every part of this name.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        let named = self.0.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty()).collect()
    }

    pub(super) fn number(
        &self,
        name: &'static str,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> Result<u32> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            Error::Query(name, format!("a whole number from {least} to {most} is wanted"))
        })
    }

    pub(super) fn offset(&self) -> Result<u32> {
        self.number("offset", 0, 0..=DEEPEST)
    }

    /// An instant: with an offset, with `Z`, or without either, which is UTC.
    pub(super) fn time(&self, name: &'static str) -> Result<Option<Timestamp>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let time = read_time(text);
        time.map(Some).ok_or_else(|| {
            Error::Query(name, "a time such as 2026-11-21T08:00:00Z is wanted".to_owned())
        })
    }

    /// Types of records, by name.
    pub(super) fn types(&self, name: &'static str) -> Result<Vec<String>> {
        let asked = self.all(name);
        let known = |asked: &String| records::TYPES.contains(&asked.as_str());
        match asked.iter().find(|asked| !known(asked)) {
            Some(_) => Err(Error::Query(name, format!("use {}", records::TYPES.join(", ")))),
            None => Ok(asked),
        }
    }

    /// A page of a list, sorted by one of these columns.
    pub(super) fn page(&self, orders: Orders) -> Result<PageQuery> {
        let page_size = self.number("page_size", 20, 1..=100)?;
        let page = self.number("page", 1, 1..=DEEPEST / page_size)?;
        let first = orders.first().map_or("", |(name, _)| *name);
        let wanted = self.text("sort_by").unwrap_or(first);
        let found = orders.iter().find(|(name, _)| *name == wanted);
        let (_, order) = found.ok_or_else(|| {
            let names: Vec<&str> = orders.iter().map(|(name, _)| *name).collect();
            Error::Query("sort_by", format!("无效的排序字段, use {}", names.join(", ")))
        })?;
        let descending = match self.text("sort_order").unwrap_or("desc") {
            "desc" => true,
            "asc" => false,
            _ => return Err(Error::Query("sort_order", "use asc or desc".to_owned())),
        };
        let search = self
            .text("search")
            .map(|text| text.chars().take(LONGEST_SEARCH).collect::<String>().to_lowercase());
        Ok(PageQuery { page, page_size, search, order, descending })
    }
}

fn read_time(text: &str) -> Option<Timestamp> {
    // A plus sign in a query is a space unless it was coded.
    let text = match text.rsplit_once(' ') {
        Some((time, offset)) if offset.contains(':') && time.contains('T') => {
            format!("{time}+{offset}")
        }
        _ => text.replacen(' ', "T", 1),
    };
    let read = |text: String| serde_json::from_value(Value::String(text)).ok();
    let whole = if text.contains('T') { text } else { format!("{text}T00:00:00") };
    read(whole.clone()).or_else(|| read(format!("{whole}Z")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Asked {
        let owned = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Asked(owned.collect())
    }

    #[test]
    fn times_are_read_in_every_form() {
        for text in [
            "2025-11-21T08:00:00.000001Z",
            "2025-11-21T08:00:00.000001",
            "2025-11-21 08:00:00.000001",
            "2025-11-21T09:00:00.000001+01:00",
            "2025-11-21T09:00:00.000001 01:00",
        ] {
            let time = asked(&[("t", text)]).time("t").unwrap();
            assert_eq!(time.unwrap().micros(), 1_763_712_000_000_001, "{text}");
        }
        let day = asked(&[("t", "2025-11-21")]).time("t").unwrap().unwrap();
        assert_eq!(day.micros(), 1_763_683_200_000_000);
        assert!(asked(&[("t", "yesterday")]).time("t").is_err());
        assert_eq!(asked(&[]).time("t").unwrap(), None);
    }

    #[test]
    fn numbers_and_pages_have_bounds() {
        const ORDERS: Orders = &[("name", "name")];
        let limit = |text| asked(&[("limit", text)]).number("limit", 50, 1..=500);
        assert_eq!((limit("7").unwrap(), limit("").unwrap()), (7, 50));
        for bad in ["0", "501", "-1", "x", "1.5"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
        let page = asked(&[("search", " ÀB "), ("sort_order", "asc")]).page(ORDERS).unwrap();
        assert_eq!((page.page, page.page_size, page.descending), (1, 20, false));
        assert_eq!(page.search.as_deref(), Some("àb"));
        for bad in [("sort_by", "x"), ("sort_order", "up"), ("page", "0"), ("page_size", "101")] {
            assert!(asked(&[bad]).page(ORDERS).is_err(), "{bad:?}");
        }
    }
}
