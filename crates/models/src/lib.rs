//! Models: what is offered, the way to an upstream, and what comes back from it.
//!
//! Invariants:
//! - a request is parsed once, and its bytes go upstream untouched where nothing needs changing;
//! - usage is always asked for, and normalised into disjoint token classes; odd figures are clamped
//!   and noted, never trusted and never fatal;
//! - nothing of an answer is buffered that the client could have by now, except its last frame.
//!
//! No tables.

mod config;
mod error;
mod estimate;
mod http_provider;
mod provider;
mod request;
mod routing;
pub mod sim;
mod stream;
mod usage;

pub use config::{
    ModelConfig, ModelKind, OnDisconnect, PriceConfig, ProviderConfig, ProviderKind, RouteConfig,
};
pub use error::{CallError, ConfigError, Phase, Refusal, RequestError};
pub use estimate::TokenEstimate;
pub use provider::{Answer, Endpoint, Provider, UpstreamCall};
pub use request::{ChatRequest, EmbeddingsRequest};
pub use routing::{Model, Models, Route};
pub use stream::{ChatStream, Piece, Tally};
pub use usage::{AnswerUsage, Usage, answer_usage, estimate_input};
