//! Which providers are called: what administrators decide at run time, in every instance.

use std::sync::Arc;
use std::time::Duration;

use ::store::{Database, Result, Statement};
use kernel::Timestamp;
use tokio::time::MissedTickBehavior;

use crate::{Models, Provider, ProviderState, store};

/// How soon an instance follows what an administrator has decided at another.
const EVERY: Duration = Duration::from_secs(1);

impl Models {
    /// Goes by what administrators have decided, and by the configuration where they have not.
    pub async fn load_states(&self, database: &Database) -> Result<()> {
        let decided = store::states(database).await?;
        for provider in self.providers() {
            let row = decided.iter().find(|(name, _)| name.as_str() == provider.name().as_ref());
            provider.set_state(row.map_or_else(|| provider.configured(), |(_, state)| *state));
        }
        Ok(())
    }

    /// Decides about a provider, for ever: here from now on, in other instances within a second.
    /// `note` tells of it, and is written in the same transaction.
    pub async fn decide(
        &self,
        database: &Database,
        provider: &Provider,
        state: ProviderState,
        now: Timestamp,
        note: Statement,
    ) -> Result<()> {
        store::set_state(database, provider.name(), state, now, note).await?;
        provider.set_state(state);
        self.decided.notify_one();
        tracing::warn!(provider = %provider.name(), state = state.as_str(), "a provider's state is changed");
        Ok(())
    }

    /// Waits until something has been decided through this instance since the last time: for who
    /// tells the others.
    pub async fn decided(&self) {
        self.decided.notified().await;
    }

    /// Follows what administrators decide, until dropped. While the database does not answer,
    /// everything stays as it is.
    pub async fn keep_states(self: Arc<Self>, database: Database) {
        let mut turn = tokio::time::interval(EVERY);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            if let Err(error) = self.load_states(&database).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the providers' states cannot be read"
                );
            }
        }
    }
}
