//! Sending what there is to tell.
//!
//! A delivery is sent by whoever has its lease, and of one alert the oldest due first. What its sender
//! does not live to write down is sent again after the lease, under the same id.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use kernel::Timestamp;
use store::Database;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, timeout};

use crate::alert::sealed_for;
use crate::signature::SigningKey;
use crate::{Alerts, DeliveryState, Error, Result, store as rows};

/// How often it is looked what is due, if nothing tells of it.
const TURN: Duration = Duration::from_millis(500);
/// Deliveries under way at once, in each instance.
const SLOTS: usize = 16;
/// A lease outlasts an attempt by this.
const MARGIN: Duration = Duration::from_secs(20);
/// How often old deliveries are deleted.
const PURGE_EVERY: Duration = Duration::from_hours(1);
const LONGEST_ERROR: usize = 500;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// A delivery whose lease this process has.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub(crate) id: String,
    pub(crate) alert_id: String,
    pub(crate) body: String,
    /// How often it was sent before.
    pub(crate) attempts: i64,
    pub(crate) give_up_at: Timestamp,
    /// Where to, and the sealed secret; `None` if the alert is gone.
    pub(crate) to: Option<(String, Vec<u8>)>,
    /// What the lease is known by.
    pub(crate) lease: String,
}

/// What became of an attempt.
#[derive(Debug)]
pub(crate) struct Attempted {
    pub(crate) state: DeliveryState,
    pub(crate) at: Timestamp,
    pub(crate) next_at: Timestamp,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<String>,
}

/// An attempt that failed.
struct Failure {
    status: Option<u16>,
    error: String,
    /// No other attempt would help.
    for_ever: bool,
}

impl Failure {
    fn passing(status: Option<u16>, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), for_ever: false }
    }

    fn for_ever(status: Option<u16>, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), for_ever: true }
    }
}

