//! A price file as it is written: what the operator says, before it is made ready for use.

mod check;
mod fields;
mod read;

use std::sync::Arc;

use kernel::{Amount, Asset};
use serde::Serialize;

use crate::percent::Percent;
use crate::window::Window;
use crate::{Classes, Rates};

pub use fields::Mistake;
pub(crate) use fields::{Fields, Findings, Node};

/// A price file: rules in one or more currencies. One that exists is valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Document {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The currency of rules that name none.
    pub currency: Asset,
    /// The business time zone: windows, days and months go by its clock.
    pub time_zone: String,
    /// The rules, in any order.
    pub rules: Vec<Rule>,
}

/// What a model costs, for whom, when, and for how much input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// The public model name.
    pub model: String,
    /// For whom; absent for everybody whom no other rule of the model is for.
    #[serde(flatten)]
    pub scope: Option<Scope>,
    /// Of which calls; absent for all that no narrower rule of the same scope is for.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// The currency of the amounts; the file's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Asset>,
    /// The hours in which it counts; absent for those in which no other does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// The calls it is for, by the tokens they read; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextTier>,
    /// The simplest price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
    /// A share of what the next wider rule says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
    /// Prices of classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<Item>,
    /// Added once per billed call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_call: Option<Amount>,
    /// The least that a billed call costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<Amount>,
    /// The most that a call costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<Amount>,
}

/// For whom a rule is; a customer's rule goes before its distributor's, that before its plan's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The organization of this id.
    Customer(String),
    /// The customers of this distributor.
    Distributor(String),
    /// The customers on this plan.
    Plan(String),
}

/// The calls that runs of a flow make: within a scope, a step's rule goes before its pipeline's, that
/// before the one for calls made anywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// The name of the flow's definition.
    pub pipeline: String,
    /// The name of the node that calls; any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

/// Calls that read more than `over` and at most `up_to` tokens, cached ones included; a call that
/// reads nothing belongs to the tier over 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContextTier {
    /// More than so many.
    #[serde(skip_serializing_if = "is_zero")]
    pub over: u64,
    /// At most so many; any number when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_to: Option<u64>,
}

/// The price of the units of some classes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Whose units; counted together.
    pub class: Classes,
    /// How they are priced.
    #[serde(flatten)]
    pub pricing: Pricing,
    /// The units that a price is for.
    pub per: u64,
    /// The first so many cost nothing.
    #[serde(skip_serializing_if = "is_zero")]
    pub free: u64,
    /// Units of an organization's calls add up over this time; over one call when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// The name of the count, for items that share one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counter: Option<Arc<str>>,
}

/// How units are priced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pricing {
    /// All the same.
    #[serde(rename = "price")]
    Unit(Amount),
    /// Each unit by the tier it falls in.
    Graduated(Vec<Tier>),
    /// All units of a call by the tier that its last one falls in.
    Volume(Vec<Tier>),
    /// In packages, each paid for when its first unit is used.
    Package(Package),
}

/// A price for units up to a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tier {
    /// The last unit; absent on the last tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_to: Option<u64>,
    /// The price for `per` units.
    pub price: Amount,
}

/// Units sold together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Package {
    /// How many units.
    pub size: u64,
    /// The price of all of them.
    pub price: Amount,
}

/// The time over which units add up, by the clock of the business time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// A calendar day.
    Day,
    /// A calendar month.
    Month,
}

impl Document {
    /// Reads a price file, YAML or JSON, or tells everything that is wrong with it. The original's
    /// pricing data is taken as well, its prices in CNY.
    pub fn read(text: &str) -> Result<Self, Vec<Mistake>> {
        read::document(text)
    }

    /// Reads the JSON that a document serializes to. What holds between its rules is not looked at
    /// again.
    pub(crate) fn recorded(json: &str) -> Result<Self, Vec<Mistake>> {
        read::recorded(json)
    }

    /// As YAML, which [`Self::read`] reads back the same.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).unwrap_or_default()
    }
}

impl Item {
    /// Units of these classes at this pricing, without anything free and counted in one call.
    pub const fn new(class: Classes, pricing: Pricing, per: u64) -> Self {
        Self { class, pricing, per, free: 0, period: None, counter: None }
    }
}

impl Period {
    /// The name in price files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}
