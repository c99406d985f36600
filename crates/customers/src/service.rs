//! The service behind `/api/v1`, and whom a call is about.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::store::Database;
use identity::{Caller, Identity, Role};
use kernel::{Asset, OrgId, UserId};
use ledger::Journal;
use metering::Metering;
use moka::future::Cache;
use tokio::sync::Mutex;

use crate::balance::Balances;
use crate::followers::Changes;
use crate::{Catalogue, Config, Entity, Error, Result};

/// A user stays in its organization; one that is created is known this much later.
const KNOWN_FOR: Duration = Duration::from_secs(30);
const MOST_KNOWN: u64 = 100_000;

/// What the service stands on.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Who is who.
    pub identity: Identity,
    /// The one door to money.
    pub journal: Journal,
    /// The prices in force.
    pub metering: Metering,
    /// For reading.
    pub database: Database,
    /// What is on offer besides, for the change feed.
    pub catalogue: Catalogue,
    /// The settings.
    pub config: Config,
}

/// What customers' servers ask and post. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Customers(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) parts: Parts,
    pub(crate) balances: Balances,
    /// When what there is was last compared with what is published.
    pub(crate) published: Mutex<HashMap<Entity, Instant>>,
    pub(crate) changes: Changes,
    users: Cache<UserId, Option<OrgId>>,
}

impl Customers {
    /// The service.
    pub fn new(parts: Parts) -> Self {
        let balances = Balances::new(parts.database.clone());
        let users = Cache::builder().max_capacity(MOST_KNOWN).time_to_live(KNOWN_FOR).build();
        let (published, changes) = (Mutex::default(), Changes::default());
        Self(Arc::new(Inner { parts, balances, published, changes, users }))
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    pub(crate) fn default_currency(&self) -> Asset {
        self.parts().config.currency
    }

    /// The organization whose money a call is about: the caller's; or, for an administrator who
    /// names a user, that user's.
    ///
    /// A customer may name its people as it likes, but not another organization's user.
    pub(crate) async fn payer(&self, caller: &Caller, user_id: Option<&str>) -> Result<OrgId> {
        let Some(user_id) = user_id else { return Ok(caller.org_id.clone()) };
        let user_id = UserId::from(user_id);
        let org_id = match self.0.users.get(&user_id).await {
            // An administrator means somebody who is there: perhaps since a moment ago.
            Some(known) if known.is_some() || caller.role == Role::Member => known,
            _ => self.look_up(user_id.clone()).await?,
        };
        match (org_id, caller.role) {
            (Some(org_id), _) if org_id == caller.org_id => Ok(org_id),
            (Some(org_id), Role::Admin) => Ok(org_id),
            (None, Role::Member) => Ok(caller.org_id.clone()),
            _ => Err(Error::UnknownUser(user_id)),
        }
    }

    async fn look_up(&self, user_id: UserId) -> Result<Option<OrgId>> {
        let org_id = self.parts().identity.org_of_user(&user_id).await?;
        self.0.users.insert(user_id, org_id.clone()).await;
        Ok(org_id)
    }
}
