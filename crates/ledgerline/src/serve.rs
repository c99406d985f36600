//! `ledgerline serve`

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use identity::{Identity, NewKey, PLATFORM, Role};
use store::DataFolder;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::cli::Place;
use crate::config::Config;
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
    for key in config.without_effect() {
        tracing::warn!(key, "this setting has no effect in this version");
    }
    let app = App::open(&config).await?;
    let address = config.server.listen;
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
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
    let stop = CancellationToken::new();
    let signal = tokio::spawn(stop_on_signal(stop.clone()));
    let App { router, sweeper, engines } = app;
    let sweeping = tokio::spawn(sweeper.run());
    let purging = tokio::spawn(purge(engines.gateway.clone()));
    let recording = tokio::spawn(engines.identity.clone().keep_recording_uses());
    web::serve(listener, router, &config.server, stop).await;
    signal.abort();
    sweeping.abort();
    purging.abort();
    recording.abort();
    tracing::info!("stopping: calls are finished and the books closed");
    engines.close(Duration::from_secs(config.server.drain_seconds)).await;
    tracing::info!("stopped");
    Ok(())
}

async fn purge(gateway: gateway::Gateway) {
    let mut turn = tokio::time::interval(PURGE_EVERY);
    loop {
        turn.tick().await;
        if let Err(error) = gateway.purge_answers().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "old answers cannot be deleted"
            );
        }
    }
}

/// The first signal stops gently; a second one, or the end of the drain time, at once.
async fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    Ok(())
}

/// Without any administrator, a first key is made and left in the data folder.
async fn ensure_admin(identity: &Identity, folder: &DataFolder) -> anyhow::Result<()> {
    if identity.has_admin_key().await? {
        return Ok(());
    }
    let file = folder.file("admin.key");
    let created = identity
        .create_key(NewKey {
            org_id: PLATFORM.into(),
            user_id: None,
            app_id: None,
            name: "first administrator".to_owned(),
            role: Role::Admin,
            expires_at: None,
        })
        .await?;
    if let Err(error) = dev::write_private(&file, created.api_key.expose()) {
        bail!("the first administrator's key cannot be written to {}: {error}", file.display());
    }
    tracing::warn!(file = %file.display(), "the first administrator's key is in this file: keep it elsewhere, and delete it");
    Ok(())
}
