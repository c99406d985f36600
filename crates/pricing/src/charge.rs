//! The computation of a charge, line by line.

use kernel::Amount;
use serde::Serialize;

use crate::document::{Package, Pricing, Tier};
use crate::exact::Exact;
use crate::percent::Percent;
use crate::version::{Form, Priced, Prices};
use crate::{CachedResponse, Classes, PricingError, Quote, Tokens};

/// A charge and how it comes about: the lines add up to the amount, exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Charge {
    /// In the order of the computation.
    pub lines: Vec<Line>,
    /// What is charged.
    pub amount: Amount,
}

/// One step of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What it is.
    pub what: Step,
    /// The position of the rule in the price file; absent for the rounding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    /// Whose units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Classes>,
    /// How many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<u64>,
    /// The price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<Amount>,
    /// The units that the price is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per: Option<u64>,
    /// The share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
    /// What the step adds, below zero for what it takes off; exact.
    pub amount: Exact,
}

/// What a line of a charge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Units at a price.
    Units,
    /// Units that cost nothing.
    Free,
    /// Packages begun with this call.
    Packages,
    /// Once for the call.
    PerCall,
    /// Up to the least that a call costs.
    Minimum,
    /// Down to the most that a call costs.
    Maximum,
    /// A share of the sum so far.
    Percent,
    /// Up to the next billionth.
    Rounding,
    /// Down to what an answer costs that is given again from a cache.
    Cached,
}

impl Charge {
    /// The charge where the answer is given again from a cache.
    #[must_use]
    pub fn given_again(mut self, rule: CachedResponse) -> Self {
        let amount = rule.charge(self.amount);
        if let Some(less) = Exact::of(amount).minus(Exact::of(self.amount)) {
            self.lines.push(Line::new(Step::Cached, less));
        }
        Self { amount, ..self }
    }
}

/// Takes the lines as they come.
type Sink<'a> = &'a mut dyn FnMut(Line);

impl Quote {
    /// The charge of [`Self::charge`] with its lines.
    pub fn explain(&self, tokens: &Tokens) -> Result<Charge, PricingError> {
        let mut lines = Vec::new();
        let amount = self.walk(tokens, &mut |line| lines.push(line));
        Ok(Charge { lines, amount: amount.ok_or(PricingError::OutOfRange)? })
    }

    /// The one computation of a charge. `None` beyond the range of amounts.
    pub(crate) fn walk(&self, tokens: &Tokens, sink: Sink<'_>) -> Option<Amount> {
        let context = tokens.context();
        let tariff = self.base.tariff(context)?;
        let Form::Prices(prices) = &tariff.form else { return None };
        let of_rule = &mut |line: Line| sink(Line { rule: Some(tariff.rule), ..line });
        let mut sum = Exact::ZERO;
        for priced in &prices.items {
            let told = Some(priced.covers.told_of(tokens));
            let counted = &mut |line: Line| of_rule(Line { class: told, ..line });
            let cost =
                priced.cost(self.used_before(priced), priced.covers.units(tokens), counted)?;
            sum = sum.plus(cost)?;
        }
        sum = prices.call(sum, of_rule)?;
        for share in self.shares.iter().rev() {
            let tariff = share.tariff(context)?;
            let Form::Share(percent) = tariff.form else { return None };
            let whole = sum;
            sum = percent.of(whole)?;
            let line =
                Line { percent: Some(percent), ..Line::new(Step::Percent, sum.minus(whole)?) };
            sink(Line { rule: Some(tariff.rule), ..line });
        }
        let amount = sum.rounded_up()?;
        let rounding = Exact::of(amount).minus(sum)?;
        if !rounding.is_zero() {
            sink(Line::new(Step::Rounding, rounding));
        }
        Some(amount)
    }
}

