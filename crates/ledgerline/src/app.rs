//! The wiring: which crate gets what, in order.

use std::sync::Arc;
use std::time::Duration;

use agents::Agents;
use alerts::Alerts;
use anyhow::Context as _;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use customers::{Catalogue, Customers, Followers, Offer, Sync};
use events::{Bridge, Bus};
use flow::{Engine, ModelCaller};
use gateway::{Gateway, Guard, Options};
use identity::{Identity, ReadSigned, ServerSecret};
use kernel::{SharedClock, SystemClock};
use ledger::Journal;
use metering::{Metering, PriceBook, Sweeper};
use models::Models;
use pricing::PriceVersion;
use protocols::Protocols;
use serde_json::json;
use store::{Cache, DataFolder, Database, Migration, Reader, Redis};
use telemetry::Traces;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use crate::config::Config;
use crate::descriptions::Descriptions;
use crate::{metrics, news};

/// A running application, without its listener.
pub(crate) struct App {
    pub(crate) router: Router,
    pub(crate) sweeper: Sweeper,
    pub(crate) prices: PriceBook,
    pub(crate) sync: Sync,
    pub(crate) followers: Followers,
    /// What providers go by that follow the upstream's descriptions.
    pub(crate) descriptions: Option<Descriptions>,
    /// How it is told to stop.
    pub(crate) stop: web::Stop,
    /// The bus's way to other instances.
    pub(crate) bridge: Option<Bridge>,
    pub(crate) engines: Engines,
}

/// What the application stands on.
pub(crate) struct Engines {
    pub(crate) identity: Identity,
    pub(crate) journal: Journal,
    pub(crate) gateway: Gateway,
    pub(crate) metering: Metering,
    pub(crate) traces: Option<Arc<Traces>>,
    pub(crate) admin: admin::Admin,
    pub(crate) models: Arc<Models>,
    pub(crate) flow: Engine,
    pub(crate) agents: Agents,
    pub(crate) bus: Bus,
    pub(crate) alerts: Alerts,
    pub(crate) database: Database,
    pub(crate) folder: DataFolder,
}

/// The schema of every crate.
pub(crate) fn migrations() -> Vec<Migration> {
    [
        identity::MIGRATIONS,
        ledger::MIGRATIONS,
        metering::MIGRATIONS,
        gateway::MIGRATIONS,
        admin::MIGRATIONS,
        alerts::MIGRATIONS,
        models::MIGRATIONS,
        customers::MIGRATIONS,
        flow::MIGRATIONS,
        agents::MIGRATIONS,
        protocols::MIGRATIONS,
    ]
    .concat()
}

/// The tables under the journal's hash chain.
pub(crate) fn audited_tables() -> [&'static ledger::Table; 6] {
    [
        &metering::USAGE,
        &metering::ATTEMPTS,
        &metering::STEPS,
        &metering::PLACES,
        &metering::CHARGES,
        &customers::RECORDS,
    ]
}

/// What can be checked of a configuration without starting anything.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    models(config)?;
    Guard::new(&config.guard)?;
    Redis::new(&config.redis)?;
    Database::replica(&config.database)?;
    price_versions(config).map(drop)
}

impl App {
    /// Opens everything and brings it up to date.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let clock: SharedClock = Arc::new(SystemClock);
        let models = Arc::new(models(config)?);
        let prices = price_versions(config)?;
        let redis = Redis::new(&config.redis)?;
        let (bus, bridge) = news::bus(redis.as_ref());
        let folder = DataFolder::open(&config.data)?;
        let database = open_database(config, &folder).await?;
        let (identity, cache_key) = identity(config, &folder, &database, &clock).await?;
        let journal = Journal::start(database.clone(), Arc::clone(&clock), &config.journal)?;
        recover(&journal, &database).await?;
        let book = PriceBook::publish(&database, prices, clock.now()).await?;
        let reader = reader(config, &database, redis, (cache_key, &clock))?;
        let metering = metering(config, &journal, reader, (&book, &clock));
        let sweeper = Sweeper::new(metering.clone(), database.clone(), Arc::clone(&clock));
        models.load_states(&database).await.context("the providers' states cannot be read")?;
        let traces = Traces::start(&config.telemetry)?.map(Arc::new);
        let options = options(config, traces.clone())?;
        let gateway = Gateway::new(
            identity.clone(),
            metering.clone(),
            Arc::clone(&models),
            database.clone(),
            options,
        );
        let alerts = alerts(config, &database, &identity, &clock)?;
        let flow = flow(config, &journal, &metering, &models, &database)?;
        let (sync, followers) = sync(config, &identity, &metering, (&journal, &database), clock)?;
        let descriptions = Descriptions::open(sync.customers(), &models).await?;
        let agents = agents(config, &folder, (&identity, &metering, &database), &flow, &bus);
        let admin = admin::Admin {
            identity: identity.clone(),
            journal: journal.clone(),
            metering: metering.clone(),
            models: Arc::clone(&models),
            alerts: alerts.clone(),
            database: database.clone(),
        };
        let stop = web::Stop::default();
        let checks = health_checks(&stop, &database, &journal, (&bus, metering.reader()));
        let engines = Engines {
            identity,
            journal,
            gateway,
            metering,
            traces,
            admin,
            models,
            flow,
            agents,
            bus,
            alerts,
            database,
            folder,
        };
        let router = router(config, &engines, &sync, checks)?;
        let prices = book;
        Ok(Self { router, sweeper, prices, sync, followers, descriptions, stop, bridge, engines })
    }
}

