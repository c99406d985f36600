//! The results as a table, beside what is asked for.

use serde_json::{Map, Value};

/// The median of each figure.
pub(crate) fn medians(samples: &[&Value]) -> Value {
    let Some(Value::Object(first)) = samples.first() else { return Value::Null };
    let median = |name: &String| {
        let mut figures: Vec<f64> =
            samples.iter().filter_map(|sample| sample.get(name).and_then(Value::as_f64)).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or(0.0)
    };
    let all: Map<String, Value> =
        first.keys().map(|name| (name.clone(), Value::from(median(name)))).collect();
    Value::Object(all)
}

fn at(results: &Value, path: &str) -> f64 {
    results.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// A line of the table: what, measured, must, aim, and whether larger is better.
struct Line {
    what: &'static str,
    measured: f64,
    unit: &'static str,
    must: f64,
    aim: f64,
    larger: bool,
}

impl Line {
    fn verdict(&self) -> &'static str {
        let reaches =
            |bound: f64| if self.larger { self.measured >= bound } else { self.measured <= bound };
        match (reaches(self.aim), reaches(self.must)) {
            (true, _) => "aim",
            (_, true) => "must",
            _ => "MISSED",
        }
    }
}

/// The whole report as Markdown.
pub(crate) fn table(results: &Value) -> String {
    let mut text = String::from("# Benchmark\n\n");
    if let Some(machine) = results.get("machine") {
        text.extend(["`", &machine.to_string(), "`\n\n"]);
    }
    text.push_str("| what | measured | must | aim | reached |\n|---|--:|--:|--:|---|\n");
    for line in lines(results) {
        let row = format!(
            "| {} | {:.2} {} | {:.2} | {:.2} | {} |\n",
            line.what,
            line.measured,
            line.unit,
            line.must,
            line.aim,
            line.verdict()
        );
        text.push_str(&row);
    }
    text.push_str("\n| scenario | target | per second | p50 µs | p99 µs | first p50 µs | first p99 µs | CPU µs | late |\n");
    text.push_str("|---|---|--:|--:|--:|--:|--:|--:|--:|\n");
    for scenario in SCENARIOS {
        for target in ["direct", "proxy", "ledgerline"] {
            let figure = |name: &str| at(results, &format!("/{scenario}/{target}/{name}"));
            if figure("per_second").is_nan() {
                continue;
            }
            let row = format!(
                "| {scenario} | {target} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
                figure("per_second"),
                figure("p50"),
                figure("p99"),
                figure("first_p50"),
                figure("first_p99"),
                figure("cpu_us_per_request"),
                figure("late_frames")
            );
            text.push_str(&row);
        }
    }
    text.push_str("\nRaw SQLite writer and journal (pairs of hold and settle per second, `synchronous=FULL`):\n\n");
    for name in
        ["raw_sqlite", "journal_pairs_per_second", "journal_pairs_per_second_mysql_two_instances"]
    {
        if let Some(value) = results.get(name) {
            text.extend(["- ", name, ": `", &value.to_string(), "`\n"]);
        }
    }
    text
}

const SCENARIOS: [&str; 8] = [
    "throughput_256",
    "throughput_64",
    "sequential",
    "at_200_per_second",
    "streams_32",
    "streams_at_50_per_second",
    "bodies_300k",
    "streams_1000",
];

fn lines(results: &Value) -> Vec<Line> {
    let mut all = call_lines(results);
    all.extend(stream_lines(results));
    all.extend(ledger_lines(results));
    all.extend(process_lines(results));
    all
}

const fn up(what: &'static str, measured: f64, unit: &'static str, must: f64, aim: f64) -> Line {
    Line { what, measured, unit, must, aim, larger: true }
}

const fn down(what: &'static str, measured: f64, unit: &'static str, must: f64, aim: f64) -> Line {
    Line { what, measured, unit, must, aim, larger: false }
}

/// Ledgerline's throughput as a share of the bare proxy's.
fn ratio(results: &Value, scenario: &str) -> f64 {
    let of = |target: &str| at(results, &format!("/{scenario}/{target}/per_second"));
    of("ledgerline") / of("proxy")
}

/// What Ledgerline adds to the bare proxy's figure, in milliseconds.
fn beyond_proxy(results: &Value, scenario: &str, name: &str) -> f64 {
    let of = |target: &str| at(results, &format!("/{scenario}/{target}/{name}"));
    (of("ledgerline") - of("proxy")) / 1000.0
}

