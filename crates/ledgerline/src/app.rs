//! The wiring: which crate gets what, in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn;
use gateway::Gateway;
use identity::{Identity, ServerSecret};
use kernel::{SharedClock, SystemClock};
use ledger::Journal;
use metering::{Metering, PriceBook, Sweeper};
use models::Models;
use pricing::PriceVersion;
use store::{DataFolder, Database, Migration};
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use crate::config::Config;

/// A running application, without its listener.
pub(crate) struct App {
    pub(crate) router: Router,
    pub(crate) sweeper: Sweeper,
    pub(crate) engines: Engines,
}

/// What the application stands on.
pub(crate) struct Engines {
    pub(crate) identity: Identity,
    pub(crate) journal: Journal,
    pub(crate) gateway: Gateway,
    pub(crate) database: Database,
    pub(crate) folder: DataFolder,
}

/// The schema of every crate.
pub(crate) fn migrations() -> Vec<Migration> {
    [identity::MIGRATIONS, ledger::MIGRATIONS, metering::MIGRATIONS, gateway::MIGRATIONS].concat()
}

/// The tables under the journal's hash chain.
pub(crate) fn audited_tables() -> [&'static ledger::Table; 1] {
    [&metering::USAGE]
}

/// What can be checked of a configuration without starting anything.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    Models::new(&config.providers, &config.models)?;
    price_versions(config).map(drop)
}

impl App {
    /// Opens everything and brings it up to date.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let clock: SharedClock = Arc::new(SystemClock);
        let models = Arc::new(Models::new(&config.providers, &config.models)?);
        let prices = price_versions(config)?;
        let folder = DataFolder::open(&config.data)?;
        let database = Database::open(&config.database.url, folder.path())
            .await
            .context("the database cannot be opened")?;
        let made = database
            .migrate(&migrations())
            .await
            .context("the schema cannot be brought up to date")?;
        if !made.is_empty() {
            tracing::info!(migrations = made.join(","), "the schema is brought up to date");
        }
        let secret = ServerSecret::load(&config.security, &folder.file("secret.key"))?;
        let identity = Identity::open(database.clone(), secret, Arc::clone(&clock)).await?;
        let journal = Journal::start(database.clone(), Arc::clone(&clock), &config.journal)?;
        recover(&journal, &database).await?;
        let book = PriceBook::publish(&database, prices, clock.now()).await?;
        let metering = Metering::new(
            journal.clone(),
            database.clone(),
            book,
            Arc::clone(&clock),
            config.metering.clone(),
        );
        let sweeper = Sweeper::new(metering.clone(), database.clone(), clock);
        let gateway = Gateway::new(identity.clone(), metering.clone(), models, database.clone());
        let admin = admin::Admin {
            identity: identity.clone(),
            journal: journal.clone(),
            metering,
            database: database.clone(),
        };
        let router = router(config, &gateway, admin, health_checks(&database, &journal))?;
        let engines = Engines { identity, journal, gateway, database, folder };
        Ok(Self { router, sweeper, engines })
    }
}

impl Engines {
    /// Ends what has begun: calls, as far as they end in this time, then the journal, then the
    /// database. A call that cannot be recorded is not waited for: its hold runs out.
    pub(crate) async fn close(self, patience: Duration) {
        if tokio::time::timeout(patience, self.gateway.drain()).await.is_err() {
            tracing::error!("some calls could not be ended in the books: their holds will run out");
        }
        self.journal.close().await;
        if let Err(error) = self.identity.record_uses().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "when keys were last used cannot be written"
            );
        }
        self.database.close().await;
        drop(self.folder);
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

fn price_versions(config: &Config) -> anyhow::Result<Vec<PriceVersion>> {
    let priced = config.models.iter().filter_map(|model| Some((model, model.price.as_ref()?)));
    let version = |(model, price): (&models::ModelConfig, &models::PriceConfig)| {
        PriceVersion::new(&model.name, price.currency, price.rates())
            .with_context(|| format!("models: the price of {:?}", model.name))
    };
    priced.map(version).collect()
}

fn health_checks(database: &Database, journal: &Journal) -> Vec<web::Check> {
    let (database, journal) = (database.clone(), journal.clone());
    vec![
        web::Check::new("database", move || {
            let database = database.clone();
            async move { database.ping().await.map_err(|error| error.to_string()) }
        }),
        web::Check::new("journal", move || {
            let failure = journal.failure();
            async move { failure.map_or(Ok(()), Err) }
        }),
    ]
}

fn router(
    config: &Config,
    gateway: &Gateway,
    admin: admin::Admin,
    checks: Vec<web::Check>,
) -> anyhow::Result<Router> {
    let surfaces = Router::new()
        .nest("/v1", gateway::router(gateway.clone()))
        .nest("/admin", admin::router(admin))
        .layer(DefaultBodyLimit::max(config.server.max_body_bytes));
    let document = document().to_json().context("the API's description cannot be written")?;
    let router = surfaces.merge(web::health_router(checks)).merge(web::docs::router(document));
    let router = web::speak(router, web::Dialect::Problem);
    Ok(web::cross_origin(router, &config.server)?.layer(from_fn(web::observe)))
}

/// The whole API's description.
pub(crate) fn document() -> OpenApi {
    let mut document = OpenApi::default();
    "Ledgerline".clone_into(&mut document.info.title);
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    document.merge(gateway::document());
    document.merge(admin::document());
    let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    document.components.get_or_insert_default().add_security_scheme("api_key", scheme);
    document
}
