//! Answers that are given again: the same request of the same organization, word for word.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use identity::Caller;
use kernel::ChargeId;
use models::Model;
use moka::future::Cache;
use pricing::{CachedResponse, Tokens};

use crate::CacheConfig;

const HEADER: &str = "x-ledgerline-cache";
/// Everything but the answer's bytes, roughly.
const ENTRY_BYTES: usize = 256;

/// Answers that are given again, in this instance's memory.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    config: CacheConfig,
    kept: Cache<[u8; 32], Arc<Entry>>,
}

/// An answer as it was sent, and what it took.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
    pub(crate) tokens: Tokens,
    /// The call that was answered so.
    pub(crate) charge_id: ChargeId,
}

/// What the cache has to do with one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Caching {
    /// Nothing: it was not asked for.
    #[default]
    Unasked,
    /// Nothing: the operator does not allow it for this caller or model.
    Off,
    /// It may answer by this key, at this price.
    On([u8; 32], CachedResponse),
}

impl Caching {
    /// What the answer says of it, if it came from an upstream.
    pub(crate) const fn told(self) -> Option<&'static str> {
        match self {
            Self::Unasked => None,
            Self::Off => Some("off"),
            Self::On(..) => Some("miss"),
        }
    }

    /// Under what the answer is kept.
    pub(crate) const fn key(self) -> Option<[u8; 32]> {
        match self {
            Self::On(key, _) => Some(key),
            Self::Unasked | Self::Off => None,
        }
    }
}

impl Answers {
    pub(crate) fn new(config: CacheConfig) -> Self {
        let weight = |_key: &[u8; 32], entry: &Arc<Entry>| {
            u32::try_from(entry.body.len() + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        let kept = Cache::builder()
            .weigher(weight)
            .max_capacity(config.max_bytes)
            .time_to_live(Duration::from_secs(config.ttl_seconds))
            .build();
        Self { config, kept }
    }

    /// What the cache has to do with a call. Both must want it: the operator, by configuration and
    /// price, and the client, by header.
    pub(crate) fn caching(
        &self,
        headers: &HeaderMap,
        caller: &Caller,
        model: &Model,
        (path, body): (&str, &Bytes),
    ) -> Caching {
        let asked = headers.get(HEADER).is_some_and(|value| value.as_bytes() == b"on");
        if !asked {
            return Caching::Unasked;
        }
        let price = model.config().cached_response.filter(|_| self.allows(caller));
        match (price, key(caller, path, body)) {
            (Some(price), Some(key)) => Caching::On(key, price),
            _ => Caching::Off,
        }
    }

    pub(crate) async fn find(&self, key: &[u8; 32]) -> Option<Arc<Entry>> {
        self.kept.get(key).await
    }

    /// Keeps an answer, unless it is too large.
    pub(crate) async fn keep(&self, key: [u8; 32], entry: Entry) {
        if entry.body.len() <= self.config.max_answer_bytes {
            self.kept.insert(key, Arc::new(entry)).await;
        }
    }

    fn allows(&self, caller: &Caller) -> bool {
        let app = caller.app_id.as_ref().map(kernel::AppId::as_str);
        self.config.allowed.iter().any(|allowed| {
            allowed == "*" || allowed == caller.org_id.as_str() || Some(allowed.as_str()) == app
        })
    }
}

/// The same organization, endpoint and request: the same key. The order of members and the space
/// between them make no difference, everything else does.
fn key(caller: &Caller, path: &str, body: &Bytes) -> Option<[u8; 32]> {
    let request: serde_json::Value = serde_json::from_slice(body).ok()?;
    let mut hasher = blake3::Hasher::new();
    // The body names the model. Objects are sorted by name.
    for part in [caller.org_id.as_str(), path, &request.to_string()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    Some(*hasher.finalize().as_bytes())
}
