//! `ledgerline model`

use clap::Subcommand;
use serde_json::json;

use super::server::{Server, path};
use super::show::{Column, number, text};

const COLUMNS: &[Column] = &[
    text("MODEL", "id"),
    text("CURRENCY", "price/currency"),
    number("INPUT", "price/input_per_million"),
    number("CACHED INPUT", "price/cached_input_per_million"),
    number("OUTPUT", "price/output_per_million"),
    text("PRICE VERSION", "price/id"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the models and what a million tokens cost; a price with more to it names its version only
    #[command(after_help = "Examples:\n  ledgerline model list\n  ledgerline model list --get id")]
    List,
    /// Show a model
    #[command(after_help = "Example:\n  ledgerline model show sim-small --json")]
    Show {
        /// Its name
        name: String,
    },
}

pub(crate) async fn run(command: Command, server: &Server) -> anyhow::Result<()> {
    match command {
        Command::List => server.show("/v1/models", &json!({}), COLUMNS).await,
        Command::Show { name } => {
            server.show(&path(&["v1", "models", &name]), &json!({}), COLUMNS).await
        }
    }
}
