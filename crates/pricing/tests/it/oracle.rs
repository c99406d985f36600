//! An oracle of its own, with numbers of any size: it picks rules by looking at all of them and
//! prices unit by unit.

use std::collections::{HashMap, HashSet};

use num_bigint::BigInt;
use num_rational::BigRational;
use pricing::{
    Class, ContextTier, Document, Item, Payer, Period, Place, PriceVersion, Pricing, Rule, Scope,
    Tier, Tokens,
};
use proptest::prelude::*;

use crate::noon;

type Before = HashMap<String, u64>;

fn whole(number: impl Into<BigInt>) -> BigRational {
    BigRational::from_integer(number.into())
}

fn units_of(class: Class, tokens: &Tokens) -> u64 {
    match class {
        Class::Input => tokens.input,
        Class::CachedInput => tokens.cached_input,
        Class::CacheWrite => tokens.cache_write,
        Class::Output => tokens.output,
        Class::Reasoning => tokens.reasoning,
        Class::InputAudio => tokens.input_audio,
        Class::InputImage => tokens.input_image,
        Class::OutputAudio => tokens.output_audio,
        Class::OutputImage => tokens.output_image,
        Class::Call => 1,
    }
}

/// The item that prices a class: its own, or that of the class it is a part of.
fn item_of(items: &[Item], class: Class) -> Option<usize> {
    let own = |class: Class| items.iter().position(|item| item.class.has(class));
    own(class).or_else(|| match class {
        Class::CachedInput | Class::CacheWrite | Class::InputAudio | Class::InputImage => {
            own(Class::Input)
        }
        Class::Reasoning | Class::OutputAudio | Class::OutputImage => own(Class::Output),
        Class::Input | Class::Output | Class::Call => None,
    })
}

fn tier_price(tiers: &[Tier], position: u64) -> BigRational {
    let tier = tiers.iter().find(|tier| tier.up_to.is_none_or(|up_to| position <= up_to)).unwrap();
    whole(tier.price.nanos())
}

fn item_cost(item: &Item, before: u64, units: u64) -> BigRational {
    let mut cost = whole(0);
    // Positions of the units that are not free, from 1.
    let paid = |position: u64| position.saturating_sub(item.free);
    for position in before + 1..=before + units {
        let position = paid(position);
        if position == 0 {
            continue;
        }
        cost += match &item.pricing {
            Pricing::Unit(price) => whole(price.nanos()) / whole(item.per),
            Pricing::Graduated(tiers) => tier_price(tiers, position) / whole(item.per),
            Pricing::Volume(tiers) => tier_price(tiers, paid(before + units)) / whole(item.per),
            Pricing::Package(package) if (position - 1) % package.size == 0 => {
                whole(package.price.nanos())
            }
            Pricing::Package(_) => whole(0),
        };
    }
    cost
}

fn counter(rule: &Rule, item: &Item) -> Option<String> {
    let period = match item.period? {
        Period::Day => "day",
        Period::Month => "month",
    };
    let own = || format!("{}/{}/{period}", rule.model, item.class);
    Some(item.counter.as_deref().map_or_else(own, str::to_owned))
}

fn rule_cost(rule: &Rule, tokens: &Tokens, before: &Before) -> BigRational {
    let mut units = vec![0; rule.prices.len()];
    for class in Class::ALL {
        if let Some(at) = item_of(&rule.prices, class) {
            units[at] += units_of(class, tokens);
        }
    }
    let mut cost = whole(rule.per_call.unwrap_or_default().nanos());
    for (item, units) in rule.prices.iter().zip(units) {
        let used = counter(rule, item).and_then(|name| before.get(&name).copied());
        cost += item_cost(item, used.unwrap_or(0), units);
    }
    if let Some(minimum) = rule.minimum {
        cost = cost.max(whole(minimum.nanos()));
    }
    if let Some(maximum) = rule.maximum {
        cost = cost.min(whole(maximum.nanos()));
    }
    cost
}

