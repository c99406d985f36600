//! Money as an integer number of billionths.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Decimal places of every asset.
const SCALE: usize = 9;
const ONE: i64 = 1_000_000_000;
/// A JSON number is exact up to this many significant digits.
const EXACT_DIGITS: usize = 15;

/// An amount of one asset in billionths of its unit (`1.5 CNY` is `1_500_000_000`).
///
/// Reads and prints as a plain decimal (`"12.5"`); serializes as a string so that no client
/// rounds it. A JSON number is accepted on input when it has at most 15 significant digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i64);

/// Why a text is not an [`Amount`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not an optional sign, digits and an optional fraction.
    #[error("is not a decimal number such as 12.5")]
    Malformed,
    /// More than nine digits after the point.
    #[error("has more than 9 decimal places")]
    TooPrecise,
    /// Beyond ±9.2 billion units.
    #[error("is out of range (at most 9223372036.854775807)")]
    OutOfRange,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount there is.
    pub const MAX: Self = Self(i64::MAX);

    /// An amount of so many billionths.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// An amount of so many whole units; `None` beyond the range.
    pub const fn from_units(units: i64) -> Option<Self> {
        match units.checked_mul(ONE) {
            Some(nanos) => Some(Self(nanos)),
            None => None,
        }
    }

    /// The billionths.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The sum, or `None` beyond the range.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, or `None` beyond the range.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// The sum, held at the end of the range.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, held at the end of the range.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Greater than zero.
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// Less than zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) {
            return Err(AmountError::Malformed);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > SCALE {
            return Err(AmountError::TooPrecise);
        }
        let magnitude = format!("{whole}{fraction:0<SCALE$}");
        let signed = if negative { format!("-{magnitude}") } else { magnitude };
        signed.parse().map(Self).map_err(|_overflow| AmountError::OutOfRange)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let one = ONE.unsigned_abs();
        let (whole, fraction) = (magnitude / one, magnitude % one);
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{fraction:09}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AmountVisitor)
    }
}

struct AmountVisitor;

impl AmountVisitor {
    fn parse<E: de::Error>(text: &str) -> Result<Amount, E> {
        text.parse().map_err(|cause| E::custom(format!("amount {text:?} {cause}")))
    }
}

impl de::Visitor<'_> for AmountVisitor {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount as a decimal string, such as \"12.5\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
        Self::parse(text)
    }

    fn visit_i64<E: de::Error>(self, units: i64) -> Result<Amount, E> {
        Self::parse(&units.to_string())
    }

    fn visit_u64<E: de::Error>(self, units: u64) -> Result<Amount, E> {
        Self::parse(&units.to_string())
    }

    /// The shortest decimal that reads back as the same number is what the sender wrote, as long
    /// as it has no more digits than a double keeps exactly.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Amount, E> {
        let text = number.to_string();
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        if digits > EXACT_DIGITS + 1 {
            return Err(E::custom(format!(
                "amount {text} has too many digits for a JSON number: send it as a string"
            )));
        }
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_that_are_no_amounts_are_refused_with_the_reason() {
        for text in ["", "-", ".", "1.", ".5", "+1", "1e3", "1,5", " 1", "NaN", "0x1", "١"] {
            assert_eq!(text.parse::<Amount>(), Err(AmountError::Malformed), "{text:?}");
        }
        assert_eq!("0.0000000001".parse::<Amount>(), Err(AmountError::TooPrecise));
        assert_eq!("9223372036.854775808".parse::<Amount>(), Err(AmountError::OutOfRange));
    }

    #[test]
    fn json_numbers_are_taken_as_written() {
        for (json, text) in
            [("0.05", "0.05"), ("100", "100"), ("12.5", "12.5"), ("\"1.50\"", "1.5")]
        {
            assert_eq!(serde_json::from_str::<Amount>(json).unwrap().to_string(), text);
        }
        assert!(serde_json::from_str::<Amount>("0.12345678901234567").is_err());
        assert!(serde_json::from_str::<Amount>("true").is_err());
    }

    proptest! {
        #[test]
        fn every_amount_reads_back_as_printed(nanos: i64) {
            let amount = Amount::from_nanos(nanos);
            prop_assert_eq!(amount.to_string().parse::<Amount>(), Ok(amount));
        }
    }
}
