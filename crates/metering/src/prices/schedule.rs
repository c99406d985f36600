//! Price versions and which of them counts when.

use std::sync::Arc;

use ::store::Statement;
use kernel::{Page, PageRequest, Timestamp};
use pricing::PriceVersion;
use serde::Serialize;
use utoipa::ToSchema;

use super::PriceBook;
use crate::store::prices as store;
use crate::{PriceBookError, Result};

/// Activations that may wait to start.
const MOST_WAITING: usize = 64;
/// How often a change is tried again when others change the book at the same time.
const TRIES: usize = 8;

/// A price version as it is recorded.
#[derive(Clone, Debug)]
pub struct VersionRecord {
    /// The version.
    pub version: Arc<PriceVersion>,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// The API key by which; absent for a version of the configuration.
    pub created_by: Option<String>,
}

/// How a price version stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// Never activated.
    Draft,
    /// Waits to start.
    Scheduled,
    /// Counts now.
    InForce,
    /// From the configuration: counts for models that the version in force does not name.
    Configured,
    /// Counted before.
    Past,
}

/// From when a version counts: until the next activation starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Activation {
    /// Its number, in the order they were made.
    pub revision: i64,
    /// The version; absent where the configuration's prices count again.
    pub version_id: Option<String>,
    /// When it starts.
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: Timestamp,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The API key by which.
    pub created_by: Option<String>,
    /// When it was cancelled, before it started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub cancelled_at: Option<Timestamp>,
}

impl PriceBook {
    /// Records a version, and `also` with it, unless it is known; returns it, and whether it was new.
    pub async fn create_version(
        &self,
        version: &PriceVersion,
        by: Option<&str>,
        now: Timestamp,
        also: Vec<Statement>,
    ) -> Result<(VersionRecord, bool)> {
        let new = store::record_version(&self.0.database, version, by, now, also).await?;
        Ok((self.version(version.id()).await?, new))
    }

    /// The version of this id.
    pub async fn version(&self, id: &str) -> Result<VersionRecord> {
        let found = store::find_version(&self.0.database, id).await?;
        Ok(found.ok_or_else(|| PriceBookError::UnknownVersion(id.to_owned()))?)
    }

    /// Versions, the last recorded first.
    pub async fn list_versions(&self, page: &PageRequest) -> Result<Page<VersionRecord>> {
        let rows = store::list_versions(&self.0.database, page).await?;
        Ok(Page::from_fetched(rows, page, |row| {
            format!("{}/{}", row.created_at.micros(), row.version.id())
        }))
    }

    /// How a version stands.
    pub fn state(&self, id: &str, now: Timestamp) -> VersionState {
        let book = self.0.book.load();
        let is = |version: &Arc<PriceVersion>| version.id().as_ref() == id;
        let mut starts = book
            .schedule
            .iter()
            .filter(|(_, version)| version.as_ref().is_some_and(is))
            .map(|(starts_at, _)| *starts_at)
            .peekable();
        if book.in_force(now).is_some_and(is) {
            return VersionState::InForce;
        }
        if starts.peek().is_none() {
            let configured = self.0.configured.values().any(is);
            return if configured { VersionState::Configured } else { VersionState::Draft };
        }
        if starts.any(|starts_at| starts_at > now) {
            return VersionState::Scheduled;
        }
        VersionState::Past
    }

    /// All activations, the last made first.
    pub async fn list_activations(&self, page: &PageRequest) -> Result<Page<Activation>> {
        let rows = store::list_activations(&self.0.database, page).await?;
        Ok(Page::from_fetched(rows, page, |row| row.revision.to_string()))
    }

    /// Lets a version count from a time on, or at once; without a version, the configuration's
    /// prices. What `also` makes of the activation is written with it.
    ///
    /// At once means before anything else, also where the clock has stepped back since the last
    /// activation that was made so.
    pub async fn activate(
        &self,
        version_id: Option<&str>,
        starts_at: Option<Timestamp>,
        by: Option<&str>,
        now: Timestamp,
        also: impl Fn(&Activation) -> Vec<Statement>,
    ) -> Result<Activation> {
        if let Some(id) = version_id {
            self.version(id).await?;
        }
        if starts_at.is_some_and(|starts_at| starts_at < now) {
            return Err(PriceBookError::StartsInThePast.into());
        }
        for _ in 0..TRIES {
            let revision = store::revision(&self.0.database).await?;
            let schedule = store::schedule(&self.0.database).await?;
            let waiting = schedule.iter().filter(|other| other.starts_at > now).count();
            if waiting >= MOST_WAITING {
                return Err(PriceBookError::TooManyActivations(waiting).into());
            }
            let begun = schedule.iter().filter(|other| other.starts_at <= other.created_at);
            let latest = begun.map(|other| other.starts_at).max().unwrap_or(now);
            let activation = Activation {
                revision: revision + 1,
                version_id: version_id.map(str::to_owned),
                starts_at: starts_at.unwrap_or_else(|| latest.max(now)),
                created_at: now.max(latest),
                created_by: by.map(str::to_owned),
                cancelled_at: None,
            };
            let also = also(&activation);
            if store::insert_activation(&self.0.database, &activation, also).await? {
                self.take_in().await?;
                return Ok(activation);
            }
        }
        Err(PriceBookError::Contended.into())
    }

    /// Cancels an activation that has not started. What `also` makes of it is written with that.
    pub async fn cancel(
        &self,
        revision: i64,
        now: Timestamp,
        also: impl Fn(&Activation) -> Vec<Statement>,
    ) -> Result<Activation> {
        for _ in 0..TRIES {
            let read = store::revision(&self.0.database).await?;
            let found = store::find_activation(&self.0.database, revision).await?;
            let waiting =
                found.filter(|found| found.cancelled_at.is_none() && found.starts_at > now);
            let Some(activation) = waiting else {
                return Err(PriceBookError::NotWaiting(revision).into());
            };
            let also = also(&activation);
            if store::cancel_activation(&self.0.database, revision, now, read, also).await? {
                self.take_in().await?;
                return Ok(Activation { cancelled_at: Some(now), ..activation });
            }
        }
        Err(PriceBookError::Contended.into())
    }
}
