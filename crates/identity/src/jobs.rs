//! When keys were last used: remembered in passing, written once a minute.

use std::collections::HashMap;
use std::time::Duration;

use kernel::{KeyId, Timestamp};
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::store::{Credential, record_uses};
use crate::{Identity, Result};

const EVERY: Duration = Duration::from_mins(1);
/// Keys remembered between two writes; the uses of further ones are remembered after the next.
const MOST: usize = 100_000;

/// Uses that are not yet written. Those lost with the process are seen again at the next use.
#[derive(Debug, Default)]
pub(crate) struct Uses(Mutex<HashMap<KeyId, Timestamp>>);

impl Uses {
    /// Remembers a use unless one of the last minute is written.
    pub(crate) fn note(&self, credential: &Credential, now: Timestamp) {
        let recent = credential.last_used_at.is_some_and(|last| now.since(last) < EVERY);
        let Some(key_id) = credential.caller.key_id.as_ref().filter(|_| !recent) else {
            return;
        };
        let mut uses = self.0.lock();
        if let Some(last) = uses.get_mut(key_id) {
            *last = now;
        } else if uses.len() < MOST {
            uses.insert(key_id.clone(), now);
        }
    }

    fn take(&self) -> Vec<(KeyId, Timestamp)> {
        let mut uses: Vec<_> = std::mem::take(&mut *self.0.lock()).into_iter().collect();
        uses.sort_unstable();
        uses
    }
}

impl Identity {
    /// Writes once a minute when keys were last used, until dropped. Failures are logged; the uses
    /// they concern are seen again at the keys' next use.
    pub async fn keep_recording_uses(self) {
        let mut turn = interval_at(Instant::now() + EVERY, EVERY);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            if let Err(error) = self.purge_replays().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "old signed requests cannot be forgotten"
                );
            }
            if let Err(error) = self.record_uses().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "when keys were last used cannot be written"
                );
            }
        }
    }

    /// Writes at once when keys were last used: for the end of the process.
    pub async fn record_uses(&self) -> Result<()> {
        record_uses(&self.0.database, &self.0.uses.take()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Caller, OrgKind, Role};

    fn used(key: usize, last_used_at: Option<Timestamp>) -> Credential {
        let caller = Caller {
            key_id: Some(key.to_string().into()),
            ..Caller::new("o".into(), OrgKind::Customer, Role::Member)
        };
        Credential { caller: Arc::new(caller), disabled: false, expires_at: None, last_used_at }
    }

    #[test]
    fn the_last_use_of_a_key_is_kept_and_no_more_keys_than_allowed() {
        let (uses, now) = (Uses::default(), Timestamp::from_micros(90_000_000));
        uses.note(&used(1, None), Timestamp::from_micros(1));
        uses.note(&used(1, Some(Timestamp::from_micros(0))), now);
        uses.note(&used(2, Some(Timestamp::from_micros(31_000_000))), now);
        assert_eq!(uses.take(), [("1".into(), now)]);
        assert!(uses.take().is_empty());
        (0..MOST + 10).for_each(|key| uses.note(&used(key, None), now));
        uses.note(&used(0, None), now.after(EVERY));
        let kept = uses.take();
        assert_eq!(kept.len(), MOST);
        assert_eq!(kept[0], ("0".into(), now.after(EVERY)));
    }
}
