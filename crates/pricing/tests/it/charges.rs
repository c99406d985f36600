//! What each pricing model charges, in figures that can be followed by hand.

use pricing::{Payer, Tokens};

use crate::{mistakes, noon, quote, version};

const ANYBODY: Payer<'static> =
    Payer { customer: "c", distributor: None, plan: None, pipeline: None, step: None };

fn file(rule: &str) -> String {
    format!("currency: CNY\nrules:\n- model: m\n{rule}")
}

/// Input priced as said, output given away.
fn input(pricing: &str) -> String {
    file(&format!("  prices: [{{class: input, {pricing}}}, {{class: output, price: '0'}}]\n"))
}

fn read(tokens: u64) -> Tokens {
    Tokens { input: tokens, ..Tokens::default() }
}

fn costs(text: &str, before: u64, tokens: &Tokens) -> String {
    let mut quote = quote(text, &ANYBODY);
    quote.used_mut().iter_mut().for_each(|used| used.units = before);
    quote.charge(tokens).unwrap().to_string()
}

#[test]
fn rates_price_each_class_and_absent_ones_as_their_parent() {
    let text = file(
        "  rates: {input_per_million: '2', cached_input_per_million: '0.5', output_per_million: '8'}\n",
    );
    let tokens = Tokens { input: 1000, cached_input: 200, output: 50, ..Tokens::default() };
    assert_eq!(costs(&text, 0, &tokens), "0.0025");
    let parents =
        Tokens { cache_write: 1000, cached_input: 200, reasoning: 50, ..Tokens::default() };
    assert_eq!(costs(&text, 0, &parents), "0.0025");
    assert_eq!(costs(&text, 0, &Tokens::default()), "0");
}

#[test]
fn a_charge_is_rounded_up_once_at_the_end() {
    let text = file(
        "  rates: {input_per_million: '0.000000001', output_per_million: '0.000000001', per_call: '0.000000007'}\n",
    );
    assert_eq!(
        costs(&text, 0, &Tokens { input: 1, output: 1, ..Tokens::default() }),
        "0.000000008"
    );
}

#[test]
fn graduated_tiers_price_each_unit_where_it_falls() {
    let tiers =
        "per: 1, graduated: [{up_to: 10, price: '3'}, {up_to: 20, price: '2'}, {price: '1'}]";
    let text = input(&format!("{tiers}, period: month"));
    assert_eq!(costs(&text, 0, &read(25)), "55");
    assert_eq!(costs(&text, 10, &read(1)), "2");
    assert_eq!(costs(&text, 9, &read(2)), "5");
    assert_eq!(costs(&text, 1_000_000, &read(2)), "2");
    assert_eq!(costs(&input(tiers), 10, &read(1)), "3", "without a period a call stands alone");
}

#[test]
fn volume_prices_the_whole_call_by_the_tier_its_last_unit_falls_in() {
    let text = input("per: 1, volume: [{up_to: 10, price: '3'}, {price: '1'}], period: month");
    assert_eq!(costs(&text, 0, &read(10)), "30");
    assert_eq!(costs(&text, 0, &read(11)), "11");
    assert_eq!(costs(&text, 8, &read(3)), "3");
}

#[test]
fn a_package_is_paid_for_when_its_first_unit_is_used() {
    let text = input("package: {size: 100, price: '7'}, period: month");
    assert_eq!(costs(&text, 0, &read(1)), "7");
    assert_eq!(costs(&text, 1, &read(99)), "0");
    assert_eq!(costs(&text, 1, &read(100)), "7");
    assert_eq!(costs(&text, 100, &read(1)), "7");
    assert_eq!(costs(&text, 50, &read(250)), "14");
}

#[test]
fn a_call_within_a_package_already_paid_for_still_names_its_rule() {
    let text = input("package: {size: 100, price: '7'}, period: month");
    let mut quote = quote(&text, &ANYBODY);
    quote.used_mut().iter_mut().for_each(|used| used.units = 1);
    let charge = quote.explain(&read(9)).unwrap();
    let line = serde_json::to_value(charge.lines.first().unwrap()).unwrap();
    assert_eq!(
        (&line["what"], &line["rule"], &line["units"]),
        (&"packages".into(), &0.into(), &0.into())
    );
}

