//! The connections that listen, counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kernel::OrgId;
use parking_lot::Mutex;
use serde::Serialize;

use crate::{Agents, Error, Owner, Result};

/// What listens at present.
#[derive(Debug, Default)]
pub(crate) struct Connections(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    next: u64,
    /// By organization and owner.
    all: HashMap<(OrgId, String), BTreeMap<u64, BTreeSet<String>>>,
}

/// One connection; it is counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    known: Arc<Mutex<Known>>,
    of: (OrgId, String),
    id: u64,
}

/// Connections and what they listen to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Stats {
    total_connections: usize,
    total_subscriptions: usize,
    sessions_with_subscribers: usize,
}

impl Agents {
    /// Counts one more connection of the caller, unless it has too many.
    pub(crate) fn connect(&self, owner: &Owner) -> Result<Connection> {
        let of = (owner.org_id().clone(), owner.id().to_owned());
        let known = Arc::clone(&self.open().0);
        let mut all = known.lock();
        let most = self.parts().config.max_connections;
        if all.all.get(&of).is_some_and(|own| own.len() >= most) {
            return Err(Error::TooManyConnections(most));
        }
        let id = all.next;
        all.next += 1;
        all.all.entry(of.clone()).or_default().insert(id, BTreeSet::new());
        drop(all);
        Ok(Connection { known, of, id })
    }

    /// The connections that the caller sees.
    pub(crate) fn connections(&self, owner: &Owner) -> Stats {
        let known = self.open().0.lock();
        let seen = known.all.iter().filter(|((org_id, of), _)| owner.sees(org_id, of));
        let mut stats = Stats::default();
        let mut sessions = BTreeSet::new();
        for subscriptions in seen.flat_map(|(_, own)| own.values()) {
            stats.total_connections += 1;
            stats.total_subscriptions += subscriptions.len();
            sessions.extend(subscriptions);
        }
        stats.sessions_with_subscribers = sessions.len();
        stats
    }
}

impl Connection {
    /// What it listens to from now on.
    pub(crate) fn listens_to(&self, subscriptions: BTreeSet<String>) {
        let mut known = self.known.lock();
        let own = known.all.get_mut(&self.of);
        if let Some(place) = own.and_then(|own| own.get_mut(&self.id)) {
            *place = subscriptions;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut known = self.known.lock();
        if let Some(own) = known.all.get_mut(&self.of) {
            own.remove(&self.id);
            if own.is_empty() {
                known.all.remove(&self.of);
            }
        }
    }
}
