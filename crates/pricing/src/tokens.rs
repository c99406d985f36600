//! Token counts by class.

use serde::{Deserialize, Serialize};

/// The tokens of one call in disjoint classes: their sum is what the call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// Read, and neither served from nor written to the upstream's prompt cache.
    pub input: u64,
    /// Read from the upstream's prompt cache.
    pub cached_input: u64,
    /// Written to the upstream's prompt cache.
    pub cache_write: u64,
    /// Produced for the client.
    pub output: u64,
    /// Produced while thinking.
    pub reasoning: u64,
}

impl Tokens {
    /// The tokens of all classes.
    pub const fn total(&self) -> u64 {
        self.input
            .saturating_add(self.cached_input)
            .saturating_add(self.cache_write)
            .saturating_add(self.output)
            .saturating_add(self.reasoning)
    }
}
