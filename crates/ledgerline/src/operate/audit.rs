//! `ledgerline audit`

use clap::{Args, Subcommand};
use serde::Serialize;

use super::server::{Part, Server};
use super::show::{Column, text};

const COLUMNS: &[Column] = &[
    text("AT", "at"),
    text("ACTION", "action"),
    text("TARGET", "target_id"),
    text("TARGET'S ORG", "target_org_id"),
    text("BY KEY", "key_id"),
    text("FROM", "ip"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List what administrators did, newest first
    #[command(after_help = "Examples:\n  ledgerline audit list --org ORG --all\n  \
        ledgerline audit list --action key.create --since 2026-11-01T00:00:00Z\n  \
        ledgerline audit list --target KEY --json       how it was before and after")]
    List {
        #[command(flatten)]
        query: Query,
        #[command(flatten)]
        part: Part,
    },
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct Query {
    /// Such as key.create
    #[arg(long)]
    action: Option<String>,
    /// Only those done to what is this organization's
    #[arg(long, value_name = "ORG")]
    #[serde(rename = "org_id")]
    org: Option<String>,
    /// Only those done to what has this id
    #[arg(long, value_name = "ID")]
    #[serde(rename = "target_id")]
    target: Option<String>,
    /// Only those done with this API key
    #[arg(long, value_name = "KEY")]
    #[serde(rename = "key_id")]
    key: Option<String>,
    /// Only those done by this user
    #[arg(long, value_name = "USER")]
    #[serde(rename = "user_id")]
    user: Option<String>,
    /// Not before this instant
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this instant
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

pub(crate) async fn run(command: Command, server: &Server) -> anyhow::Result<()> {
    let Command::List { query, part } = command;
    server.list("/admin/audit", &query, part, COLUMNS).await
}