#[test]
fn free_units_are_used_up_first_and_tiers_begin_after_them() {
    let text =
        input("per: 1, graduated: [{up_to: 5, price: '3'}, {price: '1'}], free: 10, period: day");
    assert_eq!(costs(&text, 0, &read(10)), "0");
    assert_eq!(costs(&text, 0, &read(16)), "16");
    assert_eq!(costs(&text, 9, &read(2)), "3");
    assert_eq!(costs(&text, 15, &read(2)), "2");
}

#[test]
fn a_call_has_a_price_of_its_own_and_bounds() {
    let call =
        "  prices: [{class: call, price: '0.05'}, {class: [input, output], price: '1', per: 10}]\n";
    assert_eq!(costs(&file(call), 0, &read(10)), "1.05");
    let bounded = file(&format!("{call}  per_call: '0.01'\n  minimum: '0.5'\n  maximum: '2'\n"));
    assert_eq!(costs(&bounded, 0, &read(0)), "0.5");
    assert_eq!(costs(&bounded, 0, &read(10)), "1.06");
    assert_eq!(costs(&bounded, 0, &read(1000)), "2");
}

#[test]
fn context_tiers_go_by_all_that_was_read() {
    let text = "currency: CNY\nrules:\n\
        - {model: m, context: {up_to: 100}, rates: {input_per_million: '1000000', output_per_million: '0'}}\n\
        - {model: m, context: {over: 100}, rates: {input_per_million: '2000000', output_per_million: '0'}}\n";
    assert_eq!(costs(text, 0, &read(100)), "100");
    assert_eq!(costs(text, 0, &read(101)), "202");
    let cached = Tokens { input: 50, cached_input: 51, output: 1_000_000, ..Tokens::default() };
    assert_eq!(costs(text, 0, &cached), "202", "cached input counts, output does not");
    let quote = quote(text, &ANYBODY);
    assert_eq!(quote.ceiling(100, 0).unwrap().to_string(), "100");
    assert_eq!(quote.ceiling(101, 0).unwrap().to_string(), "202");
}

#[test]
fn the_narrowest_rule_counts_and_percentages_are_of_the_next_wider() {
    let text = "currency: CNY\nrules:\n\
        - {model: m, rates: {input_per_million: '1000000', output_per_million: '0'}}\n\
        - {model: m, plan: gold, rates: {input_per_million: '500000', output_per_million: '0'}}\n\
        - {model: m, distributor: d, percent: '120'}\n\
        - {model: m, customer: c, percent: '50'}\n\
        - {model: m, customer: own, rates: {input_per_million: '3000000', output_per_million: '0'}}\n";
    let costs = |customer, distributor, plan| {
        let quote = quote(text, &Payer { customer, distributor, plan, ..Payer::default() });
        quote.charge(&read(100)).unwrap().to_string()
    };
    assert_eq!(costs("x", None, None), "100");
    assert_eq!(costs("x", None, Some("gold")), "50");
    assert_eq!(costs("x", None, Some("silver")), "100");
    assert_eq!(costs("x", Some("d"), None), "120");
    assert_eq!(costs("x", Some("d"), Some("gold")), "60");
    assert_eq!(costs("c", None, None), "50");
    assert_eq!(costs("c", Some("d"), None), "60");
    assert_eq!(costs("own", Some("d"), Some("gold")), "300");
}

