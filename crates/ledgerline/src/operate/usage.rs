//! `ledgerline usage`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::server::{Part, Server, given, path};
use super::show::{Column, number, table, text};
use super::time::Period;
use crate::cli::say;

const COLUMNS: &[Column] = &[
    text("CHARGE", "id"),
    text("ENDED", "ended_at"),
    text("ORG", "org_id"),
    text("MODEL", "model"),
    text("STATUS", "status"),
    text("ERROR", "error_code"),
    number("INPUT", "input_tokens"),
    number("OUTPUT", "output_tokens"),
    number("COST", "cost"),
    text("CURRENCY", "currency"),
];
/// What a report tells apart, and the column that says it.
const BY: [(&str, Column); 8] = [
    ("hour", text("HOUR", "starts_at")),
    ("day", text("DAY", "day")),
    ("model", text("MODEL", "model")),
    ("provider", text("PROVIDER", "provider")),
    ("org", text("ORG", "org_id")),
    ("user", text("USER", "user_id")),
    ("app", text("APP", "app_id")),
    ("key", text("KEY", "key_id")),
];
const SUMS: &[Column] = &[
    number("CALLS", "calls"),
    number("FAILED", "failed"),
    number("INPUT", "input_tokens"),
    number("CACHED", "cached_input_tokens"),
    number("OUTPUT", "output_tokens"),
    number("COST", "cost"),
    text("CURRENCY", "currency"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List calls that ended, newest first
    #[command(
        after_help = "Examples:\n  ledgerline usage search --org ORG --model sim-small --limit 20\n  \
        ledgerline usage search --request REQUEST_ID --json\n\n\
        To look for a user, an application or a key, name the organization. How a charge came about:\n\
        `ledgerline price explain CHARGE`."
    )]
    Search {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        more: More,
        #[command(flatten)]
        period: Period,
        #[command(flatten)]
        part: Part,
    },
    /// Show a call, also one that still runs
    #[command(after_help = "Examples:\n  ledgerline usage show CHARGE\n  \
        ledgerline usage show CHARGE --json")]
    Show {
        /// The call's charge id, which its answer has as x-ledgerline-charge-id
        id: String,
    },
    /// Add calls up: of a period, or of the last 30 days
    #[command(after_help = "Examples:\n  ledgerline usage sum --month 2026-11 --by org,day\n  \
        ledgerline usage sum --org ORG --by day,model --from 2026-11-01\n\n\
        Organizations, and providers within one, are told apart by day at most; users, applications and\n\
        keys within an organization.")]
    Sum {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        period: Period,
        /// What to tell apart: hour or day, model, provider, org, user, app, key
        #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = BY.map(|(name, _)| name))]
        by: Vec<String>,
    },
    /// Write the calls of a period as CSV, newest first
    #[command(
        after_help = "Examples:\n  ledgerline usage export --org ORG --month 2026-11 --output november.csv\n  \
        ledgerline usage export --from 2026-11-20 --to 2026-11-21 > day.csv"
    )]
    Export {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        more: More,
        #[command(flatten)]
        period: Period,
        /// Write it to this file
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Whose calls, and of what.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Of {
    /// Only this organization's
    #[arg(long, value_name = "ORG")]
    #[serde(rename = "org_id")]
    org: Option<String>,
    /// Only this user's
    #[arg(long, value_name = "USER")]
    #[serde(rename = "user_id")]
    user: Option<String>,
    /// Only this application's
    #[arg(long, value_name = "APP")]
    #[serde(rename = "app_id")]
    app: Option<String>,
    /// Only those with this API key
    #[arg(long, value_name = "KEY")]
    #[serde(rename = "key_id")]
    key: Option<String>,
    /// Only those of this model
    #[arg(long)]
    model: Option<String>,
    /// Only those that this provider answered
    #[arg(long)]
    provider: Option<String>,
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct More {
    /// Only those that stand so
    #[arg(long, value_parser = ["settled", "released"])]
    status: Option<String>,
    /// Only those that failed with this code
    #[arg(long, value_name = "CODE")]
    #[serde(rename = "error_code")]
    error: Option<String>,
    /// Only that of this request
    #[arg(long, value_name = "REQUEST_ID")]
    #[serde(rename = "request_id")]
    request: Option<String>,
}

/// All that calls are narrowed by.
async fn query(
    (of, more): (&Of, Option<&More>),
    period: &Period,
    server: &Server,
) -> anyhow::Result<Map<String, Value>> {
    let mut query = given(of)?;
    if let Some(more) = more {
        query.extend(given(more)?);
    }
    query.extend(given(&period.bounds(server, of.org.as_deref()).await?)?);
    Ok(query)
}

pub(crate) async fn run(command: Command, server: &Server) -> anyhow::Result<()> {
    match command {
        Command::Search { of, more, period, part } => {
            let query = query((&of, Some(&more)), &period, server).await?;
            server.list("/admin/usage", &query, part, COLUMNS).await
        }
        Command::Show { id } => {
            server.show(&path(&["admin", "usage", &id]), &json!({}), COLUMNS).await
        }
        Command::Sum { of, period, by } => {
            let mut query = query((&of, None), &period, server).await?;
            query.extend(period.time_zone().map(|zone| ("time_zone".to_owned(), json!(zone))));
            if !by.is_empty() {
                query.insert("group_by".to_owned(), json!(by.join(",")));
            }
            let report = server.get("/admin/usage/summary", &query).await?;
            show_sums(&report, &by, server)
        }
        Command::Export { of, more, period, output } => {
            let query = query((&of, Some(&more)), &period, server).await?;
            server.download("/admin/usage/export", &query, output.as_deref()).await
        }
    }
}

/// A report; for people, with what its rows add up to below them.
fn show_sums(report: &str, by: &[String], server: &Server) -> anyhow::Result<()> {
    let told_apart = BY.iter().filter(|(name, _)| by.iter().any(|given| given == name));
    let columns: Vec<Column> =
        told_apart.map(|(_, column)| *column).chain(SUMS.iter().copied()).collect();
    if !server.how.is_for_people() || by.is_empty() {
        return server.how.show(report, &columns);
    }
    let report: Value = serde_json::from_str(report)?;
    let list = |name| report.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    say(&table(&list("rows"), &columns))?;
    say(&format!("\nTotal\n{}", table(&list("totals"), SUMS)))
}
