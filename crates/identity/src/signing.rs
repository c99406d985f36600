//! What applications sign with, the time a signature is good for, and that it is good once.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aes::Aes256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::{AppId, OrgId, Secret, Timestamp};
use moka::future::Cache;
use parking_lot::Mutex;
use ring::hmac;
use serde::{Deserialize, Serialize};
use store::Database;
use utoipa::ToSchema;

pub use crate::signing_error::SigningError;

use crate::deerer::cipher_of;
use crate::store::{self as rows, StoredSecrets, Thing};
use crate::{Caller, Changed, Error, Identity, Result, Role};

/// How long an old secret works on when nobody says.
const OVERLAP: Duration = Duration::from_hours(24);
/// A change on another instance is seen this much later.
const FRESH: Duration = Duration::from_millis(900);
const LARGEST: u64 = 100_000;
/// Signed requests remembered at once: more are not answered until some are too old.
const MOST_SEEN: usize = 4_000_000;

/// The `signing` section of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SigningConfig {
    /// How far the time of a signed request may be from the server's, in seconds.
    pub window_seconds: u32,
}

impl Default for SigningConfig {
    fn default() -> Self {
        Self { window_seconds: 300 }
    }
}

/// How an application signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AppSigning {
    /// The application, which is also the key id of its signatures.
    #[schema(value_type = String)]
    pub app_id: AppId,
    /// `Authorization: Deerer` is taken.
    pub deerer: bool,
    /// When its secret was made; null if it has none.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// Until when the secret before works; null if it does not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub old_until: Option<Timestamp>,
}

/// A secret just made: the only time it is seen.
#[derive(Clone, Debug)]
pub struct AppSecret {
    /// The application.
    pub app_id: AppId,
    /// What it signs with.
    pub secret: Secret,
}

/// An application that may sign.
pub(crate) struct SigningApp {
    pub(crate) caller: Arc<Caller>,
    pub(crate) deerer: bool,
    disabled: bool,
    current: SigningKey,
    old: Option<(SigningKey, Timestamp)>,
}

/// A secret as it is used.
pub(crate) struct SigningKey {
    pub(crate) cipher: Aes256,
    pub(crate) mac: hmac::Key,
}

impl SigningKey {
    fn new(secret: &[u8]) -> Self {
        Self { cipher: cipher_of(secret), mac: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }
}

impl SigningApp {
    /// The secrets that work at this time, the newest first.
    pub(crate) fn secrets(&self, now: Timestamp) -> impl Iterator<Item = &SigningKey> {
        let old = self.old.as_ref().filter(|(_, until)| *until > now).map(|(key, _)| key);
        std::iter::once(&self.current).chain(old)
    }
}

/// The state of signing in this process.
pub(crate) struct Signing {
    window: Duration,
    /// Before this, another process of this data folder may have answered.
    since: Option<Timestamp>,
    apps: Cache<(AppId, u64), Option<Arc<SigningApp>>>,
    seen: Mutex<Seen>,
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signing").field("window", &self.window).finish_non_exhaustive()
    }
}

impl Signing {
    /// `since`: where no database remembers, what was signed before is refused.
    pub(crate) fn new(config: &SigningConfig, since: Option<Timestamp>) -> Self {
        Self {
            window: Duration::from_secs(config.window_seconds.into()),
            since,
            apps: Cache::builder().max_capacity(LARGEST).time_to_live(FRESH).build(),
            seen: Mutex::default(),
        }
    }
}

/// Signed requests that were answered, by the second they were signed in.
#[derive(Debug, Default)]
struct Seen {
    by_second: BTreeMap<i64, HashSet<u128>>,
    count: usize,
}

impl Seen {
    /// Whether it is new; forgets what was signed before `from`.
    fn add(&mut self, token: u128, second: i64, from: i64) -> Result<bool> {
        while let Some(oldest) = self.by_second.first_entry().filter(|entry| *entry.key() < from) {
            self.count -= oldest.remove().len();
        }
        if self.count >= MOST_SEEN {
            return Err(SigningError::TooMany.into());
        }
        let new = self.by_second.entry(second).or_default().insert(token);
        self.count += usize::from(new);
        Ok(new)
    }
}

