//! From a presented key to its caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kernel::Timestamp;
use moka::future::Cache;

use crate::secret::is_api_key;
use crate::store::{Credential, find_credential};
use crate::{Caller, Error, Identity, Result};

/// A change on another instance is seen this much later: within a second, the reading included.
const FRESH: Duration = Duration::from_millis(900);
const LARGEST: u64 = 100_000;

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
        let known = Cache::builder().max_capacity(LARGEST).time_to_live(fresh).build();
        Self { known, changes: AtomicU64::new(0) }
    }

    /// Whatever was known is looked up again.
    pub(crate) fn forget_all(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
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
        let found = find_credential(&self.0.database, &hash).await?;
        let now = self.0.clock.now();
        if let Some(credential) = found.as_ref().filter(|known| known.check(now).is_ok()) {
            self.0.uses.note(credential, now);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
