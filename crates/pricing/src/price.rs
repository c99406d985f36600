//! Rates, and the immutable versions they are kept in.

use kernel::{Amount, Asset};
use serde::{Deserialize, Serialize};

use crate::Tokens;

const PER_MILLION: i128 = 1_000_000;

/// Prices per token class. An absent class costs what its parent does: cached input and cache
/// writes cost what input does, reasoning what output does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Per million input tokens.
    pub input_per_million: Amount,
    /// Per million input tokens served from the upstream's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_per_million: Option<Amount>,
    /// Per million input tokens written to the upstream's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_per_million: Option<Amount>,
    /// Per million output tokens.
    pub output_per_million: Amount,
    /// Per million reasoning tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_per_million: Option<Amount>,
    /// Added once per billed call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_call: Option<Amount>,
}

/// What one model costs, for ever: a change is a new version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceVersion {
    /// 32 hexadecimal digits that follow from everything below.
    pub id: String,
    /// The public model name.
    pub model: String,
    /// The currency of the rates.
    pub currency: Asset,
    /// The rates.
    pub rates: Rates,
}

/// A price that cannot be used or a charge that cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PricingError {
    /// A rate is below zero.
    #[error("{0} is below zero")]
    NegativeRate(&'static str),
    /// The charge is beyond the range of amounts.
    #[error("the charge is out of range")]
    OutOfRange,
}

impl PriceVersion {
    /// The version of these contents.
    pub fn new(model: &str, currency: Asset, rates: Rates) -> Result<Self, PricingError> {
        rates.check()?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"ledgerline price 1\n");
        for part in [model.as_bytes(), currency.as_str().as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        for (_, rate) in rates.classes() {
            hasher.update(&rate.nanos().to_le_bytes());
        }
        let id = hasher.finalize().to_hex().chars().take(32).collect();
        Ok(Self { id, model: model.to_owned(), currency, rates })
    }

    /// What these tokens cost in one billed call: exact, then rounded up once.
    pub fn charge(&self, tokens: &Tokens) -> Result<Amount, PricingError> {
        let rates = &self.rates;
        let per_million = [
            (tokens.input, rates.input_per_million),
            (tokens.cached_input, rates.cached_input()),
            (tokens.cache_write, rates.cache_write()),
            (tokens.output, rates.output_per_million),
            (tokens.reasoning, rates.reasoning()),
        ];
        let millionths = per_million
            .iter()
            .try_fold(0_i128, |sum, (count, rate)| {
                sum.checked_add(i128::from(*count).checked_mul(i128::from(rate.nanos()))?)
            })
            .ok_or(PricingError::OutOfRange)?;
        let rounded_up =
            millionths.div_euclid(PER_MILLION) + i128::from(millionths.rem_euclid(PER_MILLION) > 0);
        let nanos = rounded_up + i128::from(rates.per_call.unwrap_or_default().nanos());
        i64::try_from(nanos).map(Amount::from_nanos).map_err(|_beyond| PricingError::OutOfRange)
    }

    /// The most that one call may cost with at most so many tokens in and out, whatever class they
    /// turn out to be.
    pub fn ceiling(&self, input: u64, output: u64) -> Result<Amount, PricingError> {
        let rates = &self.rates;
        let dearest_input =
            rates.input_per_million.max(rates.cached_input()).max(rates.cache_write());
        let dearest_output = rates.output_per_million.max(rates.reasoning());
        let dearest = Rates {
            input_per_million: dearest_input,
            output_per_million: dearest_output,
            ..*rates
        };
        let bound = Self { rates: dearest, ..self.clone() };
        bound.charge(&Tokens { input, output, ..Tokens::default() })
    }
}

impl Rates {
    fn cached_input(&self) -> Amount {
        self.cached_input_per_million.unwrap_or(self.input_per_million)
    }

    fn cache_write(&self) -> Amount {
        self.cache_write_per_million.unwrap_or(self.input_per_million)
    }

    fn reasoning(&self) -> Amount {
        self.reasoning_per_million.unwrap_or(self.output_per_million)
    }

