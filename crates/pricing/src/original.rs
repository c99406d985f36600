//! The pricing data of the system this one grew out of, read and written as it is there.
//!
//! An entry adds `usage[price_factors] / unit_values[unit] * unit_prices` to each call whose usage
//! fits its filters.

mod convert;
mod tree;
mod write;

use kernel::Amount;

use self::tree::{Scalar, Tree};
use crate::document::Mistake;

/// Pricing data: units, the description of the form in which entries are edited, and the entries.
/// The order of everything is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricingData {
    unit_values: Vec<(String, u64)>,
    /// Not looked into: it describes forms.
    fields: Option<Tree>,
    pricings: Vec<Entry>,
}

/// One price.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    price_factors: String,
    unit_prices: Amount,
    unit: String,
    filters: Vec<(String, Scalar)>,
}

impl PricingData {
    /// Reads pricing data, or tells everything that is wrong with it.
    pub fn read(text: &str) -> Result<Self, Vec<Mistake>> {
        let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
        let tree: Tree = serde_saphyr::from_str_with_options(text, options).map_err(|cause| {
            let problem = format!("the text is not YAML: {cause}");
            vec![Mistake::new("", "", problem, "correct it at the named line and column")]
        })?;
        let mut found = Vec::new();
        let data = Self::of(&tree, &mut found);
        if found.is_empty() { Ok(data) } else { Err(found) }
    }

    fn of(tree: &Tree, found: &mut Vec<Mistake>) -> Self {
        let known = ["unit_values", "fields", "pricings"];
        for (name, _) in tree.members().iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            found.push(unknown(name, name, &known));
        }
        let members = tree.get("unit_values").map(Tree::members).unwrap_or_default();
        let units = members.iter().filter_map(|(name, value)| {
            let number = value.text().and_then(|text| text.parse::<u64>().ok());
            let number = number.filter(|number| (1..=MOST_UNIT).contains(number));
            if number.is_none() {
                found.push(Mistake::new(
                    format!("unit_values.{name}"),
                    value.text().unwrap_or_default(),
                    "is not a whole number above zero",
                    format!("write a number from 1 to {MOST_UNIT}"),
                ));
            }
            Some((name.clone(), number?))
        });
        let unit_values: Vec<(String, u64)> = units.collect();
        let entries = tree.get("pricings").and_then(Tree::items).unwrap_or_default();
        if entries.is_empty() {
            found.push(Mistake::new("pricings", "", "there are no entries", "list at least one"));
        }
        let entries = entries.iter().enumerate();
        let pricings = entries
            .filter_map(|(at, tree)| {
                Entry::of(&format!("pricings[{at}]"), tree, &unit_values, found)
            })
            .collect();
        Self { unit_values, fields: tree.get("fields").cloned(), pricings }
    }
}

/// The largest unit: as in price files.
const MOST_UNIT: u64 = 1_000_000_000;

fn unknown(path: &str, name: &str, known: &[&str]) -> Mistake {
    let remedy = format!("remove it, or use one of {}", known.join(", "));
    Mistake::new(path, name, "is not a known field", remedy)
}

impl Entry {
    fn of(
        path: &str,
        tree: &Tree,
        units: &[(String, u64)],
        found: &mut Vec<Mistake>,
    ) -> Option<Self> {
        let known = ["price_factors", "unit_prices", "unit", "filters"];
        for (name, _) in tree.members().iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            found.push(unknown(&format!("{path}.{name}"), name, &known));
        }
        let mut text = |name: &str| {
            let text = tree.get(name).and_then(Tree::text);
            if text.is_none() {
                let path = format!("{path}.{name}");
                found.push(Mistake::new(path, "", "is missing", format!("add {name}")));
            }
            text
        };
        let (factor, price, unit) = (text("price_factors"), text("unit_prices"), text("unit"));
        let price = price.and_then(|price| match price.parse::<Amount>() {
            Ok(amount) if !amount.is_negative() => Some(amount),
            other => {
                let cause = other
                    .map_or_else(|cause| cause.to_string(), |_below| "is below zero".to_owned());
                let remedy = "write a decimal of zero or more such as 2.1";
                found.push(Mistake::new(format!("{path}.unit_prices"), price, cause, remedy));
                None
            }
        });
        if let Some(unit) = &unit
            && !units.iter().any(|(name, _)| name == unit)
        {
            let remedy = "add it to unit_values, or use a unit that is there";
            found.push(Mistake::new(format!("{path}.unit"), unit, "is an unknown unit", remedy));
        }
        let filters = filters(path, tree.get("filters"), found);
        Some(Self { price_factors: factor?, unit_prices: price?, unit: unit?, filters })
    }

    /// The value of a filter.
    fn filter(&self, name: &str) -> Option<String> {
        let filter = self.filters.iter().find(|(own, _)| own == name);
        filter.map(|(_, value)| value.text())
    }
}

/// Filters are a list of mappings, or one mapping.
fn filters(path: &str, tree: Option<&Tree>, found: &mut Vec<Mistake>) -> Vec<(String, Scalar)> {
    let Some(tree) = tree else { return Vec::new() };
    let single = std::slice::from_ref(tree);
    let mut filters = Vec::new();
    for (name, value) in tree.items().unwrap_or(single).iter().flat_map(Tree::members) {
        match value {
            Tree::Scalar(scalar) => filters.push((name.clone(), scalar.clone())),
            _ => found.push(Mistake::new(
                format!("{path}.filters"),
                name.as_str(),
                "is not one value",
                "write a filter as a name and a value",
            )),
        }
    }
    filters
}
