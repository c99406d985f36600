//! Price files with every kind of mistake.

use crate::{mistakes, version};

const RATES: &str = "rates: {input_per_million: '1', output_per_million: '1'}";

fn file(rules: &str) -> String {
    format!("currency: CNY\nrules:\n{rules}")
}

/// The file's only mistake is at this path and says this.
fn only(text: &str, path: &str, problem: &str) {
    let found = mistakes(text);
    assert_eq!(found.len(), 1, "{text}\n{found:#?}");
    assert_eq!(found[0].0, path, "{text}\n{found:#?}");
    assert!(found[0].1.contains(problem), "{text}\n{found:#?}");
}

#[test]
fn what_is_not_a_price_file_is_refused() {
    for text in
        ["", "[]", "12", "\"text\"", "a: [", "currency: CNY\ncurrency: USD\nrules: []", "\u{0}"]
    {
        assert!(!mistakes(text).is_empty(), "{text}");
    }
    only("currency: CNY\nrules: []", "", "there are 0 rules");
    only(
        "rules: [{model: m, rates: {input_per_million: 1, output_per_million: 1}}]",
        "currency",
        "missing",
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "currency: yuan\ntime_zone: Mars/Olympus\nnotes: x\nrules:\n\
        - {model: '', rates: {input_per_million: '-1', output_per_million: 'two', image: 3}}\n\
        - {model: b, customer: c, plan: p, prices: [{class: pixels, price: '1'}]}\n\
        - {model: c, percent: '2000'}\n\
        - 7\n";
    let found = mistakes(text);
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    for path in [
        "notes",
        "currency",
        "time_zone",
        "rules[0].model",
        "rules[0].rates.image",
        "rules[0].rates.input_per_million",
        "rules[0].rates.output_per_million",
        "rules[1]",
        "rules[1].prices[0].class",
        "rules[2].percent",
        "rules[3]",
    ] {
        assert!(paths.contains(&path), "{path} in {found:#?}");
    }
    assert_eq!(paths.len(), 11, "{found:#?}");
}

#[test]
fn mistakes_between_rules_are_told_beside_those_within() {
    let text = file(&format!("- {{model: a}}\n- {{model: b, {RATES}}}\n- {{model: b, {RATES}}}\n"));
    let found = mistakes(&text);
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["rules[0]", "rules[2].context"], "{found:#?}");
}

#[test]
fn a_rule_has_one_form() {
    only(&file("- {model: m}\n"), "rules[0]", "no price");
    only(&file(&format!("- {{model: m, {RATES}, prices: []}}\n")), "rules[0]", "rates and prices");
    let text = file(&format!(
        "- {{model: m, {RATES}}}\n- {{model: m, plan: p, percent: 50, minimum: '1'}}\n"
    ));
    only(&text, "rules[1]", "minimum");
}

#[test]
fn duplicates_overlaps_and_gaps_are_found() {
    let two = |one: &str, two: &str| {
        file(&format!("- {{model: m, {one}{RATES}}}\n- {{model: m, {two}{RATES}}}\n"))
    };
    only(&two("", ""), "rules[1].context", "overlaps rules[0]");
    only(
        &two("customer: c, ", "customer: c, ")
            .replace("rules:\n", &format!("rules:\n- {{model: m, {RATES}}}\n")),
        "rules[2].context",
        "overlaps rules[1]",
    );
    only(&two("context: {up_to: 10}, ", "context: {over: 9}, "), "rules[1].context", "overlaps");
    only(
        &two("context: {up_to: 10}, ", "context: {over: 12}, "),
        "rules[1].context",
        "more than 10 and at most 12",
    );
    only(
        &two("context: {up_to: 10}, ", "context: {over: 10, up_to: 20}, "),
        "rules[1].context",
        "more than 20",
    );
    only(
        &two("context: {over: 5, up_to: 10}, ", "context: {over: 10}, "),
        "rules[0].context",
        "more than 0 and at most 5",
    );
    only(
        &two("", "window: {days: [mon], from: '24:30', until: '10:00'}, "),
        "rules[1].window.from",
        "time of day",
    );
    only(
        &two("", "window: {days: [someday], from: '09:00', until: '10:00'}, ")
            .replace("days: [someday]", "days: []"),
        "rules[1].window.days",
        "names no days",
    );
    only(
        &two("", "window: {from: '09:00', until: '09:00'}, "),
        "rules[1].window",
        "begins when it ends",
    );
    let windows = two(
        "window: {from: '09:00', until: '12:00'}, ",
        "window: {days: [sun], from: '11:00', until: '13:00'}, ",
    );
    let windows = format!("{windows}- {{model: m, {RATES}}}\n");
    only(&windows, "rules[1].window", "overlaps that of rules[0]");
    let windows = two(
        "window: {from: '00:00', until: '12:00'}, ",
        "window: {from: '12:00', until: '23:59'}, ",
    );
    only(&windows, "rules[0].window", "no price");
}

