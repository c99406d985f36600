//! The service behind the agent API.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use ::store::Database;
use events::Bus;
use flow::Engine;
use identity::{Caller, Identity};
use kernel::{SharedClock, Timestamp};
use metering::Metering;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::connections::Connections;
use crate::follow::Progress;
use crate::http::Pace;
use crate::hub::Hub;
use crate::mirror::{Files, Mirror};

/// What the service stands on.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Who is who.
    pub identity: Identity,
    /// Carries workflows out.
    pub engine: Engine,
    /// What calls have cost.
    pub metering: Metering,
    /// Where its tables are.
    pub database: Database,
    /// Tells listeners, here and on other instances.
    pub bus: Bus,
    /// What time it is.
    pub clock: SharedClock,
    /// The settings.
    pub config: Config,
    /// The models on offer, and the provider each is asked from first.
    pub models: BTreeMap<String, String>,
    /// The data folder, for files beside the database.
    pub data: PathBuf,
    /// Origins whose pages may connect; `*` for all.
    pub origins: Vec<String>,
}

/// The agent API's service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Agents(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    parts: Parts,
    hub: Hub,
    open: Connections,
    pace: Pace,
    mirror: Mirror,
    providers: Arc<BTreeMap<String, String>>,
    /// The runs that are followed here, and how far they are.
    pub(crate) followed: Mutex<HashMap<Arc<str>, watch::Receiver<Progress>>>,
    /// Who is meant by a request of this machine without a credential; nobody unless told.
    developer: OnceLock<Arc<Caller>>,
    pub(crate) tasks: TaskTracker,
    /// Streams and connections end.
    leaving: CancellationToken,
    /// Nothing is begun any more.
    pub(crate) stopping: CancellationToken,
}

impl Agents {
    /// The service; [`Agents::run`] makes it look after runs.
    pub fn new(parts: Parts) -> Self {
        let providers = Arc::new(parts.models.clone());
        let mirror = Mirror::new(Files::new(parts.data.clone()));
        Self(Arc::new(Inner {
            hub: Hub::new(parts.bus.clone()),
            parts,
            mirror,
            open: Connections::default(),
            pace: Pace::default(),
            providers,
            followed: Mutex::default(),
            developer: OnceLock::new(),
            tasks: TaskTracker::new(),
            leaving: CancellationToken::new(),
            stopping: CancellationToken::new(),
        }))
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    pub(crate) fn open(&self) -> &Connections {
        &self.0.open
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.0.pace
    }

    pub(crate) fn mirror(&self) -> &Mirror {
        &self.0.mirror
    }

    pub(crate) fn providers(&self) -> Arc<BTreeMap<String, String>> {
        Arc::clone(&self.0.providers)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.parts().clock.now()
    }

    /// From now on a request of this machine's own programs or pages without any credential is this
    /// caller's. For a demo that nobody else can reach.
    pub fn let_developer_in(&self, caller: Caller) {
        // A second call changes nothing.
        self.0.developer.set(Arc::new(caller)).unwrap_or_default();
    }

    pub(crate) fn developer(&self) -> Option<&Arc<Caller>> {
        self.0.developer.get()
    }

    /// Ends streams and connections, so that the server can stop; runs go on.
    pub fn say_goodbye(&self) {
        self.0.leaving.cancel();
    }

    pub(crate) fn leaving(&self) -> &CancellationToken {
        &self.0.leaving
    }

    /// Waits until what has happened is in the history; after the engine is closed.
    pub async fn close(&self) {
        self.say_goodbye();
        self.0.stopping.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        if self.parts().config.mirror
            && let Err(error) = self.mirror_all().await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the files of sessions and histories are behind"
            );
        }
    }
}
