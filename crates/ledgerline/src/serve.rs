//! `ledgerline serve`

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use identity::{Identity, NewKey, PLATFORM, Role};
use store::{DataFolder, Database};
use tokio::net::TcpListener;

use crate::app::App;
use crate::cli::Place;
use crate::config::Config;
use crate::news::News;
use crate::{dev, logging};

/// How often answers kept for repeated requests are looked through.
const PURGE_EVERY: Duration = Duration::from_mins(10);

#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    place: Place,
    /// Address and port to listen on [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// A demo on this machine: simulated models, a customer with 100 CNY, keys in DATA/dev.json
    #[arg(long)]
    dev: bool,
}

pub(crate) async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let mut config = args.place.load(args.listen)?;
    if args.dev {
        dev::prepare(&mut config)?;
    }
    logging::init(&config.log, config.server.log_requests)?;
    let app = App::open(&config).await?;
    let address = config.server.listen;
    let listener = web::listen(address).with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    if args.dev {
        dev::seed(&app.engines, address).await?;
    } else {
        ensure_admin(&app.engines.identity, &app.engines.folder).await?;
    }
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    serve(app, listener, &config).await
}

async fn serve(app: App, listener: TcpListener, config: &Config) -> anyhow::Result<()> {
    let lanes = web::Lanes::start().context("no threads can be started")?;
    let App { router, sweeper, prices, sync, followers, descriptions, bridge, stop, engines } = app;
    let signal = tokio::spawn(stop_on_signal(stop.clone()));
    let news = News::spread(bridge, &engines, followers, descriptions);
    let measuring = tokio::spawn(ledger::measure_replica(engines.metering.reader().clone()));
    let sweeping = tokio::spawn(sweeper.run());
    let refreshing = tokio::spawn(prices.keep_fresh());
    let making_room = tokio::spawn(make_room(engines.database.clone()));
    let syncing = tokio::spawn(sync.run());
    let purging = tokio::spawn(purge(engines.gateway.clone(), engines.admin.clone()));
    let recording = tokio::spawn(engines.identity.clone().keep_recording_uses());
    let following = tokio::spawn(engines.models.clone().keep_states(engines.database.clone()));
    let alerting = tokio::spawn(engines.alerts.clone().run());
    let flow = engines.flow.clone();
    let flowing = tokio::spawn(async move { flow.run().await });
    let agents = engines.agents.clone();
    let telling = tokio::spawn(async move { tokio::join!(agents.run(), agents.keep_mirror()) });
    let (agents, stopped) = (engines.agents.clone(), stop.gently.clone());
    let parting = tokio::spawn(async move {
        stopped.cancelled().await;
        agents.say_goodbye();
    });
    web::serve(listener, router, &config.server, &lanes, stop).await;
    signal.abort();
    measuring.abort();
    sweeping.abort();
    refreshing.abort();
    making_room.abort();
    syncing.abort();
    purging.abort();
    recording.abort();
    following.abort();
    alerting.abort();
    flowing.abort();
    telling.abort();
    parting.abort();
    drop(news);
    tracing::info!("stopping: calls are finished and the books closed");
    engines.close(Duration::from_secs(config.server.drain_seconds)).await;
    // Calls whose client has left live on the lanes until they are settled.
    drop(lanes);
    tracing::info!("stopped");
    Ok(())
}

/// Without room, commits are slower and no more.
async fn make_room(database: Database) {
    if let Err(error) = database.make_room().await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "the disk has no room for the write-ahead log");
    }
}

async fn purge(gateway: gateway::Gateway, admin: admin::Admin) {
    let mut turn = tokio::time::interval(PURGE_EVERY);
    loop {
        turn.tick().await;
        let purged = gateway.purge_answers().await;
        if let Err(error) = purged.and(admin.purge_outcomes().await) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "old answers cannot be deleted"
            );
        }
    }
}

/// The first signal stops gently, a second one at once.
async fn stop_on_signal(stop: web::Stop) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for how in [&stop.gently, &stop.at_once] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        how.cancel();
    }
    Ok(())
}

/// Without any administrator, a first key is made and left in the data folder.
async fn ensure_admin(identity: &Identity, folder: &DataFolder) -> anyhow::Result<()> {
    if identity.has_admin_key().await? {
        return Ok(());
    }
    let file = folder.file("admin.key");
    let created = identity
        .create_key(NewKey::new(PLATFORM.into(), "first administrator", Role::Admin))
        .await?;
    if let Err(error) = dev::write_private(&file, created.api_key.expose()) {
        bail!("the first administrator's key cannot be written to {}: {error}", file.display());
    }
    tracing::warn!(file = %file.display(), "the first administrator's key is in this file: keep it elsewhere, and delete it");
    Ok(())
}
