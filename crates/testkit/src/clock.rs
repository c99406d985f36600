//! A clock that stands still until a test turns it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use kernel::{Clock, Timestamp};

/// A clock that stands still until a test turns it. Clones share the time.
#[derive(Clone, Debug)]
pub struct FakeClock(Arc<AtomicI64>);

impl FakeClock {
    /// A clock that shows this instant.
    pub fn at(instant: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(instant.micros())))
    }

    /// Turns the clock forward.
    pub fn advance(&self, span: Duration) {
        let now = Timestamp::from_micros(self.0.load(Ordering::SeqCst)).after(span);
        self.0.store(now.micros(), Ordering::SeqCst);
    }

    /// Sets the clock, also backward.
    pub fn set(&self, instant: Timestamp) {
        self.0.store(instant.micros(), Ordering::SeqCst);
    }
}

impl Default for FakeClock {
    /// 2026-01-01 00:00 UTC.
    fn default() -> Self {
        Self::at(Timestamp::from_micros(1_767_225_600_000_000))
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}
