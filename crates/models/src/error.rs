//! What can go wrong with a configuration, a request or a call.

use std::time::Duration;

use bytes::Bytes;

use crate::routing::MOST_ROUTES;

/// Providers or models that cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Two have the same name.
    #[error("{what} {name:?} is configured twice")]
    Twice {
        /// `provider` or `model`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A route names a provider that is not configured.
    #[error("model {model:?} has a route to provider {provider:?}, which is not configured")]
    UnknownProvider {
        /// The model.
        model: String,
        /// The provider's name.
        provider: String,
    },
    /// A model cannot be reached.
    #[error("model {0:?} has no routes")]
    NoRoutes(String),
    /// A provider's address or header is not valid.
    #[error("provider {provider:?}: {what} is not valid")]
    Provider {
        /// The provider.
        provider: String,
        /// What of it.
        what: String,
    },
    /// A fallback is no other model of the same kind.
    #[error("model {model:?} has the fallback {fallback:?}, which is no other {kind} model")]
    Fallback {
        /// The model.
        model: String,
        /// The fallback's name.
        fallback: String,
        /// What the model does.
        kind: &'static str,
    },
    /// More routes than are kept track of.
    #[error("model {0:?} has more than {MOST_ROUTES} routes")]
    TooManyRoutes(String),
    /// What an upstream asks for cannot be computed with.
    #[error("model {model:?}: the cost of its route to {provider:?}: {cause}")]
    Cost {
        /// The model.
        model: String,
        /// The provider.
        provider: String,
        /// What is wrong.
        #[source]
        cause: pricing::PricingError,
    },
    /// What an answer from the cache costs cannot be computed with.
    #[error("model {model:?}: cached_response: {cause}")]
    CachedResponse {
        /// The model.
        model: String,
        /// What is wrong.
        #[source]
        cause: pricing::PricingError,
    },
    /// The system's certificates cannot be read.
    #[error("the system's certificates cannot be read")]
    Certificates(#[source] std::io::Error),
}

/// A request that is not one of this endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not JSON at all.
    #[error("the body is not JSON (line {line}, column {column})")]
    Malformed {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// A field is missing, of another type, or out of its range.
    #[error("{field}: {reason}")]
    Field {
        /// Its path, such as `messages[0].role`.
        field: String,
        /// What is wrong, and what is expected.
        reason: String,
    },
}

/// What was being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The first byte of the answer.
    FirstToken,
    /// The next frame.
    Idle,
    /// The end of the answer.
    Total,
}

/// What an upstream said when it refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its HTTP status.
    pub status: u16,
    /// The start of its answer.
    pub body: Bytes,
    /// When it wants to be asked again.
    pub retry_after: Option<Duration>,
}

/// A call that got no answer, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection, or it broke before anything was answered.
    #[error("the upstream cannot be reached: {0}")]
    Connect(String),
    /// It took too long.
    #[error("the upstream took too long ({0:?})")]
    Timeout(Phase),
    /// It answered with an error.
    #[error("the upstream answered {}", .0.status)]
    Refused(Box<Refusal>),
    /// It answered something that is no answer, or stopped in the middle.
    #[error("the upstream's answer is broken: {0}")]
    Broken(String),
    /// Its answer is larger than allowed.
    #[error("the upstream's answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The operator has disabled its provider.
    #[error("the provider has been disabled")]
    CutOff,
}
