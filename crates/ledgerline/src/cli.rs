//! The commands.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Sources};
use crate::operate::{self, Operate};
use crate::{app, customer, serve, simulate, verify};

/// A self-hosted backend for selling AI: every call is priced, held, run, settled once and recorded.
#[derive(Debug, Parser)]
#[command(
    name = "ledgerline",
    version,
    after_help = "Examples:\n  \
    ledgerline serve --dev                 try it: a demo on http://127.0.0.1:8000\n  \
    ledgerline serve --config my.yaml      run it\n  \
    ledgerline org create Acme             look after it: docs/operator.md\n  \
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
    /// Make anew what follows from the rest: sums over usage records, if `verify` finds that they do not
    /// fit, and the files of sessions and their history
    #[command(after_help = "Example:\n  ledgerline rebuild --data ./data")]
    Rebuild(Place),
    /// Bring the database's schema up to date
    #[command(after_help = "Example:\n  ledgerline migrate --config my.yaml")]
    Migrate(Place),
    /// Look at the configuration
    #[command(after_help = "Example:\n  ledgerline config check --config my.yaml")]
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Show a customer's balance (from a running server)
    #[command(
        after_help = "Example:\n  LEDGERLINE_API_KEY=… ledgerline balance --server http://127.0.0.1:8000"
    )]
    Balance(customer::BalanceArgs),
    /// Post or list a customer's accounting records (on a running server)
    #[command(after_help = "Example:\n  ledgerline accounting list --user u1")]
    Accounting {
        #[command(subcommand)]
        command: customer::AccountingCommand,
    },
    /// List a customer's users (from a running server)
    #[command(after_help = "Example:\n  ledgerline users --rows 100")]
    Users(customer::ListArgs),
    /// List the prices in force (from a running server)
    #[command(after_help = "Example:\n  ledgerline pricing --page 2")]
    Pricing(customer::ListArgs),
    #[command(flatten)]
    Operate(Box<Operate>),
    /// Take over flows of other systems
    #[command(after_help = "Example:\n  ledgerline flow import support.yml > support.flow.json")]
    Flow {
        #[command(subcommand)]
        command: FlowCommand,
    },
    /// Print the API's description (OpenAPI)
    #[command(after_help = "Example:\n  ledgerline openapi > openapi.json")]
    Openapi,
}

#[derive(Debug, Subcommand)]
enum FlowCommand {
    /// Turn a flow of Dify (DSL) or LangGraph (graph JSON) into a definition; exits 0 if it can run
    #[command(after_help = "Example:\n  ledgerline flow import support.yml > support.flow.json")]
    Import {
        /// The file; - for standard input
        file: PathBuf,
    },
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
            Command::Rebuild(place) => rebuild(&place).await.map(|()| ExitCode::SUCCESS),
            Command::Migrate(place) => migrate(&place).await.map(|()| ExitCode::SUCCESS),
            Command::Config { command: ConfigCommand::Check(place) } => {
                let config = place.load(None)?;
                app::check(&config)?;
                say(&config.effective()?)?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Balance(args) => customer::balance(args).await.map(|()| ExitCode::SUCCESS),
            Command::Accounting { command } => {
                customer::accounting(command).await.map(|()| ExitCode::SUCCESS)
            }
            Command::Users(args) => customer::users(args).await.map(|()| ExitCode::SUCCESS),
            Command::Pricing(args) => customer::pricing(args).await.map(|()| ExitCode::SUCCESS),
            Command::Operate(what) => operate::run(*what).await.map(|()| ExitCode::SUCCESS),
            Command::Flow { command: FlowCommand::Import { file } } => import(&file),
            Command::Openapi => {
                say(&app::document().to_pretty_json()?)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// The definition goes to standard output, what was not taken over and what is wrong to standard
/// error.
fn import(file: &Path) -> anyhow::Result<ExitCode> {
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).context("standard input cannot be read")?
    } else {
        std::fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read", file.display()))?
    };
    let imported = flow::import(&text).map_err(anyhow::Error::msg)?;
    let compiled = flow::compile(&imported.definition, &flow::Surroundings::default());
    let mut report = std::io::stderr().lock();
    for note in &imported.notes {
        writeln!(report, "{}: {}", note.at, note.message)?;
    }
    for finding in &compiled.findings {
        writeln!(report, "{finding}")?;
    }
    say(&imported.definition)?;
    Ok(if compiled.program.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

async fn rebuild(place: &Place) -> anyhow::Result<()> {
    let app = app::App::open(&place.load(None)?).await?;
    let done = app.engines.metering.rebuild_rollups().await;
    let told = app.engines.agents.rebuild_mirror().await;
    app.engines.close(Duration::ZERO).await;
    done?;
    told?;
    say("done")
}

/// Writes a line for the user.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}