/// The models as configured.
fn models(config: &Config) -> anyhow::Result<Models> {
    let models = Models::new(&config.providers, &config.models, &config.routing)?;
    if models.follow_descriptions() && config.upstream.url.is_empty() {
        anyhow::bail!(
            "providers: uapi.cached names a description of the server that is followed, but upstream.url is empty"
        );
    }
    Ok(models)
}

/// Who is who; and the key of the cache that instances share.
async fn identity(
    config: &Config,
    folder: &DataFolder,
    database: &Database,
    clock: &SharedClock,
) -> anyhow::Result<(Identity, [u8; 32])> {
    let secret = ServerSecret::load(&config.security, &folder.file("secret.key"))?;
    let key = secret.cache_key();
    let (database, clock) = (database.clone(), Arc::clone(clock));
    Ok((Identity::open_with(database, secret, clock, &config.signing).await?, key))
}

/// Where lists and reports are read.
fn reader(
    config: &Config,
    database: &Database,
    redis: Option<Redis>,
    (key, clock): ([u8; 32], &SharedClock),
) -> anyhow::Result<Reader> {
    let cache = Cache::new(redis, key, Arc::clone(clock));
    Ok(Reader::new(database.clone(), Database::replica(&config.database)?, cache))
}

/// The service that meters calls.
fn metering(
    config: &Config,
    journal: &Journal,
    reader: Reader,
    (book, clock): (&PriceBook, &SharedClock),
) -> Metering {
    Metering::new(journal.clone(), reader, book.clone(), Arc::clone(clock), config.metering.clone())
}

/// Low-balance alerts.
fn alerts(
    config: &Config,
    database: &Database,
    identity: &Identity,
    clock: &SharedClock,
) -> anyhow::Result<Alerts> {
    let (database, identity, clock) = (database.clone(), identity.clone(), Arc::clone(clock));
    Alerts::new(database, identity, clock, config.alerts.clone()).context("alerts")
}

/// The engine of flows, whose model calls are metered like all others.
fn flow(
    config: &Config,
    journal: &Journal,
    metering: &Metering,
    models: &Arc<Models>,
    database: &Database,
) -> anyhow::Result<Engine> {
    let default = Some(config.flow.default_model.clone());
    let caller = ModelCaller::metered(metering.clone(), Arc::clone(models), default);
    let (journal, database) = (journal.clone(), database.clone());
    Ok(Engine::new(journal, database, Arc::new(SystemClock), config.flow.clone(), caller)?)
}

/// The agent API over the engine of flows.
fn agents(
    config: &Config,
    folder: &DataFolder,
    (identity, metering, database): (&Identity, &Metering, &Database),
    flow: &Engine,
    bus: &Bus,
) -> Agents {
    let first = |model: &models::ModelConfig| {
        let provider = model.routes.first().map(|route| route.provider.clone());
        (model.name.clone(), provider.unwrap_or_default())
    };
    Agents::new(agents::Parts {
        identity: identity.clone(),
        engine: flow.clone(),
        metering: metering.clone(),
        database: database.clone(),
        bus: bus.clone(),
        clock: Arc::new(SystemClock),
        config: config.agents.clone(),
        models: config.models.iter().map(first).collect(),
        data: folder.path().to_owned(),
        origins: config.server.cors_origins.clone(),
    })
}