    fn classes(&self) -> [(&'static str, Amount); 6] {
        [
            ("input_per_million", self.input_per_million),
            ("cached_input_per_million", self.cached_input()),
            ("cache_write_per_million", self.cache_write()),
            ("output_per_million", self.output_per_million),
            ("reasoning_per_million", self.reasoning()),
            ("per_call", self.per_call.unwrap_or_default()),
        ]
    }

    fn check(&self) -> Result<(), PricingError> {
        match self.classes().iter().find(|(_, rate)| rate.is_negative()) {
            Some((name, _)) => Err(PricingError::NegativeRate(name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(input: i64, cached: i64, output: i64, per_call: i64) -> PriceVersion {
        let rates = Rates {
            input_per_million: Amount::from_nanos(input),
            cached_input_per_million: Some(Amount::from_nanos(cached)),
            cache_write_per_million: None,
            output_per_million: Amount::from_nanos(output),
            reasoning_per_million: None,
            per_call: Some(Amount::from_nanos(per_call)),
        };
        PriceVersion::new("m", "CNY".parse().unwrap(), rates).unwrap()
    }

    #[test]
    fn golden_charges() {
        let price = version(2_000_000_000, 500_000_000, 8_000_000_000, 0);
        let tokens = Tokens { input: 1000, cached_input: 200, output: 50, ..Tokens::default() };
        assert_eq!(price.charge(&tokens).unwrap().to_string(), "0.0025");
        assert_eq!(price.charge(&Tokens::default()).unwrap(), Amount::ZERO);
        let tiny = version(1, 1, 1, 7);
        assert_eq!(tiny.charge(&Tokens { input: 1, ..Tokens::default() }).unwrap().nanos(), 8);
    }

    #[test]
    fn another_content_is_another_version() {
        let one = version(1, 2, 3, 4);
        assert_eq!(one.id, version(1, 2, 3, 4).id);
        assert_ne!(one.id, version(1, 2, 3, 5).id);
        assert_eq!(one.id.len(), 32);
    }

    #[test]
    fn a_rate_below_zero_is_refused_by_name() {
        let rates =
            Rates { input_per_million: Amount::from_nanos(-1), ..version(1, 1, 1, 1).rates };
        let refused = PriceVersion::new("m", "CNY".parse().unwrap(), rates);
        assert_eq!(refused, Err(PricingError::NegativeRate("input_per_million")));
    }

    proptest! {
        /// The oracle divides in another way: whole millions and remainders, class by class.
        #[test]
        fn charges_equal_an_independent_sum(
            counts in prop::array::uniform5(0_u64..1_000_000_000),
            rates in prop::array::uniform4(0_i64..1_000_000_000_000),
        ) {
            let [input, cached, output, per_call] = rates;
            let price = version(input, cached, output, per_call);
            let tokens = Tokens {
                input: counts[0], cached_input: counts[1], cache_write: counts[2],
                output: counts[3], reasoning: counts[4],
            };
            let (mut whole, mut rest) = (0_u128, 0_u128);
            for (count, rate) in [(counts[0], input), (counts[1], cached), (counts[2], input), (counts[3], output), (counts[4], output)] {
                let (count, rate) = (u128::from(count), u128::from(rate.unsigned_abs()));
                whole += count / 1_000_000 * rate;
                rest += count % 1_000_000 * rate;
            }
            let expected = whole + rest.div_ceil(1_000_000) + u128::from(per_call.unsigned_abs());
            match price.charge(&tokens) {
                Ok(amount) => prop_assert_eq!(u128::from(amount.nanos().unsigned_abs()), expected),
                Err(_) => prop_assert!(expected > u128::from(i64::MAX.unsigned_abs())),
            }
        }

        #[test]
        fn the_ceiling_is_never_below_the_charge(
            counts in prop::array::uniform5(0_u64..1_000_000),
            rates in prop::array::uniform4(0_i64..1_000_000_000),
        ) {
            let price = version(rates[0], rates[1], rates[2], rates[3]);
            let tokens = Tokens {
                input: counts[0], cached_input: counts[1], cache_write: counts[2],
                output: counts[3], reasoning: counts[4],
            };
            let ceiling = price.ceiling(counts[0] + counts[1] + counts[2], counts[3] + counts[4]).unwrap();
            prop_assert!(ceiling >= price.charge(&tokens).unwrap());
        }
    }
}
