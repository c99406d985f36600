//! What memory does under a steady load, over ten minutes.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use serde_json::{Value, json};

use crate::load::Figures;
use crate::process::{Process, told, verify};

/// How often memory is looked at.
const STEP: Duration = Duration::from_secs(5);
/// Until then caches fill and every thread has had its first calls.
const WARM: Duration = Duration::from_mins(3);

#[derive(Args)]
pub(crate) struct GrowthArgs {
    /// The built binary
    #[arg(long, default_value = "target/release/ledgerline")]
    ledgerline: PathBuf,
    /// Where its data is kept meanwhile
    #[arg(long, default_value = "bench/results")]
    folder: PathBuf,
    /// How long
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Calls per second, half of them streamed
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,
}

/// The memory in the first and in the second half of the time after three minutes.
pub(crate) fn run(args: &GrowthArgs) -> anyhow::Result<Value> {
    std::fs::create_dir_all(&args.folder)?;
    let folder = tempfile::tempdir_in(&args.folder)?;
    let data = folder.path().join("data");
    let upstream = Process::start(&args.ledgerline, &["simulate", "--listen", "127.0.0.1:0"])?;
    let process = Process::serve_upstream(&args.ledgerline, &data, &upstream.url)?;
    let key = told(&data, "/customer/api_key")?;
    let mut loads = [load(args, &process, &key, false)?, load(args, &process, &key, true)?];
    let mut memory = Vec::new();
    while loads.iter_mut().map(Child::try_wait).all(|ended| matches!(ended, Ok(None))) {
        rest(STEP);
        memory.push(process.memory_kib()?.0);
    }
    let mut requests = 0;
    for load in loads {
        let figures: Figures = serde_json::from_slice(&load.wait_with_output()?.stdout)?;
        ensure!(figures.errors == 0, "{} calls failed", figures.errors);
        requests += figures.requests;
    }
    process.stop()?;
    verify(&args.ledgerline, &data)?;
    let warm = usize::try_from(WARM.as_secs() / STEP.as_secs())?.min(memory.len() / 2);
    let (_, steady) = memory.split_at(warm);
    let (first, second) = steady.split_at(steady.len() / 2);
    let (first, second) = (mean(first), mean(second));
    Ok(json!({
        "minutes": args.minutes, "calls": requests,
        "rss_kib_first_half": first, "rss_kib_second_half": second, "growth_kib": second - first,
        "rss_kib_every_5_s": memory,
    }))
}

fn mean(samples: &[u64]) -> i64 {
    let sum: u64 = samples.iter().sum();
    i64::try_from(sum / samples.len().max(1) as u64).unwrap_or(i64::MAX)
}

fn load(args: &GrowthArgs, process: &Process, key: &str, stream: bool) -> anyhow::Result<Child> {
    let (rate, seconds) = ((args.rate / 2.0).to_string(), (args.minutes * 60).to_string());
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["load", "--url", &process.url, "--key", key, "--clients", "32"]);
    command.args(["--rate", &rate, "--seconds", &seconds]);
    if stream {
        command.arg("--stream");
    }
    Ok(command.stdout(Stdio::piped()).spawn()?)
}

#[expect(clippy::disallowed_methods, reason = "memory is looked at now and then")]
fn rest(time: Duration) {
    std::thread::sleep(time);
}
