//! What an answer costs that is given again from a cache.

use kernel::Amount;
use serde::{Deserialize, Serialize};

use crate::PricingError;

const WHOLE: u8 = 100;

/// What an answer costs that is given again from a cache: a share of what asking anew would cost
/// and a fee, together never more than asking anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CachedResponse {
    /// So many percent of what asking anew would cost, 0 to 100.
    #[serde(default)]
    pub percent: u8,
    /// Added once, in the price's currency.
    #[serde(default)]
    pub per_call: Amount,
}

impl CachedResponse {
    /// Whether it can be charged by.
    pub const fn check(self) -> Result<(), PricingError> {
        if self.per_call.is_negative() {
            return Err(PricingError::NegativeRate("cached_response.per_call"));
        }
        if self.percent > WHOLE { Err(PricingError::OutOfRange) } else { Ok(()) }
    }

    /// The charge where asking anew would cost `anew`: exact, then rounded up once.
    pub fn charge(self, anew: Amount) -> Amount {
        let whole = i128::from(WHOLE);
        let hundredths = i128::from(anew.nanos()) * i128::from(self.percent);
        let share = hundredths.div_euclid(whole) + i128::from(hundredths.rem_euclid(whole) > 0);
        let nanos = share + i128::from(self.per_call.nanos());
        i64::try_from(nanos).map_or(anew, Amount::from_nanos).min(anew)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(percent: u8, per_call: i64) -> CachedResponse {
        CachedResponse { percent, per_call: Amount::from_nanos(per_call) }
    }

    #[test]
    fn a_share_is_rounded_up_and_the_whole_never_dearer_than_asking_anew() {
        let anew = Amount::from_nanos(101);
        let charges =
            [(10, 0, 11), (0, 0, 0), (0, 7, 7), (10, 7, 18), (0, 700, 101), (100, 1, 101)];
        for (percent, per_call, expected) in charges {
            assert_eq!(rule(percent, per_call).charge(anew).nanos(), expected);
        }
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        assert!(rule(101, 0).check().is_err() && rule(0, -1).check().is_err());
        assert_eq!(rule(100, 1).check(), Ok(()));
    }

    proptest! {
        #[test]
        fn a_share_is_exact_within_one_unit(anew in 0..i64::MAX, percent in 0_u8..=100) {
            let charge = rule(percent, 0).charge(Amount::from_nanos(anew)).nanos();
            let exact = i128::from(anew) * i128::from(percent);
            prop_assert!(i128::from(charge) * 100 >= exact && i128::from(charge) * 100 < exact + 100);
        }
    }
}
