//! From the text of a price file to its rules.

use std::sync::Arc;

use kernel::{Amount, Asset, Zone};
use serde_json::Value;

use super::{
    ContextTier, Document, Fields, Findings, Item, Mistake, Node, Package, Period, Place, Pricing,
    Rule, Scope, Tier,
};
use crate::percent::Percent;
use crate::rates::MILLION;
use crate::window::{DAYS, Days, TimeOfDay, Window};
use crate::{Class, Classes, PricingData, Rates};

const MOST_RULES: usize = 20_000;
const LONGEST_NAME: usize = 200;
const LONGEST_COUNTER: usize = 64;
/// Names of flows have up to 200 characters.
const LONGEST_PLACE: usize = 800;
/// The most units that a price can be for: keeps sums of fractions within range.
const MOST_PER: u64 = 1_000_000_000;
const MOST_UNITS: u64 = u64::MAX >> 1;
const PERIODS: [(&str, Period); 2] = [("day", Period::Day), ("month", Period::Month)];
const RULE: [&str; 15] = [
    "model",
    "customer",
    "distributor",
    "plan",
    "pipeline",
    "step",
    "currency",
    "window",
    "context",
    "rates",
    "percent",
    "prices",
    "per_call",
    "minimum",
    "maximum",
];
const ITEM: [&str; 9] =
    ["class", "price", "graduated", "volume", "package", "per", "free", "period", "counter"];
const RATES: [&str; 6] = [
    "input_per_million",
    "cached_input_per_million",
    "cache_write_per_million",
    "output_per_million",
    "reasoning_per_million",
    "per_call",
];

pub(super) fn document(text: &str) -> Result<Document, Vec<Mistake>> {
    let tree = tree(text)?;
    if tree.get("pricings").is_some() {
        let currency = "CNY".parse().map_err(|_never| Vec::new())?;
        return PricingData::read(text)?.to_document(currency);
    }
    let mut found = Findings::default();
    let read = whole(&Node { value: &tree, path: String::new() }, &mut found);
    match read {
        Some((document, places)) if found.0.is_empty() => {
            document.check_at(&places)?;
            Ok(document)
        }
        Some((document, places)) => {
            // What can be said of models all of whose rules were read, is said too.
            found.0.extend(document.check_at(&places).err().unwrap_or_default());
            Err(found.0)
        }
        None => Err(found.0),
    }
}

/// A document that was valid when it was recorded, whatever is asked of new ones since.
pub(super) fn recorded(json: &str) -> Result<Document, Vec<Mistake>> {
    let tree = serde_json::from_str(json).map_err(|cause| {
        vec![Mistake::new("", "", cause.to_string(), "restore the row from a backup")]
    })?;
    let mut found = Findings::default();
    match whole(&Node { value: &tree, path: String::new() }, &mut found) {
        Some((document, _)) if found.0.is_empty() => Ok(document),
        _ => Err(found.0),
    }
}

/// The values of a YAML or JSON text.
fn tree(text: &str) -> Result<Value, Vec<Mistake>> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|cause| {
        let problem = format!("the text is not YAML or JSON: {cause}");
        vec![Mistake::new("", "", problem, "correct it at the named line and column")]
    })
}

/// The rules that could be read, and the position of each; models of others are left out.
fn whole(node: &Node<'_>, found: &mut Findings) -> Option<(Document, Vec<usize>)> {
    let fields = node.fields(&["name", "currency", "time_zone", "rules"], found)?;
    let name = fields.optional("name", found, |node, found| node.text(LONGEST_NAME, found));
    let currency = fields.required("currency", found).and_then(|node| asset(&node, found));
    let time_zone = match fields.get("time_zone") {
        Some(node) => zone(&node, found),
        None => Some("UTC".to_owned()),
    };
    let nodes = fields.required("rules", found).and_then(|node| node.items(found))?;
    if nodes.is_empty() || nodes.len() > MOST_RULES {
        let remedy = format!("write 1 to {MOST_RULES} rules");
        return found.note(&fields.node, format!("there are {} rules", nodes.len()), remedy);
    }
    let mut rules = Vec::new();
    let mut damaged = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let before = found.0.len();
        let read = rule(node, found);
        match read {
            Some(rule) if found.0.len() == before => rules.push((at, rule)),
            _ => damaged.push(node.value.get("model")),
        }
    }
    rules.retain(|(_, rule)| {
        !damaged.iter().any(|model| model.and_then(Value::as_str) == Some(&rule.model))
    });
    let (places, rules) = rules.into_iter().unzip();
    // A currency or zone that is not there stops nothing else from being looked at.
    let (currency, time_zone) = (currency.or_else(|| "CNY".parse().ok())?, time_zone?);
    Some((Document { name, currency, time_zone, rules }, places))
}

