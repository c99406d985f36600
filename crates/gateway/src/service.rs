//! The service behind `/v1`: what a call needs to be made.

use std::sync::Arc;

use bytes::Bytes;
use identity::Identity;
use metering::Metering;
use models::{Model, ModelKind, Models, RequestError};
use store::Database;
use telemetry::Traces;
use tokio_util::task::TaskTracker;

use crate::cache::Answers;
use crate::guard::Verdict;
use crate::{CacheConfig, Error, Guard};

/// The service behind `/v1`. Cheap to clone; the state of its routes.
#[derive(Clone, Debug)]
pub struct Gateway(Arc<Parts>);

/// What the service is made of.
#[derive(Debug)]
pub struct Parts {
    pub(crate) identity: Identity,
    pub(crate) metering: Metering,
    pub(crate) models: Arc<Models>,
    pub(crate) database: Database,
    pub(crate) calls: TaskTracker,
    pub(crate) answers: Answers,
    pub(crate) guard: Option<Arc<Guard>>,
    pub(crate) traces: Option<Arc<Traces>>,
}

/// What stands between callers and models, all off by default.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Answers that may be given again.
    pub cache: CacheConfig,
    /// What is let neither in nor out.
    pub guard: Option<Arc<Guard>>,
    /// Where calls are traced.
    pub traces: Option<Arc<Traces>>,
}

impl Gateway {
    /// The service over its engines.
    pub fn new(
        identity: Identity,
        metering: Metering,
        models: Arc<Models>,
        database: Database,
        options: Options,
    ) -> Self {
        Self(Arc::new(Parts {
            identity,
            metering,
            models,
            database,
            calls: TaskTracker::new(),
            answers: Answers::new(options.cache),
            guard: options.guard,
            traces: options.traces,
        }))
    }

    /// The request as it may pass, and whether it may not.
    pub(crate) fn guarded<T>(
        &self,
        request: T,
        body: &Bytes,
        parse: fn(&Bytes) -> Result<T, RequestError>,
    ) -> Result<(T, bool), Error> {
        match self.guard.as_ref().map(|guard| guard.input(body)) {
            None | Some(Verdict::Fine) => Ok((request, false)),
            Some(Verdict::Masked(body)) => Ok((parse(&body)?, false)),
            Some(Verdict::Refused) => Ok((request, true)),
        }
    }

    /// The model of this public name, if it does what is asked.
    pub(crate) fn model(&self, name: &str, kind: ModelKind) -> Result<Arc<Model>, Error> {
        let model = self.models.find(name).ok_or_else(|| Error::UnknownModel(name.to_owned()))?;
        if model.config().kind != kind {
            let surface = match kind {
                ModelKind::Chat => "chat completions",
                ModelKind::Embedding => "embeddings",
            };
            return Err(Error::WrongKind { model: name.to_owned(), surface });
        }
        Ok(Arc::clone(model))
    }

    /// Waits until every call is settled, those included whose client has left.
    pub async fn drain(&self) {
        self.calls.close();
        self.calls.wait().await;
    }

    /// Deletes answers kept for repeated requests that are older than a day; returns how many.
    pub async fn purge_answers(&self) -> store::Result<u64> {
        crate::store::purge_answers(&self.database, self.metering.now()).await
    }
}

impl std::ops::Deref for Gateway {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl axum::extract::FromRef<Gateway> for Identity {
    fn from_ref(gateway: &Gateway) -> Self {
        gateway.identity.clone()
    }
}
