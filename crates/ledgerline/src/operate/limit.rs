//! `ledgerline limit`

use clap::{Args, Subcommand};
use kernel::Zone;
use serde_json::{Value, json};

use super::server::{Part, Server, path};
use super::show::{Column, number, text};
use super::time::zone_of;
use crate::cli::say;
use crate::failure::usage;

const SPEND: &str = "spend";
const DEFAULT_CURRENCY: &str = "CNY";
const MEASURES: [&str; 4] = ["requests", "tokens", SPEND, "concurrency"];
const COLUMNS: &[Column] = &[
    text("OF", "scope"),
    text("SUBJECT", "subject"),
    text("MEASURE", "measure"),
    text("PER", "per"),
    text("CURRENCY", "currency"),
    number("LIMIT", "limit"),
    number("USED", "used"),
    text("RESETS", "resets_at"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show an organization's limits, its users' and its keys', and how much of each is used
    #[command(
        after_help = "Examples:\n  ledgerline limit show ORG\n  ledgerline limit show ORG --all"
    )]
    Show {
        /// The organization's id
        org: String,
        #[command(flatten)]
        part: Part,
    },
    /// Set a limit: it counts for calls from then on
    #[command(
        after_help = "Examples:\n  ledgerline limit set ORG requests 60 --per minute --key KEY\n  \
        ledgerline limit set ORG spend 50 --per day\n  ledgerline limit set ORG concurrency 8 --user USER"
    )]
    Set {
        #[command(flatten)]
        which: Which,
        /// The most: a whole number, or a decimal of money; 0 forbids all calls
        #[arg(value_name = "LIMIT")]
        most: String,
    },
    /// Take a limit away
    #[command(
        after_help = "Example:\n  ledgerline limit remove ORG requests --per minute --key KEY"
    )]
    Remove {
        #[command(flatten)]
        which: Which,
    },
    /// Show or set where an organization's days and months begin
    #[command(after_help = "Examples:\n  ledgerline limit zone ORG\n  \
        ledgerline limit zone ORG Asia/Shanghai")]
    Zone {
        /// The organization's id
        org: String,
        /// The time zone from now on; windows that have begun end as they were counted
        zone: Option<Zone>,
    },
}

/// A limit, apart from how much it is.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The organization's id
    org: String,
    /// What is bounded
    #[arg(value_parser = MEASURES)]
    measure: String,
    /// Over which window; all but concurrency have one
    #[arg(long, value_parser = ["minute", "day", "month"])]
    per: Option<String>,
    /// Of this API key alone
    #[arg(long, value_name = "KEY", conflicts_with = "user")]
    key: Option<String>,
    /// Of this user alone, whatever keys it has
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Of money [default: CNY]
    #[arg(long)]
    currency: Option<String>,
}

impl Which {
    fn with(self, most: &Value) -> Value {
        let (scope, subject) = match (self.key, self.user) {
            (Some(key), _) => ("key", Some(key)),
            (None, Some(user)) => ("user", Some(user)),
            (None, None) => ("org", None),
        };
        let money = || (self.measure == SPEND).then(|| DEFAULT_CURRENCY.to_owned());
        json!({
            "scope": scope, "subject": subject, "measure": self.measure, "per": self.per,
            "currency": self.currency.clone().or_else(money), "limit": most,
        })
    }

    /// The limit as the server takes it: money as text, everything else as a number.
    fn most(&self, text: &str) -> anyhow::Result<Value> {
        if self.measure == SPEND {
            return Ok(json!(text));
        }
        let number: i64 = text.parse().map_err(|_cause| {
            usage(format!("{text:?} is no whole number: {} are counted", self.measure))
        })?;
        Ok(json!(number))
    }
}

pub(crate) async fn run(command: Command, server: &Server) -> anyhow::Result<()> {
    let limits = |org: &str| path(&["admin", "orgs", org, "limits"]);
    match command {
        Command::Show { org, part } => server.list(&limits(&org), &json!({}), part, COLUMNS).await,
        Command::Set { which, most } => {
            let (at, most) = (limits(&which.org), which.most(&most)?);
            server.put(&at, which.with(&most), COLUMNS).await
        }
        Command::Remove { which } => {
            let at = limits(&which.org);
            server.put(&at, which.with(&Value::Null), COLUMNS).await
        }
        Command::Zone { org, zone } => {
            if let Some(zone) = zone {
                let at = path(&["admin", "orgs", &org, "time_zone"]);
                server.put_silently(&at, json!({"time_zone": zone})).await?;
            }
            let zone = zone_of(server, &org).await?;
            if server.how.is_for_people() {
                return say(&zone.to_string());
            }
            server.how.show(&json!({"time_zone": zone}).to_string(), &[])
        }
    }
}
