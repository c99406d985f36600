//! What changes at one instance is told to the others, so that they see it at once, and to followers.
//! Instances would see it within a second anyway: the database is asked as often as without.

use std::sync::Arc;

use bytes::Bytes;
use customers::{Entity, Followers};
use events::{Bridge, Bus};
use store::{Reader, Redis};
use telemetry::Metrics;
use tokio_util::task::AbortOnDropHandle;

use crate::app::Engines;
use crate::descriptions::Descriptions;

/// The tasks that tell and listen; they end with this value.
pub(crate) struct News {
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// The bus, and its way to other instances if there is a Redis.
pub(crate) fn bus(redis: Option<&Redis>) -> (Bus, Option<Bridge>) {
    match redis.map(Bus::over) {
        None => (Bus::new(), None),
        Some((bus, bridge)) => (bus, Some(bridge)),
    }
}

impl News {
    /// Tells other instances and followers what changes here, and looks at what has changed there.
    pub(crate) fn spread(
        bridge: Option<Bridge>,
        engines: &Engines,
        followers: Followers,
        descriptions: Option<Descriptions>,
    ) -> Self {
        let bus = &engines.bus;
        let mut tasks = vec![
            tokio::spawn(nudge(bus.clone(), followers.clone())),
            tokio::spawn(followers.run()),
            tokio::spawn(identities(engines)),
            tokio::spawn(limits(engines)),
            tokio::spawn(prices(engines)),
            tokio::spawn(providers(engines)),
        ];
        tasks.extend(bridge.map(|bridge| tokio::spawn(bridge.run())));
        tasks.extend(descriptions.map(|descriptions| tokio::spawn(descriptions.keep())));
        Self { _tasks: tasks.into_iter().map(AbortOnDropHandle::new).collect() }
    }
}

fn identities(engines: &Engines) -> impl Future<Output = ()> + use<> {
    let (identity, told) = (engines.identity.clone(), engines.identity.clone());
    let changed = move || {
        let identity = identity.clone();
        async move { identity.changed().await }
    };
    let look = move || {
        told.forget();
        std::future::ready(())
    };
    spread(engines.bus.clone(), "identity", changed, look)
}

fn limits(engines: &Engines) -> impl Future<Output = ()> + use<> {
    let (metering, told) = (engines.metering.clone(), engines.metering.clone());
    let changed = move || {
        let metering = metering.clone();
        async move { metering.limits_changed().await }
    };
    let look = move || {
        told.forget_limits();
        std::future::ready(())
    };
    spread(engines.bus.clone(), "limits", changed, look)
}

fn prices(engines: &Engines) -> impl Future<Output = ()> + use<> {
    let prices = engines.metering.prices().clone();
    let told = prices.clone();
    let changed = move || {
        let prices = prices.clone();
        async move { prices.changed().await }
    };
    let look = move || {
        let told = told.clone();
        async move { report("prices", told.refresh().await) }
    };
    spread(engines.bus.clone(), "prices", changed, look)
}

fn providers(engines: &Engines) -> impl Future<Output = ()> + use<> {
    let (models, told) = (Arc::clone(&engines.models), Arc::clone(&engines.models));
    let database = engines.database.clone();
    let changed = move || {
        let models = Arc::clone(&models);
        async move { models.decided().await }
    };
    let look = move || {
        let (told, database) = (Arc::clone(&told), database.clone());
        async move { report("providers", told.load_states(&database).await) }
    };
    spread(engines.bus.clone(), "providers", changed, look)
}

/// A figure, what it says, and where it is read.
type Figure = (&'static str, &'static str, fn(&Reader) -> i64);

/// The figures of where lists and reports are read.
pub(crate) fn register_reader(reader: &Reader, metrics: &mut Metrics) {
    let figures: [Figure; 7] = [
        (
            "ledgerline_replica_lag_milliseconds",
            "How far the replica is behind; -1 for unknown",
            |reader| reader.figures()[0],
        ),
        ("ledgerline_replica_reads", "Reads at the replica", |reader| reader.figures()[1]),
        ("ledgerline_replica_passed_over", "Reads at the primary instead", |reader| {
            reader.figures()[2]
        }),
        ("ledgerline_cache_asked", "Costly reads wanted", |reader| reader.cache().figures()[0]),
        ("ledgerline_cache_near", "Found in memory", |reader| reader.cache().figures()[1]),
        ("ledgerline_cache_far", "Found on Redis", |reader| reader.cache().figures()[2]),
        ("ledgerline_cache_rejected", "Found on Redis, and written by no instance", |reader| {
            reader.cache().figures()[3]
        }),
    ];
    for (name, help, read) in figures {
        let reader = reader.clone();
        metrics.add_read(name, help, move || read(&reader));
    }
}

/// Tells what changes here, and looks when something is told, or may have been.
async fn spread<C, L>(bus: Bus, topic: &'static str, changed: impl Fn() -> C, look: impl Fn() -> L)
where
    C: Future<Output = ()>,
    L: Future<Output = ()>,
{
    let mut told = bus.subscribe(topic);
    loop {
        tokio::select! {
            () = changed() => bus.publish(topic, Bytes::new()),
            _message_or_gap = told.next() => look().await,
        }
    }
}

/// Tells who tells followers what may have changed.
async fn nudge(bus: Bus, followers: Followers) {
    // Since the process before this one there may be other models and upstreams.
    Entity::ALL.into_iter().for_each(|entity| followers.nudge(entity));
    let (mut identities, mut prices) = (bus.subscribe("identity"), bus.subscribe("prices"));
    loop {
        tokio::select! {
            _message_or_gap = identities.next() => followers.nudge(Entity::Users),
            _message_or_gap = prices.next() => followers.nudge(Entity::Pricing),
        }
    }
}

fn report<E: std::error::Error + 'static>(what: &str, outcome: Result<(), E>) {
    if let Err(error) = outcome {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(what, error, "a change at another instance cannot be read at once");
    }
}
