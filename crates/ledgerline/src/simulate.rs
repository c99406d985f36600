//! `ledgerline simulate`: the simulated provider as a process of its own, with faults on demand.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures_util::{Stream, StreamExt as _, stream};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use models::sim::{Directive, SimRefusal, SimRequest, Style, embeddings};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cli::say;

/// Answers kept ready for requests that are asked again and again.
const READY_ANSWERS: usize = 256;
/// By then, what was written before has left.
const FLUSHED: Duration = Duration::from_millis(20);
const MODELS: [&str; 3] = ["sim-small", "sim-large", "sim-embed"];

#[derive(Clone, Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9100")]
    listen: SocketAddr,
    /// Wait so long before each answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    delay_ms: u64,
    /// Cut the content of streams into so many chunks [default: one a word]
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
    /// Wait so long between two chunks
    #[arg(long, value_name = "N", default_value_t = 0)]
    interval_ms: u64,
    /// Answer this share of calls with status 500, evenly spread
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = share)]
    fail_rate: f64,
    /// Answer so many calls, refuse as many with status 503, and so on in turns
    #[arg(long, value_name = "N", default_value_t = 0)]
    flap: u64,
    /// Drop the connection after so many chunks of a stream, or bytes of a complete answer
    #[arg(long, value_name = "N")]
    drop_after: Option<usize>,
    /// What is reported as usage
    #[arg(long, value_enum, default_value_t = Usage::Normal)]
    usage: Usage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Usage {
    /// The truth
    Normal,
    /// Nothing, even when asked
    Missing,
    /// Figures that cannot be
    Odd,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a number from 0 to 1".to_owned()),
    }
}

struct Simulation {
    args: SimulateArgs,
    calls: AtomicU64,
    ready: Mutex<HashMap<[u8; 32], Arc<Ready>>>,
}

/// An answer, made once.
enum Ready {
    Full(Bytes),
    Frames(Vec<Bytes>),
    Refused(SimRefusal),
    Fault(Directive),
}

pub(crate) async fn run(args: SimulateArgs) -> anyhow::Result<()> {
    let listen = args.listen;
    let listener = web::listen(listen).with_context(|| format!("cannot listen on {listen}"))?;
    say(&format!("simulated provider on http://{}", listener.local_addr()?))?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let signal = tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        stopping.cancel();
    });
    let config = web::Config { drain_seconds: 0, ..web::Config::default() };
    let lanes = web::Lanes::start().context("no threads can be started")?;
    web::serve(
        listener,
        router(args),
        &config,
        &lanes,
        web::Stop { gently: stop, ..web::Stop::default() },
    )
    .await;
    signal.abort();
    Ok(())
}

fn router(args: SimulateArgs) -> Router {
    let simulation =
        Simulation { args, calls: AtomicU64::new(0), ready: Mutex::new(HashMap::new()) };
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/embeddings", post(embed))
        .route("/v1/models", get(models))
        .with_state(Arc::new(simulation))
}

async fn models() -> Json<Value> {
    let data = MODELS
        .map(|id| json!({"id": id, "object": "model", "created": 0, "owned_by": "simulation"}));
    Json(json!({"object": "list", "data": data}))
}

