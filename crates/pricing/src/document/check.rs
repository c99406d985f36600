//! What must hold between the rules of a file: nothing priced twice, nothing left out.

use std::collections::{BTreeMap, HashMap, HashSet};

use ethnum::I256;

use super::{ContextTier, Document, Item, Mistake, Place, Rule, Scope};
use crate::exact::gcd;
use crate::window::{DAY, DAYS, WEEK, Window};
use crate::{Class, Classes};

/// Units of one rule have a common multiple of at most this, so that sums stay exact.
const MOST_COMMON_UNIT: I256 = I256::new(1_000_000_000_000);

/// Shares of shares of a model in a row, so that sums stay exact.
const MOST_SHARES: usize = 8;

/// A rule and its position in the file.
type Placed<'a> = (usize, &'a Rule);
/// The rules of one model, scope and place by their windows.
type Windows<'a> = HashMap<Option<Window>, Vec<Placed<'a>>>;

impl Document {
    /// Tells everything that is wrong between the rules.
    pub(crate) fn check(&self) -> Result<(), Vec<Mistake>> {
        self.check_at(&(0..self.rules.len()).collect::<Vec<_>>())
    }

    /// The same for rules that stand at these positions of their file.
    pub(super) fn check_at(&self, places: &[usize]) -> Result<(), Vec<Mistake>> {
        let mut models: BTreeMap<&str, Vec<Placed<'_>>> = BTreeMap::new();
        for (place, rule) in places.iter().zip(&self.rules) {
            models.entry(&rule.model).or_default().push((*place, rule));
        }
        let mut found = Vec::new();
        for rules in models.values() {
            rules.iter().for_each(|rule| rule_alone(*rule, &mut found));
            self.one_currency(rules, &mut found);
            model(rules, &mut found);
        }
        self.one_period(&mut found);
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    fn one_currency(&self, rules: &[Placed<'_>], found: &mut Vec<Mistake>) {
        let mut priced = rules.iter().filter(|(_, rule)| rule.percent.is_none());
        let Some((_, first)) = priced.next() else { return };
        let wanted = first.currency.unwrap_or(self.currency);
        for (place, rule) in priced {
            let currency = rule.currency.unwrap_or(self.currency);
            if currency != wanted {
                found.push(Mistake::new(
                    format!("rules[{place}].currency"),
                    currency.as_str(),
                    format!("another rule of {} is in {wanted}", rule.model),
                    "price all of a model in one currency",
                ));
            }
        }
    }

    /// A counter counts over one period, whoever names it.
    fn one_period(&self, found: &mut Vec<Mistake>) {
        let mut periods = HashMap::new();
        for (place, rule) in self.rules.iter().enumerate() {
            for (at, item) in rule.prices.iter().enumerate() {
                let (Some(counter), Some(period)) = (&item.counter, item.period) else { continue };
                if *periods.entry(counter).or_insert(period) != period {
                    found.push(Mistake::new(
                        format!("rules[{place}].prices[{at}].period"),
                        period.as_str(),
                        format!("the counter {counter} has another period elsewhere"),
                        "use another counter, or the same period",
                    ));
                }
            }
        }
    }
}

fn rule_alone((place, rule): Placed<'_>, found: &mut Vec<Mistake>) {
    if let (Some(minimum), Some(maximum)) = (rule.minimum, rule.maximum)
        && minimum > maximum
    {
        found.push(Mistake::new(
            format!("rules[{place}].minimum"),
            minimum.to_string(),
            format!("is above the maximum of {maximum}"),
            "let the minimum be at most the maximum",
        ));
    }
    if rule.prices.is_empty() {
        return;
    }
    classes(place, &rule.prices, found);
    counters(place, &rule.prices, found);
    let common = rule.prices.iter().fold(I256::ONE, |common, item| {
        let per = I256::from(item.per);
        if common > MOST_COMMON_UNIT { common } else { common / gcd(common, per) * per }
    });
    if common > MOST_COMMON_UNIT {
        let units: Vec<String> = rule.prices.iter().map(|item| item.per.to_string()).collect();
        found.push(Mistake::new(
            format!("rules[{place}].prices"),
            units.join(", "),
            "the units have no common multiple of reasonable size",
            "let per be a round number such as 1000 or 1000000",
        ));
    }
}

/// No class is priced twice, and tokens read and produced are priced.
fn classes(place: usize, items: &[Item], found: &mut Vec<Mistake>) {
    let mut priced = Classes::default();
    for (at, item) in items.iter().enumerate() {
        for class in item.class.iter() {
            if priced.has(class) {
                found.push(Mistake::new(
                    format!("rules[{place}].prices[{at}].class"),
                    class.as_str(),
                    "the class is priced twice in this rule",
                    "leave one of the two",
                ));
            }
            priced = priced.with(class);
        }
    }
    for class in [Class::Input, Class::Output] {
        if !priced.has(class) {
            found.push(Mistake::new(
                format!("rules[{place}].prices"),
                priced.to_string(),
                format!("{} is not priced", class.as_str()),
                format!("add {{class: {}, price: …}}, with \"0\" to give it away", class.as_str()),
            ));
        }
    }
}

/// Two items of one rule that share a counter would not see each other's units.
fn counters(place: usize, items: &[Item], found: &mut Vec<Mistake>) {
    let mut named = HashSet::new();
    for (at, item) in items.iter().enumerate() {
        if let Some(counter) = &item.counter
            && !named.insert(counter)
        {
            found.push(Mistake::new(
                format!("rules[{place}].prices[{at}].counter"),
                counter.to_string(),
                "two items of this rule have one counter",
                "make them one item with a list of classes",
            ));
        }
    }
}

/// The rules of one model.
fn model(rules: &[Placed<'_>], found: &mut Vec<Mistake>) {
    let mut scopes: BTreeMap<(Option<&Scope>, Option<&Place>), Windows<'_>> = BTreeMap::new();
    for (place, rule) in rules {
        let windows = scopes.entry((rule.scope.as_ref(), rule.place.as_ref())).or_default();
        windows.entry(rule.window).or_default().push((*place, *rule));
    }
    for windows in scopes.values() {
        for group in windows.values() {
            contexts(group, found);
            one_form(group, found);
        }
        overlaps(windows, found);
    }
    let base = scopes.get(&(None, None));
    if let Some(windows) = base {
        default_gap(windows, found);
    }
    let percents = rules.iter().filter(|(_, rule)| rule.percent.is_some());
    for (place, rule) in percents {
        if base.is_none() || (rule.scope.is_none() && rule.place.is_none()) {
            found.push(Mistake::new(
                format!("rules[{place}].percent"),
                rule.percent.map(|percent| percent.to_string()).unwrap_or_default(),
                format!("there is nothing in {} that it could be a share of", rule.model),
                "price the model for everybody, and let the percentage be for a customer, distributor, plan or pipeline",
            ));
        }
    }
    shares_in_a_row(rules, found);
}

/// A call meets at most one share of each kind of scope and place.
fn shares_in_a_row(rules: &[Placed<'_>], found: &mut Vec<Mistake>) {
    let mut kinds = HashSet::new();
    for (place, rule) in rules {
        let Some(percent) = rule.percent else { continue };
        let scope = rule.scope.as_ref().map(std::mem::discriminant);
        let step = rule.place.as_ref().map(|place| place.step.is_some());
        if kinds.insert((scope, step)) && kinds.len() == MOST_SHARES + 1 {
            found.push(Mistake::new(
                format!("rules[{place}].percent"),
                percent.to_string(),
                format!(
                    "more than {MOST_SHARES} percentages of {} may follow each other",
                    rule.model
                ),
                "write the price of one of them out",
            ));
        }
    }
}

/// A group is all shares or all prices.
fn one_form(group: &[Placed<'_>], found: &mut Vec<Mistake>) {
    let (shares, prices): (Vec<_>, Vec<_>) =
        group.iter().partition(|(_, rule)| rule.percent.is_some());
    if let ([(place, _), ..], [(other, _), ..]) = (shares.as_slice(), prices.as_slice()) {
        found.push(Mistake::new(
            format!("rules[{place}].percent"),
            format!("rules[{other}]"),
            "percentages and prices alternate between context tiers",
            "use one of the two for all tiers of this scope, pipeline and window",
        ));
    }
}

/// Context tiers follow each other from zero to any number.
fn contexts(group: &[Placed<'_>], found: &mut Vec<Mistake>) {
    let mut tiers: Vec<(usize, ContextTier)> =
        group.iter().map(|(place, rule)| (*place, rule.context.unwrap_or_default())).collect();
    tiers.sort_by_key(|(place, tier)| (tier.over, *place));
    let shown = |tier: &ContextTier| match tier.up_to {
        Some(up_to) => format!("over {} up to {up_to}", tier.over),
        None => format!("over {}", tier.over),
    };
    let mut covered = Some(0);
    let mut before = None;
    for (place, tier) in &tiers {
        let path = format!("rules[{place}].context");
        match covered {
            Some(end) if tier.over == end => {}
            Some(end) if tier.over > end => found.push(Mistake::new(
                path,
                shown(tier),
                format!(
                    "calls that read more than {end} and at most {} tokens have no price",
                    tier.over
                ),
                "let each tier begin where the one before ends, the first at 0",
            )),
            _ => found.push(Mistake::new(
                path,
                shown(tier),
                format!("it overlaps rules[{}]: calls would match twice", before.unwrap_or(*place)),
                "remove one of the two, or let tiers, windows, scopes or pipelines tell them apart",
            )),
        }
        before = Some(*place);
        covered = match (covered, tier.up_to) {
            (Some(end), Some(up_to)) => Some(end.max(up_to)),
            _ => None,
        };
    }
    if let (Some(end), Some((place, tier))) = (covered, tiers.last()) {
        found.push(Mistake::new(
            format!("rules[{place}].context"),
            shown(tier),
            format!("calls that read more than {end} tokens have no price"),
            "leave up_to out of the last tier",
        ));
    }
}

/// The minutes of the week that each window takes.
fn minutes(window: Window) -> impl Iterator<Item = usize> {
    (0_u8..7).flat_map(move |day| {
        (0..DAY)
            .filter(move |minute| window.has(day, *minute))
            .map(move |minute| usize::from(day) * usize::from(DAY) + usize::from(minute))
    })
}

fn clock(minute: usize) -> String {
    let day = DAYS.get(minute / usize::from(DAY)).copied().unwrap_or_default();
    let minute = minute % usize::from(DAY);
    format!("{day} {:02}:{:02}", minute / 60, minute % 60)
}

/// Two windows of one scope and place never hold the same minute.
fn overlaps(windows: &Windows<'_>, found: &mut Vec<Mistake>) {
    let mut placed: Vec<(usize, Window)> =
        windows.iter().filter_map(|(window, group)| Some((group.first()?.0, (*window)?))).collect();
    placed.sort_by_key(|(place, _)| *place);
    let mut taken: Vec<Option<usize>> = vec![None; WEEK];
    for (place, window) in placed {
        let mut clash = None;
        for minute in minutes(window) {
            let Some(owner) = taken.get_mut(minute) else { continue };
            match owner {
                Some(other) => clash = clash.or(Some((minute, *other))),
                None => *owner = Some(place),
            }
        }
        if let Some((minute, other)) = clash {
            found.push(Mistake::new(
                format!("rules[{place}].window"),
                clock(minute),
                format!("the window overlaps that of rules[{other}]"),
                "let windows of one model, scope and pipeline follow each other",
            ));
        }
    }
}

/// For everybody, anywhere, a model is priced at all hours.
fn default_gap(windows: &Windows<'_>, found: &mut Vec<Mistake>) {
    if windows.contains_key(&None) {
        return;
    }
    let mut covered = vec![false; WEEK];
    for minute in windows.keys().flatten().flat_map(|window| minutes(*window)) {
        if let Some(slot) = covered.get_mut(minute) {
            *slot = true;
        }
    }
    let place = windows.values().flatten().map(|(place, _)| *place).min().unwrap_or(0);
    if let Some(minute) = covered.iter().position(|covered| !covered) {
        found.push(Mistake::new(
            format!("rules[{place}].window"),
            clock(minute),
            "at this time the model has no price",
            "add a rule without a window for the hours that are left",
        ));
    }
}
