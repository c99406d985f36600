//! The benchmark: Ledgerline beside the floors it stands on, in one run, without a network.

mod journal;
mod load;
mod machine;
mod process;
mod proxy;
mod rawsql;
mod report;
mod scenario;

use std::io::Write as _;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    about = "Measures Ledgerline beside a direct call, a bare reverse proxy and a raw SQLite writer"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything, written to bench/results
    All(scenario::AllArgs),
    /// A bare reverse proxy of the same HTTP stack
    Proxy(proxy::ProxyArgs),
    /// The load generator; prints one JSON object
    Load(load::LoadArgs),
}

/// The same as in the binary that is measured, so that the bare proxy stays its floor.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match Cli::parse().command {
        Command::All(args) => scenario::run(&runtime, &args),
        Command::Proxy(args) => runtime.block_on(proxy::run(args)),
        Command::Load(args) => {
            let figures = runtime.block_on(load::run(args))?;
            say(&serde_json::to_string(&figures)?)
        }
    }
}

/// Writes a line for whoever reads.
fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
