//! The price book: which price version counts, for whom, from when.
//!
//! It is kept in memory as a whole and read without a lock; changes are noticed by a revision
//! number, on the instance that makes them at once, on others within a second.

mod schedule;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ::store::{Database, Statement};
use arc_swap::ArcSwap;
use kernel::{OrgId, Timestamp};
use ledger::Attachment;
use pricing::{CachedResponse, Payer, PriceVersion, Quote, Tokens, Used};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use utoipa::ToSchema;

pub use self::schedule::{Activation, VersionRecord, VersionState};
use crate::store::prices as store;
use crate::{Admission, Bill, Call, Error, Metering, Result, RunStep, UsageRecord};

/// How often another instance's changes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The price book. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PriceBook(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    database: Database,
    /// What counts for models that the version in force does not name.
    configured: HashMap<Arc<str>, Arc<PriceVersion>>,
    book: ArcSwap<Book>,
    changed: Notify,
}

/// The book at one revision.
#[derive(Debug, Default)]
struct Book {
    revision: i64,
    /// Half-open, the last start first.
    schedule: Vec<(Timestamp, Option<Arc<PriceVersion>>)>,
    terms: HashMap<OrgId, Arc<Terms>>,
}

/// What an organization's prices depend on beside itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The distributor it buys from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distributor_id: Option<String>,
    /// The plan it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
}

/// What a charge was computed from, beside its price version and tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// The payer's terms at admission.
    #[serde(default)]
    pub terms: Terms,
    /// What the payer had used before, as read at admission.
    #[serde(default)]
    pub used: Vec<Used>,
    /// How the charge followed from that of asking anew, for an answer from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<CachedResponse>,
    /// What of the record's input and output was of audio and images.
    #[serde(default, skip_serializing_if = "Media::is_none")]
    pub media: Media,
}

/// Tokens of audio and images, which the usage record has among its input and output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Media {
    /// Of audio, read.
    pub input_audio: u64,
    /// Of images, read.
    pub input_image: u64,
    /// Of audio, produced.
    pub output_audio: u64,
    /// Of images, produced.
    pub output_image: u64,
}

impl Media {
    fn of(tokens: &Tokens) -> Self {
        let Tokens { input_audio, input_image, output_audio, output_image, .. } = *tokens;
        Self { input_audio, input_image, output_audio, output_image }
    }

    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The classes of tokens, given those of a usage record.
    pub(crate) const fn told_apart(self, record: Tokens) -> Tokens {
        let Self { input_audio, input_image, output_audio, output_image } = self;
        Tokens {
            input: record.input.saturating_sub(input_audio).saturating_sub(input_image),
            output: record.output.saturating_sub(output_audio).saturating_sub(output_image),
            input_audio,
            input_image,
            output_audio,
            output_image,
            ..record
        }
    }
}

impl PriceBook {
    /// The book as it stands, over these versions of the configuration, which are recorded if they
    /// are new: calls pin only what is recorded.
    pub async fn publish(
        database: &Database,
        configured: Vec<PriceVersion>,
        now: Timestamp,
    ) -> Result<Self> {
        let mut by_model = HashMap::new();
        for version in configured.into_iter().map(Arc::new) {
            store::record_version(database, &version, None, now, Vec::new()).await?;
            by_model
                .extend(version.models().map(|model| (Arc::clone(model), Arc::clone(&version))));
        }
        let book = ArcSwap::from_pointee(Book { revision: -1, ..Book::default() });
        let (database, changed) = (database.clone(), Notify::new());
        let prices = Self(Arc::new(Shared { database, configured: by_model, book, changed }));
        prices.refresh().await?;
        Ok(prices)
    }

