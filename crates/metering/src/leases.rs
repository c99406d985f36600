//! Which holds have a living call, and what becomes of those that have none.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::store::Database;
use kernel::SharedClock;
use ledger::{Command, HoldId, HoldRef, Operation};
use parking_lot::Mutex;
use telemetry::Gauge;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use crate::{Metering, Result};

/// The holds whose calls are alive in this process.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    holds: Arc<Mutex<HashMap<u64, HoldRef>>>,
    last: Arc<AtomicU64>,
    open: Gauge,
}

/// Keeps one hold among the living until dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    leases: Leases,
    number: u64,
}

impl Leases {
    /// None yet; `open` shows how many there are.
    pub(crate) fn new(open: Gauge) -> Self {
        Self { holds: Arc::default(), last: Arc::default(), open }
    }

    pub(crate) fn keep(&self, hold: HoldRef) -> Lease {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        self.holds.lock().insert(number, hold);
        self.open.inc();
        Lease { leases: self.clone(), number }
    }

    fn living(&self) -> Vec<HoldId> {
        let holds = self.holds.lock();
        let mut holds: Vec<HoldId> =
            holds.values().filter(|hold| !hold.is_lost()).map(HoldRef::id).collect();
        holds.sort_unstable();
        holds
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.holds.lock().remove(&self.number);
        self.leases.open.dec();
    }
}

/// Renews the holds of living calls and expires those of ended processes, for ever.
#[derive(Debug)]
pub struct Sweeper {
    metering: Metering,
    database: Database,
    clock: SharedClock,
}

/// How often counters of windows long ended are deleted.
const PURGE_EVERY: Duration = Duration::from_mins(10);

impl Sweeper {
    /// A sweeper for this service.
    pub fn new(metering: Metering, database: Database, clock: SharedClock) -> Self {
        Self { metering, database, clock }
    }

    /// Works until dropped. Failures are logged and tried again at the next turn.
    pub async fn run(self) {
        let config = self.metering.config().clone();
        // Three chances to renew before a lease ends.
        let renewal = config.lease() / 3;
        let mut renew = interval_at(Instant::now() + renewal, renewal);
        let mut sweep = interval(Duration::from_secs(config.sweep_seconds.max(1)));
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut purge = interval(PURGE_EVERY);
        loop {
            let done = tokio::select! {
                _ = renew.tick() => self.renew().await,
                _ = sweep.tick() => self.sweep().await,
                _ = purge.tick() => self.purge().await,
            };
            if let Err(error) = done {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "holds could not be swept"
                );
            }
        }
    }

    async fn renew(&self) -> Result<()> {
        let holds = self.metering.leases().living();
        if holds.is_empty() {
            return Ok(());
        }
        let lease_until = self.clock.now().after(self.metering.config().lease());
        let renew = Command::Renew { holds, lease_until };
        self.metering
            .journal()
            .submit(Operation::new(format!("renew:{}", kernel::id::new()), renew))
            .await?;
        Ok(())
    }

    async fn purge(&self) -> Result<()> {
        let purged = ledger::purge_counters(&self.database, self.clock.now()).await?;
        tracing::debug!(purged, "counters of windows long ended were deleted");
        Ok(())
    }

    async fn sweep(&self) -> Result<()> {
        let journal = self.metering.journal();
        let expired = ledger::sweep(journal, &self.database, self.clock.now()).await?;
        if expired > 0 {
            self.metering.metrics().expired.inc_by(expired);
            tracing::warn!(expired, "holds whose calls never ended were released");
        }
        let expired = ledger::expire_lots(journal, &self.database, self.clock.now()).await?;
        if expired > 0 {
            tracing::info!(expired, "credits that have ended were taken back");
        }
        Ok(())
    }
}