fn asset(node: &Node<'_>, found: &mut Findings) -> Option<Asset> {
    match node.value.as_str().map(str::parse) {
        Some(Ok(asset)) => Some(asset),
        _ => found.note(node, "is no currency", "write 3 to 8 capital letters such as CNY"),
    }
}

fn zone(node: &Node<'_>, found: &mut Findings) -> Option<String> {
    let name = node.value.as_str().unwrap_or_default();
    match name.parse::<Zone>() {
        Ok(_) => Some(name.to_owned()),
        Err(_unknown) => {
            found.note(node, "is no time zone", "write a name such as Asia/Shanghai or UTC")
        }
    }
}

fn rule(node: &Node<'_>, found: &mut Findings) -> Option<Rule> {
    let fields = node.fields(&RULE, found)?;
    let model = fields.required("model", found).and_then(|node| node.text(255, found));
    let prices = match fields.get("prices") {
        Some(node) => node.items(found)?.iter().filter_map(|node| item(node, found)).collect(),
        None => Vec::new(),
    };
    let mut amount = |name| fields.optional(name, found, Node::amount);
    let (per_call, minimum, maximum) = (amount("per_call"), amount("minimum"), amount("maximum"));
    forms(&fields, found);
    Some(Rule {
        scope: scope(&fields, found),
        place: place(&fields, found),
        currency: fields.optional("currency", found, asset),
        window: fields.optional("window", found, window),
        context: fields.optional("context", found, context),
        rates: fields.optional("rates", found, rates),
        percent: fields.optional("percent", found, percent),
        prices,
        per_call,
        minimum,
        maximum,
        // Last, so that the mistakes of all others are found without it.
        model: model?,
    })
}

/// A rule has one form: rates, prices or a percentage.
fn forms(fields: &Fields<'_>, found: &mut Findings) {
    let there = |name: &&str| fields.get(name).is_some();
    let forms: Vec<&str> = ["rates", "prices", "percent"].into_iter().filter(there).collect();
    if forms.len() != 1 {
        let problem = match forms.as_slice() {
            [] => "the rule has no price".to_owned(),
            several => format!("the rule has {}", several.join(" and ")),
        };
        found.note::<()>(&fields.node, problem, "give one of rates, prices, percent");
    }
    let more: Vec<&str> =
        ["per_call", "minimum", "maximum", "currency"].into_iter().filter(there).collect();
    if forms == ["percent"] && !more.is_empty() {
        found.note::<()>(
            &fields.node,
            format!("a percentage does not go with {}", more.join(" and ")),
            "remove it: the rule that the percentage is of has its own",
        );
    }
}

fn scope(fields: &Fields<'_>, found: &mut Findings) -> Option<Scope> {
    let mut named = |name, of: fn(String) -> Scope| {
        fields.optional(name, found, |node, found| node.text(64, found)).map(of)
    };
    let scopes = [
        named("customer", Scope::Customer),
        named("distributor", Scope::Distributor),
        named("plan", Scope::Plan),
    ];
    let mut scopes = scopes.into_iter().flatten();
    let scope = scopes.next();
    if scopes.next().is_some() {
        found.note::<()>(
            &fields.node,
            "the rule is for more than one",
            "give one of customer, distributor, plan; write a rule for each",
        );
    }
    scope
}

