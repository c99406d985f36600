//! The `cache` and `guard` sections of the configuration.

use serde::{Deserialize, Serialize};

/// Answers that may be given again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Organizations and applications whose callers may ask for it; `*` for all.
    pub allowed: Vec<String>,
    /// How long an answer is given again.
    pub ttl_seconds: u64,
    /// The memory for all answers, in bytes.
    pub max_bytes: u64,
    /// The largest answer that is kept, in bytes.
    pub max_answer_bytes: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            allowed: Vec::new(),
            ttl_seconds: 3_600,
            max_bytes: 64 * 1024 * 1024,
            max_answer_bytes: 256 * 1024,
        }
    }
}

/// Which texts the guard reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuardOn {
    /// Requests.
    Input,
    /// Answers.
    Output,
    /// Both.
    #[default]
    Both,
}

/// What the guard does about what it finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuardAction {
    /// The request or answer is refused.
    #[default]
    Refuse,
    /// What was found is replaced by asterisks.
    Mask,
}

/// Words and patterns that are not let through. Without any, there is no guard.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// Found anywhere, whatever the case of ASCII letters.
    pub words: Vec<String>,
    /// A file of more words, one a line; empty for none. Lines that start with `#` are comments.
    pub words_file: String,
    /// Regular expressions.
    pub patterns: Vec<String>,
    /// `input`, `output` or `both`.
    pub on: GuardOn,
    /// `refuse` or `mask`.
    pub action: GuardAction,
    /// The longest match of a pattern in a stream, in bytes; so much of it is held back.
    pub window_bytes: usize,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            words: Vec::new(),
            words_file: String::new(),
            patterns: Vec::new(),
            on: GuardOn::default(),
            action: GuardAction::default(),
            window_bytes: 256,
        }
    }
}
