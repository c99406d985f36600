//! An upstream account, and calling it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use bytes::Bytes;
use http::HeaderValue;

use crate::http_provider::HttpProvider;
use crate::sim::SimProvider;
use crate::uapi::UapiProvider;
use crate::{
    CallError, ChatStream, ConfigError, Models, OnDisconnect, ProviderConfig, ProviderKind,
    ProviderState, UapiRow,
};

/// What is called at an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/chat/completions`
    Chat,
    /// `/embeddings`
    Embeddings,
}

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub struct UpstreamCall {
    /// Where.
    pub endpoint: Endpoint,
    /// The body, with the model's name there.
    pub body: Bytes,
    /// The answer is to be streamed.
    pub stream: bool,
    /// Take the usage frame out of a stream.
    pub strip_usage: bool,
    /// The request's id, sent along.
    pub request_id: Arc<str>,
    /// The trace that the upstream's is a part of, sent along.
    pub traceparent: Option<HeaderValue>,
}

/// An upstream's answer.
#[derive(Debug)]
pub enum Answer {
    /// Complete.
    Full {
        /// Its media type.
        content_type: String,
        /// As it came.
        body: Bytes,
    },
    /// Frame by frame.
    Stream(Box<ChatStream>),
}

/// An upstream account.
#[derive(Debug)]
pub struct Provider {
    name: Arc<str>,
    on_disconnect: OnDisconnect,
    configured: ProviderState,
    state: AtomicU8,
    running: AtomicUsize,
    max_concurrency: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Http(Box<HttpProvider>),
    Uapi(Box<UapiProvider>),
    Sim(SimProvider),
}

impl Models {
    /// Some provider goes by a description of a server that is followed.
    pub fn follow_descriptions(&self) -> bool {
        let follows = |provider: &Arc<Provider>| match &provider.kind {
            Kind::Uapi(uapi) => uapi.follows(),
            Kind::Http(_) | Kind::Sim(_) => false,
        };
        self.providers().iter().any(follows)
    }

    /// These are all descriptions that the followed server has now: calls that begin from here on go by
    /// them. A provider whose description is gone or not valid is not called; why is logged, and
    /// [`Provider::trouble`].
    pub fn describe(&self, rows: &[UapiRow]) {
        for provider in self.providers() {
            if let Kind::Uapi(uapi) = &provider.kind {
                uapi.follow(&provider.name, rows);
            }
        }
    }
}

impl Provider {
    /// The provider as configured.
    pub fn new(config: &ProviderConfig) -> Result<Self, ConfigError> {
        let kind = match config.kind {
            ProviderKind::OpenAi => Kind::Http(Box::new(HttpProvider::new(config)?)),
            ProviderKind::Uapi => Kind::Uapi(Box::new(UapiProvider::new(config)?)),
            ProviderKind::Sim => Kind::Sim(SimProvider),
        };
        let max_concurrency =
            if config.max_concurrency == 0 { usize::MAX } else { config.max_concurrency };
        Ok(Self {
            name: config.name.as_str().into(),
            on_disconnect: config.on_disconnect,
            configured: config.state,
            state: AtomicU8::new(config.state as u8),
            running: AtomicUsize::new(0),
            max_concurrency,
            kind,
        })
    }

    /// Its name.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What becomes of a call whose client has left.
    pub const fn on_disconnect(&self) -> OnDisconnect {
        self.on_disconnect
    }

    /// Whether it is called.
    pub fn state(&self) -> ProviderState {
        let state = self.state.load(Ordering::Relaxed);
        ProviderState::ALL.into_iter().find(|known| *known as u8 == state).unwrap_or_default()
    }

    /// Whether it is called as long as no administrator has decided.
    pub const fn configured(&self) -> ProviderState {
        self.configured
    }

    /// Its streams are to be cut off.
    pub fn is_disabled(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ProviderState::Disabled as u8
    }

    /// From now on this instance goes by that state.
    pub fn set_state(&self, state: ProviderState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Calls of this instance that run there.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// The most that may; `None` for any number.
    pub fn max_concurrency(&self) -> Option<usize> {
        (self.max_concurrency != usize::MAX).then_some(self.max_concurrency)
    }

    /// There is no room for another call.
    pub(crate) fn is_full(&self) -> bool {
        self.running() >= self.max_concurrency
    }

    /// Takes room for one call, or tells that there is none.
    pub(crate) fn enter(&self) -> bool {
        // First in and then out again: two calls never take the same room.
        let before = self.running.fetch_add(1, Ordering::Relaxed);
        if before < self.max_concurrency {
            return true;
        }
        self.leave();
        false
    }

    /// Gives the room back.
    pub(crate) fn leave(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// Why it cannot be called whatever its state: the description that it follows is missing or not
    /// valid.
    pub fn trouble(&self) -> Option<String> {
        match &self.kind {
            Kind::Uapi(provider) => provider.trouble(),
            Kind::Http(_) | Kind::Sim(_) => None,
        }
    }

    /// It is known how to call it.
    pub(crate) fn is_described(&self) -> bool {
        match &self.kind {
            Kind::Uapi(provider) => provider.is_described(),
            Kind::Http(_) | Kind::Sim(_) => true,
        }
    }

    /// Sends a request and returns when the answer is complete, or its stream begins.
    pub async fn call(&self, call: UpstreamCall) -> Result<Answer, CallError> {
        match &self.kind {
            Kind::Http(provider) => provider.call(call).await,
            Kind::Uapi(provider) => provider.call(call).await,
            Kind::Sim(provider) => provider.call(&call),
        }
    }
}
