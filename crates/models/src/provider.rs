//! An upstream account, and calling it.

use std::sync::Arc;

use bytes::Bytes;

use crate::http_provider::HttpProvider;
use crate::sim::SimProvider;
use crate::{CallError, ChatStream, ConfigError, OnDisconnect, ProviderConfig, ProviderKind};

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
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Http(Box<HttpProvider>),
    Sim(SimProvider),
}

impl Provider {
    /// The provider as configured.
    pub fn new(config: &ProviderConfig) -> Result<Self, ConfigError> {
        let kind = match config.kind {
            ProviderKind::OpenAi => Kind::Http(Box::new(HttpProvider::new(config)?)),
            ProviderKind::Sim => Kind::Sim(SimProvider),
        };
        Ok(Self { name: config.name.as_str().into(), on_disconnect: config.on_disconnect, kind })
    }

    /// Its name.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What becomes of a call whose client has left.
    pub const fn on_disconnect(&self) -> OnDisconnect {
        self.on_disconnect
    }

    /// Sends a request and returns when the answer is complete, or its stream begins.
    pub async fn call(&self, call: UpstreamCall) -> Result<Answer, CallError> {
        match &self.kind {
            Kind::Http(provider) => provider.call(call).await,
            Kind::Sim(provider) => provider.call(&call),
        }
    }
}