fn oracle(document: &Document, payer: &Payer<'_>, tokens: &Tokens, before: &Before) -> BigInt {
    let read = tokens.input
        + tokens.cached_input
        + tokens.cache_write
        + tokens.input_audio
        + tokens.input_image;
    let holds = |tier: Option<ContextTier>| {
        let tier = tier.unwrap_or_default();
        (tier.over == 0 || read > tier.over) && tier.up_to.is_none_or(|up_to| read <= up_to)
    };
    let scopes = [
        Some(Scope::Customer(payer.customer.to_owned())),
        payer.distributor.map(|name| Scope::Distributor(name.to_owned())),
        payer.plan.map(|name| Scope::Plan(name.to_owned())),
    ];
    let scopes = scopes.into_iter().flatten().map(Some).chain([None]);
    let place = |step: Option<&str>| {
        let (pipeline, step) = (payer.pipeline?.to_owned(), step.map(str::to_owned));
        Some(Place { pipeline, step })
    };
    let places = [place(payer.step), place(None), None];
    let order = scopes.flat_map(|scope| places.clone().map(|place| (scope.clone(), place)));
    let (mut share, mut seen) = (whole(1), HashSet::new());
    for (scope, place) in order {
        // Outside of runs, and of steps, the places are one.
        if !seen.insert((scope.clone(), place.clone())) {
            continue;
        }
        let fits = |rule: &&Rule| rule.scope == scope && rule.place == place && holds(rule.context);
        let rule = document.rules.iter().find(fits);
        let Some(rule) = rule else { continue };
        match rule.percent {
            Some(percent) => share *= decimal(&percent.to_string()) / whole(100),
            None => return (rule_cost(rule, tokens, before) * share).ceil().to_integer(),
        }
    }
    panic!("there is no rule for everybody")
}

/// A decimal or fraction as printed.
pub(crate) fn decimal(text: &str) -> BigRational {
    if let Some((numerator, denominator)) = text.split_once('/') {
        return decimal(numerator) / decimal(denominator);
    }
    let (integer, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: BigInt = format!("{integer}{fraction}").parse().unwrap();
    whole(digits) / whole(BigInt::from(10).pow(fraction.len().try_into().unwrap()))
}

fn price() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("0".to_owned()),
        (0_u64..100).prop_map(|whole| whole.to_string()),
        (0_u64..1_000_000_000).prop_map(|nanos| format!("0.{nanos:09}")),
    ]
}

fn tiers() -> impl Strategy<Value = String> {
    (prop::collection::vec((1_u64..400, price()), 0..3), price()).prop_map(|(steps, last)| {
        let mut position = 0;
        let steps = steps.into_iter().map(|(more, price)| {
            position += more;
            format!("{{up_to: {position}, price: '{price}'}}, ")
        });
        format!("[{}{{price: '{last}'}}]", steps.collect::<String>())
    })
}

fn pricing() -> impl Strategy<Value = String> {
    let per = prop_oneof![Just(1), Just(3), Just(1000), Just(1_000_000)];
    let per = per.prop_map(|per: u64| format!("per: {per}"));
    prop_oneof![
        (price(), per.clone()).prop_map(|(price, per)| format!("price: '{price}', {per}")),
        (tiers(), per.clone()).prop_map(|(tiers, per)| format!("graduated: {tiers}, {per}")),
        (tiers(), per).prop_map(|(tiers, per)| format!("volume: {tiers}, {per}")),
        (1_u64..300, price())
            .prop_map(|(size, price)| format!("package: {{size: {size}, price: '{price}'}}")),
    ]
}

fn item(class: &'static str) -> impl Strategy<Value = String> {
    let free = prop_oneof![Just(0_u64), 0_u64..500];
    let period = prop_oneof![Just(""), Just(", period: day"), Just(", period: month")];
    (pricing(), free, period).prop_map(move |(pricing, free, period)| {
        format!("    - {{class: {class}, {pricing}, free: {free}{period}}}\n")
    })
}