impl Alerts {
    pub(crate) async fn keep_delivering(self) {
        if let Err(error) = self.take_over().await {
            warn(&error, "deliveries of a process before this one cannot be taken over at once");
        }
        let mut sending = JoinSet::new();
        let mut turn = interval(TURN);
        let mut purge = interval_at(Instant::now() + PURGE_EVERY, PURGE_EVERY);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        purge.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = turn.tick() => {}
                () = self.wake().notified() => {}
                Some(_sent) = sending.join_next() => {}
                _ = purge.tick() => self.purge().await,
            }
            match self.claim(SLOTS.saturating_sub(sending.len())).await {
                Ok(due) => due.into_iter().for_each(|due| {
                    let alerts = self.clone();
                    sending.spawn(async move { alerts.send(due).await });
                }),
                Err(error) => warn(&error, "what is due cannot be read"),
            }
        }
    }

    /// On SQLite this is the only process: whoever was sending is gone.
    async fn take_over(&self) -> Result<()> {
        match self.database() {
            sqlite @ Database::Sqlite(_) => rows::free_leases(sqlite).await,
            Database::MySql(_) => Ok(()),
        }
    }

    async fn purge(&self) {
        let before = self.now().micros()
            - i64::try_from(self.config().kept().as_micros()).unwrap_or(i64::MAX / 2);
        if let Err(error) = rows::purge(self.database(), before).await {
            warn(&error, "old deliveries cannot be deleted");
        }
    }

    /// Sends what is due, each once, and waits for it; returns how many.
    pub async fn deliver_due(&self) -> Result<usize> {
        let due = self.claim(SLOTS).await?;
        let count = due.len();
        join_all(due.into_iter().map(|due| self.send(due))).await;
        Ok(count)
    }

    async fn claim(&self, most: usize) -> Result<Vec<Due>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let now = self.now();
        let until = now.after(self.config().timeout() + MARGIN);
        let mut mine = Vec::new();
        for due in rows::due(self.database(), now, most).await? {
            if rows::lease(self.database(), &due, (now, until)).await? {
                mine.push(due);
            }
        }
        Ok(mine)
    }

    async fn send(&self, due: Due) {
        let outcome = match &due.to {
            None => Err(Failure::for_ever(None, "the alert was deleted")),
            Some((url, sealed)) => self.attempt(&due, url, sealed).await,
        };
        let attempted = self.judge_attempt(&due, outcome);
        let metrics = self.metrics();
        match attempted.state {
            DeliveryState::Delivered => metrics.delivered.inc(),
            DeliveryState::Waiting => metrics.refused.inc(),
            DeliveryState::Failed => {
                metrics.refused.inc();
                metrics.given_up.inc()
            }
        };
        if attempted.state == DeliveryState::Failed {
            let error = attempted.error.as_deref().unwrap_or_default();
            tracing::warn!(delivery = due.id, alert = due.alert_id, error, "a webhook is given up");
        }
        if let Err(error) = rows::attempted(self.database(), &due, &attempted).await {
            warn(&error, "what became of a webhook cannot be written: it will be sent again");
        }
    }

    async fn attempt(
        &self,
        due: &Due,
        url: &str,
        sealed: &[u8],
    ) -> std::result::Result<u16, Failure> {
        let request = self.request(due, url, sealed).map_err(|error| {
            tracing::error!(
                delivery = due.id,
                error = &error as &dyn std::error::Error,
                "a webhook cannot be made"
            );
            Failure::for_ever(None, "the webhook cannot be signed here: make the alert anew")
        })?;
        let limit = self.config().timeout();
        // The answer's body is of no interest: it is cut off.
        let answered = timeout(limit, self.outside().send(request)).await.map_err(|_elapsed| {
            Failure::passing(None, format!("no answer within {} s", limit.as_secs()))
        })?;
        let status = answered.map_err(|error| Failure::passing(None, error.to_string()))?.status();
        match status {
            status if status.is_success() => Ok(status.as_u16()),
            StatusCode::GONE => {
                Err(Failure::for_ever(Some(410), "the receiver wants no more (410)"))
            }
            status => Err(Failure::passing(Some(status.as_u16()), format!("answered {status}"))),
        }
    }

    fn request(&self, due: &Due, url: &str, sealed: &[u8]) -> Result<Request<Full<Bytes>>> {
        let damaged = || Error::Damaged(due.alert_id.clone());
        let secret = self.identity().unseal(&sealed_for(&due.alert_id), sealed)?;
        let key = SigningKey::read(secret.expose()).ok_or_else(damaged)?;
        let uri: Uri = url.parse().map_err(|_no_url| damaged())?;
        let seconds = self.now().seconds();
        let signature = key.sign(&due.id, seconds, &due.body);
        let text = |text: &str| HeaderValue::from_str(text).map_err(|_not_ascii| damaged());
        let mut request = Request::new(Full::new(Bytes::from(due.body.clone())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("ledgerline"));
        headers.insert(ID, text(&due.id)?);
        headers.insert(TIMESTAMP, HeaderValue::from(seconds));
        headers.insert(SIGNATURE, text(&signature)?);
        Ok(request)
    }

    fn judge_attempt(&self, due: &Due, outcome: std::result::Result<u16, Failure>) -> Attempted {
        let at = self.now();
        let failure = match outcome {
            Ok(status) => {
                let (state, status) = (DeliveryState::Delivered, Some(status));
                return Attempted { state, at, next_at: at, status, error: None };
            }
            Err(failure) => failure,
        };
        let next_at = at.after(self.config().pause(due.attempts + 1, any()));
        let over = failure.for_ever || next_at > due.give_up_at;
        Attempted {
            state: if over { DeliveryState::Failed } else { DeliveryState::Waiting },
            at,
            next_at,
            status: failure.status,
            error: Some(failure.error.chars().take(LONGEST_ERROR).collect()),
        }
    }
}

/// Any number; without one, pauses are a little more alike.
fn any() -> u32 {
    let mut bytes = [0; 4];
    let filled = getrandom::fill(&mut bytes);
    filled.map_or(0, |()| u32::from_le_bytes(bytes))
}

fn warn(error: &Error, what: &'static str) {
    tracing::warn!(error = error as &dyn std::error::Error, "{what}");
}
