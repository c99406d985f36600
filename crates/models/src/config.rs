//! The `providers` and `models` sections of the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::{Amount, Asset, Secret};
use pricing::{CachedResponse, Rates};
use serde::{Deserialize, Serialize};

use crate::UapiConfig;

/// What becomes of a call whose client has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDisconnect {
    /// The upstream is cut off, and what was received is charged.
    #[default]
    Cancel,
    /// The answer is read to its end and charged exactly.
    Drain,
}

/// The protocol a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// The OpenAI HTTP API.
    OpenAi,
    /// Another HTTP API, described by templates.
    Uapi,
    /// Simulated, in this process.
    Sim,
}

/// An upstream account.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Its name, which routes refer to.
    pub name: String,
    /// `openai` for any OpenAI-compatible API, `uapi` for one that `uapi` describes, `sim` for the
    /// built-in simulation.
    pub kind: ProviderKind,
    /// Where the API is, up to and including `/v1`.
    #[serde(default)]
    pub base_url: String,
    /// Sent as `Authorization: Bearer`; empty for none.
    #[serde(default)]
    pub api_key: Secret,
    /// More headers to send.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Until a connection stands.
    #[serde(default = "defaults::connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// Until the first byte of a streamed answer.
    #[serde(default = "defaults::first_token_timeout_ms")]
    pub first_token_timeout_ms: u64,
    /// Between two frames of a streamed answer.
    #[serde(default = "defaults::idle_timeout_ms")]
    pub idle_timeout_ms: u64,
    /// Until an answer that is not streamed is complete.
    #[serde(default = "defaults::total_timeout_ms")]
    pub total_timeout_ms: u64,
    /// How long an idle connection is kept; must be less than the upstream keeps it.
    #[serde(default = "defaults::pool_idle_ms")]
    pub pool_idle_ms: u64,
    /// The largest answer that is not streamed, in bytes.
    #[serde(default = "defaults::max_answer_bytes")]
    pub max_answer_bytes: usize,
    /// What becomes of a call whose client has left: `cancel` or `drain`.
    #[serde(default)]
    pub on_disconnect: OnDisconnect,
    /// Calls that this instance has running there at once; 0 for any number.
    #[serde(default)]
    pub max_concurrency: usize,
    /// Whether it is called, until an administrator says otherwise.
    #[serde(default)]
    pub state: ProviderState,
    /// For `kind: uapi`: what is sent there, and what its answers mean.
    #[serde(default)]
    pub uapi: Option<UapiConfig>,
}

/// Whether a provider is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderState {
    /// It is.
    #[default]
    Active,
    /// It gets no new calls; those that run end by themselves.
    Draining,
    /// It gets no new calls, and streams that run are cut off at their next frame.
    Disabled,
}

impl ProviderState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::Draining, Self::Disabled];

    /// As in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// The `routing` section: what becomes of a call whose upstream fails.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoutingConfig {
    /// The most attempts of one call, on all its routes and fallbacks together.
    pub max_attempts: u32,
    /// No attempt begins later than this after the first.
    pub retry_for_ms: u64,
    /// Before a route is asked a second time; doubled each time.
    pub backoff_ms: u64,
    /// The longest such pause.
    pub longest_backoff_ms: u64,
    /// Failures in a row after which a provider's model is left alone; 0 for never.
    pub breaker_failures: u16,
    /// The share of failures, in percent, from which it is left alone; 0 for never.
    pub breaker_percent: u8,
    /// The calls that a share is taken of, at least.
    pub breaker_least_calls: u16,
    /// The span of time that a share is taken over.
    pub breaker_window_ms: u64,
    /// How long it is left alone, and then between two probes.
    pub breaker_cooldown_ms: u64,
    /// The longest rest that an upstream's `Retry-After` is given.
    pub longest_rest_ms: u64,
}

impl Default for RoutingConfig {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            retry_for_ms: 180_000,
            backoff_ms: 100,
            longest_backoff_ms: 2_000,
            breaker_failures: 5,
            breaker_percent: 50,
            breaker_least_calls: 20,
            breaker_window_ms: 10_000,
            breaker_cooldown_ms: 5_000,
            longest_rest_ms: 60_000,
        }
    }
}

/// Which of the open routes of one priority is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Each in turn, as often as its weight says.
    #[default]
    Weighted,
    /// The one whose first byte comes soonest; one call in sixteen goes by weight, so that the
    /// others are not forgotten.
    LeastLatency,
}

mod defaults {
    pub(super) const fn connect_timeout_ms() -> u64 {
        5_000
    }
    pub(super) const fn first_token_timeout_ms() -> u64 {
        120_000
    }
    pub(super) const fn idle_timeout_ms() -> u64 {
        60_000
    }
    pub(super) const fn total_timeout_ms() -> u64 {
        600_000
    }
    pub(super) const fn pool_idle_ms() -> u64 {
        4_000
    }
    pub(super) const fn max_answer_bytes() -> usize {
        32 * 1024 * 1024
    }
    pub(super) const fn weight() -> u32 {
        1
    }
    pub(super) const fn max_output_tokens() -> u64 {
        4_096
    }
    pub(super) const fn output_slice_tokens() -> u64 {
        1_024
    }
    pub(super) const fn image_tokens() -> u64 {
        2_000
    }
}