fn prices() -> impl Strategy<Value = String> {
    let classes = prop_oneof![
        Just(vec!["input", "output"]),
        Just(vec!["[input, output]"]),
        Just(vec!["input", "cached_input", "output", "call"]),
        Just(vec!["[input, cache_write]", "cached_input", "output", "reasoning"]),
        Just(vec!["[cached_input, reasoning]", "input", "cache_write", "output", "call"]),
        Just(vec!["input", "input_audio", "input_image", "output", "output_audio"]),
        Just(vec!["[input, input_image]", "[input_audio, output_audio]", "output", "output_image"]),
    ];
    let items = classes.prop_flat_map(|classes| classes.into_iter().map(item).collect::<Vec<_>>());
    let call = prop::option::of(price().prop_map(|price| format!("  per_call: '{price}'\n")));
    let bounds = prop_oneof![
        Just(String::new()),
        price().prop_map(|price| format!("  minimum: '{price}'\n")),
        price().prop_map(|price| format!("  maximum: '{price}'\n")),
    ];
    (items, call, bounds).prop_map(|(items, call, bounds)| {
        format!("  prices:\n{}{}{bounds}", items.concat(), call.unwrap_or_default())
    })
}

fn share() -> impl Strategy<Value = String> {
    (0_u64..3_000_000)
        .prop_map(|parts| format!("  percent: '{}.{:04}'\n", parts / 10_000, parts % 10_000))
}

/// Rules of a scope and place, in one to three context tiers.
fn scope(
    name: String,
    form: impl Strategy<Value = String> + Clone + 'static,
) -> impl Strategy<Value = String> {
    (prop::collection::vec(1_u64..800, 0..3), prop::collection::vec(form, 3)).prop_map(
        move |(steps, forms)| {
            let mut bounds = vec![0];
            steps.iter().for_each(|step| bounds.push(bounds.last().unwrap() + step));
            let tier = |(at, over): (usize, &u64)| {
                let up_to = bounds.get(at + 1).map(|up_to| format!(", up_to: {up_to}"));
                let up_to = up_to.unwrap_or_default();
                let form = &forms[at % forms.len()];
                format!("- model: m\n{name}  context: {{over: {over}{up_to}}}\n{form}")
            };
            bounds.iter().enumerate().map(tier).collect()
        },
    )
}

const SCOPES: [&str; 4] = ["", "  plan: p\n", "  distributor: d\n", "  customer: c\n"];
const PLACES: [&str; 3] = ["", "  pipeline: f\n", "  pipeline: f\n  step: s\n"];

fn file() -> impl Strategy<Value = String> {
    let any = |name: String| {
        let share = scope(name.clone(), share().boxed()).prop_map(|rules| (rules, true));
        prop_oneof![share, scope(name, prices().boxed()).prop_map(|rules| (rules, false))]
    };
    let names = SCOPES.iter().flat_map(|scope| PLACES.map(|place| format!("{scope}{place}")));
    let more =
        names.skip(1).map(|name| prop::option::weighted(0.35, any(name))).collect::<Vec<_>>();
    let few = |more: &Vec<Option<(String, bool)>>| {
        more.iter().flatten().filter(|(_, share)| *share).count() <= 8
    };
    let more = more.prop_filter("shares in a row", few);
    (scope(String::new(), prices().boxed()), more).prop_map(|(base, more)| {
        let more: String = more.into_iter().flatten().map(|(rules, _)| rules).collect();
        format!("currency: CNY\nrules:\n{base}{more}")
    })
}

fn tokens() -> impl Strategy<Value = Tokens> {
    prop::array::uniform9(prop_oneof![Just(0_u64), 0_u64..900]).prop_map(|counts| Tokens {
        input: counts[0],
        cached_input: counts[1],
        cache_write: counts[2],
        output: counts[3],
        reasoning: counts[4],
        input_audio: counts[5],
        input_image: counts[6],
        output_audio: counts[7],
        output_image: counts[8],
    })
}

