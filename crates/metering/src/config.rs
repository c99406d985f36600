//! The `metering` section of the configuration.

use std::time::Duration;

use kernel::{Amount, Zone};
use serde::{Deserialize, Serialize};

/// How calls are held and settled.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a hold lives without being renewed. A running call renews its own; after a crash
    /// the money is free again this much later.
    pub lease_seconds: u64,
    /// How often holds of ended processes are looked for.
    pub sweep_seconds: u64,
    /// The most a wallet may come to owe because a call cost more than was held and free, as a
    /// decimal in the call's currency. What is beyond is written off.
    pub max_debt: Amount,
    /// In which time zone the days and months of limits and statements begin, for organizations
    /// that have none of their own.
    pub time_zone: Zone,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease_seconds: 60,
            sweep_seconds: 5,
            max_debt: Amount::from_nanos(1_000_000_000),
            time_zone: Zone::default(),
        }
    }
}

impl Config {
    pub(crate) const fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }
}
