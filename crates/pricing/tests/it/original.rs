//! The original's pricing data: read, written, and turned into price files and back.

use pricing::{Document, Payer, PriceVersion, PricingData, Tokens};

use crate::{mistakes, noon};

const WHOLE: &str = include_str!("../../../../examples/prices/original.yaml");
const TOKENS: &str = include_str!("../../../../examples/prices/original-tokens.yaml");

fn data(text: &str) -> PricingData {
    PricingData::read(text).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes:#?}"))
}

#[test]
fn what_is_read_is_written_exactly() {
    for text in [WHOLE, TOKENS] {
        assert_eq!(data(text).to_string(), text);
    }
    let odd = "unit_values: {\"a: b\": 1}\nfields: {}\npricings:\n\
        - {price_factors: x, unit_prices: 0.1, unit: \"a: b\", filters: [{a: \"true\"}, {b: true}, {c: \"1\"}, {d: 1}, {e: null}, {f: \"\"}, {g: \"- x\"}, {h: \"x, y\"}]}\n";
    assert_eq!(data(odd).to_string(), odd, "what looks like something else is quoted");
}

#[test]
fn prices_of_tokens_become_a_price_file_and_go_back() {
    let document = Document::read(TOKENS).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    assert_eq!(PricingData::from_document(&document).unwrap().to_string(), TOKENS);
    let version = PriceVersion::of(document);
    let payer = Payer { customer: "c", ..Payer::default() };
    let quote = version.quote("MiniMax-M3", &payer, noon()).unwrap();
    let tokens = Tokens { input: 600, cached_input: 400, output: 50, ..Tokens::default() };
    // 600 x 2.1 + 400 x 0.42 + 50 x 8.4 per million, and 0.01 for the call.
    assert_eq!(quote.charge(&tokens).unwrap().to_string(), "0.011848");
}

#[test]
fn what_is_not_metered_by_tokens_is_told_entry_by_entry() {
    let found = mistakes(WHOLE);
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "pricings[1].filters",
            "pricings[1].filters",
            "pricings[1].filters",
            "pricings[1].price_factors"
        ],
        "{found:#?}"
    );
}

#[test]
fn unknown_units_duplicates_and_bad_prices_are_found() {
    let file = |entries: &str| format!("unit_values: {{百万: 1000000}}\npricings:\n{entries}");
    let entry = |price: &str, unit: &str| {
        format!(
            "- {{price_factors: prompt_tokens, unit_prices: {price}, unit: {unit}, filters: [{{model: x}}]}}\n"
        )
    };
    let only = |text: &str, path: &str, problem: &str| {
        let found = mistakes(text);
        assert!(
            found.len() == 1 && found[0].0 == path && found[0].1.contains(problem),
            "{found:#?}"
        );
    };
    only(&file(&entry("1", "千")), "pricings[0].unit", "unknown unit");
    only(&file(&entry("-1", "百万")), "pricings[0].unit_prices", "below zero");
    only(&file(&entry("abc", "百万")), "pricings[0].unit_prices", "decimal");
    only(&file(&entry("1", "百万").repeat(2)), "rules[0].prices[1].class", "twice");
    only(
        &file(&entry("1", "百万").replace("unit:", "units:"))
            .replace("units: 百万", "unit: 百万, x: 1"),
        "pricings[0].x",
        "known field",
    );
    assert_eq!(mistakes("unit_values: {x: 0}\npricings: []").len(), 2, "the unit, and no entries");
}

#[test]
fn what_the_data_cannot_say_is_told() {
    let text = "currency: CNY\nrules:\n- {model: m, minimum: '1', rates: {input_per_million: '1', output_per_million: '1'}}\n\
        - {model: n, prices: [{class: input, graduated: [{price: '1'}]}, {class: output, price: '1', per: 7}]}\n\
        - {model: o, pipeline: p, rates: {input_per_million: '1', output_per_million: '1'}}\n";
    let refused = PricingData::from_document(&Document::read(text).unwrap()).unwrap_err();
    let paths: Vec<&str> = refused.iter().map(|mistake| mistake.path.as_str()).collect();
    assert_eq!(paths, ["rules[0]", "rules[1].prices", "rules[1].prices", "rules[2]"]);
}
