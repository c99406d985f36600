//! Price files, charges and their bounds.
#![cfg(test)]

mod charges;
mod files;
mod golden;
mod hours;
mod oracle;
mod original;

use kernel::Timestamp;
use pricing::{Mistake, Payer, PriceVersion, Quote};

/// Some time; no window is open by chance.
fn noon() -> Timestamp {
    at("2026-11-18T12:00:00Z")
}

fn at(text: &str) -> Timestamp {
    serde_json::from_value(serde_json::Value::from(text)).unwrap()
}

fn version(text: &str) -> PriceVersion {
    match PriceVersion::read(text) {
        Ok(version) => version,
        Err(mistakes) => panic!("{text}\n{mistakes:#?}"),
    }
}

fn quote(text: &str, payer: &Payer<'_>) -> Quote {
    version(text).quote("m", payer, noon()).expect("the model has a price")
}

/// Where the mistakes of a file are, and what they are.
fn mistakes(text: &str) -> Vec<(String, String)> {
    let of = |mistake: Mistake| {
        assert!(!mistake.remedy.is_empty(), "{mistake}");
        (mistake.path, mistake.problem)
    };
    match PriceVersion::read(text) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.into_iter().map(of).collect(),
    }
}
