//! The `database` section of the configuration.

use kernel::Secret;
use serde::{Deserialize, Serialize};

/// Where the data lives.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `mysql://user:password@host:3306/name`, or `sqlite:PATH`; empty for `ledgerline.db` in the
    /// data folder.
    pub url: Secret,
    /// A read replica of the same database, for lists and reports; empty for none.
    pub replica_url: Secret,
}
