//! The `customers` section of the configuration.

use kernel::Asset;
use serde::{Deserialize, Serialize};

use crate::FollowerConfig;

/// How `/api/v1` behaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The currency of posts that name none, and of balances where an organization has no wallet
    /// or several.
    pub currency: Asset,
    /// How long what was published for followers counts as current, in milliseconds: the change feed
    /// is this much behind at most.
    pub feed_interval_ms: u64,
    /// Servers that follow this one and are told of changes.
    pub followers: Vec<FollowerConfig>,
}

impl Default for Config {
    #[expect(clippy::expect_used, reason = "the constant is a currency code")]
    fn default() -> Self {
        Self {
            currency: "CNY".parse().expect("CNY is a currency code"),
            feed_interval_ms: 1000,
            followers: Vec::new(),
        }
    }
}
