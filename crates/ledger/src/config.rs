//! The `journal` section of the configuration.

use serde::{Deserialize, Serialize};

/// How the journal works.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Operations that may wait to be written; more are refused.
    pub queue: usize,
    /// Operations written in one transaction at most: those that come meanwhile wait for all of them.
    pub max_batch: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { queue: 8192, max_batch: 256 }
    }
}