fn place(fields: &Fields<'_>, found: &mut Findings) -> Option<Place> {
    let mut name =
        |name| fields.optional(name, found, |node, found| node.text(LONGEST_PLACE, found));
    let (pipeline, step) = (name("pipeline"), name("step"));
    if let (None, Some(node)) = (fields.get("pipeline"), fields.get("step")) {
        return found.note(&node, "a step of no pipeline", "add pipeline: the name of its flow");
    }
    Some(Place { pipeline: pipeline?, step })
}

fn window(node: &Node<'_>, found: &mut Findings) -> Option<Window> {
    let fields = node.fields(&["days", "from", "until"], found)?;
    let days = match fields.get("days") {
        Some(node) => days(&node, found),
        None => Some(Days::ALL),
    };
    let mut time = |name| fields.required(name, found).and_then(|node| time(&node, found));
    let (from, until) = (time("from"), time("until"));
    let window = Window { days: days?, from: from?, until: until? };
    if window.from == window.until {
        return found.note(
            node,
            "begins when it ends",
            "write from 00:00 until 24:00 for a whole day",
        );
    }
    Some(window)
}

fn days(node: &Node<'_>, found: &mut Findings) -> Option<Days> {
    let names: Vec<(&str, u8)> = DAYS.into_iter().zip(0_u8..).collect();
    let items = node.items(found)?;
    let read: Vec<u8> = items.iter().filter_map(|item| item.one_of(&names, found)).collect();
    if read.is_empty() || read.len() != items.len() {
        return found.note(
            node,
            "names no days, or unknown ones",
            "list mon, tue, wed, thu, fri, sat, sun",
        );
    }
    Some(Days(read.iter().fold(0, |days, day| days | 1 << day)))
}

fn time(node: &Node<'_>, found: &mut Findings) -> Option<TimeOfDay> {
    match node.value.as_str().and_then(TimeOfDay::parse) {
        Some(time) => Some(time),
        None => found.note(node, "is no time of day", "write HH:MM in quotes, 00:00 to 24:00"),
    }
}

fn context(node: &Node<'_>, found: &mut Findings) -> Option<ContextTier> {
    let fields = node.fields(&["over", "up_to"], found)?;
    let mut units =
        |name| fields.optional(name, found, |node, found| node.whole(0, MOST_UNITS, found));
    let (over, up_to) = (units("over").unwrap_or(0), units("up_to"));
    if up_to.is_some_and(|up_to| up_to <= over) {
        return found.note(node, "holds no call", "let up_to be greater than over");
    }
    Some(ContextTier { over, up_to })
}

fn rates(node: &Node<'_>, found: &mut Findings) -> Option<Rates> {
    let fields = node.fields(&RATES, found)?;
    let mut required = |name| fields.required(name, found).and_then(|node| node.amount(found));
    let (input, output) = (required("input_per_million"), required("output_per_million"));
    let mut amount = |name| fields.optional(name, found, Node::amount);
    Some(Rates {
        cached_input_per_million: amount("cached_input_per_million"),
        cache_write_per_million: amount("cache_write_per_million"),
        reasoning_per_million: amount("reasoning_per_million"),
        per_call: amount("per_call"),
        input_per_million: input?,
        output_per_million: output?,
    })
}

fn percent(node: &Node<'_>, found: &mut Findings) -> Option<Percent> {
    let text = match node.value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.parse() {
        Ok(percent) => Some(percent),
        Err(cause) => {
            let cause: crate::percent::PercentError = cause;
            found.note(node, cause.to_string(), "write a figure such as \"85\" for 85 %")
        }
    }
}

