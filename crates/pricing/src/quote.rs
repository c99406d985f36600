//! What a call costs: the prices that count for its payer and time, fixed before it is made.

use std::sync::Arc;

use kernel::{Amount, Asset, Timestamp};
use serde::{Deserialize, Serialize};

use crate::version::{Form, Group, ModelPrices, Priced};
use crate::{PriceVersion, PricingError, Rates, Rule, Tokens};

/// Who pays and where the call is made, as far as prices depend on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Payer<'a> {
    /// The organization.
    pub customer: &'a str,
    /// The distributor it buys from.
    pub distributor: Option<&'a str>,
    /// The plan it is on.
    pub plan: Option<&'a str>,
    /// The flow whose run makes the call.
    pub pipeline: Option<&'a str>,
    /// The node of the flow that makes it.
    pub step: Option<&'a str>,
}

/// What a call costs: the prices that count for its payer and time. Cheap to make and to keep.
#[derive(Clone, Debug)]
pub struct Quote {
    pub(crate) prices: Arc<ModelPrices>,
    pub(crate) base: Arc<Group>,
    /// Shares on the way to the base, the narrowest first.
    pub(crate) shares: Vec<Arc<Group>>,
    pub(crate) used: Vec<Used>,
}

/// How many units an organization has used before in a period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// What counts them.
    pub counter: Arc<str>,
    /// `2026-11` for a month, `2026-11-21` for a day, by the clock of the business time zone.
    pub period: String,
    /// How many.
    pub units: u64,
}

impl Quote {
    /// What a model costs at these rates, whoever pays, at any time.
    pub fn at_rates(model: &str, currency: Asset, rates: Rates) -> Result<Self, PricingError> {
        let quote = PriceVersion::new(model, currency, rates)?;
        let quote = quote.quote(model, &Payer::default(), Timestamp::default());
        quote.ok_or(PricingError::OutOfRange)
    }

    /// The price version.
    pub fn id(&self) -> &Arc<str> {
        &self.prices.version
    }

    /// The public model name.
    pub fn model(&self) -> &Arc<str> {
        &self.prices.model
    }

    /// The currency of every amount.
    pub fn currency(&self) -> Asset {
        self.prices.currency
    }

    /// The rules that it comes from, as they are written: those with prices, by context, and then
    /// the shares of them, the widest first.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let groups = std::iter::once(&self.base).chain(self.shares.iter().rev());
        groups.flat_map(|group| group.tariffs.iter().map(|tariff| &tariff.source))
    }

    /// The rates, if there is nothing more to the price.
    pub fn rates(&self) -> Option<Rates> {
        let mut rules = self.rules();
        let (Some(rule), None) = (rules.next(), rules.next()) else { return None };
        let more = rule.per_call.or(rule.minimum).or(rule.maximum);
        rule.rates.filter(|_| more.is_none())
    }

    /// The counts that the price depends on; none for most prices.
    pub fn used(&self) -> &[Used] {
        &self.used
    }

    /// The same counts, to be set to what was used before.
    pub fn used_mut(&mut self) -> &mut [Used] {
        &mut self.used
    }

    /// What these tokens cost in one billed call: exact, then rounded up once.
    pub fn charge(&self, tokens: &Tokens) -> Result<Amount, PricingError> {
        self.walk(tokens, &mut |_line| {}).ok_or(PricingError::OutOfRange)
    }

    /// How many units a call adds to each count.
    pub fn adds(&self, tokens: &Tokens) -> impl Iterator<Item = (&Used, u64)> {
        let tariff = self.base.tariff(tokens.context());
        let items = match tariff.map(|tariff| &tariff.form) {
            Some(Form::Prices(prices)) => prices.items.as_slice(),
            _ => &[],
        };
        let tokens = *tokens;
        items.iter().filter_map(move |priced| {
            let (counter, _) = priced.meter.as_ref()?;
            let used = self.used.iter().find(|used| used.counter == *counter)?;
            let units = priced.covers.units(&tokens);
            (units > 0).then_some((used, units))
        })
    }

    pub(crate) fn used_before(&self, priced: &Priced) -> u64 {
        let Some((counter, _)) = &priced.meter else { return 0 };
        self.used.iter().find(|used| used.counter == *counter).map_or(0, |used| used.units)
    }
}
