//! The service that meters calls.

use std::sync::Arc;

use ::store::Database;
use kernel::{SharedClock, Timestamp};
use ledger::Journal;

use crate::leases::Leases;
use crate::{Config, PriceBook};

/// The metered call's service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metering(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    journal: Journal,
    database: Database,
    prices: PriceBook,
    leases: Leases,
    clock: SharedClock,
    config: Config,
}

impl Metering {
    /// The service over a running journal.
    pub fn new(
        journal: Journal,
        database: Database,
        prices: PriceBook,
        clock: SharedClock,
        config: Config,
    ) -> Self {
        let leases = Leases::default();
        Self(Arc::new(Parts { journal, database, prices, leases, clock, config }))
    }

    /// The prices in force.
    pub fn prices(&self) -> &PriceBook {
        &self.0.prices
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.0.journal
    }

    pub(crate) fn database(&self) -> &Database {
        &self.0.database
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.0.leases
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}
