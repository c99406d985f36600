//! The commands of a customer's server: `balance`, `accounting`, `users`, `pricing`. They talk to a
//! running server, since a data folder belongs to one process.

use clap::{Args, Subcommand};
use kernel::Amount;
use serde_json::{Map, Value, json};

use crate::cli::say;
use crate::remote::Remote;

/// A page of a list.
#[derive(Clone, Debug, Args)]
pub(crate) struct PageArgs {
    /// The page, from 1
    #[arg(long)]
    page: Option<u32>,
    /// Rows of a page, 1 to 1000
    #[arg(long)]
    rows: Option<u32>,
    /// A column, and `desc` for the largest first
    #[arg(long)]
    sort: Option<String>,
    /// The `next` of the page before, instead of --page
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BalanceArgs {
    #[command(flatten)]
    remote: Remote,
    /// A user of the organization
    #[arg(long)]
    user: Option<String>,
    /// Such as CNY; the only wallet's when absent
    #[arg(long)]
    currency: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AccountingCommand {
    /// Post money spent; the same --transno posts once
    #[command(
        after_help = "Example:\n  ledgerline accounting post --amount 0.05 --transno t-1 --user u1 --llmid sim-small"
    )]
    Post(PostArgs),
    /// List posts
    #[command(after_help = "Example:\n  ledgerline accounting list --user u1 --rows 100")]
    List(RecordArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PostArgs {
    #[command(flatten)]
    remote: Remote,
    /// How much, a decimal
    #[arg(long)]
    amount: Amount,
    /// Names the post: the same number is the same post
    #[arg(long)]
    transno: String,
    /// Who spent it
    #[arg(long)]
    user: Option<String>,
    /// What it was spent on
    #[arg(long)]
    llmid: Option<String>,
    /// Such as CNY
    #[arg(long)]
    currency: Option<String>,
    /// What was used, as JSON
    #[arg(long, value_name = "JSON", value_parser = json_text)]
    usage: Option<Value>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    page: PageArgs,
    /// Only this user's
    #[arg(long)]
    user: Option<String>,
    /// Only the one of this number
    #[arg(long)]
    transno: Option<String>,
}

fn json_text(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text)
}

pub(crate) async fn balance(args: BalanceArgs) -> anyhow::Result<()> {
    let query = query(&[("userid", args.user), ("currency", args.currency)])?;
    show(&args.remote.client()?.get(&format!("/api/v1/balance{query}")).await?)
}

pub(crate) async fn accounting(command: AccountingCommand) -> anyhow::Result<()> {
    match command {
        AccountingCommand::Post(args) => post(args).await,
        AccountingCommand::List(args) => {
            let more = vec![("userid", args.user), ("transno", args.transno)];
            list(&args.remote, "/api/v1/accounting", args.page, more).await
        }
    }
}

async fn post(args: PostArgs) -> anyhow::Result<()> {
    let mut body = Map::new();
    body.insert("amount".to_owned(), json!(args.amount));
    let texts = [("userid", args.user), ("llmid", args.llmid), ("currency", args.currency)];
    for (name, text) in texts {
        body.extend(text.map(|text| (name.to_owned(), json!(text))));
    }
    body.extend(args.usage.map(|usage| ("usage".to_owned(), usage)));
    let client = args.remote.client()?;
    show(&client.post("/api/v1/accounting", &body.into(), Some(&args.transno)).await?)
}

pub(crate) async fn users(args: ListArgs) -> anyhow::Result<()> {
    list(&args.remote, "/api/v1/users", args.page, Vec::new()).await
}

pub(crate) async fn pricing(args: ListArgs) -> anyhow::Result<()> {
    list(&args.remote, "/api/v1/pricing", args.page, Vec::new()).await
}

async fn list(
    remote: &Remote,
    path: &str,
    page: PageArgs,
    mut fields: Vec<(&'static str, Option<String>)>,
) -> anyhow::Result<()> {
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    fields.extend([("page", number(page.page)), ("rows", number(page.rows))]);
    fields.extend([("sort", page.sort), ("cursor", page.cursor)]);
    show(&remote.client()?.get(&format!("{path}{}", query(&fields)?)).await?)
}

/// The fields that are given, as a query.
fn query(fields: &[(&'static str, Option<String>)]) -> anyhow::Result<String> {
    let given: Vec<_> =
        fields.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))).collect();
    if given.is_empty() {
        return Ok(String::new());
    }
    Ok(format!("?{}", serde_urlencoded::to_string(given)?))
}

/// Prints what an answer holds.
fn show(answer: &Value) -> anyhow::Result<()> {
    say(&serde_json::to_string_pretty(answer.get("data").unwrap_or(answer))?)
}