impl Prices {
    /// What comes once for a call: its own price, and the bounds.
    pub(crate) fn call(&self, mut sum: Exact, sink: Sink<'_>) -> Option<Exact> {
        if let Some(per_call) = self.per_call {
            let amount = Exact::of(per_call);
            sink(Line { price: Some(per_call), ..Line::new(Step::PerCall, amount) });
            sum = sum.plus(amount)?;
        }
        if let Some(bound) = self.minimum {
            sum = bounded(sum, sum.max(Exact::of(bound))?, (Step::Minimum, bound), sink)?;
        }
        if let Some(bound) = self.maximum {
            sum = bounded(sum, sum.min(Exact::of(bound))?, (Step::Maximum, bound), sink)?;
        }
        Some(sum)
    }
}

fn bounded(
    sum: Exact,
    then: Exact,
    (what, bound): (Step, Amount),
    sink: Sink<'_>,
) -> Option<Exact> {
    let added = then.minus(sum)?;
    if !added.is_zero() {
        sink(Line { price: Some(bound), ..Line::new(what, added) });
    }
    Some(then)
}

impl Priced {
    /// What so many units cost after so many used before.
    pub(crate) fn cost(&self, used: u64, units: u64, sink: Sink<'_>) -> Option<Exact> {
        let free = units.min(self.item.free.saturating_sub(used));
        if free > 0 {
            sink(Line { units: Some(free), ..Line::new(Step::Free, Exact::ZERO) });
        }
        let (before, units) = (used.saturating_sub(self.item.free), units - free);
        if units == 0 {
            return Some(Exact::ZERO);
        }
        let per = self.item.per;
        match &self.item.pricing {
            Pricing::Unit(price) => part(units, *price, per, sink),
            Pricing::Volume(tiers) => {
                let position = before.saturating_add(units);
                let tier = tiers.iter().find(|tier| tier.reaches(position))?;
                part(units, tier.price, per, sink)
            }
            Pricing::Graduated(tiers) => graduated(tiers, before, units, per, sink),
            Pricing::Package(package) => packages(*package, before, units, sink),
        }
    }
}

fn part(units: u64, price: Amount, per: u64, sink: Sink<'_>) -> Option<Exact> {
    let amount = Exact::units(units, price, per)?;
    let line = Line::new(Step::Units, amount);
    sink(Line { units: Some(units), price: Some(price), per: Some(per), ..line });
    Some(amount)
}

/// Each unit by the tier it falls in, after so many before.
fn graduated(tiers: &[Tier], before: u64, units: u64, per: u64, sink: Sink<'_>) -> Option<Exact> {
    let end = before.saturating_add(units);
    let (mut sum, mut from, mut left) = (Exact::ZERO, before, units);
    for tier in tiers.iter().filter(|tier| tier.up_to.is_none_or(|up_to| up_to > before)) {
        let until = tier.up_to.map_or(end, |up_to| up_to.min(end));
        // The last tier takes what is left, also beyond what can be counted.
        let here = if tier.up_to.is_none() { left } else { (until - from).min(left) };
        if here > 0 {
            sum = sum.plus(part(here, tier.price, per, sink)?)?;
        }
        (from, left) = (until, left - here);
        if left == 0 {
            break;
        }
    }
    Some(sum)
}

/// Packages whose first unit is among these, after so many before.
fn packages(package: Package, before: u64, units: u64, sink: Sink<'_>) -> Option<Exact> {
    let Package { size, price } = package;
    let begun = before.saturating_add(units).div_ceil(size) - before.div_ceil(size);
    let amount = Exact::units(begun, price, 1)?;
    // Also where no package begins: the reader sees that the units fell into one already paid.
    let line = Line::new(Step::Packages, amount);
    sink(Line { units: Some(begun), price: Some(price), per: Some(1), ..line });
    Some(amount)
}

impl Tier {
    /// The position lies in this tier or before it.
    pub(crate) fn reaches(&self, position: u64) -> bool {
        self.up_to.is_none_or(|up_to| position <= up_to)
    }
}

impl Line {
    const fn new(what: Step, amount: Exact) -> Self {
        Self {
            what,
            rule: None,
            class: None,
            units: None,
            price: None,
            per: None,
            percent: None,
            amount,
        }
    }
}