/// The customers' surface, what it follows, and who follows it.
fn sync(
    config: &Config,
    identity: &Identity,
    metering: &Metering,
    (journal, database): (&Journal, &Database),
    clock: SharedClock,
) -> anyhow::Result<(Sync, Followers)> {
    let customers = Customers::new(customers::Parts {
        identity: identity.clone(),
        journal: journal.clone(),
        metering: metering.clone(),
        database: database.clone(),
        catalogue: catalogue(config),
        config: config.customers.clone(),
    });
    let followers = Followers::new(customers.clone(), &clock).context("customers.followers")?;
    let sync = Sync::new(customers, config.upstream.clone(), clock).context("upstream")?;
    Ok((sync, followers))
}

/// The database, its schema brought up to date.
async fn open_database(config: &Config, folder: &DataFolder) -> anyhow::Result<Database> {
    let database = Database::open(&config.database.url, folder.path())
        .await
        .context("the database cannot be opened")?;
    let made =
        database.migrate(&migrations()).await.context("the schema cannot be brought up to date")?;
    if !made.is_empty() {
        tracing::info!(migrations = made.join(","), "the schema is brought up to date");
    }
    Ok(database)
}

impl Engines {
    /// Ends what has begun: calls, as far as they end in this time, then the journal, then the
    /// database. A call that cannot be recorded is not waited for: its hold runs out.
    pub(crate) async fn close(self, patience: Duration) {
        self.end_work(patience).await;
        self.journal.close().await;
        if let Err(error) = self.identity.record_uses().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "when keys were last used cannot be written"
            );
        }
        if let Some(traces) = self.traces {
            // It blocks its thread while it sends what waits.
            drop(tokio::task::spawn_blocking(move || traces.stop()).await);
        }
        self.database.close().await;
        drop(self.folder);
    }
}

impl Engines {
    async fn end_work(&self, patience: Duration) {
        if tokio::time::timeout(patience, self.gateway.drain()).await.is_err() {
            tracing::error!("some calls could not be ended in the books: their holds will run out");
        }
        if tokio::time::timeout(patience, self.flow.close()).await.is_err() {
            tracing::warn!("some steps of runs are not at their end: they are tried again");
        }
        if tokio::time::timeout(patience, self.agents.close()).await.is_err() {
            tracing::warn!(
                "some of what happened is not in the history: it is told at the next start"
            );
        }
    }
}

/// On SQLite this is the only process, so every open hold belongs to one that is gone. On a server
/// other instances may be alive: there the leases decide.
async fn recover(journal: &Journal, database: &Database) -> anyhow::Result<()> {
    if let Database::Sqlite(_) = database {
        let released =
            ledger::recover(journal, database).await.context("old holds cannot be released")?;
        if released > 0 {
            tracing::warn!(released, "holds of a process that ended early were released");
        }
    }
    Ok(())
}

/// What followers of this server may know of its models and their upstreams.
fn catalogue(config: &Config) -> Catalogue {
    let model = |model: &models::ModelConfig| Offer {
        id: model.name.clone(),
        data: json!({"id": model.name, "name": model.name, "model": model.name, "kind": model.kind,
            "status": "published"}),
    };
    let upstream = |provider: &models::ProviderConfig| {
        let (kind, base_url, name) = (provider.kind, provider.base_url.clone(), &provider.name);
        let mut rows = provider.uapi.as_ref().map(|uapi| uapi.shared(name)).unwrap_or_default();
        if rows.is_empty() {
            rows.push((name.clone(), json!({"id": name, "name": name})));
        }
        rows.into_iter().map(move |(id, mut data)| {
            if let Some(members) = data.as_object_mut() {
                members.insert("kind".to_owned(), json!(kind));
                members.insert("baseurl".to_owned(), json!(base_url));
            }
            Offer { id, data }
        })
    };
    Catalogue {
        models: config.models.iter().map(model).collect(),
        upstreams: config.providers.iter().flat_map(upstream).collect(),
    }
}

fn price_versions(config: &Config) -> anyhow::Result<Vec<PriceVersion>> {
    let priced = config.models.iter().filter_map(|model| Some((model, model.price.as_ref()?)));
    let version = |(model, price): (&models::ModelConfig, &models::PriceConfig)| {
        PriceVersion::new(&model.name, price.currency, price.rates())
            .with_context(|| format!("models: the price of {:?}", model.name))
    };
    priced.map(version).collect()
}