/// A raw durable commit, in milliseconds: one after another, or begun at a call's pace. A disk and a
/// processor that rested take longer, which a latency at that pace has in it too.
fn commit(results: &Value, how: &str, name: &str) -> f64 {
    at(results, &format!("/raw_sqlite/{how}/{name}")) / 1000.0
}

fn call_lines(results: &Value) -> Vec<Line> {
    let cpu = at(results, "/throughput_256/ledgerline/cpu_us_per_request");
    let commits = |how: &str, name: &str| 2.0 * commit(results, how, name);
    let (p50, p99) = (commits("1", "commit_p50_us"), commits("1", "commit_p99_us"));
    let scenario = "at_200_per_second";
    let (paced_p50, paced_p99) =
        (commits(scenario, "commit_p50_us"), commits(scenario, "commit_p99_us"));
    let (added_p50, added_p99) =
        (beyond_proxy(results, scenario, "p50"), beyond_proxy(results, scenario, "p99"));
    vec![
        down("CPU per metered call", cpu, "µs", 120.0, 80.0),
        up(
            "throughput at 256 clients, to the bare proxy",
            ratio(results, "throughput_256"),
            "×",
            0.35,
            0.55,
        ),
        down("latency beyond the bare proxy at 200/s, p50", added_p50, "ms", p50 + 0.2, p50 + 0.1),
        down("latency beyond the bare proxy at 200/s, p99", added_p99, "ms", p99 + 1.0, p99 + 0.5),
        down(
            "the same p50 beside commits at that pace",
            added_p50,
            "ms",
            paced_p50 + 0.2,
            paced_p50 + 0.1,
        ),
        down(
            "the same p99 beside commits at that pace",
            added_p99,
            "ms",
            paced_p99 + 1.0,
            paced_p99 + 0.5,
        ),
        up("300 KB bodies, to the bare proxy", ratio(results, "bodies_300k"), "×", 0.6, 0.85),
    ]
}

fn stream_lines(results: &Value) -> Vec<Line> {
    let first = beyond_proxy(results, "streams_at_50_per_second", "first_p99");
    let p99 = commit(results, "1", "commit_p99_us");
    let paced_p99 = commit(results, "at_50_per_second", "commit_p99_us");
    let late = |target: &str| at(results, &format!("/streams_1000/{target}/late_frames"));
    let beyond = late("ledgerline") - late("proxy");
    vec![
        down("first token beyond the bare proxy at 50/s, p99", first, "ms", p99 + 0.5, p99 + 0.25),
        down(
            "the same beside commits at that pace",
            first,
            "ms",
            paced_p99 + 0.5,
            paced_p99 + 0.25,
        ),
        up("streams, to the bare proxy", ratio(results, "streams_32"), "×", 0.5, 0.75),
        down("late frames of 1,000 streams at 50 frames/s", late("ledgerline"), "", 0.0, 0.0),
        down("the same beyond the bare proxy", beyond, "", 0.0, 0.0),
    ]
}

fn ledger_lines(results: &Value) -> Vec<Line> {
    let raw = at(results, "/raw_sqlite/256/pairs_per_second");
    let pairs = at(results, "/journal_pairs_per_second/256");
    let mut all = vec![
        up("journal pairs at 256 callers, to the raw writer", pairs / raw, "×", 0.15, 0.3),
        up("journal pairs at 256 callers", pairs, "/s", 15_000.0, 40_000.0),
    ];
    let instances =
        results.get("journal_pairs_per_second_mysql_two_instances").and_then(Value::as_f64);
    all.extend(
        instances.map(|pairs| {
            up("one hot account, MySQL, two instances", pairs, "/s", 5_000.0, 10_000.0)
        }),
    );
    all
}

fn process_lines(results: &Value) -> Vec<Line> {
    let figure = |name: &str| at(results, &format!("/throughput_256/ledgerline/{name}"));
    vec![
        down("memory idle", figure("rss_idle_kib") / 1024.0, "MiB", 40.0, 25.0),
        down("memory under 256 clients", figure("rss_most_kib") / 1024.0, "MiB", 150.0, 100.0),
        down("start, empty books", figure("start_ms"), "ms", 1000.0, 300.0),
        down("binary", at(results, "/binary_bytes") / 1_048_576.0, "MiB", 60.0, 40.0),
    ]
}
