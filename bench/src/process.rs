//! Processes of a scenario: started, watched, and ended with it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

/// A process that ends with this value.
pub(crate) struct Process {
    child: Child,
    /// Kept open: a process that greets at length must not find nobody listening.
    _output: BufReader<ChildStdout>,
    /// Where it listens.
    pub(crate) url: String,
    /// From its start until it said so.
    pub(crate) started_in: Duration,
}

/// What a demo installation says of itself, such as `/customer/api_key`.
pub(crate) fn told(data: &Path, what: &str) -> anyhow::Result<String> {
    let dev: Value = serde_json::from_slice(&std::fs::read(data.join("dev.json"))?)?;
    let found = dev.pointer(what).and_then(Value::as_str);
    Ok(found.with_context(|| format!("dev.json has no {what}"))?.to_owned())
}

/// A figure counts only if the books fit.
pub(crate) fn verify(ledgerline: &Path, data: &Path) -> anyhow::Result<()> {
    let data = data.to_string_lossy();
    let done = Command::new(ledgerline).args(["verify", "--json", "--data", &data]).output()?;
    let report: Value = serde_json::from_slice(&done.stdout)?;
    let open = report.get("open_holds").and_then(Value::as_u64);
    if !done.status.success() || open != Some(0) {
        bail!("the books do not fit after the run: {report}");
    }
    Ok(())
}

impl Process {
    /// Starts a command that prints a line with its address.
    pub(crate) fn start(program: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let output = child.stdout.take().context("the process has no output")?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        while output.read_line(&mut line)? > 0 {
            if let Some(at) = line.find("http://") {
                let rest = line.get(at..).unwrap_or_default();
                let url = rest.split_whitespace().next().unwrap_or_default().to_owned();
                return Ok(Self { child, _output: output, url, started_in: begun.elapsed() });
            }
            line.clear();
        }
        bail!("{} ended before it listened", program.display())
    }

    /// Starts a demo installation in this data folder, with this configuration if there is one.
    pub(crate) fn serve(
        ledgerline: &Path,
        data: &Path,
        config: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let data = data.to_string_lossy();
        let config = config.map(Path::to_string_lossy);
        let mut arguments = vec!["serve", "--dev", "--listen", "127.0.0.1:0", "--data", &data];
        arguments.extend(config.iter().flat_map(|config| ["--config", config]));
        Self::start(ledgerline, &arguments)
    }

    /// Starts a demo installation in this data folder that sells the model `bench` of this upstream.
    pub(crate) fn serve_upstream(
        ledgerline: &Path,
        data: &Path,
        upstream: &str,
    ) -> anyhow::Result<Self> {
        let price =
            json!({"currency": "CNY", "input_per_million": "0.01", "output_per_million": "0.02"});
        let tree = json!({
            "providers": [{"name": "up", "kind": "openai", "base_url": format!("{upstream}/v1")}],
            "models": [{"name": "bench", "routes": [{"provider": "up"}], "price": price}],
        });
        let config = data.with_extension("json");
        std::fs::write(&config, tree.to_string())?;
        Self::serve(ledgerline, data, Some(&config))
    }

    /// CPU time used so far, in microseconds.
    pub(crate) fn cpu_micros(&self) -> anyhow::Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        // Fields 14 and 15 of proc(5), counted after the name; a tick is 10 ms on Linux.
        Ok((ticks(11) + ticks(12)) * 10_000)
    }

    /// Resident memory in KiB: now, and at most so far.
    pub(crate) fn memory_kib(&self) -> anyhow::Result<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        Ok((field("VmRSS:").unwrap_or(0), field("VmHWM:").unwrap_or(0)))
    }

    /// Bytes that it has caused to be written to disk so far.
    pub(crate) fn written_bytes(&self) -> anyhow::Result<u64> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        Ok(line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0))
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
