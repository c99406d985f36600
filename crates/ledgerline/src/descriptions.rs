//! Providers that go by descriptions of the server that is followed.

use std::sync::Arc;
use std::time::Duration;

use customers::{Customers, Entity, Heard};
use models::{Models, UapiRow};
use tokio::time::{MissedTickBehavior, interval};

/// How soon a provider goes by what any instance has heard.
const EVERY: Duration = Duration::from_secs(1);

/// Brings what was heard of the upstream to the providers that go by it.
pub(crate) struct Descriptions {
    customers: Customers,
    models: Arc<Models>,
    heard: Option<Heard>,
}

impl Descriptions {
    /// With what was heard by now; `None` where no provider goes by it.
    pub(crate) async fn open(
        customers: &Customers,
        models: &Arc<Models>,
    ) -> customers::Result<Option<Self>> {
        if !models.follow_descriptions() {
            return Ok(None);
        }
        let (customers, models) = (customers.clone(), Arc::clone(models));
        let mut descriptions = Self { customers, models, heard: None };
        descriptions.look().await?;
        Ok(Some(descriptions))
    }

    /// Reads them if anything was heard since the last time.
    async fn look(&mut self) -> customers::Result<()> {
        let heard = Some(self.customers.heard(Entity::Uapi).await?);
        if self.heard == heard {
            return Ok(());
        }
        let kept = self.customers.kept(Entity::Uapi).await?;
        let rows = kept.into_iter().map(|(id, data)| UapiRow { id, data: data.get().to_owned() });
        self.models.describe(&rows.collect::<Vec<_>>());
        self.heard = heard;
        Ok(())
    }

    /// Looks until dropped. While the database does not answer, everything stays as it is.
    pub(crate) async fn keep(mut self) {
        let mut turn = interval(EVERY);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            if let Err(error) = self.look().await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the upstream's descriptions cannot be read");
            }
        }
    }
}
