//! Limits: how much an organization, a user or a key may use in a window of time.
//!
//! They are enforced by the ledger, as claims of the call's hold (see `ledger::Claim`), and so exact
//! under concurrency, on any number of instances and after crashes. Which limits there are is known
//! in memory and read again about once a second.

mod page;
mod view;

use std::sync::Arc;
use std::time::Duration;

use ::store::Statement;
use identity::Caller;
use kernel::{Amount, Asset, KeyId, OrgId, Page, PageRequest, Timestamp, UserId, Zone};
use ledger::{Claim, Claimed, Measure, Refusal, Window};
use moka::future::Cache;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use utoipa::ToSchema;

pub(crate) use self::page::LimitKey;
pub use self::view::LimitView;
use crate::{Error, Metering, Result, store};

/// A change on another instance counts this much later.
const FRESH: Duration = Duration::from_millis(900);
const MOST_KNOWN: u64 = 100_000;
/// A token is rarely shorter in a request's bytes.
const BYTES_PER_TOKEN: u64 = 3;

/// Whose use a limit bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LimitScope {
    /// All of the organization's together.
    Org,
    /// One user's, whatever key it uses.
    User,
    /// One key's.
    Key,
}

/// What a limit bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LimitMeasure {
    /// Calls.
    Requests,
    /// Tokens of all classes.
    Tokens,
    /// Money charged, in one currency.
    Spend,
    /// Calls that run at the same time.
    Concurrency,
}

/// The window that a limit counts over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LimitSpan {
    /// The minute of the clock.
    Minute,
    /// The day in the organization's time zone.
    Day,
    /// The month in the organization's time zone.
    Month,
    /// This moment: for [`LimitMeasure::Concurrency`], and for it alone.
    Now,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Whose use it bounds.
    pub scope: LimitScope,
    /// The id of the organization, user or key.
    pub subject: String,
    /// What it bounds.
    pub measure: LimitMeasure,
    /// Over which window.
    pub span: LimitSpan,
    /// The currency of a spend limit; no other limit has one.
    pub currency: Option<Asset>,
    /// The most that may be used: calls, tokens, or billionths of the currency.
    pub most: i64,
}

/// A limit and how much of it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// The limit.
    pub limit: Limit,
    /// Used in the present window, running calls included.
    pub used: i64,
    /// When the window ends; `None` for concurrency.
    pub resets_at: Option<Timestamp>,
}

/// A call was refused by a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Such as `60 requests per minute of this key`.
    pub what: String,
    /// What is bounded.
    pub measure: LimitMeasure,
    /// The limit.
    pub most: i64,
    /// Used, running calls included.
    pub used: i64,
    /// What the call would have added.
    pub wanted: i64,
    /// How long until the window ends; a moment for concurrency.
    pub retry_after: Duration,
    /// No other time would help: the call alone is beyond the limit.
    pub too_large: bool,
}

/// How a limit stands after an admission, for the caller to pace itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// What is bounded.
    pub measure: LimitMeasure,
    /// The limit.
    pub most: i64,
    /// What is left.
    pub remaining: i64,
    /// How long until the window ends.
    pub resets_in: Duration,
}

/// The limits that one caller is under, ready to be claimed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<(Limit, Arc<str>)>,
    zone: Zone,
}

/// The rules of callers, as last read.
#[derive(Debug)]
pub(crate) struct LimitCache {
    rules: Cache<Key, Arc<Rules>>,
    changed: Notify,
}

type Key = (OrgId, Option<UserId>, Option<KeyId>);

impl Default for LimitCache {
    fn default() -> Self {
        let rules = Cache::builder().max_capacity(MOST_KNOWN).time_to_live(FRESH).build();
        Self { rules, changed: Notify::new() }
    }
}

impl LimitCache {
    /// Takes in a change made here, and lets it be told.
    fn change(&self) {
        self.rules.invalidate_all();
        self.changed.notify_one();
    }
}

impl Limit {
    /// What it says, such as `60 requests per minute of this key`.
    fn words(&self) -> String {
        let most = match (self.measure, self.currency) {
            (LimitMeasure::Spend, Some(currency)) => {
                format!("{} {currency}", Amount::from_nanos(self.most))
            }
            (LimitMeasure::Tokens, _) => format!("{} tokens", self.most),
            (LimitMeasure::Concurrency, _) => format!("{} calls at a time", self.most),
            _ => format!("{} requests", self.most),
        };
        let per = match self.span {
            LimitSpan::Now => "",
            LimitSpan::Minute => " per minute",
            LimitSpan::Day => " per day",
            LimitSpan::Month => " per month",
        };
        let whose = match self.scope {
            LimitScope::Org => "organization",
            LimitScope::User => "user",
            LimitScope::Key => "key",
        };
        format!("{most}{per} of this {whose}")
    }

