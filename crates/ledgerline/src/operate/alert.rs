//! `ledgerline alert`

use clap::{Args, Subcommand};
use kernel::Amount;
use serde::Serialize;
use serde_json::json;

use super::server::{Edit, Once, Part, Server, given, path};
use super::show::{Column, note, number, text};
use crate::failure::usage;

const COLUMNS: &[Column] = &[
    text("ID", "id"),
    text("ORG", "org_id"),
    number("AMOUNT", "amount"),
    text("CURRENCY", "currency"),
    text("LOW", "low"),
    text("URL", "url"),
    number("VERSION", "version"),
];
const CREATED: &[Column] =
    &[text("ID", "id"), number("AMOUNT", "amount"), text("URL", "url"), text("SECRET", "secret")];
const DELIVERIES: &[Column] = &[
    text("ID", "id"),
    text("ALERT", "alert_id"),
    text("STATE", "state"),
    number("ATTEMPTS", "attempts"),
    number("STATUS", "last_status"),
    text("ERROR", "last_error"),
    text("CREATED", "created_at"),
    text("NEXT", "next_at"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an alert; the secret that its webhooks are signed with is shown this once
    #[command(
        after_help = "Examples:\n  ledgerline alert create ORG 10 https://example.com/hook\n  \
        read -r ID SECRET < <(ledgerline alert create ORG 10 https://example.com/hook --get id,secret)"
    )]
    Create {
        /// The organization's id
        org: String,
        /// Told when the wallet has so much or less
        amount: Amount,
        /// Told there, by POST
        url: String,
        /// Of the amount
        #[arg(long, default_value = "CNY")]
        currency: String,
        #[command(flatten)]
        once: Once,
    },
    /// List an organization's alerts
    #[command(after_help = "Example:\n  ledgerline alert list ORG")]
    List {
        /// The organization's id
        org: String,
        #[command(flatten)]
        part: Part,
    },
    /// Show an alert, without its secret
    #[command(after_help = "Example:\n  ledgerline alert show ORG ID")]
    Show(Which),
    /// Set an alert's amount or URL; with another amount it counts as not told yet
    #[command(after_help = "Examples:\n  ledgerline alert set ORG ID --amount 25\n  \
        ledgerline alert set ORG ID --url https://example.com/other --if-version 2")]
    Set {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        edit: Edit,
    },
    /// Delete an alert: what it still had to tell is given up
    #[command(after_help = "Example:\n  ledgerline alert delete ORG ID")]
    Delete {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        edit: Edit,
    },
    /// List what was told of an organization's alerts, newest first
    #[command(after_help = "Examples:\n  ledgerline alert deliveries ORG\n  \
        ledgerline alert deliveries ORG --state failed --all")]
    Deliveries {
        /// The organization's id
        org: String,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        part: Part,
    },
    /// Send a webhook again, at once and under its own id
    #[command(after_help = "Example:\n  ledgerline alert redeliver ORG DELIVERY")]
    Redeliver {
        /// The organization's id
        org: String,
        /// The delivery's id
        delivery: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The organization's id
    org: String,
    /// The alert's id
    id: String,
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct Change {
    /// Told when the wallet has so much or less from now on
    #[arg(long)]
    amount: Option<Amount>,
    /// Told there from now on, what waits included
    #[arg(long)]
    url: Option<String>,
}

/// Which deliveries.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Of {
    /// Only those of this alert
    #[arg(long, value_name = "ID")]
    #[serde(rename = "alert_id")]
    alert: Option<String>,
    /// Only those of which this became
    #[arg(long, value_parser = ["waiting", "delivered", "failed"])]
    state: Option<String>,
}

impl Which {
    fn path(&self) -> String {
        path(&["admin", "orgs", &self.org, "alerts", &self.id])
    }
}

pub(crate) async fn run(command: Command, server: &Server) -> anyhow::Result<()> {
    let alerts = |org: &str| path(&["admin", "orgs", org, "alerts"]);
    match command {
        Command::Create { org, amount, url, currency, once } => {
            let new = json!({"currency": currency, "amount": amount, "url": url});
            server.create(&alerts(&org), new, &once, CREATED).await?;
            note("the secret is not shown again");
            Ok(())
        }
        Command::List { org, part } => server.list(&alerts(&org), &json!({}), part, COLUMNS).await,
        Command::Show(which) => server.show(&which.path(), &json!({}), COLUMNS).await,
        Command::Set { which, change, edit } => {
            let change = given(&change)?;
            if change.is_empty() {
                return Err(usage("nothing to change: give --amount or --url"));
            }
            server.change(&which.path(), change, edit, COLUMNS).await
        }
        Command::Delete { which, edit } => server.delete(&which.path(), edit, COLUMNS).await,
        Command::Deliveries { org, of, part } => {
            server.list(&format!("{}/deliveries", alerts(&org)), &of, part, DELIVERIES).await
        }
        Command::Redeliver { org, delivery } => {
            let at = path(&["admin", "orgs", &org, "alerts", "deliveries", &delivery, "redeliver"]);
            server.how.show(&server.post(&at, Vec::new()).await?, DELIVERIES)
        }
    }
}
