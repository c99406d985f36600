//! An immutable price version: a price file made ready for use, named by its content.

use std::collections::HashMap;
use std::sync::Arc;

use kernel::{Asset, Timestamp, Zone};

use crate::document::{ContextTier, Item, Mistake, Period, Place, Rule, Scope};
use crate::percent::Percent;
use crate::quote::{Payer, Quote, Used};
use crate::window::Window;
use crate::{Class, Classes, Document, PricingError, Rates};

/// What models cost, for ever: a change is a new version.
#[derive(Clone, Debug)]
pub struct PriceVersion {
    id: Arc<str>,
    document: Document,
    models: HashMap<Arc<str>, Arc<ModelPrices>>,
}

/// All prices of one model in one version.
#[derive(Debug)]
pub(crate) struct ModelPrices {
    pub(crate) version: Arc<str>,
    pub(crate) model: Arc<str>,
    pub(crate) currency: Asset,
    zone: Zone,
    customers: Scoped,
    distributors: Scoped,
    plans: Scoped,
    everybody: Places,
}

type Scoped = HashMap<String, Places>;
/// The rules of one scope and place, by window.
type Groups = Vec<Arc<Group>>;

/// The rules of one scope, by where calls are made.
#[derive(Debug, Default)]
struct Places {
    anywhere: Groups,
    pipelines: HashMap<String, Pipeline>,
}

/// The rules of one scope for calls that one flow makes.
#[derive(Debug, Default)]
struct Pipeline {
    any_step: Groups,
    steps: HashMap<String, Groups>,
}

/// The rules of one scope, place and window: one for each context tier.
#[derive(Debug)]
pub(crate) struct Group {
    window: Option<Window>,
    pub(crate) tariffs: Vec<Tariff>,
}

/// One rule made ready.
#[derive(Debug)]
pub(crate) struct Tariff {
    /// Its position in the file.
    pub(crate) rule: usize,
    /// As it is written.
    pub(crate) source: Rule,
    pub(crate) context: ContextTier,
    pub(crate) form: Form,
}

#[derive(Debug)]
pub(crate) enum Form {
    /// A share of what the next wider rule says.
    Share(Percent),
    /// Prices of classes, and bounds.
    Prices(Prices),
}

#[derive(Debug)]
pub(crate) struct Prices {
    pub(crate) items: Vec<Priced>,
    pub(crate) per_call: Option<kernel::Amount>,
    pub(crate) minimum: Option<kernel::Amount>,
    pub(crate) maximum: Option<kernel::Amount>,
}

/// An item, with the classes that inherit its price.
#[derive(Debug)]
pub(crate) struct Priced {
    pub(crate) covers: Classes,
    pub(crate) item: Item,
    /// What counts its units from call to call.
    pub(crate) meter: Option<(Arc<str>, Period)>,
}

impl PriceVersion {
    /// The version of one model at these rates.
    pub fn new(model: &str, currency: Asset, rates: Rates) -> Result<Self, PricingError> {
        if let Some((name, _)) = rates.given().find(|(_, rate)| rate.is_negative()) {
            return Err(PricingError::NegativeRate(name));
        }
        let rule = Rule { model: model.to_owned(), rates: Some(rates), ..Rule::default() };
        let time_zone = "UTC".to_owned();
        Ok(Self::of(Document { name: None, currency, time_zone, rules: vec![rule] }))
    }

    /// The version with this content.
    pub fn of(document: Document) -> Self {
        let text = serde_json::to_vec(&document).unwrap_or_default();
        let hash = blake3::Hasher::new().update(b"ledgerline price 2\n").update(&text).finalize();
        let id: String = hash.to_hex().chars().take(32).collect();
        Self::named(id.into(), document)
    }

    /// A version as it was recorded: the JSON of its document under the id that it got then.
    pub fn recorded(id: &str, json: &str) -> Result<Self, Vec<Mistake>> {
        Ok(Self::named(id.into(), Document::recorded(json)?))
    }

    fn named(id: Arc<str>, document: Document) -> Self {
        let zone: Zone = document.time_zone.parse().unwrap_or_default();
        let mut rules: HashMap<&str, Vec<(usize, &Rule)>> = HashMap::new();
        for (at, rule) in document.rules.iter().enumerate() {
            rules.entry(&rule.model).or_default().push((at, rule));
        }
        let models = rules.into_iter().map(|(model, rules)| {
            let model: Arc<str> = model.into();
            let prices = ModelPrices::new(&id, &model, document.currency, &zone, &rules);
            (model, Arc::new(prices))
        });
        let models = models.collect();
        Self { id, document, models }
    }

