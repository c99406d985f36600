//! The commands.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Sources};
use crate::{app, serve, simulate, verify};

/// A self-hosted backend for selling AI: every call is priced, held, run, settled once and recorded.
#[derive(Debug, Parser)]
#[command(
    name = "ledgerline",
    version,
    after_help = "Examples:\n  \
    ledgerline serve --dev                 try it: a demo on http://127.0.0.1:8000\n  \
    ledgerline serve --config my.yaml      run it\n  \
    ledgerline verify --data ./data        check every book entry"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    #[command(after_help = "Examples:\n  ledgerline serve --dev\n  \
        ledgerline serve --config config/ledgerline.yaml --listen 0.0.0.0:8000")]
    Serve(serve::ServeArgs),
    /// Run a simulated model provider (OpenAI-compatible, offline)
    #[command(after_help = "Examples:\n  ledgerline simulate\n  \
        ledgerline simulate --listen 127.0.0.1:9100 --delay-ms 200 --interval-ms 20 --fail-rate 0.1")]
    Simulate(simulate::SimulateArgs),
    /// Check every entry of the books; exits 0 only if everything fits
    #[command(
        after_help = "Examples:\n  ledgerline verify --data ./data\n  ledgerline verify --config my.yaml --json"
    )]
    Verify(verify::VerifyArgs),
    /// Bring the database's schema up to date
    #[command(after_help = "Example:\n  ledgerline migrate --config my.yaml")]
    Migrate(Place),
    /// Look at the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the API's description (OpenAPI)
    #[command(after_help = "Example:\n  ledgerline openapi > openapi.json")]
    Openapi,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check the configuration and print what is in force, secrets masked
    #[command(after_help = "Example:\n  ledgerline config check --config my.yaml")]
    Check(Place),
}

/// Where the configuration and the data are.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The data folder [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

impl Place {
    /// The configuration in force.
    pub(crate) fn load(&self, listen: Option<SocketAddr>) -> anyhow::Result<Config> {
        let mut config = Config::load(&Sources::from_process(self.config.as_deref())?)?;
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        if let Some(listen) = listen {
            config.server.listen = listen;
        }
        Ok(config)
    }
}

impl Cli {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(args) => serve::run(args).await.map(|()| ExitCode::SUCCESS),
            Command::Simulate(args) => simulate::run(args).await.map(|()| ExitCode::SUCCESS),
            Command::Verify(args) => verify::run(args).await,
            Command::Migrate(place) => migrate(&place).await.map(|()| ExitCode::SUCCESS),
            Command::Config { command: ConfigCommand::Check(place) } => {
                let config = place.load(None)?;
                app::check(&config)?;
                say(&config.effective()?)?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Openapi => {
                say(&app::document().to_pretty_json()?)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

async fn migrate(place: &Place) -> anyhow::Result<()> {
    let config = place.load(None)?;
    let folder = store::DataFolder::open(&config.data)?;
    let database = store::Database::open(&config.database.url, folder.path()).await?;
    let made = database.migrate(&app::migrations()).await?;
    if made.is_empty() {
        return say("the schema is up to date");
    }
    say(&format!("done: {}", made.join(", ")))
}

/// Writes a line for the user.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Tells what went wrong, with its causes.
pub(crate) fn complain(error: &anyhow::Error) {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    // Nobody is left to tell when this fails.
    drop(writeln!(std::io::stderr(), "ledgerline: {}", causes.join(": ")));
}
