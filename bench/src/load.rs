//! The load generator: keep-alive connections, each one request at a time.
//!
//! Closed loop without `--rate`; with it, requests begin at fixed times and their latency counts
//! from when they should have begun, so a slow target cannot hide by being asked less.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use hdrhistogram::Histogram;
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

#[derive(Args, Clone)]
pub(crate) struct LoadArgs {
    /// Such as <http://127.0.0.1:8000>
    #[arg(long)]
    pub(crate) url: String,
    /// Connections
    #[arg(long, default_value_t = 64)]
    pub(crate) clients: usize,
    /// How long
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Requests per second in all; as many as possible when absent
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Ask for streams
    #[arg(long)]
    pub(crate) stream: bool,
    /// Size of the prompt in bytes
    #[arg(long, default_value_t = 200)]
    pub(crate) prompt_bytes: usize,
    /// Words of the answer; 24 when absent
    #[arg(long)]
    pub(crate) words: Option<usize>,
    /// A frame later than this after the one before counts as late, if the stream is paced
    #[arg(long)]
    pub(crate) late_ms: Option<u64>,
    /// Ask for this path instead of a model's answer
    #[arg(long)]
    pub(crate) path: Option<String>,
    /// With --path: post this, `{n}` being another number each time
    #[arg(long, requires = "path")]
    pub(crate) body: Option<String>,
    /// The API key
    #[arg(long)]
    pub(crate) key: Option<String>,
}

/// What was measured; times in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) first_p50: u64,
    pub(crate) first_p99: u64,
    pub(crate) frames: u64,
    pub(crate) late_frames: u64,
}

struct Shared {
    args: LoadArgs,
    authority: String,
    body: Bytes,
    next: AtomicU64,
    /// Requests that may begin, where a rate is set.
    due: Semaphore,
    begun: Instant,
    end: Instant,
}

struct Tally {
    whole: Histogram<u64>,
    first: Histogram<u64>,
    errors: u64,
    frames: u64,
    late: u64,
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, 120_000_000, 3);
        Ok(Self { whole: histogram()?, first: histogram()?, errors: 0, frames: 0, late: 0 })
    }
}

pub(crate) async fn run(args: LoadArgs) -> anyhow::Result<Figures> {
    let uri: Uri = args.url.parse()?;
    let authority = uri.authority().context("--url names no host")?.to_string();
    let begun = Instant::now();
    let shared = Arc::new(Shared {
        body: body(&args),
        authority,
        next: AtomicU64::new(0),
        due: Semaphore::new(0),
        begun,
        end: begun + Duration::from_secs_f64(args.seconds),
        args,
    });
    let pacing = Arc::clone(&shared);
    let pacer = std::thread::spawn(move || pace(&pacing));
    let clients: Vec<_> =
        (0..shared.args.clients).map(|_| tokio::spawn(client(Arc::clone(&shared)))).collect();
    let mut all = Tally::new()?;
    for client in clients {
        let tally = client.await??;
        all.whole.add(&tally.whole)?;
        all.first.add(&tally.first)?;
        all.errors += tally.errors;
        all.frames += tally.frames;
        all.late += tally.late;
    }
    let seconds = begun.elapsed().as_secs_f64();
    drop(pacer.join());
    let requests = all.whole.len();
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    let per_second = requests as f64 / seconds;
    Ok(Figures {
        requests,
        errors: all.errors,
        seconds,
        per_second,
        p50: all.whole.value_at_quantile(0.5),
        p99: all.whole.value_at_quantile(0.99),
        first_p50: all.first.value_at_quantile(0.5),
        first_p99: all.first.value_at_quantile(0.99),
        frames: all.frames,
        late_frames: all.late,
    })
}

fn body(args: &LoadArgs) -> Bytes {
    let directive = args.words.map(|words| format!("[[words:{words}]] ")).unwrap_or_default();
    let prompt = directive + &"measure me ".repeat(args.prompt_bytes / 11 + 1);
    let longest = args.words.unwrap_or(64);
    let body = serde_json::json!({
        "model": "bench", "stream": args.stream, "max_tokens": longest,
        "messages": [{"role": "user", "content": prompt}],
    });
    Bytes::from(body.to_string())
}

async fn connect(shared: &Shared) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(&shared.authority).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // The sender notices when the connection ends.
        drop(connection.await);
    });
    Ok(sender)
}

async fn client(shared: Arc<Shared>) -> anyhow::Result<Tally> {
    let mut tally = Tally::new()?;
    let mut sender = connect(&shared).await?;
    loop {
        if shared.args.rate.is_some() {
            shared.due.acquire().await?.forget();
        }
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let start = intended_start(&shared, number);
        if start >= shared.end {
            return Ok(tally);
        }
        match call(&mut sender, &shared, (start, number), &mut tally).await {
            Ok(()) => tally.whole.saturating_record(micros(start.elapsed())),
            Err(_failed) => {
                tally.errors += 1;
                sender = connect(&shared).await?;
            }
        }
    }
}

/// Lets requests begin at their times, more exactly than a runtime's timer would.
#[expect(clippy::disallowed_methods, reason = "a thread of its own that keeps time")]
fn pace(shared: &Shared) {
    if shared.args.rate.is_none() {
        return;
    }
    for number in 0.. {
        let intended = intended_start(shared, number);
        std::thread::sleep(intended.saturating_duration_since(Instant::now()));
        if intended >= shared.end {
            // Everyone who waits is to see that it is over.
            return shared.due.add_permits(shared.args.clients);
        }
        shared.due.add_permits(1);
    }
}

fn intended_start(shared: &Shared, number: u64) -> Instant {
    match shared.args.rate {
        #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
        Some(rate) => shared.begun + Duration::from_secs_f64(number as f64 / rate),
        None => Instant::now(),
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn request(shared: &Shared, number: u64) -> anyhow::Result<Request<Full<Bytes>>> {
    let to = |path: &str| {
        let request = Request::builder().uri(path).header("host", &shared.authority);
        request.header("content-type", "application/json")
    };
    let LoadArgs { path, body, .. } = &shared.args;
    Ok(match (path, body) {
        (None, _) => {
            to("/v1/chat/completions").method("POST").body(Full::new(shared.body.clone()))?
        }
        (Some(path), None) => to(path).body(Full::default())?,
        (Some(path), Some(body)) => {
            let body = body.replace("{n}", &number.to_string());
            to(path).method("POST").body(Full::new(Bytes::from(body)))?
        }
    })
}

async fn call(
    sender: &mut SendRequest<Full<Bytes>>,
    shared: &Shared,
    (start, number): (Instant, u64),
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut request = request(shared, number)?;
    if let Some(key) = &shared.args.key {
        request
            .headers_mut()
            .insert("authorization", HeaderValue::from_str(&format!("Bearer {key}"))?);
    }
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        bail!("status {}", response.status());
    }
    let mut body = response.into_body();
    let (mut bytes, mut last, mut ended) = (0, None::<Instant>, false);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let now = Instant::now();
        if bytes == 0 {
            tally.first.saturating_record(micros(start.elapsed()));
        }
        bytes += data.len();
        if shared.args.stream {
            tally.frames += 1;
            ended |= data.ends_with(b"data: [DONE]\n\n");
            let late = shared.args.late_ms.map(Duration::from_millis);
            if let (Some(late), Some(last)) = (late, last)
                && now - last > late
            {
                tally.late += 1;
            }
            last = Some(now);
        }
    }
    if (bytes < 100 && shared.args.path.is_none()) || (shared.args.stream && !ended) {
        bail!("the answer is not whole");
    }
    Ok(())
}
