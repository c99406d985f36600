//! Exact sums of money: fractions of a billionth, rounded only at the end.

use std::fmt;

use ethnum::{I256, U256};
use kernel::Amount;
use serde::{Serialize, Serializer};

/// Billionths in one unit of a currency.
const ONE: I256 = I256::new(1_000_000_000);
/// A fraction prints as a decimal when it ends within so many places.
const MOST_PLACES: u32 = 30;

/// An exact sum in billionths, as a fraction. Prints in whole units: as a decimal where that ends,
/// otherwise as a fraction. Of 256 bits: a share of a share of a share of a package's price does not
/// fit into 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    numerator: I256,
    /// Above zero.
    denominator: I256,
}

impl Exact {
    /// Nothing.
    pub const ZERO: Self = Self { numerator: I256::ZERO, denominator: I256::ONE };

    /// An amount as it is.
    pub fn of(amount: Amount) -> Self {
        Self { numerator: I256::from(amount.nanos()), denominator: I256::ONE }
    }

    /// So many units at this price for each `per` of them; `per` is above zero.
    pub(crate) fn units(units: u64, price: Amount, per: u64) -> Option<Self> {
        let numerator = I256::from(units).checked_mul(I256::from(price.nanos()))?;
        Some(Self { numerator, denominator: I256::from(per.max(1)) })
    }

    /// The sum.
    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        let (one, two) = (self.denominator, other.denominator);
        // Nearly always one of these: division is what costs.
        match (self.numerator, other.numerator) {
            (I256::ZERO, _) => return Some(other),
            (_, I256::ZERO) => return Some(self),
            (left, right) if one == two => {
                return Some(Self { numerator: left.checked_add(right)?, denominator: one });
            }
            _ => {}
        }
        let denominator = if one % two == 0 { one } else { one.checked_mul(two / gcd(one, two))? };
        let scaled = |part: Self| part.numerator.checked_mul(denominator / part.denominator);
        Some(Self { numerator: scaled(self)?.checked_add(scaled(other)?)?, denominator })
    }

    /// The difference.
    pub(crate) fn minus(self, other: Self) -> Option<Self> {
        self.plus(Self { numerator: other.numerator.checked_neg()?, ..other })
    }

    /// So many `of`-ths of it; `of` is above zero.
    pub(crate) fn times(self, parts: u64, of: u64) -> Option<Self> {
        let (parts, of) = (I256::from(parts), I256::from(of.max(1)));
        let common = gcd(parts, of);
        let numerator = self.numerator.checked_mul(parts / common)?;
        Some(Self { numerator, denominator: self.denominator.checked_mul(of / common)? })
    }

    /// Nothing is left.
    pub(crate) fn is_zero(self) -> bool {
        self.numerator == 0
    }

    /// The larger of the two.
    pub(crate) fn max(self, other: Self) -> Option<Self> {
        Some(if self.minus(other)?.numerator < 0 { other } else { self })
    }

    /// The smaller of the two.
    pub(crate) fn min(self, other: Self) -> Option<Self> {
        Some(if self.minus(other)?.numerator > 0 { other } else { self })
    }

    /// The smallest amount that is not below.
    pub(crate) fn rounded_up(self) -> Option<Amount> {
        let whole = self.numerator.div_euclid(self.denominator);
        let nanos = whole + I256::from(self.numerator.rem_euclid(self.denominator) > 0);
        i64::try_from(nanos).ok().map(Amount::from_nanos)
    }
}

/// The greatest number that divides both; 1 for two zeros.
pub(crate) fn gcd(one: I256, two: I256) -> I256 {
    let (mut one, mut two) = (one, two);
    while two != 0 {
        (one, two) = (two, one % two);
    }
    if one == 0 { I256::ONE } else { one.abs() }
}

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let common = gcd(self.numerator, self.denominator);
        let (numerator, mut denominator) = (self.numerator / common, self.denominator / common);
        // The last step to whole units is a shift of nine places.
        let mut places = 9;
        let mut digits = numerator.unsigned_abs();
        let sign = if numerator < 0 { "-" } else { "" };
        while denominator > 1 && places < MOST_PLACES {
            let shared = gcd(denominator, I256::new(10));
            let by = (I256::new(10) / shared).unsigned_abs();
            let Some(shifted) = digits.checked_mul(by) else { break };
            if shared == 1 {
                break;
            }
            digits = shifted;
            denominator /= shared;
            places += 1;
        }
        if denominator > 1 {
            return match self.denominator.checked_mul(ONE) {
                Some(whole) => {
                    let common = gcd(self.numerator, whole);
                    write!(f, "{}/{}", self.numerator / common, whole / common)
                }
                None => write!(f, "{}/{}/{ONE}", self.numerator, self.denominator),
            };
        }
        let one = U256::new(10).pow(places);
        let fraction = format!("{:0width$}", digits % one, width = places as usize);
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{sign}{}", digits / one),
            fraction => write!(f, "{sign}{}.{fraction}", digits / one),
        }
    }
}

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(units: u64, nanos: i64, per: u64) -> Exact {
        Exact::units(units, Amount::from_nanos(nanos), per).unwrap()
    }

    #[test]
    fn sums_are_exact_and_print_in_whole_units() {
        let third = units(1, 1, 3);
        let sum = third.plus(third).unwrap().plus(units(1, 1, 3)).unwrap();
        assert_eq!(
            sum.minus(units(1, 1, 1)),
            Some(Exact { numerator: I256::ZERO, denominator: I256::new(3) })
        );
        assert_eq!(third.to_string(), "1/3000000000");
        assert_eq!(units(7, 2_000_000_000, 1_000_000).to_string(), "0.000014");
        assert_eq!(units(1, 1, 1_000_000).to_string(), "0.000000000000001");
        assert_eq!(Exact::of(Amount::from_nanos(-1_500_000_000)).to_string(), "-1.5");
        assert_eq!(Exact::ZERO.to_string(), "0");
    }

    #[test]
    fn only_the_end_is_rounded_and_up() {
        assert_eq!(units(1, 1, 3).rounded_up(), Some(Amount::from_nanos(1)));
        assert_eq!(units(3, 1, 3).rounded_up(), Some(Amount::from_nanos(1)));
        assert_eq!(units(4, 1, 3).rounded_up(), Some(Amount::from_nanos(2)));
        assert_eq!(Exact::ZERO.rounded_up(), Some(Amount::ZERO));
        assert_eq!(units(u64::MAX, i64::MAX, 1).rounded_up(), None);
    }

    #[test]
    fn shares_of_shares_of_parts_fit() {
        let package = units(952, 38_000_000_000, 187);
        let sum = package.plus(units(535, 1_000_000_000, 1_000_000)).unwrap();
        let share = |sum: Exact, parts| sum.times(parts, 1_000_000).unwrap();
        let thrice = share(share(share(sum, 2_032_783), 2_017_330), 2_753_161);
        assert_eq!(thrice.max(share(sum, 61_167)), Some(thrice));
        assert_eq!(thrice.rounded_up(), Some(Amount::from_nanos(2_184_136_192_937)));
    }

    #[test]
    fn the_larger_and_the_smaller_are_found_across_denominators() {
        let (half, third) = (units(1, 1, 2), units(1, 1, 3));
        assert_eq!((third.max(half), half.min(third)), (Some(half), Some(third)));
        assert_eq!(half.times(850_000, 1_000_000).unwrap().to_string(), "0.000000000425");
    }
}
