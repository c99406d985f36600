//! From a presented key to its caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::MatchedPath;
use futures_util::future::BoxFuture;
use http::request::Parts;
use kernel::Timestamp;
use moka::future::Cache;
use web::ClientIp;

use crate::roles::is_own_role;
use crate::secret::is_api_key;
use crate::store::{ACCESS_VERSION, Credential, find_credential, keep_setting, read_access};
use crate::{Caller, Error, Identity, Result};

/// A change on another instance is seen this much later: within a second, the reading included.
const FRESH: Duration = Duration::from_millis(900);
/// What is known may take so many bytes, roughly.
const LARGEST: u64 = 32 * 1024 * 1024;
/// No key has this hash: what is looked up for those who present none.
const NO_KEY: [u8; 32] = [0; 32];
/// What an entry takes beside what it holds.
const ENTRY_BYTES: usize = 256;

/// What is known of presented keys, unknown ones included, so that neither kind of flood reaches
/// the database.
#[derive(Debug)]
pub(crate) struct KeyCache {
    known: Cache<Slot, Option<Credential>>,
    /// Counts the changes made here. What was read before a change is not found after it, even if
    /// the reading ends later.
    changes: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Slot {
    hash: [u8; 32],
    changes: u64,
}

impl Default for KeyCache {
    fn default() -> Self {
        Self::new(FRESH)
    }
}

impl KeyCache {
    fn new(fresh: Duration) -> Self {
        let weight = |_: &Slot, known: &Option<Credential>| {
            let caller = known.as_ref().map_or(0, |known| known.caller.size());
            u32::try_from(ENTRY_BYTES + caller).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().weigher(weight).max_capacity(LARGEST);
        let known = cache.time_to_live(fresh).build();
        Self { known, changes: AtomicU64::new(0) }
    }

    /// Whatever was known is looked up again.
    pub(crate) fn forget_all(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// How many changes were made here: what was known before one is to be looked up again.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// What is known of this hash; asks once for all who wait for the same. A failure is told to
    /// them and forgotten.
    async fn find<F>(&self, hash: [u8; 32], ask: F) -> Result<Option<Credential>>
    where
        F: Future<Output = Result<Option<Credential>>>,
    {
        let slot = Slot { hash, changes: self.changes.load(Ordering::SeqCst) };
        match self.known.get(&slot).await {
            Some(known) => Ok(known),
            None => self.known.try_get_with(slot, ask).await.map_err(|error| Error::clone(&error)),
        }
    }
}

impl Credential {
    fn check(&self, now: Timestamp) -> Result<()> {
        if self.disabled {
            return Err(Error::DisabledKey);
        }
        match self.expires_at {
            Some(end) if end <= now => Err(Error::ExpiredKey),
            _ => Ok(()),
        }
    }
}

impl Identity {
    /// Who presents this key. Known keys cost a hash and a look-up; the database is asked about
    /// once a second for each.
    pub async fn authenticate(&self, api_key: &str) -> Result<Arc<Caller>> {
        if !is_api_key(api_key) {
            return Err(Error::UnknownKey);
        }
        let hash = self.0.secret.hash_key(api_key);
        let known = self.0.cache.find(hash, self.look_up(hash)).await?;
        let credential = known.ok_or(Error::UnknownKey)?;
        credential.check(self.0.clock.now())?;
        Ok(credential.caller)
    }

    async fn look_up(&self, hash: [u8; 32]) -> Result<Option<Credential>> {
        let Some((mut credential, version)) = find_credential(&self.0.database, &hash).await?
        else {
            return Ok(None);
        };
        self.keep_policy(version).await?;
        let caller = Arc::make_mut(&mut credential.caller);
        let table = self.0.policy.table();
        caller.roles.retain(|role| is_own_role(role) || table.has_role(role));
        let now = self.0.clock.now();
        if credential.check(now).is_ok() {
            self.0.uses.note(&credential, now);
        }
        Ok(Some(credential))
    }

    /// Goes by the roles and rules of this version, or later ones.
    async fn keep_policy(&self, version: String) -> Result<()> {
        if self.0.policy.is(&version) { Ok(()) } else { self.read_policy(version).await }
    }

    /// Reads roles and rules. What is read is at least as new as the version read before.
    pub(crate) async fn read_policy(&self, version: String) -> Result<()> {
        let (added, roles) = read_access(&self.0.database).await?;
        self.0.policy.put(version, added, roles);
        Ok(())
    }

    /// Lets nobody in particular use the route, if a rule does. In a box, as whoever is somebody.
    pub(crate) fn admit_anybody<'a>(&'a self, parts: &'a Parts) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.0.cache.find(NO_KEY, self.look_around()).await?;
            self.permit(route(parts), None).map(drop).map_err(|_denied| Error::MissingCredential)
        })
    }

