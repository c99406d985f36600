//! `ledgerline org`

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::server::{Once, Part, Server, path};
use super::show::{Column, number, text};

const KINDS: [&str; 4] = ["customer", "distributor", "provider", "platform"];
const COLUMNS: &[Column] = &[
    text("ID", "id"),
    text("NAME", "name"),
    text("KIND", "kind"),
    text("DISABLED", "disabled"),
    text("CREATED", "created_at"),
    number("VERSION", "version"),
];

thing_commands!("org", "an organization", "orgs");

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an organization
    #[command(after_help = "Examples:\n  ledgerline org create Acme\n  \
        ORG=$(ledgerline org create 'North Wind' --kind distributor --get id)")]
    Create {
        /// Its name, 1 to 200 characters
        name: String,
        /// What it is
        #[arg(long, value_parser = KINDS, default_value = "customer")]
        kind: String,
        #[command(flatten)]
        once: Once,
    },
    /// List the organizations
    #[command(after_help = "Examples:\n  ledgerline org list\n  \
        ledgerline org list --kind customer --name acme --all --json")]
    List {
        #[command(flatten)]
        query: Query,
        #[command(flatten)]
        part: Part,
    },
    #[command(flatten)]
    Thing(Thing),
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct Query {
    /// Only of this kind
    #[arg(long, value_parser = KINDS)]
    kind: Option<String>,
    /// Only what has this in its name
    #[arg(long)]
    name: Option<String>,
    /// Only what is disabled, or what is not
    #[arg(long, value_name = "true|false")]
    disabled: Option<bool>,
}

pub(crate) async fn run(command: Command, server: &Server) -> anyhow::Result<()> {
    let all = path(&["admin", "orgs"]);
    match command {
        Command::Create { name, kind, once } => {
            server.create(&all, json!({"name": name, "kind": kind}), &once, COLUMNS).await
        }
        Command::List { query, part } => server.list(&all, &query, part, COLUMNS).await,
        Command::Thing(thing) => thing.run(server, COLUMNS).await,
    }
}
