//! The prices in force, as customers see them.

use kernel::{Asset, OrgId};
use pricing::Quote;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{Customers, Result};

/// What a model costs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Price {
    /// The price version: what a call is charged by.
    pub id: String,
    /// The model.
    pub model: String,
    /// The same, by its name in the accounting centre's form.
    pub llmid: String,
    /// The currency of the rates.
    #[schema(value_type = String, example = "CNY")]
    pub currency: Asset,
    /// Amounts by what is counted; where there is more to the price, its rules.
    #[schema(value_type = Value)]
    pub rates: Value,
    /// The rates in words.
    pub display_text: String,
}

impl Customers {
    /// The prices in force for an organization, by model.
    pub fn prices(&self, org_id: &OrgId) -> Result<Vec<Price>> {
        let (book, now) = (self.parts().metering.prices(), self.parts().metering.now());
        let quotes = book.models(now).into_iter().filter_map(|model| {
            // A model may have a price for others only.
            book.quote(&model, org_id, None, now).ok().map(|(quote, _terms)| quote)
        });
        quotes.map(|quote| price(&quote)).collect()
    }
}

fn price(quote: &Quote) -> Result<Price> {
    let (rates, display_text) = if let Some(rates) = quote.rates() {
        let rates = serde_json::to_value(rates)?;
        let words = in_words(&rates, quote.currency());
        (rates, words)
    } else {
        let rules: Vec<_> = quote.rules().collect();
        (serde_json::to_value(&rules)?, "by rules: see rates".to_owned())
    };
    Ok(Price {
        id: quote.id().to_string(),
        model: quote.model().to_string(),
        llmid: quote.model().to_string(),
        currency: quote.currency(),
        display_text,
        rates,
    })
}

/// Such as `input 1 CNY/M, output 4 CNY/M, 0.1 CNY per call`.
fn in_words(rates: &Value, currency: Asset) -> String {
    let rates = rates.as_object().into_iter().flatten();
    let words = rates.filter_map(|(name, rate)| {
        let rate = rate.as_str()?;
        Some(match name.strip_suffix("_per_million") {
            Some(class) => format!("{} {rate} {currency}/M", class.replace('_', " ")),
            None => format!("{rate} {currency} {}", name.replace('_', " ")),
        })
    });
    words.collect::<Vec<_>>().join(", ")
}