    /// Refuses what makes no sense together.
    pub fn check(&self) -> Result<()> {
        let wrong = |why: &str| Err(Error::InvalidLimit(why.to_owned()));
        let concurrency = self.measure == LimitMeasure::Concurrency;
        let spend = self.measure == LimitMeasure::Spend;
        if concurrency != (self.span == LimitSpan::Now) {
            return wrong(
                "concurrency is limited per now, everything else per minute, day or month",
            );
        }
        if spend && self.span == LimitSpan::Minute {
            return wrong("spend is limited per day or month");
        }
        if spend != self.currency.is_some() {
            return wrong("a spend limit has a currency, and no other limit has one");
        }
        if self.most < 0 {
            return wrong("a limit is zero or more");
        }
        Ok(())
    }

    /// The counter's name: whose, what, over what.
    fn counter(&self) -> Arc<str> {
        let (scope, measure) = (self.scope.as_str(), self.measure.as_str());
        let (subject, span) = (&self.subject, self.span.as_str());
        match self.currency {
            Some(currency) => format!("{scope}:{subject}/{measure}/{span}/{currency}").into(),
            None => format!("{scope}:{subject}/{measure}/{span}").into(),
        }
    }

    fn window(&self, zone: &Zone, now: Timestamp) -> Window {
        let period = |span: kernel::Span| Window::Period { start: span.start, end: span.end };
        match self.span {
            LimitSpan::Now => Window::Standing,
            LimitSpan::Minute => Window::Minute,
            LimitSpan::Day => period(zone.day(now)),
            LimitSpan::Month => period(zone.month(now)),
        }
    }
}

/// What a call will claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) amount: Amount,
    pub(crate) currency: Asset,
    pub(crate) input_bytes: u64,
    pub(crate) output: u64,
    pub(crate) now: Timestamp,
}

impl Rules {
    /// The rules that apply to a call in this currency.
    fn of(&self, currency: Asset) -> impl Iterator<Item = &(Limit, Arc<str>)> {
        let applies = move |limit: &Limit| limit.currency.is_none_or(|other| other == currency);
        self.rules.iter().filter(move |(limit, _)| applies(limit))
    }

    pub(crate) fn claims(&self, ask: &Ask) -> Vec<Claim> {
        // The hold bounds tokens by bytes; for a limit that would refuse what easily fits.
        let tokens = ask.input_bytes.div_ceil(BYTES_PER_TOKEN).saturating_add(ask.output);
        let claim = |(limit, counter): &(Limit, Arc<str>)| {
            let (measure, amount) = match limit.measure {
                LimitMeasure::Requests => (Measure::Requests, 1),
                LimitMeasure::Concurrency => (Measure::Slots, 1),
                LimitMeasure::Spend => (Measure::Spend, ask.amount.nanos()),
                LimitMeasure::Tokens => {
                    (Measure::Tokens, i64::try_from(tokens).unwrap_or(i64::MAX))
                }
            };
            Claim {
                counter: Arc::clone(counter),
                window: limit.window(&self.zone, ask.now),
                measure,
                amount,
                limit: Some(limit.most),
            }
        };
        self.of(ask.currency).map(claim).collect()
    }

    /// What the ledger's refusal of a new hold means.
    pub(crate) fn refused(&self, refusal: Refusal, ask: &Ask) -> Error {
        let limits: Vec<&Limit> = self.of(ask.currency).map(|(limit, _)| limit).collect();
        reached(refusal, &limits, ask.now)
    }

    /// What the ledger's refusal to let a hold grow means: it keeps all claims but those on
    /// requests.
    pub(crate) fn cut_off(&self, refusal: Refusal, currency: Asset, now: Timestamp) -> Error {
        let kept = |limit: &&Limit| limit.measure != LimitMeasure::Requests;
        let limits: Vec<&Limit> = self.of(currency).map(|(limit, _)| limit).filter(kept).collect();
        reached(refusal, &limits, now)
    }

    /// The tightest limit of each kind that has a window.
    pub(crate) fn pace(&self, claimed: &[Claimed], ask: &Ask) -> Vec<Pace> {
        let mut tightest: Vec<Pace> = Vec::new();
        for ((rule, _), claimed) in self.of(ask.currency).zip(claimed) {
            let (Some(most), Some(end)) = (claimed.limit, claimed.resets_at) else { continue };
            let pace = Pace {
                measure: rule.measure,
                most,
                remaining: most.saturating_sub(claimed.used).max(0),
                resets_in: end.since(ask.now),
            };
            match tightest.iter_mut().find(|other| other.measure == rule.measure) {
                Some(other) if other.remaining <= pace.remaining => {}
                Some(other) => *other = pace,
                None => tightest.push(pace),
            }
        }
        tightest
    }
}

/// The claim's limit is the one at its position.
fn reached(refusal: Refusal, limits: &[&Limit], now: Timestamp) -> Error {
    let Refusal::LimitReached { claim, limit: most, used, wanted, resets_at } = refusal else {
        return Error::Refused(refusal);
    };
    let Some(limit) = limits.get(usize::from(claim)) else {
        return Error::Refused(refusal);
    };
    let wait = resets_at.map_or(Duration::from_secs(1), |end| end.since(now));
    Error::LimitReached(Box::new(Reached {
        what: limit.words(),
        measure: limit.measure,
        most,
        used,
        wanted,
        retry_after: wait.max(Duration::from_secs(1)),
        too_large: wanted > most,
    }))
}

