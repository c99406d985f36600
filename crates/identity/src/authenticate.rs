//! From a presented key to its caller.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;

use crate::store::{Credential, find_credential};
use crate::{Caller, Error, Identity, Result};

/// A change on another instance is seen this much later.
const FRESH: Duration = Duration::from_secs(1);
const LARGEST: u64 = 100_000;

/// What is known of presented keys, unknown ones included, so that neither kind of flood reaches
/// the database.
#[derive(Clone, Debug)]
pub(crate) struct KeyCache(Cache<[u8; 32], Option<Credential>>);

impl Default for KeyCache {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(LARGEST).time_to_live(FRESH).build())
    }
}

impl KeyCache {
    pub(crate) fn forget_all(&self) {
        self.0.invalidate_all();
    }

    pub(crate) async fn forget(&self, hash: &[u8; 32]) {
        self.0.invalidate(hash).await;
    }
}

impl Identity {
    /// Who presents this key. Known keys cost a hash and a look-up; the database is asked at most
    /// once a second for each.
    pub async fn authenticate(&self, api_key: &str) -> Result<Arc<Caller>> {
        let hash = self.secret.hash_key(api_key);
        let known = match self.cache.0.get(&hash).await {
            Some(known) => known,
            None => self.look_up(hash).await?,
        };
        let credential = known.ok_or(Error::UnknownKey)?;
        if credential.disabled {
            return Err(Error::DisabledKey);
        }
        if credential.expires_at.is_some_and(|end| end <= self.clock.now()) {
            return Err(Error::ExpiredKey);
        }
        Ok(credential.caller)
    }

    /// Asks the database once for all who wait for the same key.
    async fn look_up(&self, hash: [u8; 32]) -> Result<Option<Credential>> {
        let found = self.cache.0.try_get_with(hash, find_credential(&self.database, &hash)).await;
        found.map_err(|error| Error::clone(&error))
    }
}
