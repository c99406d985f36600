//! Hours of the week in which a price counts, by the wall clock of the business time zone.

use std::fmt;

use serde::{Serialize, Serializer};

pub(crate) const DAY: u16 = 24 * 60;
pub(crate) const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Minutes of a week.
pub(crate) const WEEK: usize = 7 * DAY as usize;

/// Hours of some days of the week: from `from` until just before `until`. A window whose end is not
/// after its start goes on into the next day.
///
/// What counts is what the wall clock shows: an hour that a change of the clocks repeats is in or
/// out both times, one that it leaves out never comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Window {
    /// The days on which it begins.
    pub days: Days,
    /// When it begins.
    pub from: TimeOfDay,
    /// When it ends.
    pub until: TimeOfDay,
}

/// Days of the week, as bits from Monday on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Days(pub(crate) u8);

/// Minutes after midnight, 24:00 included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeOfDay(pub(crate) u16);

impl Window {
    /// Whether the wall clock is inside: days are counted from Monday (0), minutes from midnight.
    pub(crate) const fn has(self, day: u8, minute: u16) -> bool {
        let (from, until) = (self.from.0, self.until.0);
        if from < until {
            return self.days.has(day) && from <= minute && minute < until;
        }
        let yesterday = (day + 6) % 7;
        (self.days.has(day) && from <= minute) || (self.days.has(yesterday) && minute < until)
    }
}

impl Days {
    pub(crate) const ALL: Self = Self(0b0111_1111);

    const fn has(self, day: u8) -> bool {
        self.0 >> day & 1 == 1
    }
}

impl TimeOfDay {
    /// Reads `HH:MM`, up to `24:00`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let number = |digits: &str| {
            let whole = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            whole.then(|| digits.parse::<u16>().ok()).flatten()
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let total = hours * 60 + minutes;
        (minutes < 60 && total <= DAY).then_some(Self(total))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Days {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = (0_u8..).zip(DAYS).filter(|(day, _)| self.has(*day));
        serializer.collect_seq(named.map(|(_, name)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
        let friday_night =
            Window { days: Days(1 << 4), from: TimeOfDay(22 * 60), until: TimeOfDay(6 * 60) };
        assert!(friday_night.has(4, 22 * 60) && friday_night.has(5, 0) && friday_night.has(5, 359));
        assert!(!friday_night.has(4, 0) && !friday_night.has(5, 360) && !friday_night.has(5, 1400));
    }

    #[test]
    fn times_of_day_are_read_strictly() {
        assert_eq!(TimeOfDay::parse("24:00"), Some(TimeOfDay(DAY)));
        for text in ["24:01", "9:00", "09:60", "0900", "-1:00", "+1:00", "09:00:00", ""] {
            assert_eq!(TimeOfDay::parse(text), None, "{text}");
        }
        assert_eq!(TimeOfDay::parse("09:05").unwrap().to_string(), "09:05");
    }
}
