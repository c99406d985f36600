//! A share of another price.

use std::fmt;
use std::str::FromStr;

use kernel::Amount;
use serde::{Serialize, Serializer};

use crate::exact::Exact;

/// Parts of a percent that are told apart.
const STEP: i64 = 100_000;
const WHOLE: u64 = 1_000_000;
const MOST: u64 = 10 * WHOLE;

/// A share of another price in ten-thousandths of a percent: 0 to 1000 %, four decimal places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u64);

/// Not a percentage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a percentage from 0 to 1000 with at most 4 decimal places")]
pub struct PercentError;

impl Percent {
    /// So much of a sum.
    pub(crate) fn of(self, sum: Exact) -> Option<Exact> {
        sum.times(self.0, WHOLE)
    }
}

impl FromStr for Percent {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<Self, PercentError> {
        let nanos = text.parse::<Amount>().map_err(|_malformed| PercentError)?.nanos();
        let parts = u64::try_from(nanos / STEP).map_err(|_negative| PercentError)?;
        if nanos < 0 || nanos % STEP != 0 || parts > MOST {
            return Err(PercentError);
        }
        Ok(Self(parts))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i64::try_from(self.0).unwrap_or(i64::MAX).saturating_mul(STEP);
        write!(f, "{}", Amount::from_nanos(nanos))
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read_and_printed() {
        for text in ["0", "85", "12.5", "0.0001", "1000"] {
            assert_eq!(text.parse::<Percent>().unwrap().to_string(), text);
        }
        for text in ["-1", "1000.0001", "0.00001", "85%", "", "1e2"] {
            assert_eq!(text.parse::<Percent>(), Err(PercentError), "{text}");
        }
    }
}