fn health_checks(
    stop: &web::Stop,
    database: &Database,
    journal: &Journal,
    (bus, reader): (&Bus, &Reader),
) -> Vec<web::Check> {
    let (stop, database, journal) = (stop.clone(), database.clone(), journal.clone());
    let mut checks = vec![
        web::Check::new("process", move || {
            let stopping = stop.gently.is_cancelled();
            let reason = || Err("it is stopping: send requests elsewhere".to_owned());
            async move { if stopping { reason() } else { Ok(()) } }
        }),
        web::Check::new("database", move || {
            let database = database.clone();
            async move { database.ping().await.map_err(|error| error.to_string()) }
        }),
        web::Check::new("journal", move || {
            let failure = journal.failure();
            async move { failure.map_or(Ok(()), Err) }
        }),
    ];
    checks.extend(bus.is_bridged().then(|| {
        let bus = bus.clone();
        web::Check::lesser("redis", move || {
            let failure = bus.failure();
            async move { failure.map_or(Ok(()), Err) }
        })
    }));
    checks.extend(reader.replica().is_some().then(|| {
        let reader = reader.clone();
        web::Check::lesser("replica", move || {
            let failure = reader.failure();
            async move { failure.map_or(Ok(()), Err) }
        })
    }));
    checks
}

/// Flows by the protocols of others.
fn protocols(engines: &Engines) -> Protocols {
    Protocols {
        identity: engines.identity.clone(),
        engine: engines.flow.clone(),
        models: Arc::clone(&engines.models),
        database: engines.database.clone(),
        clock: Arc::new(SystemClock),
    }
}

fn options(config: &Config, traces: Option<Arc<Traces>>) -> anyhow::Result<Options> {
    Ok(Options { cache: config.cache.clone(), guard: Guard::new(&config.guard)?, traces })
}

/// The figures of the engines; those of requests come with the routes.
fn figures(engines: &Engines) -> telemetry::Metrics {
    let mut figures = telemetry::Metrics::new();
    engines.journal.register(&mut figures);
    engines.metering.register(&mut figures);
    metrics::add_ways(&mut figures, &engines.models);
    engines.alerts.register(&mut figures);
    engines.bus.register(&mut figures);
    news::register_reader(engines.metering.reader(), &mut figures);
    figures
}

fn router(
    config: &Config,
    engines: &Engines,
    sync: &Sync,
    checks: Vec<web::Check>,
) -> anyhow::Result<Router> {
    let mut figures = figures(engines);
    let identity = engines.identity.clone();
    let signed = ReadSigned::new(identity.clone(), config.server.max_body_bytes);
    let surfaces = Router::new()
        .nest("/v1", gateway::router(engines.gateway.clone()))
        .nest("/api/v1", customers::router(sync, checks.clone()))
        .merge(customers::sync_router(sync))
        .merge(protocols::router(&protocols(engines)))
        .nest("/admin", admin::router(engines.admin.clone()))
        .merge(agents::router(&engines.agents))
        // As one: each layer of a router's is a box that every request copies.
        .layer((signed, DefaultBodyLimit::max(config.server.max_body_bytes)));
    // All described ones: what differs by a slash at its end has no figures of its own, and the page of the
    // figures, made below with all figures, is not governed yet.
    let routes = identity.routes().into_iter().map(|route| route.path);
    let routes = routes.filter(|path| !path.ends_with('/')).chain([metrics::PATH.to_owned()]);
    let traffic = Arc::new(web::Traffic::new(routes, &mut figures));
    let requests = Arc::clone(&traffic);
    engines.journal.write_at_once_when(move || requests.in_flight() <= 1);
    let router = surfaces
        .merge(web::health_router(checks))
        .merge(metrics::router(figures, identity, config.telemetry.clone()))
        .merge(web::docs::router(document));
    let router = web::unknown_paths(web::speak(router, web::Dialect::Problem), agents::PATHS);
    Ok(web::cross_origin(router, &config.server)?.layer(from_fn_with_state(traffic, web::observe)))
}

/// The whole API's description.
pub(crate) fn document() -> OpenApi {
    let mut document = OpenApi::default();
    "Ledgerline".clone_into(&mut document.info.title);
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    document.merge(gateway::document());
    document.merge(customers::document());
    document.merge(customers::sync_document());
    document.merge(admin::document());
    document.merge(agents::document());
    document.merge(protocols::document());
    document.merge(metrics::document());
    let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    document.components.get_or_insert_default().add_security_scheme("api_key", scheme);
    document
}