impl Metering {
    /// Waits until limits have been changed through this instance since the last time: for who tells
    /// the others.
    pub async fn limits_changed(&self) {
        self.limit_cache().changed.notified().await;
    }

    /// Reads limits again, as after a change at another instance.
    pub fn forget_limits(&self) {
        self.limit_cache().rules.invalidate_all();
    }

    /// The limits that this caller is under.
    pub(crate) async fn rules(&self, caller: &Caller) -> Result<Arc<Rules>> {
        let key = (caller.org_id.clone(), caller.user_id.clone(), caller.key_id.clone());
        if let Some(known) = self.limit_cache().rules.get(&key).await {
            return Ok(known);
        }
        let (org_id, user_id, key_id) = key.clone();
        let read = async {
            let limits =
                store::limits_of(self.database(), &org_id, user_id.as_ref(), key_id.as_ref())
                    .await?;
            let zone = store::zone_of(self.database(), &org_id).await?;
            let rule = |limit: Limit| {
                let counter = limit.counter();
                (limit, counter)
            };
            let rules = limits.into_iter().map(rule).collect();
            let zone = zone.unwrap_or_else(|| self.config().time_zone.clone());
            Ok::<_, Error>(Arc::new(Rules { rules, zone }))
        };
        let found = self.limit_cache().rules.try_get_with(key, read).await;
        found.map_err(Error::Limits)
    }

    /// The limits of an organization, its users and its keys, and how much of each is used.
    pub async fn limits(&self, org_id: &OrgId, page: &PageRequest) -> Result<Page<LimitState>> {
        let after = page.cursor.as_ref().map(LimitKey::read).transpose()?;
        let found = store::limits_of_org(self.database(), org_id, after.as_ref(), page.fetch());
        let Page { rows, next } = Page::from_fetched(found.await?, page, LimitKey::text);
        Ok(Page { rows: self.states(org_id, rows).await?, next })
    }

    /// The limits that a caller is under, and how much of each is used.
    pub async fn limits_of(&self, caller: &Caller) -> Result<Vec<LimitState>> {
        let (user_id, key_id) = (caller.user_id.as_ref(), caller.key_id.as_ref());
        let limits = store::limits_of(self.database(), &caller.org_id, user_id, key_id).await?;
        self.states(&caller.org_id, limits).await
    }

    async fn states(&self, org_id: &OrgId, limits: Vec<Limit>) -> Result<Vec<LimitState>> {
        let zone = self.zone(org_id).await?;
        let now = self.now();
        let mut states = Vec::new();
        for limit in limits {
            let window = limit.window(&zone, now);
            let (used, resets_at) =
                ledger::counter(self.database(), &limit.counter(), window, now).await?;
            states.push(LimitState { limit, used, resets_at });
        }
        Ok(states)
    }

    /// The organization's limit for the same subject, measure, span and currency, if there is one.
    pub async fn limit_like(&self, org_id: &OrgId, like: &Limit) -> Result<Option<Limit>> {
        store::find_limit(self.database(), org_id, like).await
    }

    /// Sets a limit of an organization; a later one for the same subject, measure, span and
    /// currency takes its place. It holds for calls admitted from then on, on other instances
    /// within a second. `note` is written with it.
    pub async fn set_limit(&self, org_id: &OrgId, limit: &Limit, note: Statement) -> Result<()> {
        limit.check()?;
        store::set_limit(self.database(), org_id, limit, self.now(), note).await?;
        self.limit_cache().change();
        Ok(())
    }

    /// Takes a limit away, if there is one. `note` is written with it.
    pub async fn remove_limit(&self, org_id: &OrgId, limit: &Limit, note: Statement) -> Result<()> {
        store::remove_limit(self.database(), org_id, limit, note).await?;
        self.limit_cache().change();
        Ok(())
    }

    /// The time zone in which an organization's days and months begin.
    pub async fn zone(&self, org_id: &OrgId) -> Result<Zone> {
        let zone = store::zone_of(self.database(), org_id).await?;
        Ok(zone.unwrap_or_else(|| self.config().time_zone.clone()))
    }

    /// Sets an organization's time zone. Windows that have begun end as they were counted.
    /// `note` is written with it.
    pub async fn set_zone(&self, org_id: &OrgId, zone: &Zone, note: Statement) -> Result<()> {
        store::set_zone(self.database(), org_id, zone, note).await?;
        self.limit_cache().change();
        Ok(())
    }
}

impl LimitScope {
    const ALL: [Self; 3] = [Self::Org, Self::User, Self::Key];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Org => "org",
            Self::User => "user",
            Self::Key => "key",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

impl LimitMeasure {
    const ALL: [Self; 4] = [Self::Requests, Self::Tokens, Self::Spend, Self::Concurrency];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Spend => "spend",
            Self::Concurrency => "concurrency",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.as_str() == name)
    }
}

impl LimitSpan {
    const ALL: [Self; 4] = [Self::Minute, Self::Day, Self::Month, Self::Now];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Day => "day",
            Self::Month => "month",
            Self::Now => "now",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|span| span.as_str() == name)
    }
}
