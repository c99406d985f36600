//! Following an upstream: its users, prices, upstreams and models are kept here as they were last heard.
//!
//! Changes are asked for by the upstream's own time, a little before what was last heard, since what is
//! committed late has an earlier time. Now and then everything is asked for, which also finds what no
//! change told. A page is kept together with how far it goes. One instance does the work at a time; events
//! only make it begin earlier. Balances are not followed: money is in the books.

use std::sync::Arc;
use std::time::Duration;

use ::store::{ListRequest, Listed, Statement};
use identity::Caller;
use kernel::{Secret, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use utoipa::ToSchema;

use crate::client::{Client, ClientError, Credential};
use crate::store::sync::{self as rows, State};
use crate::{Customers, Entity, Error, FeedPage, Result};

/// A leader that is gone is replaced after this. Each page renews it.
const LEASE: Duration = Duration::from_mins(1);
/// How often it is looked whether something is due.
const TURN: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// Rows that may go in one pass whatever their share.
const FEW: i64 = 20;
/// A page is asked for so often before the pass fails.
const ATTEMPTS: u32 = 3;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);

/// What a run is asked for; the later includes the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Run {
    /// What has changed.
    Changes = 1,
    /// Everything there is.
    Everything = 2,
    /// Everything there is, even if much of what is kept is not among it.
    EvenMassDeletion = 3,
}

/// The `upstream` section of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// The address of another Ledgerline whose change feed is followed; empty for none.
    pub url: String,
    /// The application that this server is there, if it presents its key as `Deerer`.
    pub app_id: String,
    /// Its API key there: an administrator's, to see everybody's users.
    pub dapi_key: Secret,
    /// The application's secret; empty to send the key as it is.
    pub dapi_secret: Secret,
    /// Seconds between two questions for changes.
    pub interval_seconds: u64,
    /// Seconds between two questions for everything.
    pub full_seconds: u64,
    /// How far before what was last heard changes are asked for, in seconds of the upstream's clock.
    pub overlap_seconds: u32,
    /// The largest share of what is kept that may go at once, in percent; more is not believed.
    pub max_delete_percent: u32,
    /// Rows asked for at once, 1 to 1000.
    pub page_rows: u32,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            app_id: String::new(),
            dapi_key: Secret::default(),
            dapi_secret: Secret::default(),
            interval_seconds: 30,
            full_seconds: 3600,
            overlap_seconds: 60,
            max_delete_percent: 20,
            page_rows: 500,
        }
    }
}

/// How one entity follows the upstream.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SyncStatus {
    /// What is followed.
    pub entity: Entity,
    /// `off`, `waiting`, `current` or `failing`.
    pub state: &'static str,
    /// Seconds since the upstream was last heard to the end; null before the first time.
    pub lag_seconds: Option<u64>,
    /// Why the last attempt failed; null if it did not.
    pub last_error: Option<String>,
    /// Attempts failed since the last success.
    pub failures: i64,
    /// When the upstream was last heard to the end.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub synced_at: Option<Timestamp>,
    /// When everything was last asked for.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub full_at: Option<Timestamp>,
    /// The upstream's time when it last answered.
    #[schema(value_type = String, format = DateTime)]
    pub upstream_now: Timestamp,
    /// The upstream's time of the last change heard.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Rows kept.
    pub rows: i64,
    /// The instance that does the work.
    pub leader: Option<String>,
}

/// Follows an upstream. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sync(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    customers: Customers,
    client: Option<Client>,
    config: UpstreamConfig,
    /// This instance.
    owner: String,
    wake: Notify,
}

impl Sync {
    /// A follower of the configured upstream, or of none.
    pub fn new(
        customers: Customers,
        config: UpstreamConfig,
        clock: kernel::SharedClock,
    ) -> std::result::Result<Self, ClientError> {
        let key = config.dapi_key.clone();
        let credential = match (config.app_id.as_str(), config.dapi_secret.is_empty()) {
            ("", _) | (_, true) => Credential::Key(key),
            (app_id, false) => Credential::Deerer {
                app_id: app_id.to_owned(),
                secret: config.dapi_secret.clone(),
                api_key: key,
            },
        };
        let client = if config.url.is_empty() {
            None
        } else {
            Some(Client::new(&config.url, credential, clock)?)
        };
        let (owner, wake) = (kernel::id::new(), Notify::new());
        Ok(Self(Arc::new(Inner { customers, client, config, owner, wake })))
    }

    /// The service behind it.
    pub fn customers(&self) -> &Customers {
        &self.0.customers
    }

    fn now(&self) -> Timestamp {
        self.0.customers.now()
    }

    fn database(&self) -> &::store::Database {
        &self.0.customers.parts().database
    }