#[test]
fn classes_are_priced_once_and_none_is_forgotten() {
    let prices = |items: &str| file(&format!("- {{model: m, prices: [{items}]}}\n"));
    only(&prices("{class: input, price: '1'}"), "rules[0].prices", "output is not priced");
    only(
        &prices("{class: [input, output], price: '1'}, {class: output, price: '1'}"),
        "rules[0].prices[1].class",
        "twice",
    );
    only(
        &prices("{class: [input, call], price: '1'}, {class: output, price: '1'}"),
        "rules[0].prices[0].class",
        "cannot be counted together",
    );
    only(
        &prices("{class: [input, input], price: '1'}, {class: output, price: '1'}"),
        "rules[0].prices[0].class[1]",
        "twice",
    );
    only(
        &prices(
            "{class: input, price: '1', package: {size: 1, price: '1'}}, {class: output, price: '1'}",
        ),
        "rules[0].prices[0]",
        "2 prices",
    );
    only(&prices("{class: input}, {class: output, price: '1'}"), "rules[0].prices[0]", "0 prices");
}

#[test]
fn units_tiers_and_counters_are_checked() {
    let input = |item: &str| {
        file(&format!(
            "- {{model: m, prices: [{{class: input, {item}}}, {{class: output, price: '1'}}]}}\n"
        ))
    };
    let first = "rules[0].prices[0]";
    only(&input("price: '1', per: 0"), &format!("{first}.per"), "whole number");
    only(&input("price: '1', per: 百万"), &format!("{first}.per"), "whole number");
    only(&input("price: '1', unit: 百万"), &format!("{first}.unit"), "known field");
    only(&input("price: '1', per: 999999937"), "rules[0].prices", "common multiple");
    only(&input("price: '0.0000000001'"), &format!("{first}.price"), "9 decimal places");
    only(&input("price: .inf"), "", "non-finite");
    only(&input("price: '1', free: -1"), &format!("{first}.free"), "whole number");
    only(&input("graduated: []"), &format!("{first}.graduated"), "no tiers");
    only(
        &input("graduated: [{up_to: 5, price: '1'}]"),
        &format!("{first}.graduated[0]"),
        "before all units are priced",
    );
    only(&input("volume: [{price: '1'}, {price: '2'}]"), &format!("{first}.volume[0]"), "no up_to");
    only(
        &input("volume: [{up_to: 5, price: '1'}, {up_to: 5, price: '1'}, {price: '2'}]"),
        &format!("{first}.volume[1]"),
        "does not follow",
    );
    only(
        &input("package: {size: 0, price: '1'}"),
        &format!("{first}.package.size"),
        "whole number",
    );
    only(&input("price: '1', period: year"), &format!("{first}.period"), "not known");
    only(&input("price: '1', counter: all"), first, "without a period");
    let shared = file(
        "- {model: m, prices: [{class: input, price: '1', period: day, counter: x}, {class: output, price: '1', period: day, counter: x}]}\n",
    );
    only(&shared, "rules[0].prices[1].counter", "one counter");
}

#[test]
fn percentages_have_something_to_be_of() {
    only(&file("- {model: m, plan: p, percent: '50'}\n"), "rules[0].percent", "nothing in m");
    let mixed = file(&format!(
        "- {{model: m, {RATES}}}\n- {{model: m, plan: p, context: {{up_to: 5}}, percent: '50'}}\n- {{model: m, plan: p, context: {{over: 5}}, {RATES}}}\n"
    ));
    only(&mixed, "rules[1].percent", "alternate");
}

