//! Between the original's pricing data and price files.

use kernel::{Amount, Asset};

use super::{Entry, PricingData};
use crate::document::{Document, Item, Mistake, Pricing, Rule};
use crate::original::tree::{Scalar, Tree};
use crate::{Class, Classes};

/// What entries can be factors of, as classes. The original counts cached tokens among the prompt's
/// as well; here each token is in one class, so a cached one costs its own price alone.
const FACTORS: [(&str, &[Class]); 7] = [
    ("prompt_tokens", &[Class::Input]),
    ("cached_tokens", &[Class::CachedInput]),
    ("cache_write_tokens", &[Class::CacheWrite]),
    ("completion_tokens", &[Class::Output]),
    ("reasoning_tokens", &[Class::Reasoning]),
    ("total_tokens", &[Class::Input, Class::Output]),
    ("flat", &[Class::Call]),
];
/// Units that are written, the largest first.
const UNITS: [(&str, u64); 4] = [("百万", 1_000_000), ("万", 10_000), ("千", 1_000), ("次", 1)];

impl PricingData {
    /// The same prices as a price file in this currency, or everything that has no place in one.
    pub fn to_document(&self, currency: Asset) -> Result<Document, Vec<Mistake>> {
        let mut found = Vec::new();
        let mut rules: Vec<Rule> = Vec::new();
        for (at, entry) in self.pricings.iter().enumerate() {
            let Some((model, item)) = self.item(at, entry, &mut found) else { continue };
            match rules.iter_mut().find(|rule| rule.model == model) {
                Some(rule) => rule.prices.push(item),
                None => rules.push(Rule { model, prices: vec![item], ..Rule::default() }),
            }
        }
        rules.iter_mut().for_each(give_the_rest_away);
        let document = Document { name: None, currency, time_zone: "UTC".to_owned(), rules };
        found.extend(document.check().err().unwrap_or_default());
        if found.is_empty() { Ok(document) } else { Err(found) }
    }

    fn item(&self, at: usize, entry: &Entry, found: &mut Vec<Mistake>) -> Option<(String, Item)> {
        let path = |name: &str| format!("pricings[{at}].{name}");
        for (name, value) in entry.filters.iter().filter(|(name, _)| name != "model") {
            found.push(Mistake::new(
                path("filters"),
                format!("{name}: {}", value.text()),
                "calls are not told apart by it here",
                "remove the entry, or write a price file with context tiers",
            ));
        }
        let model = entry.filter("model");
        if model.is_none() {
            let remedy = "add {model: NAME} to its filters";
            found.push(Mistake::new(path("filters"), "", "the entry is for no model", remedy));
        }
        let factor = FACTORS.iter().find(|(name, _)| *name == entry.price_factors);
        if factor.is_none() {
            let known: Vec<&str> = FACTORS.iter().map(|(name, _)| *name).collect();
            found.push(Mistake::new(
                path("price_factors"),
                entry.price_factors.as_str(),
                "is not counted here",
                format!("use one of {}", known.join(", ")),
            ));
        }
        let (_, per) = self.unit_values.iter().find(|(name, _)| *name == entry.unit)?;
        let classes: Classes = factor?.1.iter().copied().collect();
        Some((model?, Item::new(classes, Pricing::Unit(entry.unit_prices), *per)))
    }

    /// The prices of a file as pricing data, or everything in it that the data cannot say.
    pub fn from_document(document: &Document) -> Result<Self, Vec<Mistake>> {
        let mut found = Vec::new();
        let mut pricings = Vec::new();
        for (at, rule) in document.rules.iter().enumerate() {
            entries(&format!("rules[{at}]"), rule, &mut pricings, &mut found);
        }
        if !found.is_empty() {
            return Err(found);
        }
        let used = |(name, _): &&(&str, u64)| pricings.iter().any(|entry| entry.unit == *name);
        let unit_values =
            UNITS.iter().filter(used).map(|(name, per)| ((*name).to_owned(), *per)).collect();
        Ok(Self { unit_values, fields: Some(form()), pricings })
    }
}

/// What no entry names costs nothing there; here that is said.
fn give_the_rest_away(rule: &mut Rule) {
    for class in [Class::Input, Class::Output] {
        if !rule.prices.iter().any(|item| item.class.has(class)) {
            let free = Pricing::Unit(Amount::ZERO);
            rule.prices.push(Item::new(Classes::default().with(class), free, 1_000_000));
        }
    }
}

fn entries(path: &str, rule: &Rule, entries: &mut Vec<Entry>, found: &mut Vec<Mistake>) {
    let said = [
        ("currency", rule.currency.is_some()),
        ("customer, distributor or plan", rule.scope.is_some()),
        ("pipeline", rule.place.is_some()),
        ("window", rule.window.is_some()),
        ("context", rule.context.is_some()),
        ("percent", rule.percent.is_some()),
        ("minimum", rule.minimum.is_some()),
        ("maximum", rule.maximum.is_some()),
    ];
    let mut no_place = |path: &str, what: &str| {
        let remedy = "leave it out, or take the file as YAML";
        found.push(Mistake::new(path, what, "has no place in the original's pricing data", remedy));
    };
    said.iter().filter(|(_, there)| *there).for_each(|(name, _)| no_place(path, name));
    let rates = rule.rates.map(|rates| rates.items()).unwrap_or_default();
    for item in rates.iter().chain(&rule.prices) {
        match entry(&rule.model, item) {
            Some(entry) => entries.push(entry),
            None => no_place(&format!("{path}.prices"), &item.class.to_string()),
        }
    }
    for per_call in [rule.per_call, rule.rates.and_then(|rates| rates.per_call)] {
        let call = Classes::default().with(Class::Call);
        let item = per_call.map(|price| Item::new(call, Pricing::Unit(price), 1));
        entries.extend(item.and_then(|item| entry(&rule.model, &item)));
    }
}

fn entry(model: &str, item: &Item) -> Option<Entry> {
    let classes: Vec<Class> = item.class.iter().collect();
    let (factor, _) = FACTORS.iter().find(|(_, own)| *own == classes)?;
    let (unit, _) = UNITS.iter().find(|(_, per)| *per == item.per)?;
    let Pricing::Unit(price) = item.pricing else { return None };
    (item.free == 0 && item.period.is_none()).then(|| Entry {
        price_factors: (*factor).to_owned(),
        unit_prices: price,
        unit: (*unit).to_owned(),
        filters: vec![("model".to_owned(), Scalar::Text(model.to_owned()))],
    })
}

/// The form in which the original edits such entries.
fn form() -> Tree {
    let text = |text: &str| Tree::Scalar(Scalar::Text(text.to_owned()));
    let field = |(name, of, role, label): (&str, &str, &str, &str)| {
        let members = [("type", of), ("role", role), ("label", label)];
        let members = members.map(|(name, value)| (name.to_owned(), text(value)));
        (name.to_owned(), Tree::Map(members.into()))
    };
    let fields = [
        ("price_factors", "string", "factor", "计价因子"),
        ("unit_prices", "float", "factor", "单价"),
        ("unit", "string", "factor", "单位"),
        ("model", "string", "filter", "模型"),
    ];
    Tree::Map(fields.map(field).into())
}
