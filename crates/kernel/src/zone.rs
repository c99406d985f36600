//! Days and months in somebody's time zone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Timestamp;

/// A time zone of the IANA database, such as `Asia/Shanghai`. Reads and prints as its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(jiff::tz::TimeZone);

/// No such time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time zone: use a name such as UTC or Asia/Shanghai")]
pub struct UnknownZone(String);

/// A span of time: from its beginning to before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
}

impl Default for Zone {
    fn default() -> Self {
        Self(jiff::tz::TimeZone::UTC)
    }
}

impl Zone {
    /// The calendar day that holds this instant, 23 to 25 hours long.
    pub fn day(&self, at: Timestamp) -> Span {
        self.span(at, |day| (Some(day), day.tomorrow().ok()))
    }

    /// The calendar month that holds this instant.
    pub fn month(&self, at: Timestamp) -> Span {
        self.span(at, |day| {
            let first = day.first_of_month();
            (Some(first), day.last_of_month().tomorrow().ok())
        })
    }

    /// What the wall clock shows; instants beyond the calendar are shown as 1970.
    pub fn clock(&self, at: Timestamp) -> jiff::civil::DateTime {
        let instant = jiff::Timestamp::from_microsecond(at.micros()).unwrap_or_default();
        self.0.to_datetime(instant)
    }

    /// The day or month written as `2026-11-21` or `2026-11`, if it is one.
    pub fn named(&self, text: &str) -> Option<Span> {
        let (first, last) = match text.len() {
            10 => (text.parse().ok()?, text.parse::<jiff::civil::Date>().ok()?),
            7 => {
                let first: jiff::civil::Date = format!("{text}-01").parse().ok()?;
                (first, first.last_of_month())
            }
            _ => return None,
        };
        let after = last.tomorrow().ok()?;
        Some(Span { start: self.midnight(first)?, end: self.midnight(after)? })
    }

    /// Instants beyond the calendar are in an empty span.
    fn span(
        &self,
        at: Timestamp,
        of: impl Fn(jiff::civil::Date) -> (Option<jiff::civil::Date>, Option<jiff::civil::Date>),
    ) -> Span {
        let bounds = jiff::Timestamp::from_microsecond(at.micros()).ok().and_then(|instant| {
            let (first, after) = of(instant.to_zoned(self.0.clone()).date());
            Some((self.midnight(first?)?, self.midnight(after?)?))
        });
        let (start, end) = bounds.unwrap_or_default();
        Span { start, end }
    }

    /// When a day begins here: at its first instant, if it has no midnight.
    fn midnight(&self, day: jiff::civil::Date) -> Option<Timestamp> {
        let zoned = day.to_zoned(self.0.clone()).ok()?;
        Some(Timestamp::from_micros(zoned.timestamp().as_microsecond()))
    }
}

impl FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(name: &str) -> Result<Self, UnknownZone> {
        let zone = jiff::tz::TimeZone::get(name);
        zone.map(Self).map_err(|_unknown| UnknownZone(name.to_owned()))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        serde_json::from_value(serde_json::Value::from(text)).unwrap()
    }

    #[test]
    fn days_follow_the_zone_and_its_clock_changes() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        let spring = berlin.day(at("2026-03-29T12:00:00Z"));
        assert_eq!(spring.start, at("2026-03-28T23:00:00Z"));
        assert_eq!(spring.end, at("2026-03-29T22:00:00Z"), "a day of 23 hours");
        let autumn = berlin.day(at("2026-10-25T00:30:00Z"));
        assert_eq!(autumn.end.since(autumn.start).as_secs(), 25 * 3600);
        let shanghai: Zone = "Asia/Shanghai".parse().unwrap();
        assert_eq!(shanghai.day(at("2026-11-21T16:00:00Z")).start, at("2026-11-21T16:00:00Z"));
    }

    #[test]
    fn months_end_where_the_next_begins() {
        let zone = Zone::default();
        let february = zone.month(at("2028-02-29T23:59:59.999999Z"));
        assert_eq!(february.start, at("2028-02-01T00:00:00Z"));
        assert_eq!(february.end, at("2028-03-01T00:00:00Z"));
        assert_eq!(zone.month(february.end).start, february.end);
        assert_eq!(zone.month(at("2026-12-31T10:00:00Z")).end, at("2027-01-01T00:00:00Z"));
    }

    #[test]
    fn days_and_months_are_found_by_their_names() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        let day = berlin.named("2026-03-29").unwrap();
        assert_eq!((day.start, day.end), (at("2026-03-28T23:00:00Z"), at("2026-03-29T22:00:00Z")));
        let month = berlin.named("2026-03").unwrap();
        assert_eq!(
            (month.start, month.end),
            (at("2026-02-28T23:00:00Z"), at("2026-03-31T22:00:00Z"))
        );
        for text in
            ["", "2026", "2026-13", "2026-02-30", "march", "2026-11-21T08:00:00Z", "2026-11-"]
        {
            assert_eq!(berlin.named(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_those_of_the_iana_database() {
        let zone: Zone = serde_json::from_str("\"America/New_York\"").unwrap();
        assert_eq!(zone.to_string(), "America/New_York");
        assert!("Mars/Olympus".parse::<Zone>().is_err());
        assert_eq!(Zone::default().to_string(), "UTC");
    }
}
