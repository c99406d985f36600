//! What this was measured on.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

const SYNCS: usize = 400;

/// The machine, and how long it takes to put 4 KiB on disk.
pub(crate) fn facts(folder: &Path) -> anyhow::Result<Value> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let (p50, p99) = fdatasync_micros(folder)?;
    Ok(json!({
        "cpu": model.unwrap_or("unknown").trim(),
        "cores": std::thread::available_parallelism()?.get(),
        "kernel": output("uname", &["-r"]),
        "rustc": output("rustc", &["--version"]),
        "commit": output("git", &["rev-parse", "--short", "HEAD"]),
        "changed": !output("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty(),
        "date": output("date", &["-u", "+%Y-%m-%d %H:%M"]),
        "fdatasync_4k_us": {"p50": p50, "p99": p99},
    }))
}

pub(crate) fn output(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output();
    done.map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned()).unwrap_or_default()
}

fn fdatasync_micros(folder: &Path) -> anyhow::Result<(u64, u64)> {
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).open(folder.join("sync"))?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(u64::try_from(begun.elapsed().as_micros())?);
    }
    Ok(quantiles(&mut times))
}

/// The median and the 99th of 100.
pub(crate) fn quantiles(times: &mut [u64]) -> (u64, u64) {
    times.sort_unstable();
    let at =
        |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
    (at(50).copied().unwrap_or(0), at(99).copied().unwrap_or(0))
}
