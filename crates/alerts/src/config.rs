//! The `alerts` section of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How alerts are told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Hosts that webhooks may reach although their addresses are private, as `host` or `host:port`.
    pub allowed_hosts: Vec<String>,
    /// How long a receiver may take to answer.
    pub timeout_seconds: u64,
    /// Before a second attempt; doubled each time, and half of it by chance.
    pub first_retry_seconds: u64,
    /// The longest such pause.
    pub longest_retry_seconds: u64,
    /// No attempt begins later than this after the first; the delivery has failed then.
    pub give_up_seconds: u64,
    /// How long deliveries that have ended are kept.
    pub keep_days: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allowed_hosts: Vec::new(),
            timeout_seconds: 10,
            first_retry_seconds: 5,
            longest_retry_seconds: 3_600,
            give_up_seconds: 86_400,
            keep_days: 30,
        }
    }
}

impl Config {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.clamp(1, 600))
    }

    pub(crate) const fn patience(&self) -> Duration {
        Duration::from_secs(self.give_up_seconds)
    }

    pub(crate) const fn kept(&self) -> Duration {
        Duration::from_secs(self.keep_days.saturating_mul(24 * 3_600))
    }

    /// How long to wait after the n-th attempt, from 1; `any` is any number, so that receivers that
    /// were away are not asked by all at once.
    pub(crate) fn pause(&self, attempt: i64, any: u32) -> Duration {
        let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(0).min(20);
        let doubled = self.first_retry_seconds.max(1).saturating_mul(1 << doublings);
        let longest = doubled.min(self.longest_retry_seconds.max(1)).saturating_mul(1_000);
        let half = longest / 2;
        Duration::from_millis(half + u64::from(any) % (longest - half + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_their_bounds() {
        let config = Config::default();
        for (attempt, low, high) in [
            (1, 2_500, 5_000),
            (2, 5_000, 10_000),
            (9, 640_000, 1_280_000),
            (90, 1_800_000, 3_600_000),
        ] {
            for any in [0, 1, 77_777, u32::MAX] {
                let pause = config.pause(attempt, any).as_millis();
                assert!((low..=high).contains(&pause), "{attempt}: {pause}");
            }
        }
    }
}