    /// Works until dropped; without an upstream, at once done. Failures are recorded and tried again,
    /// later each time.
    pub async fn run(self) {
        if self.0.client.is_none() {
            return;
        }
        if let Err(error) = self.take_over().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the work of a process before this one cannot be taken over at once"
            );
        }
        let mut turn = interval(TURN);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = turn.tick() => {}
                () = self.0.wake.notified() => {}
            }
            if let Err(error) = self.turn().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "how far the upstream is followed cannot be read"
                );
            }
        }
    }

    /// On SQLite this is the only process: whoever led before is gone.
    async fn take_over(&self) -> Result<()> {
        match self.database() {
            sqlite @ ::store::Database::Sqlite(_) => rows::free(sqlite).await,
            ::store::Database::MySql(_) => Ok(()),
        }
    }

    /// Does whatever is due, if no other instance does it.
    pub async fn turn(&self) -> Result<()> {
        let Some(client) = &self.0.client else { return Ok(()) };
        rows::begin(self.database()).await?;
        for state in rows::states(self.database()).await? {
            let now = self.now();
            if state.requested == 0 && state.next_at > now {
                continue;
            }
            let lease = (now, now.after(LEASE));
            if !rows::lead(self.database(), state.entity, &self.0.owner, lease).await? {
                continue;
            }
            let outcome = self.follow(client, &state).await;
            self.conclude(&state, outcome).await?;
        }
        Ok(())
    }

    async fn follow(&self, client: &Client, state: &State) -> Result<()> {
        let every = Duration::from_secs(self.0.config.full_seconds);
        let due = state.full_at.is_none_or(|at| self.now().since(at) >= every);
        if due || state.requested >= Run::Everything as i64 {
            self.everything(client, state).await
        } else {
            self.changes(client, state).await
        }
    }

    /// What has changed since shortly before it was last heard.
    async fn changes(&self, client: &Client, state: &State) -> Result<()> {
        let overlap = i64::from(self.0.config.overlap_seconds) * 1_000_000;
        let start = ((state.since_at - overlap).max(0), String::new());
        let (mut since, mut after) = state.resume.clone().unwrap_or(start);
        let mut heard = state.since_at;
        loop {
            let query = format!("since={since}&after={}", escaped(&after));
            let page = self.ask(client, state.entity, &query).await?;
            if let Some(last) = page.rows.last() {
                (since, after) = (last.updated_at, last.id.clone());
                heard = heard.max(since);
            }
            self.keep(state.entity, &page, "", (heard, Some((since, &after)))).await?;
            if !page.more || page.rows.is_empty() {
                return Ok(());
            }
        }
    }

    /// Everything there is: also what no change has told, and what is not there any more.
    async fn everything(&self, client: &Client, state: &State) -> Result<()> {
        let (entity, seen) = (state.entity, kernel::id::new());
        let (mut after, mut begun) = (String::new(), None);
        loop {
            let query = format!("full=true&after={}", escaped(&after));
            let page = self.ask(client, entity, &query).await?;
            // What changes from here on is asked for next.
            begun.get_or_insert(page.now);
            if let Some(last) = page.rows.last() {
                after.clone_from(&last.id);
            }
            self.keep(entity, &page, &seen, (state.since_at, None)).await?;
            if !page.more || page.rows.is_empty() {
                break;
            }
        }
        let (all, missing) = rows::unseen(self.database(), entity, &seen).await?;
        let most = (all * i64::from(self.0.config.max_delete_percent) / 100).max(FEW);
        if missing > most && state.requested < Run::EvenMassDeletion as i64 {
            return Err(Error::MassDeletion { missing, all });
        }
        let done = rows::progress(
            (entity, &self.0.owner),
            "full_at = ?, since_at = ?",
            vec![self.now().micros().into(), begun.unwrap_or(state.since_at).into()],
        );
        self.write(vec![done, rows::bury_unseen(entity, &seen)]).await
    }

    async fn ask(&self, client: &Client, entity: Entity, query: &str) -> Result<FeedPage> {
        #[derive(Deserialize)]
        struct Answer {
            data: FeedPage,
        }
        let rows = self.0.config.page_rows.clamp(1, 1000);
        let target = format!("/api/v1/changes?entity={}&rows={rows}&{query}", entity.as_str());
        let mut attempt = 1;
        let answer = loop {
            match client.get(&target).await {
                Ok(answer) => break answer,
                Err(ClientError::Unreachable(..) | ClientError::Strange(..))
                    if attempt < ATTEMPTS =>
                {
                    attempt += 1;
                    tokio::time::sleep(ATTEMPT_PAUSE).await;
                }
                Err(error) => return Err(Error::Upstream(error)),
            }
        };
        // Through text: raw values are read from text only.
        let answer: Answer = serde_json::from_str(&answer.to_string())?;
        Ok(answer.data)
    }

    /// A page, and how far it goes, together.
    async fn keep(
        &self,
        entity: Entity,
        page: &FeedPage,
        seen: &str,
        (heard, resume): (i64, Option<(i64, &str)>),
    ) -> Result<()> {
        let lease = self.now().after(LEASE).micros();
        let (since, after) = resume.unzip();
        let progress = rows::progress(
            (entity, &self.0.owner),
            "since_at = ?, resume_since = ?, resume_after = ?, upstream_now = ?, lease_until = ?",
            vec![heard.into(), since.into(), after.into(), page.now.into(), lease.into()],
        );
        let believed = !seen.is_empty();
        let kept = page.rows.iter().flat_map(|row| rows::keep(entity, row, seen, believed));
        self.write(std::iter::once(progress).chain(kept).collect()).await
    }

    async fn write(&self, statements: Vec<Statement>) -> Result<()> {
        match self.database().transaction(statements).await {
            Ok(_) => Ok(()),
            Err(::store::Error::Unexpected { .. }) => Err(Error::NotLeading),
            Err(error) => Err(error.into()),
        }
    }

    async fn conclude(&self, state: &State, outcome: Result<()>) -> Result<()> {
        let now = self.now();
        let interval = Duration::from_secs(self.0.config.interval_seconds.max(1));
        let (set, values) = match outcome {
            Ok(()) => {
                let next = now.after(interval).micros();
                // A request that came in the meantime stays.
                let set = "synced_at = ?, failures = 0, last_error = NULL, next_at = ?, resume_since = NULL, \
                           requested = CASE WHEN requested > ? THEN requested ELSE 0 END";
                (set, vec![now.micros().into(), next.into(), state.requested.into()])
            }
            // The other instance tells how it went.
            Err(Error::NotLeading) => return Ok(()),
            Err(error) => {
                tracing::warn!(
                    entity = state.entity.as_str(),
                    error = &error as &dyn std::error::Error,
                    "the upstream cannot be followed"
                );
                let doublings = u32::try_from(state.failures).unwrap_or(u32::MAX).min(16);
                let pause = interval.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
                let next = now.after(pause).micros();
                let text: String = error.to_string().chars().take(1000).collect();
                let set = "failures = failures + 1, last_error = ?, next_at = ?, requested = 0";
                (set, vec![text.into(), next.into()])
            }
        };
        self.write(vec![rows::progress((state.entity, &self.0.owner), set, values)]).await
    }

    /// Asks for a run, by whichever instance does the work.
    pub async fn request(&self, entity: Entity, run: Run) -> Result<()> {
        if self.0.client.is_none() {
            return Err(Error::NoUpstream);
        }
        rows::begin(self.database()).await?;
        rows::request(self.database(), entity, run as i64).await?;
        self.0.wake.notify_one();
        Ok(())
    }

    /// How each entity follows the upstream.
    pub async fn status(&self) -> Result<Vec<SyncStatus>> {
        rows::begin(self.database()).await?;
        let now = self.now();
        let mut all = Vec::new();
        for state in rows::states(self.database()).await? {
            let (rows, _) = rows::unseen(self.database(), state.entity, "").await?;
            let word = match (&self.0.client, state.failures, state.synced_at) {
                (None, ..) => "off",
                (Some(_), 0, None) => "waiting",
                (Some(_), 0, Some(_)) => "current",
                (Some(_), ..) => "failing",
            };
            let leads = state.lease_until > now && !state.lease_owner.is_empty();
            all.push(SyncStatus {
                entity: state.entity,
                state: word,
                lag_seconds: state.synced_at.map(|at| now.since(at).as_secs()),
                last_error: state.last_error,
                failures: state.failures,
                synced_at: state.synced_at,
                full_at: state.full_at,
                upstream_now: state.upstream_now,
                since: Timestamp::from_micros(state.since_at),
                rows,
                leader: leads.then_some(state.lease_owner),
            });
        }
        Ok(all)
    }
}

/// How far the upstream was heard: another value after whatever changes what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard(Vec<::store::Value>);

impl Customers {
    /// How far the upstream was heard of an entity, by whichever instance follows it.
    pub async fn heard(&self, entity: Entity) -> Result<Heard> {
        rows::heard(&self.parts().database, entity).await.map(Heard)
    }

    /// All that the upstream has of an entity, as it was last heard: ids, and what they are.
    pub async fn kept(&self, entity: Entity) -> Result<Vec<(String, Box<RawValue>)>> {
        rows::kept(&self.parts().database, entity).await
    }

    /// What the upstream has of the caller's organization's (users), or for everybody.
    pub async fn cached(
        &self,
        caller: &Caller,
        entity: Entity,
        request: &ListRequest,
    ) -> Result<(Vec<Box<RawValue>>, Listed)> {
        let org_id = if entity == Entity::Users { caller.org_id.as_str() } else { "" };
        rows::list_cache(self.parts().metering.reader(), entity, org_id, request).await
    }
}

/// An id as part of a query.
fn escaped(id: &str) -> String {
    serde_urlencoded::to_string([("", id)])
        .map(|pair| pair.trim_start_matches('=').to_owned())
        .unwrap_or_default()
}
