//! Flows over HTTP, on the built binary: whole runs, starts, what waiting runs take, what idling costs,
//! and how long a start takes when there is much.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::load::Figures;
use crate::process::{Process, told};

#[derive(Args)]
pub(crate) struct FlowHttpArgs {
    /// The built binary
    #[arg(long, default_value = "target/release/ledgerline")]
    ledgerline: PathBuf,
    /// Where its data is kept meanwhile: on the disk to be measured
    #[arg(long, default_value = "bench/results")]
    folder: PathBuf,
    /// How long each load takes
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Runs that wait for an answer when memory is looked at
    #[arg(long, default_value_t = 100_000)]
    waiting: u64,
    /// Movements of money in the books when it is started again
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    /// WebSocket clients attached when events are timed
    #[arg(long, default_value_t = 5_000)]
    clients: usize,
    /// How long the server is left alone
    #[arg(long, default_value_t = 10)]
    idle_seconds: u64,
}

const PLAIN: &str = "name: plain\ndescription: Two nodes.\nnodes:\n  \
    one: {type: transform, config: {set: {a: '= 1 + 1'}}}\n  two: {type: transform, config: {set: {b: '= a + 1'}}}\n\
    edges: [{from: one, to: two}]\noutput: '= b'\n";
const TWO: &str = "name: two\ndescription: Two calls.\nnodes:\n  \
    one: {type: llm, config: {model: sim-small, prompt: 'Say {n}', max_tokens: 30, output: a}}\n  \
    two: {type: llm, config: {model: sim-small, prompt: '{{ a }}', max_tokens: 30, output: b}}\n\
    edges: [{from: one, to: two}]\noutput: '= b'\n";
const ASK: &str =
    "name: ask\ndescription: Waits.\nnodes: {ask: {type: wait, config: {message: 'Well?'}}}\n";

struct Bench<'a> {
    args: &'a FlowHttpArgs,
    process: Process,
    this: PathBuf,
    key: String,
}

pub(crate) fn run(runtime: &Runtime, args: &FlowHttpArgs) -> anyhow::Result<Value> {
    std::fs::create_dir_all(&args.folder)?;
    let folder = tempfile::tempdir_in(&args.folder)?;
    let data = folder.path().join("data");
    // Room for as many runs as are to wait, and money for all that are not.
    let config = folder.path().join("bench.json");
    let tree = json!({"flow": {"max_running": 512, "max_running_per_org": 512, "max_queued_per_org": 1_000_000}});
    std::fs::write(&config, tree.to_string())?;
    let process = Process::serve(&args.ledgerline, &data, Some(&config))?;
    let key = told(&data, "/customer/api_key")?;
    let bench = Bench { args, process, this: std::env::current_exe()?, key };
    [PLAIN, TWO, ASK].iter().try_for_each(|text| bench.publish(text))?;
    let runs = |clients, flow: &str| {
        let body = json!({"assistant_id": flow, "input": {}}).to_string();
        bench.load(clients, args.seconds, "/runs/wait", &body)
    };
    let ask = r#"{"assistant_id":"ask","input":{}}"#;
    let (plain, plain_alone) = (runs(32, "plain")?, runs(1, "plain")?);
    let (metered, metered_alone) = (runs(32, "two")?, runs(1, "two")?);
    let alone = bench.load(1, args.seconds, "/runs", ask)?;
    let starts = bench.load(32, args.seconds, "/runs", ask)?;
    let waiting = bench.waiting(alone.requests + starts.requests)?;
    let idle = bench.idle()?;
    let runs = waiting.get("runs").cloned();
    bench.process.stop()?;
    let started = starts_again(runtime, args, &data, &config)?;
    let live = runtime.block_on(crate::live::run(&args.ledgerline, folder.path(), args.clients))?;
    Ok(json!({
        "two_node_runs_32_clients": plain, "two_node_runs_1_client": plain_alone,
        "two_metered_calls_32_clients": metered, "two_metered_calls_1_client": metered_alone,
        "starts_1_client": alone, "starts_32_clients": starts,
        "waiting": waiting, "idle": idle, "live": live,
        "started_again": {"runs": runs, "entries": args.entries, "ms": started},
    }))
}

/// How long a server takes to start on full books, three times, in milliseconds.
fn starts_again(
    runtime: &Runtime,
    args: &FlowHttpArgs,
    data: &Path,
    config: &Path,
) -> anyhow::Result<Vec<u64>> {
    runtime.block_on(crate::journal::fill(data, args.entries))?;
    let mut times = Vec::new();
    for _ in 0..3 {
        let process = Process::serve(&args.ledgerline, data, Some(config))?;
        times.push(u64::try_from(process.started_in.as_millis())?);
        process.stop()?;
    }
    Ok(times)
}

/// One request on a connection of its own, such as `POST /flows`; the body of a good answer.
pub(crate) fn ask(url: &str, key: &str, what: &str, body: &str) -> anyhow::Result<String> {
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host)?;
    write!(
        stream,
        "{what} HTTP/1.1\r\nhost: {host}\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 20"), "{what}: {answer}");
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

impl Bench<'_> {
    fn publish(&self, text: &str) -> anyhow::Result<()> {
        ask(&self.process.url, &self.key, "POST /flows", text).map(drop)
    }

    fn load(&self, clients: u64, seconds: f64, path: &str, body: &str) -> anyhow::Result<Figures> {
        let (clients, seconds) = (clients.to_string(), seconds.to_string());
        let arguments = [
            "load",
            "--url",
            &self.process.url,
            "--clients",
            &clients,
            "--seconds",
            &seconds,
            "--path",
            path,
            "--body",
            body,
            "--key",
            &self.key,
        ];
        let done = Command::new(&self.this).args(arguments).output()?;
        ensure!(done.status.success(), "load: {}", String::from_utf8_lossy(&done.stderr));
        let figures: Figures = serde_json::from_slice(&done.stdout)?;
        ensure!(figures.errors == 0, "{path}: {} of {} failed", figures.errors, figures.requests);
        Ok(figures)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a time in which nothing is done is what is measured"
    )]
    fn rest(seconds: u64) {
        std::thread::sleep(Duration::from_secs(seconds));
    }

    /// What memory is taken by runs that wait, when nothing else is done.
    fn waiting(&self, already: u64) -> anyhow::Result<Value> {
        let (before, _) = self.process.memory_kib()?;
        let mut waiting = already;
        while waiting < self.args.waiting {
            waiting +=
                self.load(32, 2.0, "/runs", r#"{"assistant_id":"ask","input":{}}"#)?.requests;
        }
        Self::rest(2);
        let (after, most) = self.process.memory_kib()?;
        Ok(
            json!({"runs": waiting, "rss_kib_before": before, "rss_kib_after": after, "rss_kib_most": most}),
        )
    }

    fn idle(&self) -> anyhow::Result<Value> {
        let (written, cpu) = (self.process.written_bytes()?, self.process.cpu_micros()?);
        Self::rest(self.args.idle_seconds);
        Ok(json!({
            "seconds": self.args.idle_seconds,
            "bytes_written": self.process.written_bytes()? - written,
            "cpu_us": self.process.cpu_micros()? - cpu,
        }))
    }
}
