//! The service that meters calls.

use std::sync::Arc;

use ::store::{Database, Reader};
use kernel::{SharedClock, Timestamp};
use ledger::Journal;

use crate::leases::Leases;
use crate::limits::LimitCache;
use crate::metrics::Metrics;
use crate::turns::Turns;
use crate::{Config, PriceBook};

/// The metered call's service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metering(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    journal: Journal,
    reader: Reader,
    prices: PriceBook,
    turns: Turns,
    leases: Leases,
    limits: LimitCache,
    clock: SharedClock,
    config: Config,
    metrics: Metrics,
}

impl Metering {
    /// The service over a running journal; lists and reports are read by the reader, all the rest at
    /// its primary database.
    pub fn new(
        journal: Journal,
        reader: impl Into<Reader>,
        prices: PriceBook,
        clock: SharedClock,
        config: Config,
    ) -> Self {
        let metrics = Metrics::default();
        let (leases, limits) = (Leases::new(metrics.open.clone()), LimitCache::default());
        let (reader, turns) = (reader.into(), Turns::new(journal.capacity()));
        Self(Arc::new(Parts {
            journal,
            reader,
            prices,
            turns,
            leases,
            limits,
            clock,
            config,
            metrics,
        }))
    }

    /// The prices in force.
    pub fn prices(&self) -> &PriceBook {
        &self.0.prices
    }

    /// Adds the figures of metered calls.
    pub fn register(&self, metrics: &mut telemetry::Metrics) {
        self.0.metrics.register(metrics);
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.0.journal
    }

    pub(crate) fn database(&self) -> &Database {
        self.0.reader.primary()
    }

    /// Where lists and reports are read.
    pub fn reader(&self) -> &Reader {
        &self.0.reader
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.0.turns
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.0.leases
    }

    pub(crate) fn limit_cache(&self) -> &LimitCache {
        &self.0.limits
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}
