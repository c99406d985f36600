//! Models: what is offered, the way to an upstream, and what comes back from it.
//!
//! Invariants:
//! - a request is parsed once, and its bytes go upstream untouched where nothing needs changing;
//! - usage is always asked for, and normalised into disjoint token classes; odd figures are clamped
//!   and noted, never trusted and never fatal;
//! - nothing of an answer is buffered that the client could have by now, except its last frame;
//! - choosing a route takes no lock, and for a model with one route allocates nothing.
//!
//! Tables: `models_providers`.

mod assembly;
mod config;
mod error;
mod estimate;
mod health;
mod http_provider;
mod outline;
mod provider;
mod request;
mod retry;
mod routing;
pub mod sim;
mod states;
mod store;
mod stream;
mod texts;
mod uapi;
mod usage;

pub use assembly::Assembly;
pub use config::{
    ModelConfig, ModelKind, OnDisconnect, PriceConfig, ProviderConfig, ProviderKind, ProviderState,
    RouteConfig, RoutingConfig, Strategy,
};
pub use error::{CallError, ConfigError, Phase, Refusal, RequestError};
pub use estimate::TokenEstimate;
pub use provider::{Answer, Endpoint, Provider, UpstreamCall};
pub use request::{ChatRequest, EmbeddingsRequest};
pub use routing::{Model, Models, NoWay, Place, Route, RouteState, Search};
pub use store::MIGRATIONS;
pub use stream::{ChatStream, Piece, Tally, frame_data, split_frames};
pub use texts::{Edit, Unreadable, edit_answer, edit_request};
pub use uapi::{UapiConfig, UapiMode, UapiRow, UapiStep};
pub use usage::{AnswerUsage, Usage, answer_usage, estimate_input};
