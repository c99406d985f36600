//! The most that a call may cost, before anything is known but the bounds of its size.

use kernel::Amount;

use crate::document::Pricing;
use crate::exact::Exact;
use crate::version::{Form, Group, Priced, Prices};
use crate::{PricingError, Quote};

impl Quote {
    /// The most that one call may cost with at most so many tokens in and out, whatever class they
    /// turn out to be, and whichever context tier they reach.
    pub fn ceiling(&self, input: u64, output: u64) -> Result<Amount, PricingError> {
        self.dearest(input, output).ok_or(PricingError::OutOfRange)
    }

    fn dearest(&self, input: u64, output: u64) -> Option<Amount> {
        let mut most = Exact::ZERO;
        for tariff in self.base.within(input) {
            let Form::Prices(prices) = &tariff.form else { return None };
            let input = tariff.context.up_to.map_or(input, |up_to| up_to.min(input));
            most = most.max(self.dearest_of(prices, input, output)?)?;
        }
        for share in &self.shares {
            most = share.largest_share(most, input)?;
        }
        most.rounded_up()
    }

    fn dearest_of(&self, prices: &Prices, input: u64, output: u64) -> Option<Exact> {
        let mut sum = Exact::ZERO;
        for (at, priced) in prices.items.iter().enumerate() {
            let side = priced.covers.side();
            let mut same = prices.items.iter().filter(|other| other.covers.side() == side);
            let first = prices.items.iter().take(at).all(|other| other.covers.side() != side);
            if !first {
                continue;
            }
            let units = priced.covers.most(input, output);
            let alone = same.clone().nth(1).is_none();
            let bound = if alone {
                priced.dearest(self.used_before(priced), units)?
            } else {
                // The units may fall to any of these items: all to the one with the steepest
                // price, and each item's packages may be begun.
                same.try_fold((Exact::ZERO, Exact::ZERO), |(slope, begun), priced| {
                    let (steepest, extra) = priced.slope(units)?;
                    Some((slope.max(steepest)?, begun.plus(extra)?))
                })
                .and_then(|(slope, begun)| slope.plus(begun))?
            };
            sum = sum.plus(bound)?;
        }
        prices.call(sum, &mut |_line| {})
    }
}

impl Group {
    fn largest_share(&self, sum: Exact, input: u64) -> Option<Exact> {
        self.within(input).try_fold(Exact::ZERO, |most, tariff| match tariff.form {
            Form::Share(percent) => most.max(percent.of(sum)?),
            Form::Prices(_) => None,
        })
    }
}

impl Priced {
    /// The most that up to so many units cost after so many used before.
    fn dearest(&self, used: u64, units: u64) -> Option<Exact> {
        let Pricing::Volume(tiers) = &self.item.pricing else {
            // More units never cost less.
            return self.cost(used, units, &mut |_line| {});
        };
        let free = self.item.free.saturating_sub(used);
        let before = used.saturating_sub(self.item.free);
        let most = units.saturating_sub(free);
        let mut dearest = Exact::ZERO;
        for tier in tiers.iter().filter(|tier| tier.up_to.is_none_or(|up_to| up_to > before)) {
            let here = tier.up_to.map_or(most, |up_to| most.min(up_to - before));
            dearest = dearest.max(Exact::units(here, tier.price, self.item.per)?)?;
            if here == most {
                break;
            }
        }
        Some(dearest)
    }

    /// What so many units cost at most at the steepest price, and what a package that is begun
    /// adds.
    fn slope(&self, units: u64) -> Option<(Exact, Exact)> {
        let at = |price| Exact::units(units, price, self.item.per);
        Some(match &self.item.pricing {
            Pricing::Unit(price) => (at(*price)?, Exact::ZERO),
            Pricing::Graduated(tiers) | Pricing::Volume(tiers) => {
                let steepest = tiers.iter().map(|tier| tier.price).max().unwrap_or_default();
                (at(steepest)?, Exact::ZERO)
            }
            Pricing::Package(package) => {
                let all = Exact::units(units, package.price, package.size)?;
                (all, if units > 0 { Exact::of(package.price) } else { Exact::ZERO })
            }
        })
    }
}