/// Customer, distributor and plan.
const PAYERS: [(&str, Option<&str>, Option<&str>); 4] = [
    ("c", Some("d"), Some("p")),
    ("other", Some("d"), None),
    ("other", None, Some("p")),
    ("other", Some("other"), Some("other")),
];
/// Pipeline and step.
const CALLS: [(Option<&str>, Option<&str>); 4] =
    [(Some("f"), Some("s")), (Some("f"), Some("other")), (Some("other"), Some("s")), (None, None)];

fn payer() -> impl Strategy<Value = Payer<'static>> {
    let (payers, calls) = (prop::sample::select(&PAYERS[..]), prop::sample::select(&CALLS[..]));
    (payers, calls).prop_map(|((customer, distributor, plan), (pipeline, step))| Payer {
        customer,
        distributor,
        plan,
        pipeline,
        step,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn every_charge_equals_the_oracles(
        file in file(), tokens in tokens(), payer in payer(), used in 0_u64..1500,
    ) {
        let version = PriceVersion::read(&file).map_err(|mistakes| TestCaseError::fail(format!("{file}\n{mistakes:#?}")))?;
        let mut quote = version.quote("m", &payer, noon()).unwrap();
        let mut before = Before::new();
        for (at, count) in (0_u64..).zip(quote.used_mut()) {
            count.units = used.saturating_sub(at * 100);
            before.insert(count.counter.to_string(), count.units);
        }
        let expected = oracle(version.document(), &payer, &tokens, &before);
        let charge = quote.explain(&tokens).unwrap();
        prop_assert_eq!(BigInt::from(charge.amount.nanos()), expected, "{}\n{:#?}", file, charge);
        prop_assert_eq!(quote.charge(&tokens).unwrap(), charge.amount);
        let lines = charge.lines.iter().map(|line| decimal(&line.amount.to_string()));
        let sum = lines.fold(whole(0), |sum, line| sum + line);
        prop_assert_eq!(sum, decimal(&charge.amount.to_string()), "{:#?}", charge);
    }

    #[test]
    fn no_call_within_the_bounds_costs_more_than_the_ceiling(
        file in file(), tokens in tokens(), payer in payer(), used in 0_u64..1500,
        more in prop::array::uniform2(prop_oneof![Just(0_u64), 0_u64..900]),
    ) {
        let version = PriceVersion::read(&file).map_err(|mistakes| TestCaseError::fail(format!("{file}\n{mistakes:#?}")))?;
        let mut quote = version.quote("m", &payer, noon()).unwrap();
        quote.used_mut().iter_mut().for_each(|count| count.units = used);
        let (input, output) = (tokens.context() + more[0], tokens.produced() + more[1]);
        let ceiling = quote.ceiling(input, output).unwrap();
        let charge = quote.charge(&tokens).unwrap();
        prop_assert!(charge <= ceiling, "{file}\n{charge} > {ceiling}");
        prop_assert!(ceiling <= quote.ceiling(input + 1, output).unwrap(), "the ceiling grows with the bounds: {file}");
        prop_assert!(ceiling <= quote.ceiling(input, output + 1).unwrap(), "the ceiling grows with the bounds: {file}");
    }

    #[test]
    fn a_file_reads_back_as_written_under_the_same_name(file in file()) {
        let version = PriceVersion::read(&file).map_err(|mistakes| TestCaseError::fail(format!("{file}\n{mistakes:#?}")))?;
        let yaml = version.document().to_yaml();
        let json = serde_json::to_string(version.document()).unwrap();
        for text in [yaml, json.clone()] {
            let again = PriceVersion::read(&text).map_err(|mistakes| TestCaseError::fail(format!("{text}\n{mistakes:#?}")))?;
            prop_assert_eq!(again.document(), version.document());
            prop_assert_eq!(again.id(), version.id());
        }
        let recorded = PriceVersion::recorded("an id", &json).unwrap();
        prop_assert_eq!((recorded.document(), recorded.id().as_ref()), (version.document(), "an id"));
    }
}