    /// Looks for changed rules, as a key's look-up does.
    async fn look_around(&self) -> Result<Option<Credential>> {
        let version = keep_setting(&self.0.database, ACCESS_VERSION, "").await?;
        self.keep_policy(version).await?;
        Ok(None)
    }

    /// Lets the caller use the route: its key from this address, its roles by the rules, its scopes
    /// by the route's. Costs a look-up in memory.
    pub fn admit(&self, parts: &Parts, caller: &Caller) -> Result<()> {
        let ClientIp(client) = ClientIp::of(parts);
        caller.limits.check_ip(client)?;
        let scope = self.permit(route(parts), Some(caller))?;
        caller.limits.check_scope(scope)
    }
}

fn route(parts: &Parts) -> (&http::Method, Option<&str>) {
    (&parts.method, parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, OrgKind, Role};

    const HASH: [u8; 32] = [7; 32];

    fn cache() -> KeyCache {
        KeyCache::new(Duration::from_hours(1))
    }

    /// Counts how often it is asked; gives way once, so that others can come in between.
    async fn ask(asked: &AtomicU64, answer: Result<()>) -> Result<Option<Credential>> {
        asked.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        answer.map(|()| None)
    }

    #[tokio::test]
    async fn an_unknown_key_is_asked_for_once_however_often_it_is_presented() {
        let (cache, asked) = (cache(), AtomicU64::new(0));
        let flood = (0..1000).map(|_| cache.find(HASH, ask(&asked, Ok(()))));
        for outcome in futures_util::future::join_all(flood).await {
            assert!(matches!(outcome, Ok(None)));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        cache.find([8; 32], ask(&asked, Ok(()))).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_change_is_seen_at_once_even_by_what_was_read_before_it() {
        let (cache, asked) = (cache(), AtomicU64::new(0));
        let slow = cache.find(HASH, async {
            cache.forget_all();
            ask(&asked, Ok(())).await
        });
        slow.await.unwrap();
        cache.find(HASH, ask(&asked, Ok(()))).await.unwrap();
        cache.find(HASH, ask(&asked, Ok(()))).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_failure_is_not_remembered() {
        let (cache, asked) = (cache(), AtomicU64::new(0));
        assert!(cache.find(HASH, ask(&asked, Err(Error::Random))).await.is_err());
        assert!(cache.find(HASH, ask(&asked, Ok(()))).await.is_ok());
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    /// The `number`th key, which carries as much as a key can.
    fn credential(number: u32) -> Credential {
        let text = || (0..100).map(|entry| format!("{entry:0128}")).collect::<Vec<_>>();
        let limits = Limits { models: text(), ..Limits::NONE };
        let org_id = number.to_string().into();
        let caller = Caller { limits, ..Caller::new(org_id, OrgKind::Customer, Role::Member) };
        Credential {
            caller: Arc::new(caller),
            disabled: false,
            expires_at: None,
            last_used_at: None,
        }
    }

    #[tokio::test]
    async fn what_is_remembered_of_any_number_of_keys_stays_within_its_bound() {
        let cache = cache();
        for number in 0..100_000_u32 {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&number.to_le_bytes());
            cache.find(hash, async { Ok(None) }).await.unwrap();
            hash[31] = 1;
            if number % 10 == 0 {
                cache.find(hash, async { Ok(Some(credential(number))) }).await.unwrap();
            }
        }
        cache.known.run_pending_tasks().await;
        let kept = cache
            .known
            .iter()
            .map(|(_, known)| ENTRY_BYTES + known.map_or(0, |known| known.caller.size()));
        let kept: usize = kept.sum();
        assert!(kept as u64 <= LARGEST, "{kept} bytes");
        assert!(credential(0).caller.size() > 100 * 128);
        assert!(cache.known.entry_count() > 1000, "something is remembered");
    }
}
