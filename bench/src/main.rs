//! The benchmark: Ledgerline beside the floors it stands on, in one run, without a network.

mod customers;
mod flow;
mod flow_http;
mod growth;
mod journal;
mod live;
mod load;
mod machine;
mod process;
mod proxy;
mod rawsql;
mod report;
mod scenario;
mod usage;
mod usage_data;

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
    /// Writes many usage records into a data folder, for `usage`
    UsageData(usage_data::UsageDataArgs),
    /// How long it takes to find and report usage
    Usage(usage::UsageArgs),
    /// Durable steps of flows; prints one JSON object
    Flow,
    /// The surface for customers' servers; prints one JSON object
    Customers(customers::CustomersArgs),
    /// A bare handler of the same HTTP stack
    Bare(customers::BareArgs),
    /// Flows over HTTP on the built binary: runs, starts, waiting runs, idling; prints one JSON object
    FlowHttp(flow_http::FlowHttpArgs),
    /// Memory under a steady load; prints one JSON object
    Growth(growth::GrowthArgs),
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
        Command::UsageData(args) => runtime.block_on(usage_data::run(args)),
        Command::Usage(args) => runtime.block_on(usage::run(args)),
        Command::Flow => {
            let folder = tempfile::tempdir()?;
            let figures = runtime.block_on(flow::sqlite(folder.path()))?;
            say(&serde_json::to_string_pretty(&figures)?)
        }
        Command::Customers(args) => customers::run(&runtime, &args),
        Command::Bare(args) => runtime.block_on(customers::bare(args)),
        Command::FlowHttp(args) => {
            say(&serde_json::to_string_pretty(&flow_http::run(&runtime, &args)?)?)
        }
        Command::Growth(args) => say(&serde_json::to_string(&growth::run(&args)?)?),
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
