//! The simplest price: so much for each million tokens of a class.

use kernel::Amount;
use serde::{Deserialize, Serialize};

use crate::document::{Item, Pricing};
use crate::{Class, Classes};

/// Tokens that a rate is for.
pub(crate) const MILLION: u64 = 1_000_000;

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

impl Rates {
    /// The names and figures that are given.
    pub(crate) fn given(&self) -> impl Iterator<Item = (&'static str, Amount)> {
        let classes = [
            ("input_per_million", Some(self.input_per_million)),
            ("cached_input_per_million", self.cached_input_per_million),
            ("cache_write_per_million", self.cache_write_per_million),
            ("output_per_million", Some(self.output_per_million)),
            ("reasoning_per_million", self.reasoning_per_million),
            ("per_call", self.per_call),
        ];
        classes.into_iter().filter_map(|(name, rate)| Some((name, rate?)))
    }

    /// The same as items of a rule.
    pub(crate) fn items(&self) -> Vec<Item> {
        let classes = [
            (Class::Input, Some(self.input_per_million)),
            (Class::CachedInput, self.cached_input_per_million),
            (Class::CacheWrite, self.cache_write_per_million),
            (Class::Output, Some(self.output_per_million)),
            (Class::Reasoning, self.reasoning_per_million),
        ];
        let item = |(class, price): (Class, Option<Amount>)| {
            Some(Item::new(Classes::default().with(class), Pricing::Unit(price?), MILLION))
        };
        classes.into_iter().filter_map(item).collect()
    }
}
