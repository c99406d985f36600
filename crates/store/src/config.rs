//! The `database` section of the configuration.

use kernel::Secret;
use serde::{Deserialize, Serialize};

/// Where the data lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `mysql://user:password@host:3306/name`, or `sqlite:PATH`; empty for `ledgerline.db` in the
    /// data folder.
    pub url: Secret,
    /// A read replica of the same database, for lists and reports; empty for none.
    pub replica_url: Secret,
    /// While the replica is further behind, lists and reports are read from the database itself: in
    /// milliseconds.
    pub replica_max_lag_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        let (url, replica_url) = (Secret::default(), Secret::default());
        Self { url, replica_url, replica_max_lag_ms: 1000 }
    }
}
