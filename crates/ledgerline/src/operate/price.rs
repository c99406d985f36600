//! `ledgerline price`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use kernel::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::server::{Edit, Once, Part, Server, given, path};
use super::show::{Column, number, table, text};
use super::time::{Period, future};
use crate::cli::say;

const VERSIONS: &[Column] = &[
    text("ID", "id"),
    text("NAME", "name"),
    text("STATE", "state"),
    text("CREATED", "created_at"),
    text("BY KEY", "created_by"),
    text("MODELS", "models"),
];
const VALID: &[Column] = &[text("ID", "id"), text("MODELS", "models")];
const SIMULATED: &[Column] = &[
    text("ORG", "org_id"),
    text("MODEL", "model"),
    number("CALLS", "calls"),
    number("UNPRICED", "unpriced"),
    number("COST", "cost_before"),
    number("WOULD COST", "cost_after"),
    number("DIFFERENCE", "difference"),
    text("CURRENCY", "currency"),
];
const ACTIVATIONS: &[Column] = &[
    number("REVISION", "revision"),
    text("VERSION", "version_id"),
    text("STARTS", "starts_at"),
    text("BY KEY", "created_by"),
    text("CANCELLED", "cancelled_at"),
];
const TERMS: &[Column] = &[text("PLAN", "plan"), text("DISTRIBUTOR", "distributor_id")];
const CHARGE: &[Column] = &[
    text("CHARGE", "id"),
    text("MODEL", "model"),
    text("PRICE VERSION", "price_id"),
    text("ADMITTED", "admitted_at"),
    number("CHARGED", "charged"),
    text("CURRENCY", "currency"),
];
const LINES: &[Column] = &[
    text("WHAT", "what"),
    text("CLASS", "class"),
    number("RULE", "rule"),
    number("UNITS", "units"),
    number("PRICE", "price"),
    number("PER", "per"),
    number("PERCENT", "percent"),
    number("AMOUNT", "amount"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a price file: all its mistakes at once
    #[command(after_help = "Example:\n  ledgerline price validate prices.yaml")]
    Validate {
        /// The price file, YAML or JSON; - for what comes in
        file: PathBuf,
    },
    /// Record a price file as a version, which counts for nothing until it is activated
    #[command(after_help = "Example:\n  VERSION=$(ledgerline price record prices.yaml --get id)")]
    Record {
        /// The price file, YAML or JSON; - for what comes in
        file: PathBuf,
        #[command(flatten)]
        once: Once,
    },
    /// Try a version on calls of the past: what they cost and would have cost
    #[command(after_help = "Example:\n  ledgerline price simulate VERSION --month 2026-10\n\n\
        Of very many calls it takes a while: --timeout.")]
    Simulate {
        /// The version's id
        version: String,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        period: Period,
    },
    /// Let a version count, at once or from a time on
    #[command(after_help = "Examples:\n  ledgerline price activate VERSION\n  \
        ledgerline price activate VERSION --starts 2026-12-01T00:00:00+08:00")]
    Activate {
        /// The version's id
        version: String,
        #[command(flatten)]
        start: Start,
    },
    /// Go back to the prices of the configuration, at once or from a time on
    #[command(after_help = "Example:\n  ledgerline price deactivate")]
    Deactivate(Start),
    /// List the activations, the last made first
    #[command(after_help = "Example:\n  ledgerline price activations")]
    Activations {
        #[command(flatten)]
        part: Part,
    },
    /// Cancel an activation that has not started
    #[command(after_help = "Example:\n  ledgerline price cancel 7")]
    Cancel {
        /// Its revision
        revision: i64,
    },
    /// List the price versions, the last recorded first
    #[command(after_help = "Example:\n  ledgerline price list --all")]
    List {
        #[command(flatten)]
        part: Part,
    },
    /// Show a price version and its file
    #[command(after_help = "Examples:\n  ledgerline price show VERSION\n  \
        ledgerline price show VERSION --file > prices.yaml")]
    Show {
        /// The version's id
        version: String,
        /// Only the file
        #[arg(long)]
        file: bool,
        /// In the form of the system that this one grew out of
        #[arg(long, requires = "file")]
        original: bool,
    },
    /// Show, line by line, how a charge came about
    #[command(after_help = "Example:\n  ledgerline price explain CHARGE")]
    Explain {
        /// The call's charge id
        charge: String,
    },
    /// Show or set the plan and the distributor that an organization's prices depend on
    #[command(after_help = "Examples:\n  ledgerline price terms ORG\n  \
        ledgerline price terms ORG --plan gold\n  ledgerline price terms ORG --none")]
    Terms {
        /// The organization's id
        org: String,
        #[command(flatten)]
        terms: NewTerms,
        /// Take plan and distributor away
        #[arg(long, conflicts_with_all = ["plan", "distributor"])]
        none: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    /// When: an instant to come, or so long from now; at once when absent
    #[arg(long, value_name = "TIME", value_parser = future)]
    starts: Option<Timestamp>,
    #[command(flatten)]
    once: Once,
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct Of {
    /// Only this organization's calls
    #[arg(long, value_name = "ORG")]
    #[serde(rename = "org_id")]
    org: Option<String>,
    /// Only calls of this model
    #[arg(long)]
    model: Option<String>,
}

/// Both are set together: what is not given is taken away.
#[derive(Debug, Args, Serialize)]
pub(crate) struct NewTerms {
    /// The plan it is on, as price files name it; without it, none
    #[arg(long)]
    plan: Option<String>,
    /// The distributor it buys from, as price files name it; without it, none
    #[arg(long)]
    #[serde(rename = "distributor_id")]
    distributor: Option<String>,
}

pub(crate) async fn run(command: Command, server: &Server) -> anyhow::Result<()> {
    let versions = path(&["admin", "prices"]);
    let activations = path(&["admin", "prices", "activations"]);
    match command {
        Command::Validate { file } => {
            let valid = server.post("/admin/prices/validate", read(&file)?).await?;
            server.how.show(&valid, VALID)
        }
        Command::Record { file, once } => {
            let made = server.post_once(&versions, read(&file)?, Edit::default(), &once).await?;
            show_version(&made, server)
        }
        Command::Simulate { version, of, period } => simulate(&version, &of, &period, server).await,
        Command::Activate { version, start } => {
            let body = json!({"version_id": version, "starts_at": start.starts});
            server.create(&activations, body, &start.once, ACTIVATIONS).await
        }
        Command::Deactivate(start) => {
            let body = json!({"version_id": null, "starts_at": start.starts});
            server.create(&activations, body, &start.once, ACTIVATIONS).await
        }
        Command::Activations { part } => {
            server.list(&activations, &json!({}), part, ACTIVATIONS).await
        }
        Command::Cancel { revision } => {
            let at = path(&["admin", "prices", "activations", &revision.to_string()]);
            server.delete(&at, Edit::default(), ACTIVATIONS).await
        }
        Command::List { part } => server.list(&versions, &json!({}), part, VERSIONS).await,
        Command::Show { version, file, original } => show(&version, (file, original), server).await,
        Command::Explain { charge } => explain(&charge, server).await,
        Command::Terms { org, terms, none } => {
            let (at, given) = (path(&["admin", "orgs", &org, "price-terms"]), given(&terms)?);
            if given.is_empty() && !none {
                return server.show(&at, &json!({}), TERMS).await;
            }
            server.put(&at, given, TERMS).await
        }
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes)?;
        return Ok(bytes);
    }
    std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}

/// A version; for people without its file.
fn show_version(version: &str, server: &Server) -> anyhow::Result<()> {
    if !server.how.is_for_people() {
        return server.how.show(version, VERSIONS);
    }
    let mut version: Value = serde_json::from_str(version)?;
    if let Some(members) = version.as_object_mut() {
        members.remove("file");
    }
    server.how.show(&version.to_string(), VERSIONS)
}

async fn show(version: &str, form: (bool, bool), server: &Server) -> anyhow::Result<()> {
    let at = path(&["admin", "prices", version]);
    let (only_file, original) = form;
    let format = json!({"format": if original { "original" } else { "yaml" }});
    if !only_file {
        show_version(&server.get(&at, &json!({})).await?, server)?;
        if !server.how.is_for_people() {
            return Ok(());
        }
        say("")?;
    }
    say(server.get(&format!("{at}/file"), &format).await?.trim_end())
}

async fn simulate(version: &str, of: &Of, period: &Period, server: &Server) -> anyhow::Result<()> {
    let bounds = period.whole(server, of.org.as_deref()).await?;
    let mut body = given(of)?;
    body.extend(given(&bounds)?);
    let at = path(&["admin", "prices", version, "simulate"]);
    let simulated = server.post(&at, serde_json::to_vec(&body)?).await?;
    server.how.show(&simulated, SIMULATED)
}

/// A charge; for people as a table of its lines.
async fn explain(charge: &str, server: &Server) -> anyhow::Result<()> {
    let at = path(&["admin", "usage", charge, "explain"]);
    let explained = server.get(&at, &json!({})).await?;
    if !server.how.is_for_people() {
        return server.how.show(&explained, CHARGE);
    }
    let explained: Value = serde_json::from_str(&explained)?;
    say(&table(std::slice::from_ref(&explained), CHARGE))?;
    let lines = explained.get("lines").and_then(Value::as_array);
    say(&format!("\n{}", table(lines.map(Vec::as_slice).unwrap_or_default(), LINES)))
}
