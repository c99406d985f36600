//! The service behind `/v1`: what a call needs to be made.

use std::sync::Arc;

use identity::Identity;
use metering::Metering;
use models::{Model, ModelKind, Models};
use store::Database;
use tokio_util::task::TaskTracker;

use crate::Error;

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
}

impl Gateway {
    /// The service over its engines.
    pub fn new(
        identity: Identity,
        metering: Metering,
        models: Arc<Models>,
        database: Database,
    ) -> Self {
        Self(Arc::new(Parts { identity, metering, models, database, calls: TaskTracker::new() }))
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
