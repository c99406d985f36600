//! The service that knows alerts and tells them.

use std::sync::Arc;

use identity::Identity;
use kernel::{SharedClock, Timestamp};
use store::Database;
use tokio::sync::Notify;
use web::Outside;

use crate::Config;
use crate::metrics::Metrics;

/// The service that knows alerts and tells them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Alerts(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    database: Database,
    identity: Identity,
    outside: Outside,
    clock: SharedClock,
    config: Config,
    metrics: Metrics,
    /// There is something to send.
    wake: Notify,
}

impl Alerts {
    /// The service over a migrated database. Fails where the system has no certificates to trust.
    pub fn new(
        database: Database,
        identity: Identity,
        clock: SharedClock,
        config: Config,
    ) -> std::io::Result<Self> {
        let outside = Outside::new(&config.allowed_hosts)?;
        let (metrics, wake) = (Metrics::default(), Notify::new());
        Ok(Self(Arc::new(Parts { database, identity, outside, clock, config, metrics, wake })))
    }

    /// Watches wallets and sends what there is to tell, until dropped. Failures are logged and tried
    /// again.
    pub async fn run(self) {
        tokio::join!(crate::Watcher::new(self.clone()).run(), self.keep_delivering());
    }

    /// Adds the figures of alerts.
    pub fn register(&self, metrics: &mut telemetry::Metrics) {
        self.0.metrics.register(metrics);
    }

    pub(crate) fn database(&self) -> &Database {
        &self.0.database
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.0.identity
    }

    pub(crate) fn outside(&self) -> &Outside {
        &self.0.outside
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn wake(&self) -> &Notify {
        &self.0.wake
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}