    /// Looks for changes made by other instances, for ever.
    pub async fn keep_fresh(self) {
        let mut turn = tokio::time::interval(LOOK_EVERY);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            if let Err(error) = self.refresh().await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "changes of the price book cannot be read");
            }
        }
    }

    /// Waits until the book has been changed through this instance since the last time: for who
    /// tells the others.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Takes in a change made here, and lets it be told.
    async fn take_in(&self) -> Result<()> {
        self.0.changed.notify_one();
        self.refresh().await
    }

    /// Takes in what has changed since it was last read.
    pub async fn refresh(&self) -> Result<()> {
        let before = self.0.book.load_full();
        let revision = store::revision(&self.0.database).await?;
        if revision != before.revision {
            let read = Arc::new(self.read(revision, &before).await?);
            // Of two that refresh at once, the one that has read more stays.
            self.0.book.rcu(|now| {
                if now.revision > revision { Arc::clone(now) } else { Arc::clone(&read) }
            });
        }
        Ok(())
    }

    async fn read(&self, revision: i64, before: &Book) -> Result<Book> {
        let database = &self.0.database;
        let mut known: HashMap<String, Arc<PriceVersion>> = before
            .schedule
            .iter()
            .filter_map(|(_, version)| version.as_ref())
            .map(|version| (version.id().to_string(), Arc::clone(version)))
            .collect();
        let mut schedule = Vec::new();
        for Activation { version_id, starts_at, .. } in store::schedule(database).await? {
            if let Some(id) = &version_id
                && !known.contains_key(id)
            {
                known.insert(id.clone(), self.version(id).await?.version);
            }
            let version = version_id.and_then(|id| known.get(&id).cloned());
            schedule.push((starts_at, version));
        }
        let terms = store::all_terms(database).await?.into_iter();
        let terms = terms.map(|(org_id, terms)| (org_id, Arc::new(terms))).collect();
        Ok(Book { revision, schedule, terms })
    }

    /// What a call of the model costs the organization at this time, made by this step of a run or
    /// outside of runs, before anything is known of what it used before; and the terms that this
    /// depends on.
    pub fn quote(
        &self,
        model: &str,
        org_id: &OrgId,
        step: Option<&RunStep>,
        at: Timestamp,
    ) -> Result<(Quote, Option<Arc<Terms>>)> {
        let book = self.0.book.load();
        let unpriced = || Error::Unpriced(model.to_owned());
        let version = book
            .in_force(at)
            .filter(|version| version.has(model))
            .or_else(|| self.0.configured.get(model))
            .ok_or_else(unpriced)?;
        let terms = book.terms.get(org_id);
        let place = step.map(|step| Place { pipeline: &step.pipeline, node: &step.node });
        let payer = payer(org_id, terms.map(AsRef::as_ref), place);
        let quote = version.quote(model, &payer, at).ok_or_else(unpriced)?;
        Ok((quote, terms.cloned()))
    }

    /// The models that have a price at this time, if not for everybody, in the order of their names.
    pub fn models(&self, at: Timestamp) -> Vec<Arc<str>> {
        let book = self.0.book.load();
        let in_force = book.in_force(at).into_iter().flat_map(|version| version.models());
        let models: BTreeSet<_> = self.0.configured.keys().chain(in_force).cloned().collect();
        models.into_iter().collect()
    }

    /// The terms of an organization.
    pub async fn terms(&self, org_id: &OrgId) -> Result<Terms> {
        Ok(store::find_terms(&self.0.database, org_id).await?.unwrap_or_default())
    }

    /// Replaces the terms of an organization, and writes `also` with them.
    pub async fn set_terms(
        &self,
        org_id: &OrgId,
        terms: &Terms,
        by: Option<&str>,
        now: Timestamp,
        also: Vec<Statement>,
    ) -> Result<()> {
        store::put_terms(&self.0.database, org_id, terms, by, now, also).await?;
        self.take_in().await
    }
}

impl Book {
    fn in_force(&self, at: Timestamp) -> Option<&Arc<PriceVersion>> {
        let begun = self.schedule.iter().find(|(starts_at, _)| *starts_at <= at);
        begun.and_then(|(_, version)| version.as_ref())
    }
}

/// The flow and its node that make a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pipeline: &'a str,
    node: &'a str,
}

impl<'a> Place<'a> {
    /// Where the recorded call was made, if a run made it.
    pub(crate) fn of(record: &'a UsageRecord) -> Option<Self> {
        let (pipeline, node) = record.pipeline.as_deref().zip(record.node.as_deref())?;
        Some(Self { pipeline, node })
    }
}

/// The organization as prices see it, and where it calls from.
pub(crate) fn payer<'a>(
    org_id: &'a OrgId,
    terms: Option<&'a Terms>,
    place: Option<Place<'a>>,
) -> Payer<'a> {
    Payer {
        customer: org_id.as_str(),
        distributor: terms.and_then(|terms| terms.distributor_id.as_deref()),
        plan: terms.and_then(|terms| terms.plan.as_deref()),
        pipeline: place.map(|place| place.pipeline),
        step: place.map(|place| place.node),
    }
}

impl Metering {
    /// The quote that a call pins. What was used before is read here, once: calls that run at the
    /// same time do not see each other's units.
    pub(crate) async fn quote(
        &self,
        call: &Call,
        at: Timestamp,
    ) -> Result<(Quote, Option<Arc<Terms>>)> {
        let org_id = &call.caller.org_id;
        let quoted = self.prices().quote(&call.model, org_id, call.step.as_ref(), at);
        if quoted.is_err() {
            self.metrics().unpriced.inc();
        }
        let (mut quote, terms) = quoted?;
        if !quote.used().is_empty() {
            store::read_counts(self.database(), org_id, quote.used_mut()).await?;
        }
        Ok((quote, terms))
    }
}

impl Admission {
    /// What is written with the settlement for prices that depend on more than tokens.
    pub(crate) fn price_rows(&self, bill: &Bill) -> Vec<Attachment> {
        let media = Media::of(&bill.usage.tokens);
        let plain = self.terms.is_none() && self.price.used().is_empty() && bill.cached.is_none();
        if plain && media.is_none() {
            return Vec::new();
        }
        let org_id = &self.call.caller.org_id;
        let terms = self.terms.as_deref().cloned().unwrap_or_default();
        let used = self.price.used().to_vec();
        let basis = Basis { terms, used, cached: bill.cached, media };
        let adds = self.price.adds(&bill.usage.tokens);
        let counts = adds.flat_map(|(used, units)| store::add_to_count(org_id, used, units));
        std::iter::once(store::basis_row(&self.call.id, org_id, &basis)).chain(counts).collect()
    }
}
