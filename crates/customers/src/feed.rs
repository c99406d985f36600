//! The change feed: what followers of this server ask for.
//!
//! Nothing here notes its own changes. What there is is compared with what was last published whenever
//! somebody asks (or a webhook is to be sent), so that no change can be missed, deletions included.

use std::collections::HashMap;
use std::time::Duration;

use identity::{Caller, PLATFORM, Role};
use kernel::{OrgId, PageRequest, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::store::feed::{self as rows, Published};
use crate::{Customers, Entity, Result};

/// Rows written in one transaction.
const PORTION: usize = 500;

/// Something on offer that followers may know of: its id, and what they see of it.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Its name.
    pub id: String,
    /// What followers see.
    pub data: Value,
}

/// What this server offers besides what its database holds.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Models.
    pub models: Vec<Offer>,
    /// The upstreams of models: for administrators only.
    pub upstreams: Vec<Offer>,
}

/// One thing as it is now.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FeedRow {
    /// Its id.
    pub id: String,
    /// Whose it is; empty for everybody's.
    pub org_id: String,
    /// When it was last seen to have changed: microseconds on the server's clock.
    pub updated_at: i64,
    /// It is gone.
    pub deleted: bool,
    /// It.
    #[schema(value_type = Object)]
    pub data: Box<RawValue>,
}

/// A part of the feed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FeedPage {
    /// In the order of change (or, for `full`, of ids).
    pub rows: Vec<FeedRow>,
    /// There is more behind the last row.
    pub more: bool,
    /// The server's clock before the rows were read: microseconds.
    pub now: i64,
}

/// What is asked of the feed.
#[derive(Clone, Debug, Deserialize)]
pub struct FeedRequest {
    /// Of what.
    pub entity: Entity,
    /// Only what changed after this: microseconds.
    #[serde(default)]
    pub since: i64,
    /// With `since`: or at that time, with a later id than this. With `full`: only later ids.
    #[serde(default)]
    pub after: String,
    /// Everything there is now, by id, instead of changes.
    #[serde(default)]
    pub full: bool,
    /// 1 to 1000, 500 by default.
    pub rows: Option<u32>,
}

impl FeedRequest {
    pub(crate) fn rows(&self) -> u32 {
        self.rows.unwrap_or(500).clamp(1, 1000)
    }
}

/// A thing to be published.
struct Item {
    id: String,
    org_id: String,
    data: String,
}

impl Item {
    fn hash(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.org_id.as_bytes()).update(b"\n").update(self.data.as_bytes());
        let mut hash = [0; 16];
        hasher.finalize_xof().fill(&mut hash);
        hash
    }
}

impl Customers {
    /// A part of the feed: for an administrator all of it, for others what is theirs or everybody's.
    pub async fn changes(&self, caller: &Caller, request: &FeedRequest) -> Result<FeedPage> {
        self.publish(request.entity).await?;
        let now = self.now().micros();
        let org_id = (caller.role != Role::Admin).then_some(&caller.org_id);
        let mut found = rows::read(&self.parts().database, org_id, request).await?;
        let more = found.len() > request.rows() as usize;
        found.truncate(request.rows() as usize);
        Ok(FeedPage { rows: found, more, now })
    }

    pub(crate) fn feed_interval(&self) -> Duration {
        Duration::from_millis(self.parts().config.feed_interval_ms)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.parts().metering.now()
    }

    /// Compares what there is with what was published, and publishes the difference. Whether there
    /// was any.
    pub(crate) async fn publish(&self, entity: Entity) -> Result<bool> {
        // One at a time; who waits finds it done.
        let mut last = self.0.published.lock().await;
        let interval = self.feed_interval();
        let fresh = last.get(&entity).is_some_and(|at| at.elapsed() < interval);
        if fresh {
            return Ok(false);
        }
        let begun = std::time::Instant::now();
        let changed = self.publish_now(entity).await?;
        last.insert(entity, begun);
        if changed {
            self.0.changes.published(entity);
        }
        Ok(changed)
    }

    async fn publish_now(&self, entity: Entity) -> Result<bool> {
        let database = &self.parts().database;
        let items = self.items(entity).await?;
        let mut before: HashMap<String, Published> = rows::published(database, entity).await?;
        // Later than all before, also when the clock went back.
        let latest = before.values().map(|row| row.updated_at).max().unwrap_or(0);
        let at = self.now().micros().max(latest + 1);
        let mut statements = Vec::new();
        for item in items {
            let hash = item.hash();
            let known = before.remove(&item.id);
            if known.is_some_and(|known| known.hash == hash && !known.deleted) {
                continue;
            }
            statements.push(rows::put(entity, (item.id, item.org_id, item.data), hash, at));
        }
        let gone = before.into_iter().filter(|(_, row)| !row.deleted);
        statements.extend(gone.map(|(id, _)| vec![rows::bury(entity, id, at)]));
        let changed = !statements.is_empty();
        for portion in statements.chunks(PORTION) {
            match database.transaction(portion.concat()).await {
                // Another instance publishes the same at this moment.
                Err(error) if error.is_duplicate() => {}
                outcome => drop(outcome?),
            }
        }
        Ok(changed)
    }

    async fn items(&self, entity: Entity) -> Result<Vec<Item>> {
        let offers = |offers: &[Offer], org_id: &str| {
            let item = |offer: &Offer| Item {
                id: offer.id.clone(),
                org_id: org_id.to_owned(),
                data: offer.data.to_string(),
            };
            offers.iter().map(item).collect()
        };
        match entity {
            Entity::Users => self.people().await,
            Entity::Pricing => {
                let item = |price: crate::Price| {
                    let data = serde_json::to_string(&price)?;
                    Ok(Item { id: price.model, org_id: String::new(), data })
                };
                self.prices(&PLATFORM.into())?.into_iter().map(item).collect()
            }
            Entity::Llmage => Ok(offers(&self.parts().catalogue.models, "")),
            Entity::Uapi => Ok(offers(&self.parts().catalogue.upstreams, PLATFORM)),
        }
    }

    /// Organizations and their people.
    async fn people(&self) -> Result<Vec<Item>> {
        let identity = &self.parts().identity;
        let mut items = Vec::new();
        let mut page = PageRequest { limit: Some(1000), cursor: None };
        loop {
            let orgs = identity.list_orgs(&page).await?;
            for org in orgs.rows {
                let data = json!({"kind": "organization", "id": org.id, "orgname": org.name,
                    "org_type": org.kind, "disabled": org.disabled});
                items.push(item(format!("org:{}", org.id), &org.id, &data));
            }
            page.cursor = orgs.next;
            if page.cursor.is_none() {
                break;
            }
        }
        loop {
            let users = identity.every_user(&page).await?;
            for user in users.rows {
                let data = json!({"kind": "user", "id": user.id, "orgid": user.org_id,
                    "username": user.name, "disabled": user.disabled, "created_at": user.created_at});
                items.push(item(format!("user:{}", user.id), &user.org_id, &data));
            }
            page.cursor = users.next;
            if page.cursor.is_none() {
                return Ok(items);
            }
        }
    }
}

fn item(id: String, org_id: &OrgId, data: &Value) -> Item {
    Item { id, org_id: org_id.to_string(), data: data.to_string() }
}