impl Identity {
    /// The application of this id, if it may sign.
    pub(crate) async fn signing_app(&self, id: &AppId) -> Result<Arc<SigningApp>> {
        let slot = (id.clone(), self.0.cache.changes());
        let apps = &self.0.signing.apps;
        let known = if let Some(known) = apps.get(&slot).await {
            known
        } else {
            let asked = apps.try_get_with(slot, self.look_up_app(id));
            asked.await.map_err(|error| Error::clone(&error))?
        };
        let app = known.ok_or(SigningError::Unfit)?;
        if app.disabled { Err(Error::DisabledKey) } else { Ok(app) }
    }

    /// An application that signs for itself.
    async fn caller_of_app(&self, id: &AppId, org_id: OrgId) -> Result<Caller> {
        let (app, org) = (self.app(id).await?, self.org(&org_id).await?);
        let caller = Caller::new(org_id, org.kind, Role::Member);
        Ok(Caller { app_id: Some(id.clone()), roles: app.roles, ..caller })
    }

    async fn look_up_app(&self, id: &AppId) -> Result<Option<Arc<SigningApp>>> {
        let Some(found) = rows::find_signing(&self.0.database, id).await? else { return Ok(None) };
        let open = |sealed: &[u8]| {
            let secret = self.0.secret.seal()?.open(id.as_str(), sealed)?;
            Ok::<_, Error>(SigningKey::new(&secret))
        };
        let Some(secrets) = found.secrets else { return Ok(None) };
        let old = secrets.old.map(|(sealed, until)| Ok::<_, Error>((open(&sealed)?, until)));
        Ok(Some(Arc::new(SigningApp {
            caller: Arc::new(self.caller_of_app(id, found.org_id).await?),
            deerer: secrets.deerer,
            disabled: found.disabled,
            current: open(&secrets.sealed)?,
            old: old.transpose()?,
        })))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Refuses what was signed too long ago, too far ahead, or before this process could remember.
    pub(crate) fn check_time(&self, at: Timestamp) -> Result<()> {
        let now = self.now();
        let signing = &self.0.signing;
        let forgotten = signing.since.is_some_and(|since| at < since);
        let distance = now.since(at).max(at.since(now));
        if forgotten || distance > signing.window { Err(SigningError::When.into()) } else { Ok(()) }
    }

    pub(crate) fn replay_token(&self, parts: &[&[u8]]) -> u128 {
        self.0.secret.replay_token(parts)
    }

    /// Refuses what was answered before, here or on another instance.
    pub(crate) async fn use_once(&self, token: u128, at: Timestamp) -> Result<()> {
        let from = self.now().seconds() - self.0.signing.window.as_secs().cast_signed() - 1;
        let new = self.0.signing.seen.lock().add(token, at.seconds(), from)?;
        if !new {
            return Err(SigningError::Replayed.into());
        }
        match &self.0.database {
            // One process for each data folder: nobody else answers.
            Database::Sqlite(_) => Ok(()),
            shared @ Database::MySql(_) => {
                let until = at.after(self.0.signing.window);
                rows::add_replay(shared, token, until).await
            }
        }
    }

    /// Forgets the shared memory of requests that are too old to be sent again.
    pub(crate) async fn purge_replays(&self) -> Result<()> {
        rows::purge_replays(&self.0.database, self.now()).await
    }

    /// Makes an application's secret. The one before, if there is one, works until `old_until`: in a day
    /// when absent. With a service that is [witnessed](Identity::witnessed) with a seed, the secret is
    /// the one that [`Identity::derived_app_secret`] gives.
    pub async fn create_app_secret(
        &self,
        id: &AppId,
        old_until: Option<Timestamp>,
    ) -> Result<AppSecret> {
        let before = self.app_signing(id).await?;
        let now = self.now();
        let secret = app_secret(&self.fresh_secret(&derived_for(id, now))?);
        let sealed = self.0.secret.seal()?.seal(id.as_str(), &secret)?;
        let old_until = old_until.unwrap_or_else(|| now.after(OVERLAP));
        let deerer = before.created_at.is_none() || before.deerer;
        let after = AppSigning {
            app_id: id.clone(),
            deerer,
            created_at: Some(now),
            old_until: before.created_at.map(|_| old_until),
        };
        let changed = self.signing_changed("renew", &before, &after).await?;
        self.write(rows::put_secret(id, sealed, (now, old_until)), &[changed]).await?;
        Ok(AppSecret { app_id: id.clone(), secret: Secret::from(secret) })
    }

    /// The secret that an application was given at this time by a request with this seed.
    pub fn derived_app_secret(&self, seed: &str, id: &AppId, created_at: Timestamp) -> Secret {
        Secret::from(app_secret(&self.derived_secret(seed, &derived_for(id, created_at))))
    }

    /// How an application signs.
    pub async fn app_signing(&self, id: &AppId) -> Result<AppSigning> {
        let found = rows::find_signing(&self.0.database, id).await?;
        let found = found.ok_or_else(|| Thing::App.missing(id.as_str()))?;
        let secrets = found.secrets.as_ref();
        let now = self.now();
        let old = secrets.and_then(|secrets| secrets.old.as_ref()).map(|(_, until)| *until);
        Ok(AppSigning {
            app_id: id.clone(),
            deerer: secrets.is_some_and(|secrets: &StoredSecrets| secrets.deerer),
            created_at: secrets.map(|secrets| secrets.created_at),
            old_until: old.filter(|until| *until > now),
        })
    }

    /// Takes `Authorization: Deerer` from an application, or no more. It must have a secret.
    pub async fn set_deerer(&self, id: &AppId, deerer: bool) -> Result<AppSigning> {
        let before = self.app_signing(id).await?;
        if before.created_at.is_none() {
            return Err(SigningError::NoSecret.into());
        }
        let after = AppSigning { deerer, ..before.clone() };
        let changed = self.signing_changed("change", &before, &after).await?;
        self.write(vec![rows::set_deerer(id, deerer)], &[changed]).await?;
        Ok(after)
    }

    async fn signing_changed(
        &self,
        verb: &'static str,
        before: &AppSigning,
        after: &AppSigning,
    ) -> Result<Changed> {
        let app = self.app(&after.app_id).await?;
        Ok(Changed {
            verb,
            what: "signing",
            id: app.id.to_string(),
            org_id: Some(app.org_id),
            before: serde_json::to_value(before).ok(),
            after: serde_json::to_value(after).ok(),
        })
    }
}

/// What a secret is derived for: another one of the same application is another secret.
fn derived_for(id: &AppId, created_at: Timestamp) -> String {
    format!("app {id} {}", created_at.micros())
}

/// A secret as applications sign with it: 192 bits as 32 characters.
fn app_secret(bytes: &[u8; 32]) -> String {
    let (secret, _rest) = bytes.split_at(24);
    URL_SAFE_NO_PAD.encode(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_old_is_forgotten_and_only_that() {
        let mut seen = Seen::default();
        assert!(seen.add(1, 100, 0).unwrap() && seen.add(1, 101, 0).unwrap());
        assert!(!seen.add(1, 100, 100).unwrap() && !seen.add(1, 101, 100).unwrap());
        assert!(!seen.add(1, 101, 101).unwrap());
        assert_eq!((seen.count, seen.by_second.len()), (1, 1));
    }

    #[test]
    fn a_flood_is_refused_until_it_is_too_old() {
        let mut seen = Seen { count: MOST_SEEN, ..Seen::default() };
        assert!(matches!(seen.add(1, 100, 0), Err(Error::Signing(SigningError::TooMany))));
    }
}