    /// Reads a price file, YAML or JSON.
    pub fn read(text: &str) -> Result<Self, Vec<Mistake>> {
        Document::read(text).map(Self::of)
    }

    /// 32 hexadecimal digits that follow from the content.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The price file.
    pub const fn document(&self) -> &Document {
        &self.document
    }

    /// The models it prices.
    pub fn models(&self) -> impl Iterator<Item = &Arc<str>> {
        self.models.keys()
    }

    /// What a call of the model costs this payer at this time; `None` without a price. Units used
    /// before are zero until they are set.
    pub fn quote(&self, model: &str, payer: &Payer<'_>, at: Timestamp) -> Option<Quote> {
        ModelPrices::quote(self.models.get(model)?, payer, at)
    }

    /// Some price depends on what was used before in a day or month.
    pub fn counts_units(&self) -> bool {
        let mut items = self.document.rules.iter().flat_map(|rule| &rule.prices);
        items.any(|item| item.period.is_some())
    }

    /// The model has a price, if not for everybody.
    pub fn has(&self, model: &str) -> bool {
        self.models.contains_key(model)
    }
}

impl ModelPrices {
    fn new(
        version: &Arc<str>,
        model: &Arc<str>,
        currency: Asset,
        zone: &Zone,
        rules: &[(usize, &Rule)],
    ) -> Self {
        let own = rules.iter().find(|(_, rule)| rule.percent.is_none());
        let mut prices = Self {
            version: Arc::clone(version),
            model: Arc::clone(model),
            currency: own.and_then(|(_, rule)| rule.currency).unwrap_or(currency),
            zone: zone.clone(),
            customers: Scoped::new(),
            distributors: Scoped::new(),
            plans: Scoped::new(),
            everybody: Places::default(),
        };
        for ((scope, place, window), tariffs) in grouped(model, rules) {
            let places = match scope {
                None => &mut prices.everybody,
                Some(Scope::Customer(id)) => prices.customers.entry(id.clone()).or_default(),
                Some(Scope::Distributor(id)) => prices.distributors.entry(id.clone()).or_default(),
                Some(Scope::Plan(name)) => prices.plans.entry(name.clone()).or_default(),
            };
            let groups = places.at(place);
            groups.push(Arc::new(Group { window, tariffs }));
            // A window goes before the hours that are left.
            groups.sort_by_key(|group| group.window.is_none());
        }
        prices
    }

    fn quote(prices: &Arc<Self>, payer: &Payer<'_>, at: Timestamp) -> Option<Quote> {
        let mut shares = Vec::new();
        let base = prices.chain(payer).find_map(|groups| {
            let group = groups.iter().find(|group| prices.counts(group, at))?;
            if matches!(group.tariffs.first()?.form, Form::Share(_)) {
                shares.push(Arc::clone(group));
                return None;
            }
            Some(Arc::clone(group))
        })?;
        let used = prices.counts_of(&base, at);
        Some(Quote { prices: Arc::clone(prices), base, shares, used })
    }

    /// The groups to look in, the narrowest first.
    fn chain<'a>(&'a self, payer: &Payer<'a>) -> impl Iterator<Item = &'a Groups> {
        let (pipeline, step) = (payer.pipeline, payer.step);
        let among = |scoped: &'a Scoped, name: Option<&str>| {
            name.filter(|_| !scoped.is_empty()).and_then(|name| scoped.get(name))
        };
        [
            among(&self.customers, Some(payer.customer)),
            among(&self.distributors, payer.distributor),
            among(&self.plans, payer.plan),
            Some(&self.everybody),
        ]
        .into_iter()
        .flatten()
        .flat_map(move |places| places.chain(pipeline, step))
    }

    fn counts(&self, group: &Group, at: Timestamp) -> bool {
        let Some(window) = &group.window else { return true };
        let clock = self.zone.clock(at);
        let day = u8::try_from(clock.weekday().to_monday_zero_offset()).unwrap_or(0);
        let minute =
            u16::from(clock.hour().unsigned_abs()) * 60 + u16::from(clock.minute().unsigned_abs());
        window.has(day, minute)
    }

    /// The counts of a group's items at this time, at zero.
    fn counts_of(&self, group: &Group, at: Timestamp) -> Vec<Used> {
        let mut used: Vec<Used> = Vec::new();
        for (counter, period) in group.tariffs.iter().flat_map(Tariff::meters) {
            if used.iter().any(|used| used.counter == *counter) {
                continue;
            }
            let date = self.zone.clock(at).date();
            let period = match period {
                Period::Day => date.to_string(),
                Period::Month => format!("{:04}-{:02}", date.year(), date.month()),
            };
            used.push(Used { counter: Arc::clone(counter), period, units: 0 });
        }
        used
    }
}

