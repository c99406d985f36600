//! All measurements, side by side in one run.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;
use clap::Args;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use crate::load::Figures;
use crate::process::{Process, told, verify};
use crate::{journal, machine, rawsql, report};

#[derive(Args)]
pub(crate) struct AllArgs {
    /// The built binary
    #[arg(long, default_value = "target/release/ledgerline")]
    ledgerline: PathBuf,
    /// Where results go
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
    /// Short runs, one round, nothing written: to see that it works
    #[arg(long)]
    quick: bool,
    /// How long each measurement takes
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// A server for the two-instances measurement, such as <mysql://root@127.0.0.1:3306>
    #[arg(long)]
    mysql: Option<String>,
    /// Only scenarios whose name contains this, beside the raw writer; nothing is written
    #[arg(long)]
    only: Option<String>,
}

impl AllArgs {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|part| name.contains(part.as_str()))
    }
}

/// One thing measured on every target.
struct Scenario {
    name: &'static str,
    simulate: &'static [&'static str],
    load: &'static [&'static str],
}

const SCENARIOS: [Scenario; 8] = [
    Scenario { name: "throughput_256", simulate: &[], load: &["--clients", "256"] },
    Scenario { name: "throughput_64", simulate: &[], load: &["--clients", "64"] },
    Scenario { name: "sequential", simulate: &[], load: &["--clients", "1"] },
    Scenario {
        name: "at_200_per_second",
        simulate: &[],
        load: &["--clients", "32", "--rate", "200"],
    },
    Scenario {
        name: "streams_32",
        simulate: &["--chunks", "24"],
        load: &["--clients", "32", "--stream"],
    },
    Scenario {
        name: "streams_at_50_per_second",
        simulate: &["--chunks", "24"],
        load: &["--clients", "32", "--rate", "50", "--stream"],
    },
    Scenario {
        name: "bodies_300k",
        simulate: &[],
        load: &["--clients", "16", "--prompt-bytes", "300000"],
    },
    // A thousand streams at fifty frames a second.
    Scenario {
        name: "streams_1000",
        simulate: &["--chunks", "200", "--interval-ms", "20"],
        load: &["--clients", "1000", "--stream", "--words", "200", "--late-ms", "70"],
    },
];

struct Bench<'a> {
    args: &'a AllArgs,
    folder: tempfile::TempDir,
    this: PathBuf,
    seconds: f64,
    results: Map<String, Value>,
}

pub(crate) fn run(runtime: &Runtime, args: &AllArgs) -> anyhow::Result<()> {
    ensure!(args.ledgerline.exists(), "{} is missing: build it first", args.ledgerline.display());
    let seconds = if args.quick { 1.0 } else { args.seconds };
    // On the disk that holds the results, not in memory.
    std::fs::create_dir_all(&args.results)?;
    let folder = tempfile::tempdir_in(&args.results)?;
    let mut bench =
        Bench { args, folder, this: std::env::current_exe()?, seconds, results: Map::new() };
    bench.results.insert("machine".into(), machine::facts(bench.folder.path())?);
    note("raw SQLite");
    bench.results.insert("raw_sqlite".into(), rawsql::run(bench.folder.path(), seconds / 2.0)?);
    if args.wants("journal") {
        bench.journals(runtime)?;
    }
    let rounds = if args.quick { 1 } else { 3 };
    for scenario in SCENARIOS.iter().filter(|scenario| args.wants(scenario.name)) {
        bench.compare(scenario, rounds)?;
    }
    let size = std::fs::metadata(&args.ledgerline)?.len();
    bench.results.insert("binary_bytes".into(), json!(size));
    bench.write()
}

fn note(what: &str) {
    // Progress is a courtesy.
    drop(writeln!(std::io::stderr(), "bench: {what}"));
}

