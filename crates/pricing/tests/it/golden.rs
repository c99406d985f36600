//! Charges that never change: computed once, by exact fractions in another language.

use pricing::{Payer, PriceVersion, Tokens};
use serde_json::Value;

use crate::at;

#[test]
fn golden_vectors_hold() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../golden/charges.json")).unwrap();
    assert!(cases.len() >= 60, "{}", cases.len());
    for case in cases {
        let text = |name: &str| case[name].as_str();
        let version = PriceVersion::read(&case["file"].to_string()).unwrap();
        let payer = Payer {
            customer: text("customer").unwrap(),
            distributor: text("distributor"),
            plan: text("plan"),
            pipeline: text("pipeline"),
            step: text("step"),
        };
        let mut quote = version.quote("m", &payer, at(text("at").unwrap())).unwrap();
        for used in quote.used_mut() {
            used.units = case["used"][used.counter.as_ref()].as_u64().unwrap_or(0);
        }
        let tokens: Tokens = serde_json::from_value(case["tokens"].clone()).unwrap();
        let charge = quote.explain(&tokens).unwrap();
        assert_eq!(
            text("amount"),
            Some(charge.amount.to_string().as_str()),
            "{case:#}\n{charge:#?}"
        );
    }
}
