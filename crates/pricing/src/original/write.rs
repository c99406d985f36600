//! Writes pricing data the way it is written there: blocks outside, one line for each entry.

use std::fmt;

use super::tree::{Scalar, Tree};
use super::{Entry, PricingData};

/// The text of the data, which reads back the same.
impl fmt::Display for PricingData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |units: &u64| Tree::Scalar(Scalar::Number(units.to_string()));
        let units = self.unit_values.iter().map(|(name, units)| (name.clone(), number(units)));
        writeln!(f, "unit_values: {}", Flow(&Tree::Map(units.collect())))?;
        match &self.fields {
            Some(Tree::Map(fields)) if !fields.is_empty() => {
                writeln!(f, "fields:")?;
                for (name, field) in fields {
                    writeln!(f, "  {}: {}", Text(name), Flow(field))?;
                }
            }
            Some(fields) => writeln!(f, "fields: {}", Flow(fields))?,
            None => {}
        }
        writeln!(f, "pricings:")?;
        self.pricings.iter().try_for_each(|entry| writeln!(f, "- {}", Flow(&entry.tree())))
    }
}

impl Entry {
    fn tree(&self) -> Tree {
        let text = |text: &str| Tree::Scalar(Scalar::Text(text.to_owned()));
        let filter = |(name, value): &(String, Scalar)| {
            Tree::Map(vec![(name.clone(), Tree::Scalar(value.clone()))])
        };
        let mut members = vec![
            ("price_factors".to_owned(), text(&self.price_factors)),
            ("unit_prices".to_owned(), Tree::Scalar(Scalar::Number(self.unit_prices.to_string()))),
            ("unit".to_owned(), text(&self.unit)),
        ];
        if !self.filters.is_empty() {
            let filters = self.filters.iter().map(filter).collect();
            members.push(("filters".to_owned(), Tree::List(filters)));
        }
        Tree::Map(members)
    }
}

/// A value in one line.
struct Flow<'a>(&'a Tree);

impl fmt::Display for Flow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Tree::Scalar(Scalar::Null) => f.write_str("null"),
            Tree::Scalar(Scalar::Text(text)) => write!(f, "{}", Text(text)),
            Tree::Scalar(scalar) => f.write_str(&scalar.text()),
            Tree::List(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{}", separator(at), Flow(item))?;
                }
                f.write_str("]")
            }
            Tree::Map(members) => {
                f.write_str("{")?;
                for (at, (name, value)) in members.iter().enumerate() {
                    write!(f, "{}{}: {}", separator(at), Text(name), Flow(value))?;
                }
                f.write_str("}")
            }
        }
    }
}

const fn separator(at: usize) -> &'static str {
    if at == 0 { "" } else { ", " }
}

/// Text without quotes where it reads back as the same text, in quotes elsewhere.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain(self.0) {
            return f.write_str(self.0);
        }
        // A JSON string is a YAML string.
        f.write_str(&serde_json::Value::from(self.0).to_string())
    }
}

fn is_plain(text: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ' ' | '+');
    let first = |c: char| c.is_alphabetic() || c.is_ascii_digit() || matches!(c, '_' | '.');
    let last = |c: char| !c.is_whitespace();
    text.chars().all(inside)
        && text.starts_with(first)
        && text.ends_with(last)
        && serde_saphyr::from_str::<Tree>(text).is_ok_and(|read| {
            // What older readers take for a flag is quoted for them.
            read == Tree::Scalar(Scalar::Text(text.to_owned()))
        })
}