#[test]
fn rules_are_held_against_others_of_their_scope_and_place() {
    let with = |rules: &str| file(&format!("- {{model: m, {RATES}}}\n{rules}"));
    let rule = |place: &str| format!("- {{model: m, {place}, {RATES}}}\n");
    let one = |place: &str| with(&rule(place));
    let two = |first: &str, second: &str| with(&format!("{}{}", rule(first), rule(second)));
    assert_eq!(mistakes(&two("pipeline: p", "pipeline: p, step: s")), []);
    assert_eq!(mistakes(&two("pipeline: p, step: s", "pipeline: p, step: t")), []);
    assert_eq!(mistakes(&two("pipeline: p", "plan: g, pipeline: p")), []);
    assert_eq!(mistakes(&with("- {model: m, pipeline: p, percent: '50'}\n")), []);
    only(&two("pipeline: p", "pipeline: p"), "rules[2].context", "overlaps rules[1]");
    let step = "plan: g, pipeline: p, step: s";
    only(&two(step, step), "rules[2].context", "overlaps rules[1]");
    only(&one("pipeline: p, context: {over: 5}"), "rules[1].context", "more than 0");
    let window = "pipeline: p, window: {from: '09:00', until: '12:00'}";
    only(
        &two(window, &window.replace("09:00", "11:00")),
        "rules[2].window",
        "overlaps that of rules[1]",
    );
    only(&file("- {model: m, pipeline: p, percent: '50'}\n"), "rules[0].percent", "nothing in m");
    only(&one("step: s"), "rules[1].step", "no pipeline");
    only(&one("pipeline: null, step: s"), "rules[1].step", "no pipeline");
    only(&one("pipeline: 7, step: s"), "rules[1].pipeline", "not text");
    only(&one("pipeline: p, step: ''"), "rules[1].step", "empty");
}

#[test]
fn so_many_shares_follow_each_other_that_sums_stay_exact() {
    let mut text = file(&format!("- {{model: m, {RATES}}}\n"));
    let places = ["", "pipeline: p, ", "pipeline: p, step: s, "];
    let scopes = ["plan: g, ", "distributor: d, ", "customer: c, "];
    let all = scopes.iter().flat_map(|scope| places.map(|place| format!("{scope}{place}")));
    for (at, who) in all.enumerate() {
        assert_eq!(mistakes(&text), [], "{at}");
        text.extend([format!("- {{model: m, {who}percent: '99.9999'}}\n")]);
        if at < 8 {
            let payer = pricing::Payer {
                customer: "c",
                distributor: Some("d"),
                plan: Some("g"),
                pipeline: Some("p"),
                step: Some("s"),
            };
            let tokens = pricing::Tokens { input: 1_000_000_000_000, ..Default::default() };
            let quote = crate::quote(&text, &payer);
            assert!(quote.explain(&tokens).is_ok() && quote.ceiling(1 << 40, 1 << 40).is_ok());
        }
    }
    only(&text, "rules[9].percent", "more than 8 percentages");
}

#[test]
fn a_model_has_one_currency() {
    let text = file(&format!(
        "- {{model: m, {RATES}}}\n- {{model: m, plan: p, currency: USD, {RATES}}}\n- {{model: n, currency: USD, {RATES}}}\n"
    ));
    only(&text, "rules[1].currency", "in CNY");
    assert_eq!(
        mistakes(&file(&format!("- {{model: m, {RATES}, minimum: '2', maximum: '1'}}\n"))),
        [("rules[0].minimum".to_owned(), "is above the maximum of 1".to_owned())]
    );
}

#[test]
fn numbers_are_taken_as_written() {
    let plain = file("- {model: m, rates: {input_per_million: 2.1, output_per_million: 8}}\n");
    let quoted =
        file("- {model: m, rates: {input_per_million: '2.10', output_per_million: '8'}}\n");
    assert_eq!(version(&plain).id(), version(&quoted).id());
}

#[test]
fn a_very_large_or_deep_file_is_refused_without_harm() {
    let deep = format!("currency: CNY\nrules: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(!mistakes(&deep).is_empty());
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    assert!(!mistakes(bomb).is_empty());
}