#[test]
fn a_steps_rule_goes_before_its_pipelines_and_a_scope_before_every_place() {
    let text = "currency: CNY\nrules:\n\
        - {model: m, rates: {input_per_million: '1000000', output_per_million: '0'}}\n\
        - {model: m, pipeline: digest, percent: '50'}\n\
        - {model: m, pipeline: digest, step: sum up, rates: {input_per_million: '300000', output_per_million: '0'}}\n\
        - {model: m, pipeline: digest, step: night, window: {from: '22:00', until: '06:00'}, percent: '1'}\n\
        - {model: m, plan: gold, percent: '80'}\n\
        - {model: m, plan: gold, pipeline: digest, step: sum up, percent: '10'}\n\
        - {model: m, plan: gold, pipeline: other, rates: {input_per_million: '7000000', output_per_million: '0'}}\n";
    let costs = |plan, pipeline, step| {
        let quote = quote(text, &Payer { customer: "x", distributor: None, plan, pipeline, step });
        quote.charge(&read(100)).unwrap().to_string()
    };
    let (digest, gold) = (Some("digest"), Some("gold"));
    assert_eq!(costs(None, None, None), "100");
    assert_eq!(costs(None, None, Some("sum up")), "100", "outside of runs there is no step");
    assert_eq!(costs(None, Some("unknown"), Some("sum up")), "100", "another flow's step");
    assert_eq!(costs(None, digest, None), "50");
    assert_eq!(costs(None, digest, Some("plan")), "50");
    assert_eq!(costs(None, digest, Some("sum up")), "30");
    assert_eq!(costs(None, digest, Some("night")), "50", "at noon the pipeline's counts");
    assert_eq!(costs(None, Some("other"), Some("sum up")), "100", "the plan's own");
    assert_eq!(costs(gold, None, None), "80");
    assert_eq!(costs(gold, digest, Some("plan")), "40", "the plan's share of the pipeline's price");
    assert_eq!(costs(gold, digest, Some("sum up")), "2.4", "10 % of 80 % of the step's price");
    assert_eq!(costs(gold, Some("other"), None), "700");
    let quote = quote(
        text,
        &Payer {
            customer: "x",
            distributor: None,
            plan: gold,
            pipeline: digest,
            step: Some("sum up"),
        },
    );
    let rules: Vec<usize> =
        quote.explain(&read(1)).unwrap().lines.iter().filter_map(|line| line.rule).collect();
    assert_eq!(rules, [2, 4, 5]);
}

#[test]
fn an_unknown_model_and_one_for_others_alone_have_no_price() {
    let text = "currency: CNY\nrules: [{model: m, plan: gold, rates: {input_per_million: '1', output_per_million: '1'}}]";
    let version = version(text);
    assert!(version.quote("m", &ANYBODY, noon()).is_none());
    assert!(version.quote("other", &ANYBODY, noon()).is_none());
    assert!(version.quote("m", &Payer { plan: Some("gold"), ..ANYBODY }, noon()).is_some());
}

#[test]
fn what_a_call_adds_to_its_counts_is_told() {
    let text = file(
        "  prices: [{class: input, price: '1', period: month}, {class: output, price: '1', period: day, counter: shared}, {class: call, price: '0'}]\n",
    );
    let quote = quote(&text, &ANYBODY);
    let tokens = Tokens { input: 3, cached_input: 4, reasoning: 5, ..Tokens::default() };
    let adds: Vec<(String, String, u64)> = quote
        .adds(&tokens)
        .map(|(used, units)| (used.counter.to_string(), used.period.clone(), units))
        .collect();
    assert_eq!(
        adds,
        [
            ("m/input/month".to_owned(), "2026-11".to_owned(), 7),
            ("shared".to_owned(), "2026-11-18".to_owned(), 5),
        ]
    );
}

#[test]
fn a_charge_beyond_all_amounts_is_refused_not_wrapped() {
    let text = input("price: '9223372036', per: 1");
    let quote = quote(&text, &ANYBODY);
    assert!(quote.charge(&read(2)).is_err() && quote.ceiling(u64::MAX, u64::MAX).is_err());
    assert!(quote.explain(&read(u64::MAX)).is_err());
}

#[test]
fn another_content_is_another_version() {
    let text = input("price: '1'");
    assert_eq!(version(&text).id(), version(&format!("{text}# a comment\n")).id());
    assert_eq!(version(&text).id().len(), 32);
    assert_ne!(version(&text).id(), version(&input("price: '2'")).id());
    assert_eq!(mistakes(&text), []);
}

/// Versions are recorded under these names: whatever price files learn to say later, the name of
/// what was said before stays.
#[test]
fn the_names_of_versions_that_are_recorded_stay() {
    for (text, id) in [
        (include_str!("../golden/recorded.yaml"), "c8e691352e48b9800ab85b7bfe7892c7"),
        (
            include_str!("../../../../examples/prices/simple.yaml"),
            "4216025d0fd9023b245f65fa4240da9d",
        ),
        (
            include_str!("../../../../examples/prices/original-tokens.yaml"),
            "d84e0d4edb08a2dafd2b17c454cd2b63",
        ),
    ] {
        assert_eq!(version(text).id().as_ref(), id, "{text}");
    }
    let text = include_str!("../golden/recorded.yaml");
    let placed = text.replacen("plan: gold,", "plan: gold, pipeline: digest,", 1);
    assert_ne!(version(&placed).id(), version(text).id(), "a place is part of the content");
}
