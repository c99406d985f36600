//! How long it takes to find and report usage, over HTTP, on a folder that `usage-data` made.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use kernel::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::machine;
use crate::process::{Process, told};
use crate::usage_data::{RARE_KEY, SPAN, instant, key, model, org, request};

const HOUR: u64 = 3_600_000_000;
const DAY: u64 = 24 * HOUR;

#[derive(Args)]
pub(crate) struct UsageArgs {
    /// The built binary
    #[arg(long, default_value = "target/release/ledgerline")]
    ledgerline: PathBuf,
    /// The data folder that `usage-data` made
    #[arg(long)]
    data: PathBuf,
    /// Where results go; nowhere when absent
    #[arg(long)]
    results: Option<PathBuf>,
    /// Requests of each kind
    #[arg(long, default_value_t = 100)]
    requests: u64,
}

/// What all kinds of request are made of.
struct Setting {
    customer: String,
    records: u64,
}

/// A kind of request, and its path for each number.
struct Kind {
    name: &'static str,
    customer: bool,
    path: fn(&Setting, u64) -> String,
}

const fn admin(name: &'static str, path: fn(&Setting, u64) -> String) -> Kind {
    Kind { name, customer: false, path }
}

const fn own(name: &'static str, path: fn(&Setting, u64) -> String) -> Kind {
    Kind { name, customer: true, path }
}

/// Somewhere in the records' time, another place for each number.
fn time(number: u64) -> u64 {
    instant(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (SPAN - 31 * DAY))
}

fn text(micros: u64) -> String {
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX)).to_string()
}

fn range(number: u64, length: u64) -> String {
    format!("from={}&to={}", text(time(number)), text(time(number) + length))
}

const KINDS: [Kind; 18] = [
    admin("all, newest", |_, _| "usage".to_owned()),
    admin("one organization, newest", |s, n| {
        format!("usage?org_id={}", org(n * 7 % 1_000, &s.customer))
    }),
    admin("all, one hour", |_, n| format!("usage?{}", range(n, HOUR))),
    admin("all, a page in the middle of a month", |_, n| {
        format!("usage?limit=100&{}", range(n, 31 * DAY))
    }),
    admin("all, a rare model of one day", |_, n| {
        format!("usage?model={}&{}", model(11), range(n, DAY))
    }),
    admin("all, by error", |_, n| {
        let code = if n % 2 == 0 { "upstream_rate_limited" } else { "upstream_unreachable" };
        format!("usage?error_code={code}")
    }),
    admin("all, released", |_, _| "usage?status=released".to_owned()),
    admin("by request", |s, n| {
        format!("usage?request_id={}", request(n.wrapping_mul(7_919_777) % s.records))
    }),
    own("mine, newest", |_, _| "usage".to_owned()),
    own("mine, a hardly used key", |_, _| format!("usage?key_id={}", key(0, RARE_KEY))),
    own("mine, a key and a model of a week", |_, n| {
        format!("usage?key_id={}&model={}&{}", key(0, n % 10), model(n % 12), range(n, 7 * DAY))
    }),
    own("mine, failed", |_, n| format!("usage?error_code=upstream_error&{}", range(n, 31 * DAY))),
    own("report: mine, days of a month", |_, n| {
        format!("usage/summary?group_by=day&{}", range(n, 31 * DAY))
    }),
    own("report: mine, days in Shanghai by model", |_, n| {
        format!("usage/summary?group_by=day,model&time_zone=Asia/Shanghai&{}", range(n, 31 * DAY))
    }),
    own("report: mine, keys of a month", |_, n| {
        format!("usage/summary?group_by=key&{}", range(n, 31 * DAY))
    }),
    admin("report: all, hours of a week", |_, n| {
        format!("usage/summary?group_by=hour&{}", range(n, 7 * DAY))
    }),
    admin("report: all, models of 90 days", |_, _| {
        format!("usage/summary?group_by=model&from={}&to={}", text(instant(0)), text(instant(SPAN)))
    }),
    admin("report: organizations of a month", |_, n| {
        format!("usage/summary?group_by=org&{}", range(n, 31 * DAY))
    }),
];

pub(crate) async fn run(args: UsageArgs) -> anyhow::Result<()> {
    let named = |what| told(&args.data, what);
    let process = Process::serve(&args.ledgerline, &args.data, None)?;
    let mut client = Client::connect(&process.url).await?;
    let (operator, customer) = (named("/admin/api_key")?, named("/customer/api_key")?);
    let all = format!("/admin/usage/summary?from={}&to={}", text(instant(0)), text(instant(SPAN)));
    let whole: Value = serde_json::from_slice(&client.get(&all, &operator).await?)?;
    let records = whole.pointer("/totals/0/calls").and_then(Value::as_u64).context("records")?;
    let setting = Setting { customer: named("/customer/org_id")?, records };
    let mut table = format!(
        "# Finding usage\n\n{records} records, 1,000 organizations, 90 days; SQLite, over HTTP, one client.\n\n\
         `{}`\n\n| what | p50 ms | p95 ms | bytes |\n|---|--:|--:|--:|\n",
        json!({
            "commit": machine::output("git", &["rev-parse", "--short", "HEAD"]),
            "date": machine::output("date", &["-u", "+%Y-%m-%d %H:%M"]),
            "start_ms": process.started_in.as_millis(),
        })
    );
    for kind in &KINDS {
        let key = if kind.customer { &customer } else { &operator };
        let line = measure(&mut client, kind, &setting, key, args.requests).await?;
        crate::say(line.trim_end())?;
        table.push_str(&line);
    }
    process.stop()?;
    if let Some(results) = &args.results {
        let date = machine::output("date", &["-u", "+%Y-%m-%d-%H%M"]);
        std::fs::write(results.join(format!("{date}-usage.md")), table)?;
    }
    Ok(())
}

async fn measure(
    client: &mut Client,
    kind: &Kind,
    setting: &Setting,
    key: &str,
    requests: u64,
) -> anyhow::Result<String> {
    let surface = if kind.customer { "/v1" } else { "/admin" };
    let (mut times, mut bytes) = (Vec::new(), 0);
    for number in 0..requests {
        let path = format!("{surface}/{}", (kind.path)(setting, number));
        let begun = Instant::now();
        bytes += client.get(&path, key).await?.len();
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or(f64::NAN);
    let each = bytes / times.len().max(1);
    Ok(format!("| {} | {:.1} | {:.1} | {each} |\n", kind.name, at(50), at(95)))
}

/// One connection.
struct Client {
    sender: SendRequest<Empty<Bytes>>,
    authority: String,
}

impl Client {
    async fn connect(url: &str) -> anyhow::Result<Self> {
        let authority = url.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // The sender notices when the connection ends.
            drop(connection.await);
        });
        Ok(Self { sender, authority })
    }

    async fn get(&mut self, path: &str, key: &str) -> anyhow::Result<Bytes> {
        let request = Request::get(path)
            .header("host", &self.authority)
            .header("authorization", format!("Bearer {key}"))
            .body(Empty::new())?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}