async fn embed(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Response {
    simulation.pause().await;
    if let Some(status) = simulation.fails() {
        return refuse(&SimRefusal::new(status, "simulated failure"));
    }
    match embeddings(&body, simulation.style()) {
        Ok(answer) => json_answer(answer),
        Err(refusal) => refuse(&refusal),
    }
}

async fn chat(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Response {
    simulation.pause().await;
    if let Some(status) = simulation.fails() {
        return refuse(&SimRefusal::new(status, "simulated failure"));
    }
    match simulation.answer(&body).as_ref() {
        Ready::Refused(refusal) => refuse(refusal),
        Ready::Fault(fault) => faulty(fault).await,
        Ready::Full(answer) => match simulation.args.drop_after {
            Some(limit) if limit < answer.len() => cut_answer(answer, limit),
            _ => json_answer(answer.clone()),
        },
        Ready::Frames(frames) => simulation.stream(frames),
    }
}

impl Simulation {
    const fn style(&self) -> Style {
        match self.args.usage {
            Usage::Normal => Style::Normal,
            Usage::Missing => Style::Missing,
            Usage::Odd => Style::Odd,
        }
    }

    async fn pause(&self) {
        if self.args.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.args.delay_ms)).await;
        }
    }

    /// With which status this call fails, if it is one of those that do.
    fn fails(&self) -> Option<u16> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let down = call.checked_div(self.args.flap).is_some_and(|turn| turn % 2 == 1);
        if down {
            return Some(503);
        }
        self.is_in_share(call).then_some(500)
    }

    /// The n-th call fails when the share passes a whole number there.
    #[expect(clippy::cast_precision_loss, reason = "a count of calls")]
    fn is_in_share(&self, call: u64) -> bool {
        let (call, rate) = (call as f64, self.args.fail_rate);
        ((call + 1.0) * rate).floor() > (call * rate).floor()
    }

    fn answer(&self, body: &[u8]) -> Arc<Ready> {
        let key = *blake3::hash(body).as_bytes();
        if let Some(ready) = self.ready.lock().get(&key) {
            return Arc::clone(ready);
        }
        let ready = Arc::new(self.make(body));
        let mut all = self.ready.lock();
        if all.len() >= READY_ANSWERS {
            all.clear();
        }
        all.insert(key, Arc::clone(&ready));
        ready
    }

    fn make(&self, body: &[u8]) -> Ready {
        let request = match SimRequest::parse(body) {
            Ok(request) => request,
            Err(refusal) => return Ready::Refused(refusal),
        };
        let fault = request
            .directives()
            .into_iter()
            .find(|directive| FAULTS.contains(&directive.name.as_str()));
        if let Some(fault) = fault {
            return Ready::Fault(fault);
        }
        match request.answer() {
            Err(refusal) => Ready::Refused(refusal),
            Ok(reply) if request.stream() => {
                Ready::Frames(reply.frames(self.style(), self.args.chunks))
            }
            Ok(reply) => Ready::Full(reply.full(self.style())),
        }
    }

    fn stream(&self, frames: &[Bytes]) -> Response {
        let drop_after = self.args.drop_after.filter(|limit| *limit < frames.len());
        if self.args.interval_ms == 0 && drop_after.is_none() {
            // All at once, in one piece for each frame.
            let all: Vec<Result<Bytes, Infallible>> = frames.iter().cloned().map(Ok).collect();
            return event_stream(Body::from_stream(stream::iter(all)));
        }
        let interval = Duration::from_millis(self.args.interval_ms);
        let sent = drop_after.unwrap_or(frames.len());
        let items: Vec<Bytes> = frames.iter().take(sent).cloned().collect();
        let begun = tokio::time::Instant::now();
        let paced = stream::iter((0_u32..).zip(items)).then(move |(at, item)| async move {
            if !interval.is_zero() {
                tokio::time::sleep_until(begun + interval * at).await;
            }
            Ok(item)
        });
        event_stream(match drop_after {
            Some(_) => Body::from_stream(paced.chain(cut())),
            None => Body::from_stream(paced),
        })
    }
}

/// Breaks the connection, when what was sent before is on its way.
fn cut() -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::once(async {
        tokio::time::sleep(FLUSHED).await;
        Err(std::io::Error::other("cut on demand"))
    })
}

/// Directives that make the provider misbehave.
const FAULTS: [&str; 3] = ["hang", "garbage", "half"];

async fn faulty(fault: &Directive) -> Response {
    match fault.name.as_str() {
        "hang" => std::future::pending().await,
        "garbage" => json_answer(Bytes::from_static(b"<html>not what you asked for</html>")),
        _ => {
            let half = b"data: {\"choices\":[{\"delta\":{\"content\":\"half \"}}]}\n\ndata: {\"cho";
            let sent = stream::iter([Ok(Bytes::from_static(half))]);
            event_stream(Body::from_stream(sent.chain(cut())))
        }
    }
}

/// The start of an answer, then a broken connection.
fn cut_answer(answer: &Bytes, limit: usize) -> Response {
    let sent = stream::iter([Ok(answer.slice(..limit))]);
    let mut response = Body::from_stream(sent.chain(cut())).into_response();
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn json_answer(body: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn event_stream(body: Body) -> Response {
    ([(CONTENT_TYPE, "text/event-stream")], body).into_response()
}

fn refuse(refusal: &SimRefusal) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(refusal.body.clone())).into_response()
}
