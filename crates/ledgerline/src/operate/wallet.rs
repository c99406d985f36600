//! `ledgerline wallet`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kernel::{Amount, Timestamp};
use serde::Serialize;
use serde_json::json;

use super::server::{Once, Server, given, path};
use super::show::{Column, number, text};
use super::time::{Period, future};

const WALLET: &[Column] = &[
    text("CURRENCY", "currency"),
    number("POSTED", "posted"),
    number("HELD", "held"),
    number("AVAILABLE", "available"),
];
const MOVED: &[Column] = &[
    text("OPERATION", "id"),
    number("AMOUNT", "amount"),
    text("CURRENCY", "currency"),
    number("AVAILABLE", "available"),
];
const REVERSED: &[Column] = &[text("OPERATION", "id"), number("SEQ", "seq")];
const LOTS: &[Column] = &[
    number("LOT", "seq"),
    text("KIND", "kind"),
    number("PRIORITY", "priority"),
    text("EXPIRES", "expires_at"),
    number("GRANTED", "granted"),
    number("REMAINING", "remaining"),
];
const MOVEMENTS: &[Column] = &[
    text("OPERATION", "operation"),
    text("AT", "at"),
    text("WHAT", "what"),
    number("AMOUNT", "amount"),
    number("BALANCE", "balance"),
    text("MEMO", "memo"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show an organization's wallet
    #[command(after_help = "Example:\n  ledgerline wallet show ORG")]
    Show(Which),
    /// Give an organization money to spend
    #[command(after_help = "Examples:\n  ledgerline wallet grant ORG 100 --reason 'invoice 1'\n  \
        ledgerline wallet grant ORG 20 --kind promotional --expires 30d --reason welcome")]
    Grant(Grant),
    /// Correct a wallet, up or down
    #[command(after_help = "Example:\n  ledgerline wallet adjust ORG -2.5 --reason 'ticket 17'")]
    Adjust {
        /// The organization's id
        org: String,
        /// A decimal; below zero takes money away
        #[arg(allow_negative_numbers = true)]
        amount: Amount,
        /// Why, for the books
        #[arg(long)]
        reason: String,
        /// Of the amount
        #[arg(long, default_value = "CNY")]
        currency: String,
        #[command(flatten)]
        once: Once,
    },
    /// Move back what an operation moved; an operation is reversed once
    #[command(
        after_help = "Example:\n  ledgerline wallet reverse settle:CHARGE --reason 'ticket 17'\n\n\
        A statement names the operations."
    )]
    Reverse {
        /// The operation's id
        operation: String,
        /// Why, for the books
        #[arg(long)]
        reason: String,
    },
    /// List the lots of a wallet, in the order in which they are spent
    #[command(after_help = "Example:\n  ledgerline wallet lots ORG")]
    Lots(Which),
    /// Show or write the statement of a wallet: every movement of a period
    #[command(after_help = "Examples:\n  ledgerline wallet statement ORG --month 2026-11\n  \
        ledgerline wallet statement ORG --month 2026-11 --format csv --output november.csv")]
    Statement(Statement),
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct Which {
    /// The organization's id
    #[serde(skip)]
    org: String,
    /// Such as CNY [default: that of the only wallet, or CNY]
    #[arg(long)]
    currency: Option<String>,
}

/// A grant, as the server takes it.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Grant {
    /// The organization's id
    #[serde(skip)]
    org: String,
    /// A decimal above zero
    amount: Amount,
    /// Why, for the books
    #[arg(long)]
    reason: String,
    /// Of the amount
    #[arg(long, default_value = "CNY")]
    currency: String,
    /// With this, a priority or an end the credit becomes a lot
    #[arg(long, value_parser = ["paid", "promotional"])]
    kind: Option<String>,
    /// Lower is spent first; 100 when absent
    #[arg(long)]
    priority: Option<i32>,
    /// When what is left of it expires: an instant, or so long from now, such as 30d
    #[arg(long = "expires", value_name = "TIME", value_parser = future)]
    expires_at: Option<Timestamp>,
    #[command(flatten)]
    #[serde(skip)]
    once: Once,
}

#[derive(Debug, Args)]
pub(crate) struct Statement {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    period: Period,
    /// Write it as it comes from the server
    #[arg(long, value_parser = ["csv", "json"])]
    format: Option<String>,
    /// Write it to this file, as CSV when nothing is said
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) async fn run(command: Command, server: &Server) -> anyhow::Result<()> {
    let of = |org: &str, what: &str| path(&["admin", "orgs", org, what]);
    match command {
        Command::Show(which) => server.show(&of(&which.org, "wallet"), &which, WALLET).await,
        Command::Grant(grant) => {
            let grants = of(&grant.org, "grants");
            server.create(&grants, given(&grant)?, &grant.once, MOVED).await
        }
        Command::Adjust { org, amount, reason, currency, once } => {
            let body = json!({"amount": amount, "currency": currency, "reason": reason});
            server.create(&of(&org, "adjustments"), body, &once, MOVED).await
        }
        Command::Reverse { operation, reason } => {
            let body = json!({"operation": operation, "reason": reason}).to_string();
            let made = server.post("/admin/reversals", body.into_bytes()).await?;
            server.how.show(&made, REVERSED)
        }
        Command::Lots(which) => server.show(&of(&which.org, "lots"), &which, LOTS).await,
        Command::Statement(statement) => statement.write(server).await,
    }
}

impl Statement {
    async fn write(self, server: &Server) -> anyhow::Result<()> {
        let Self { which, period, format, output } = self;
        let bounds = period.whole(server, Some(&which.org)).await?;
        let statement = path(&["admin", "orgs", &which.org, "statement"]);
        let query = |format: Option<&str>| {
            json!({
                "currency": which.currency, "from": bounds.from, "to": bounds.to, "format": format,
            })
        };
        if format.is_none() && output.is_none() {
            return server.show(&statement, &query(None), MOVEMENTS).await;
        }
        let format = format.as_deref().unwrap_or("csv");
        server.download(&statement, &query(Some(format)), output.as_deref()).await
    }
}