impl Places {
    /// The groups of this place.
    fn at(&mut self, place: Option<&Place>) -> &mut Groups {
        let Some(Place { pipeline, step }) = place else { return &mut self.anywhere };
        let pipeline = self.pipelines.entry(pipeline.clone()).or_default();
        match step {
            Some(step) => pipeline.steps.entry(step.clone()).or_default(),
            None => &mut pipeline.any_step,
        }
    }

    /// The groups to look in for a call that is made there, the narrowest first.
    fn chain(&self, pipeline: Option<&str>, step: Option<&str>) -> impl Iterator<Item = &Groups> {
        let pipeline = pipeline.and_then(|name| self.pipelines.get(name));
        let step = pipeline.zip(step).and_then(|(pipeline, name)| pipeline.steps.get(name));
        let any_step = pipeline.map(|pipeline| &pipeline.any_step);
        [step, any_step, Some(&self.anywhere)].into_iter().flatten()
    }
}

/// What tells the groups of a model apart.
type GroupKey<'a> = (Option<&'a Scope>, Option<&'a Place>, Option<Window>);

/// The tariffs of each scope, place and window, by context.
fn grouped<'a>(model: &str, rules: &[(usize, &'a Rule)]) -> HashMap<GroupKey<'a>, Vec<Tariff>> {
    let mut groups: HashMap<_, Vec<Tariff>> = HashMap::new();
    for (at, rule) in rules {
        let tariff = Tariff::new(model, *at, rule);
        let key = (rule.scope.as_ref(), rule.place.as_ref(), rule.window);
        groups.entry(key).or_default().push(tariff);
    }
    groups.values_mut().for_each(|tariffs| tariffs.sort_by_key(|tariff| tariff.context.over));
    groups
}

impl Group {
    /// The tariff of a call that reads so many tokens.
    pub(crate) fn tariff(&self, context: u64) -> Option<&Tariff> {
        let holds = |tariff: &&Tariff| tariff.context.up_to.is_none_or(|up_to| context <= up_to);
        self.tariffs.iter().find(holds)
    }

    /// The tariffs of calls that read at most so many tokens.
    pub(crate) fn within(&self, context: u64) -> impl Iterator<Item = &Tariff> {
        self.tariffs
            .iter()
            .filter(move |tariff| tariff.context.over == 0 || tariff.context.over < context)
    }
}

impl Tariff {
    fn new(model: &str, at: usize, rule: &Rule) -> Self {
        let form = match rule.percent {
            Some(percent) => Form::Share(percent),
            None => Form::Prices(Prices::new(model, rule)),
        };
        let context = rule.context.unwrap_or_default();
        Self { rule: at, source: rule.clone(), context, form }
    }

    fn meters(&self) -> impl Iterator<Item = &(Arc<str>, Period)> {
        let items = match &self.form {
            Form::Prices(prices) => prices.items.as_slice(),
            Form::Share(_) => &[],
        };
        items.iter().filter_map(|priced| priced.meter.as_ref())
    }
}

impl Prices {
    fn new(model: &str, rule: &Rule) -> Self {
        let items = match &rule.rates {
            Some(rates) => rates.items(),
            None => rule.prices.clone(),
        };
        let listed: Classes = items.iter().flat_map(|item| item.class.iter()).collect();
        let priced = |item: Item| Priced::new(model, item, listed);
        let of_rates = rule.rates.and_then(|rates| rates.per_call);
        Self {
            items: items.into_iter().map(priced).collect(),
            per_call: match (of_rates, rule.per_call) {
                (Some(one), Some(two)) => Some(one.saturating_add(two)),
                (one, two) => one.or(two),
            },
            minimum: rule.minimum,
            maximum: rule.maximum,
        }
    }
}

impl Priced {
    fn new(model: &str, item: Item, listed: Classes) -> Self {
        let inherits = |class: &Class| {
            !listed.has(*class) && class.parent().is_some_and(|parent| item.class.has(parent))
        };
        let covers: Classes =
            item.class.iter().chain(Class::ALL.into_iter().filter(inherits)).collect();
        // The same name in every version, so that a new one goes on counting.
        let meter = item.period.map(|period| {
            let name = match &item.counter {
                Some(name) => Arc::clone(name),
                None => format!("{model}/{}/{}", item.class, period.as_str()).into(),
            };
            (name, period)
        });
        Self { covers, item, meter }
    }
}
