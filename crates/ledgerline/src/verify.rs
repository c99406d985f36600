//! `ledgerline verify`

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use store::Database;

use crate::app;
use crate::cli::{Place, say};

#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    place: Place,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Reads all books of one moment; a server may be running on them.
pub(crate) async fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let config = args.place.load(None)?;
    let file = config.data.join("ledgerline.db");
    if config.database.url.is_empty() && !file.exists() {
        bail!("there are no books at {}: name their folder with --data", file.display());
    }
    let database = Database::open(&config.database.url, &config.data).await?;
    let mut report = ledger::verify(&database, &app::audited_tables()).await?;
    report.findings.extend(metering::verify_rollups(&database).await?);
    report.ok = report.findings.is_empty();
    if args.json {
        say(&serde_json::to_string_pretty(&report)?)?;
    } else {
        say(&format!(
            "{} operations, {} accounts, {} open holds; last operation {}, hash {}",
            report.operations,
            report.accounts,
            report.open_holds,
            report.head_seq,
            report.head_hash
        ))?;
        for finding in &report.findings {
            say(&format!("BROKEN {}: {} {}", finding.check, finding.row, finding.detail))?;
        }
        say(if report.ok { "everything fits" } else { "the books do not fit" })?;
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
