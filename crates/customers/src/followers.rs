//! Telling followers that something has changed here, so that they ask at once. They would ask anyway,
//! later: who cannot be told is not told again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Secret, SharedClock};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;

use crate::client::{Client, ClientError, Credential};
use crate::{Customers, Entity};

/// Changes that come so close together are told as one.
const GATHER: Duration = Duration::from_millis(200);
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// A server that follows this one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowerConfig {
    /// Its address, such as `https://ledgerline.example.com`.
    pub url: String,
    /// The application that this server is there, of the platform's organization.
    pub app_id: String,
    /// The application's secret, which events are signed with.
    pub app_secret: Secret,
}

/// What may have changed here, and what has.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    possible: Mutex<BTreeSet<Entity>>,
    published: Mutex<BTreeSet<Entity>>,
    wake: Notify,
}

impl Changes {
    /// A change was published through this instance.
    pub(crate) fn published(&self, entity: Entity) {
        self.published.lock().insert(entity);
        self.wake.notify_one();
    }
}

/// Tells followers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Followers {
    customers: Customers,
    clients: Arc<[Client]>,
}

impl Followers {
    /// Those of the configuration.
    pub fn new(customers: Customers, clock: &SharedClock) -> Result<Self, ClientError> {
        let client = |follower: &FollowerConfig| {
            let (app_id, secret) = (follower.app_id.clone(), follower.app_secret.clone());
            Client::new(&follower.url, Credential::Uapi { app_id, secret }, Arc::clone(clock))
        };
        let followers = &customers.parts().config.followers;
        let clients = followers.iter().map(client).collect::<Result<_, _>>()?;
        Ok(Self { customers, clients })
    }

    fn changes(&self) -> &Changes {
        &self.customers.0.changes
    }

    /// Something of this kind may have changed: followers are told if it has.
    pub fn nudge(&self, entity: Entity) {
        self.changes().possible.lock().insert(entity);
        self.changes().wake.notify_one();
    }

    /// Tells until dropped; without followers, at once done.
    pub async fn run(self) {
        if self.clients.is_empty() {
            return;
        }
        let interval = GATHER.max(self.customers.feed_interval());
        loop {
            self.changes().wake.notified().await;
            tokio::time::sleep(interval).await;
            let possible = std::mem::take(&mut *self.changes().possible.lock());
            for entity in possible {
                if let Err(error) = self.customers.publish(entity).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "what has changed for followers cannot be read");
                }
            }
            let published = std::mem::take(&mut *self.changes().published.lock());
            for entity in published {
                self.tell(entity).await;
            }
        }
    }

    async fn tell(&self, entity: Entity) {
        let told = self.clients.iter().map(|client| tell(client, entity));
        futures_util::future::join_all(told).await;
    }
}

async fn tell(client: &Client, entity: Entity) {
    let event = json!({"entity": entity});
    for attempt in 1..=ATTEMPTS {
        match client.post("/api/v1/events", &event, None).await {
            Ok(_) => return,
            Err(error) if attempt == ATTEMPTS => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    entity = entity.as_str(),
                    "a follower is not told: it asks later"
                );
            }
            Err(_repeated) => tokio::time::sleep(PAUSE).await,
        }
    }
}