impl ProviderConfig {
    /// A provider with every other setting at its default.
    pub fn new(name: &str, kind: ProviderKind, base_url: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            base_url: base_url.to_owned(),
            api_key: Secret::default(),
            headers: BTreeMap::new(),
            connect_timeout_ms: defaults::connect_timeout_ms(),
            first_token_timeout_ms: defaults::first_token_timeout_ms(),
            idle_timeout_ms: defaults::idle_timeout_ms(),
            total_timeout_ms: defaults::total_timeout_ms(),
            pool_idle_ms: defaults::pool_idle_ms(),
            max_answer_bytes: defaults::max_answer_bytes(),
            on_disconnect: OnDisconnect::default(),
            max_concurrency: 0,
            state: ProviderState::default(),
            uapi: None,
        }
    }

    pub(crate) const fn first_token_timeout(&self) -> Duration {
        Duration::from_millis(self.first_token_timeout_ms)
    }

    pub(crate) const fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub(crate) const fn total_timeout(&self) -> Duration {
        Duration::from_millis(self.total_timeout_ms)
    }
}

/// What a model does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Answers conversations.
    #[default]
    Chat,
    /// Turns texts into vectors.
    Embedding,
}

impl ModelKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embedding => "embedding",
        }
    }
}

/// A model offered under a public name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The public name.
    pub name: String,
    /// `chat` or `embedding`.
    #[serde(default)]
    pub kind: ModelKind,
    /// The ways to an upstream, at least one.
    pub routes: Vec<RouteConfig>,
    /// Which of its routes is asked first: `weighted` or `least_latency`.
    #[serde(default)]
    pub strategy: Strategy,
    /// Models that answer in its place when none of its routes does, in order; at its price.
    #[serde(default)]
    pub fallbacks: Vec<String>,
    /// What it costs; a model without a price cannot be called.
    #[serde(default)]
    pub price: Option<PriceConfig>,
    /// What an answer costs that is given again from the cache; without it none is.
    #[serde(default)]
    pub cached_response: Option<CachedResponse>,
    /// The longest answer when the request does not say, in tokens.
    #[serde(default = "defaults::max_output_tokens")]
    pub max_output_tokens: u64,
    /// The part of a streamed answer that is paid for in advance, in tokens.
    #[serde(default = "defaults::output_slice_tokens")]
    pub output_slice_tokens: u64,
    /// The most tokens that one image of a request counts for.
    #[serde(default = "defaults::image_tokens")]
    pub image_tokens: u64,
}

/// A way to an upstream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// The provider's name.
    pub provider: String,
    /// The model's name there; the public name when absent.
    #[serde(default)]
    pub model: Option<String>,
    /// Its share among routes of the same priority.
    #[serde(default = "defaults::weight")]
    pub weight: u32,
    /// Routes of the lowest number are tried first.
    #[serde(default)]
    pub priority: u32,
    /// What the upstream asks for; unknown when absent.
    #[serde(default)]
    pub cost: Option<PriceConfig>,
}

/// What a model costs, per million tokens.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceConfig {
    /// The currency of the rates.
    pub currency: Asset,
    /// Input tokens.
    pub input_per_million: Amount,
    /// Input tokens served from the upstream's cache; as input when absent.
    #[serde(default)]
    pub cached_input_per_million: Option<Amount>,
    /// Input tokens written to the upstream's cache; as input when absent.
    #[serde(default)]
    pub cache_write_per_million: Option<Amount>,
    /// Output tokens.
    #[serde(default)]
    pub output_per_million: Amount,
    /// Reasoning tokens; as output when absent.
    #[serde(default)]
    pub reasoning_per_million: Option<Amount>,
    /// Added once per billed call.
    #[serde(default)]
    pub per_call: Option<Amount>,
}

impl PriceConfig {
    /// The rates.
    pub const fn rates(&self) -> Rates {
        Rates {
            input_per_million: self.input_per_million,
            cached_input_per_million: self.cached_input_per_million,
            cache_write_per_million: self.cache_write_per_million,
            output_per_million: self.output_per_million,
            reasoning_per_million: self.reasoning_per_million,
            per_call: self.per_call,
        }
    }
}

impl ModelConfig {
    /// A chat model with one route and every other setting at its default.
    pub fn new(name: &str, provider: &str, price: Option<PriceConfig>) -> Self {
        let route = RouteConfig {
            provider: provider.to_owned(),
            model: None,
            weight: defaults::weight(),
            priority: 0,
            cost: None,
        };
        Self {
            name: name.to_owned(),
            kind: ModelKind::Chat,
            routes: vec![route],
            strategy: Strategy::default(),
            fallbacks: Vec::new(),
            price,
            cached_response: None,
            max_output_tokens: defaults::max_output_tokens(),
            output_slice_tokens: defaults::output_slice_tokens(),
            image_tokens: defaults::image_tokens(),
        }
    }
}