impl Bench<'_> {
    fn journals(&mut self, runtime: &Runtime) -> anyhow::Result<()> {
        note("journal on SQLite");
        let pairs = runtime.block_on(journal::sqlite(self.folder.path(), self.seconds))?;
        self.results.insert("journal_pairs_per_second".into(), pairs);
        if let Some(server) = &self.args.mysql {
            note("journal on MySQL, two instances");
            let pairs =
                runtime.block_on(journal::mysql(server, self.folder.path(), self.seconds))?;
            self.results.insert("journal_pairs_per_second_mysql_two_instances".into(), pairs);
        }
        Ok(())
    }

    /// Every target in turn, several rounds; the median of each figure is kept.
    fn compare(&mut self, scenario: &Scenario, rounds: usize) -> anyhow::Result<()> {
        let mut measured: Map<String, Value> = Map::new();
        let mut samples: Vec<(&str, Value)> = Vec::new();
        for round in 1..=rounds {
            note(&format!("{} ({round} of {rounds})", scenario.name));
            for target in ["direct", "proxy", "ledgerline"] {
                samples.push((target, self.measure(scenario, target)?));
            }
        }
        for target in ["direct", "proxy", "ledgerline"] {
            let mine: Vec<&Value> = samples
                .iter()
                .filter(|(name, _)| *name == target)
                .map(|(_, value)| value)
                .collect();
            measured.insert(target.to_owned(), report::medians(&mine));
        }
        self.results.insert(scenario.name.to_owned(), Value::Object(measured));
        Ok(())
    }

    fn measure(&self, scenario: &Scenario, target: &str) -> anyhow::Result<Value> {
        let mut arguments = vec!["simulate", "--listen", "127.0.0.1:0"];
        arguments.extend(scenario.simulate);
        let upstream = Process::start(&self.args.ledgerline, &arguments)?;
        match target {
            "direct" => Ok(json!(self.load(scenario, &upstream.url, None)?)),
            "proxy" => {
                let arguments = ["proxy", "--listen", "127.0.0.1:0", "--upstream", &upstream.url];
                let proxy = Process::start(&self.this, &arguments)?;
                self.watched(scenario, &proxy, None)
            }
            _ => self.ledgerline(scenario, &upstream.url),
        }
    }

    /// Load on a process, with its CPU and memory.
    fn watched(
        &self,
        scenario: &Scenario,
        process: &Process,
        key: Option<&str>,
    ) -> anyhow::Result<Value> {
        let (idle, _) = process.memory_kib()?;
        let before = process.cpu_micros()?;
        let figures = self.load(scenario, &process.url, key)?;
        let cpu = process.cpu_micros()? - before;
        let (after, most) = process.memory_kib()?;
        let mut value = json!(figures);
        if let Value::Object(members) = &mut value {
            members.insert("cpu_us_per_request".into(), json!(cpu / figures.requests.max(1)));
            members.insert("rss_idle_kib".into(), json!(idle));
            members.insert("rss_after_kib".into(), json!(after));
            members.insert("rss_most_kib".into(), json!(most));
            members.insert("start_ms".into(), json!(process.started_in.as_millis()));
        }
        Ok(value)
    }

    fn ledgerline(&self, scenario: &Scenario, upstream: &str) -> anyhow::Result<Value> {
        let folder = tempfile::tempdir_in(self.folder.path())?;
        let data = folder.path().join("data");
        let process = Process::serve_upstream(&self.args.ledgerline, &data, upstream)?;
        let key = told(&data, "/customer/api_key")?;
        let value = self.watched(scenario, &process, Some(&key))?;
        process.stop()?;
        verify(&self.args.ledgerline, &data)?;
        Ok(value)
    }

    fn load(&self, scenario: &Scenario, url: &str, key: Option<&str>) -> anyhow::Result<Figures> {
        let seconds = self.seconds.to_string();
        let mut arguments = vec!["load", "--url", url, "--seconds", &seconds];
        arguments.extend(scenario.load);
        if let Some(key) = key {
            arguments.extend(["--key", key]);
        }
        let done = Command::new(&self.this).args(&arguments).output()?;
        ensure!(done.status.success(), "load: {}", String::from_utf8_lossy(&done.stderr));
        let figures: Figures = serde_json::from_slice(&done.stdout)?;
        ensure!(
            figures.errors == 0,
            "{}: {} calls of {} failed",
            scenario.name,
            figures.errors,
            url
        );
        Ok(figures)
    }

    fn write(self) -> anyhow::Result<()> {
        let results = Value::Object(self.results);
        let table = report::table(&results);
        crate::say(&table)?;
        if self.args.quick || self.args.only.is_some() {
            return Ok(());
        }
        let commit = machine::output("git", &["rev-parse", "--short", "HEAD"]);
        let date = machine::output("date", &["-u", "+%Y-%m-%d-%H%M"]);
        let stem = self.args.results.join(format!("{date}-{commit}"));
        std::fs::write(
            stem.with_extension("json"),
            serde_json::to_string_pretty(&results)? + "\n",
        )?;
        std::fs::write(stem.with_extension("md"), table + "\n")?;
        Ok(())
    }
}
