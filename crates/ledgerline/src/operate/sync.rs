//! `ledgerline sync`

use clap::Subcommand;
use serde_json::json;

use super::server::{Server, path};
use super::show::{Column, note, number, text};

const ENTITIES: [&str; 4] = ["users", "pricing", "uapi", "llmage"];
const COLUMNS: &[Column] = &[
    text("ENTITY", "entity"),
    text("STATE", "state"),
    number("BEHIND S", "lag_seconds"),
    number("ROWS", "rows"),
    number("FAILURES", "failures"),
    text("LAST ERROR", "last_error"),
    text("SYNCED", "synced_at"),
    text("WHOLE", "full_at"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show how each entity follows the upstream
    #[command(after_help = "Example:\n  ledgerline sync list")]
    List,
    /// Ask the upstream now; `ledgerline sync list` tells how it went
    #[command(after_help = "Examples:\n  ledgerline sync run users\n  \
        ledgerline sync run pricing --full\n\n\
        A whole answer that would delete much of what is kept is not believed without --force.")]
    Run {
        /// What is to be followed
        #[arg(value_parser = ENTITIES)]
        entity: String,
        /// Ask for everything instead of changes
        #[arg(long)]
        full: bool,
        /// Ask for everything, and believe that much of what is kept is gone
        #[arg(long, conflicts_with = "full")]
        force: bool,
    },
}

pub(crate) async fn run(command: Command, server: &Server) -> anyhow::Result<()> {
    match command {
        Command::List => server.show("/admin/sync", &json!({}), COLUMNS).await,
        Command::Run { entity, full, force } => {
            let at = path(&["admin", "sync", &entity, "run"]);
            let how = match (full, force) {
                (_, true) => "?force=true",
                (true, false) => "?full=true",
                (false, false) => "",
            };
            server.post(&format!("{at}{how}"), Vec::new()).await?;
            note("the upstream is asked: `ledgerline sync list` tells how it went");
            Ok(())
        }
    }
}
