//! `ledgerline provider`

use clap::Subcommand;
use serde_json::{Value, json};

use super::server::{Server, path};
use super::show::{Column, number, table, text};
use crate::cli::say;
use crate::failure::usage;

const COLUMNS: &[Column] = &[
    text("NAME", "name"),
    text("STATE", "state"),
    text("CONFIGURED", "configured_state"),
    number("RUNNING", "running"),
    number("MOST", "max_concurrency"),
    text("TROUBLE", "trouble"),
];
const ROUTES: &[Column] = &[
    text("MODEL", "model"),
    text("UPSTREAM MODEL", "upstream_model"),
    text("BREAKER", "breaker"),
    number("RESTS MS", "rests_ms"),
    number("FIRST BYTE MS", "first_byte_ms"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the providers, as the instance that answers sees them
    #[command(after_help = "Example:\n  ledgerline provider list")]
    List,
    /// Show a provider and the routes to it
    #[command(after_help = "Example:\n  ledgerline provider show NAME")]
    Show {
        /// Its name in the configuration
        name: String,
    },
    /// No new calls; those that run end by themselves
    #[command(after_help = "Example:\n  ledgerline provider drain NAME\n\n\
        RUNNING in `ledgerline provider list` says when the last one has ended.")]
    Drain {
        /// Its name in the configuration
        name: String,
    },
    /// Take a provider back into use
    #[command(after_help = "Example:\n  ledgerline provider enable NAME")]
    Enable {
        /// Its name in the configuration
        name: String,
    },
    /// No new calls, and streams that run are cut off at their next frame
    #[command(after_help = "Example:\n  ledgerline provider disable NAME")]
    Disable {
        /// Its name in the configuration
        name: String,
    },
}

pub(crate) async fn run(command: Command, server: &Server) -> anyhow::Result<()> {
    let (name, state) = match command {
        Command::List => return server.show("/admin/providers", &json!({}), COLUMNS).await,
        Command::Show { name } => return show(&name, server).await,
        Command::Drain { name } => (name, "draining"),
        Command::Enable { name } => (name, "active"),
        Command::Disable { name } => (name, "disabled"),
    };
    let at = path(&["admin", "providers", &name, "state"]);
    let changed = server.put_silently(&at, json!({"state": state})).await?;
    one(&serde_json::from_str(&changed)?, server)
}

async fn show(name: &str, server: &Server) -> anyhow::Result<()> {
    let all: Value = serde_json::from_str(&server.get("/admin/providers", &json!({})).await?)?;
    let rows = all.get("rows").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let found = rows.iter().find(|row| row.get("name").and_then(Value::as_str) == Some(name));
    let missing = || usage(format!("no provider is called {name:?}: `provider list` names them"));
    one(found.ok_or_else(missing)?, server)
}

/// A provider, and for people its routes below it.
fn one(provider: &Value, server: &Server) -> anyhow::Result<()> {
    if !server.how.is_for_people() {
        return server.how.show(&provider.to_string(), COLUMNS);
    }
    say(&table(std::slice::from_ref(provider), COLUMNS))?;
    let routes = provider.get("routes").and_then(Value::as_array);
    match routes.map(Vec::as_slice).unwrap_or_default() {
        [] => Ok(()),
        routes => say(&format!("\n{}", table(routes, ROUTES))),
    }
}