fn item(node: &Node<'_>, found: &mut Findings) -> Option<Item> {
    let fields = node.fields(&ITEM, found)?;
    let class = fields.required("class", found).and_then(|node| classes(&node, found));
    let pricing = pricing(&fields, found);
    let per = match fields.get("per") {
        Some(node) => node.whole(1, MOST_PER, found),
        None => {
            Some(if class.is_some_and(|classes| classes.has(Class::Call)) { 1 } else { MILLION })
        }
    };
    let free = fields.optional("free", found, |node, found| node.whole(0, MOST_UNITS, found));
    let period = fields.optional("period", found, |node, found| node.one_of(&PERIODS, found));
    let counter =
        fields.optional("counter", found, |node, found| node.text(LONGEST_COUNTER, found));
    if counter.is_some() && period.is_none() {
        return found.note(
            node,
            "a counter counts nothing without a period",
            "add period: day or month",
        );
    }
    let package = matches!(pricing, Some(Pricing::Package(_)));
    Some(Item {
        class: class?,
        pricing: pricing?,
        // Packages have their own size.
        per: if package { 1 } else { per? },
        free: free.unwrap_or(0),
        period,
        counter: counter.map(Arc::from),
    })
}

fn classes(node: &Node<'_>, found: &mut Findings) -> Option<Classes> {
    let names: Vec<(&str, Class)> =
        Class::ALL.into_iter().map(|class| (class.as_str(), class)).collect();
    let Value::Array(_) = node.value else {
        return node.one_of(&names, found).map(|class| Classes::default().with(class));
    };
    let items = node.items(found)?;
    let mut classes = Classes::default();
    for item in &items {
        let class = item.one_of(&names, found)?;
        if classes.has(class) {
            return found.note(item, "is there twice", "name each class once");
        }
        classes = classes.with(class);
    }
    if classes.is_empty() || (classes.has(Class::Call) && items.len() > 1) {
        return found.note(
            node,
            "cannot be counted together",
            "list classes of tokens, or call alone",
        );
    }
    Some(classes)
}

fn pricing(fields: &Fields<'_>, found: &mut Findings) -> Option<Pricing> {
    let names = ["price", "graduated", "volume", "package"];
    let given: Vec<&str> = names.into_iter().filter(|name| fields.get(name).is_some()).collect();
    if given.len() != 1 {
        let problem = format!("the item has {} prices", given.len());
        return found.note(&fields.node, problem, format!("give one of {}", names.join(", ")));
    }
    let mut amount = |node: &Node<'_>| node.amount(found);
    if let Some(node) = fields.get("price") {
        return amount(&node).map(Pricing::Unit);
    }
    if let Some(node) = fields.get("graduated") {
        return tiers(&node, found).map(Pricing::Graduated);
    }
    if let Some(node) = fields.get("volume") {
        return tiers(&node, found).map(Pricing::Volume);
    }
    let fields = fields.get("package")?.fields(&["size", "price"], found)?;
    let size = fields.required("size", found).and_then(|node| node.whole(1, MOST_PER, found));
    let price: Option<Amount> = fields.required("price", found).and_then(|node| node.amount(found));
    Some(Pricing::Package(Package { size: size?, price: price? }))
}

fn tiers(node: &Node<'_>, found: &mut Findings) -> Option<Vec<Tier>> {
    let items = node.items(found)?;
    let mut tiers: Vec<Tier> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let fields = item.fields(&["up_to", "price"], found)?;
        let price = fields.required("price", found).and_then(|node| node.amount(found));
        let up_to = fields.optional("up_to", found, |node, found| node.whole(1, MOST_UNITS, found));
        let last = at + 1 == items.len();
        if up_to.is_none() != last && price.is_some() {
            return found.note(
                item,
                if last { "ends the tiers before all units are priced" } else { "has no up_to" },
                "give every tier but the last an up_to, and the last none",
            );
        }
        let before = tiers.last().and_then(|tier| tier.up_to).unwrap_or(0);
        if up_to.is_some_and(|up_to| up_to <= before) {
            return found.note(
                item,
                "does not follow the tier before",
                "let up_to grow from tier to tier",
            );
        }
        tiers.push(Tier { up_to, price: price? });
    }
    if tiers.is_empty() {
        return found.note(node, "has no tiers", "list at least one tier with a price");
    }
    Some(tiers)
}
