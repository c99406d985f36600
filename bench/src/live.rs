//! WebSocket clients of the agent API, on the built binary: how long after its cause an event is with them.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::process::{Process, told};

/// Of all clients, so many look at the session that changes.
const LOOKING: usize = 100;
/// Changes of that session in a second.
const RATE: u64 = 50;
const SECONDS: u64 = 10;
const QUIET: Duration = Duration::from_secs(3);

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Attaches so many clients, changes one session, and says when those that look at it heard of it.
pub(crate) async fn run(ledgerline: &Path, folder: &Path, clients: usize) -> anyhow::Result<Value> {
    let data = folder.join("live");
    let config = folder.join("live.json");
    std::fs::write(&config, json!({"agents": {"max_connections": clients}}).to_string())?;
    let process = Process::serve(ledgerline, &data, Some(&config))?;
    let key = told(&data, "/customer/api_key")?;
    let (busy, quiet) = (session(&process.url, &key)?, session(&process.url, &key)?);
    let (before, _) = process.memory_kib()?;
    let mut looking = Vec::new();
    let mut others = Vec::new();
    for number in 0..clients {
        let of = if number < LOOKING { &busy } else { &quiet };
        let client = attach(&process.url, &key, number, of).await?;
        if number < LOOKING { looking.push(client) } else { others.push(client) }
    }
    let (after, _) = process.memory_kib()?;
    let cpu = process.cpu_micros()?;
    let listeners: Vec<_> =
        looking.into_iter().map(|client| tokio::spawn(listen(client))).collect();
    let (url, held) = (process.url.clone(), others.len());
    let changed = tokio::task::spawn_blocking(move || change(&url, &key, &busy)).await??;
    let mut times = Histogram::<u64>::new(3)?;
    for listener in listeners {
        times.add(listener.await??)?;
    }
    let heard = times.len();
    ensure!(heard == changed * LOOKING as u64, "{heard} of {changed} changes were heard");
    drop(others);
    Ok(json!({
        "clients": LOOKING + held, "looking": LOOKING, "changes": changed,
        "p50_us": times.value_at_quantile(0.5), "p99_us": times.value_at_quantile(0.99),
        "worst_us": times.max(), "kib_per_client": (after - before) / clients as u64,
        "cpu_us": process.cpu_micros()? - cpu,
    }))
}

fn session(url: &str, key: &str) -> anyhow::Result<String> {
    let body = json!({"workflow_config_path": "configs/workflows/react.yaml"}).to_string();
    let made: Value =
        serde_json::from_str(&super::flow_http::ask(url, key, "POST /sessions/", &body)?)?;
    let id = made.get("session_id").and_then(Value::as_str);
    Ok(id.context("a session has an id")?.to_owned())
}

async fn attach(url: &str, key: &str, number: usize, session: &str) -> anyhow::Result<Client> {
    let address =
        format!("{}/ws/client{number}", url.trim_end_matches('/').replacen("http", "ws", 1));
    let mut request = address.into_client_request()?;
    request.headers_mut().insert("x-api-key", key.parse()?);
    let (mut client, _answer) = connect_async(request).await?;
    let subscribe = json!({"type": "subscribe", "session_id": session}).to_string();
    client.send(Message::text(subscribe)).await?;
    let answer = client.next().await.context("the connection ended")??;
    ensure!(answer.to_text()?.contains("subscribed"), "not subscribed: {answer}");
    Ok(client)
}

/// Hears changes until there are no more; how old they were.
async fn listen(mut client: Client) -> anyhow::Result<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    while let Ok(Some(message)) = timeout(QUIET, client.next()).await {
        let now = micros();
        let message: Value = match message? {
            Message::Text(text) => serde_json::from_str(&text)?,
            _ => continue,
        };
        if let Some(sent) = message.pointer("/data/metadata/sent").and_then(Value::as_u64) {
            times.record(now.saturating_sub(sent))?;
        }
    }
    Ok(times)
}

/// Changes a session at the rate; the time at which a change was due goes with it.
fn change(url: &str, key: &str, session: &str) -> anyhow::Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut due = runtime.block_on(async {
        let mut due = interval(Duration::from_millis(1_000 / RATE));
        due.set_missed_tick_behavior(MissedTickBehavior::Burst);
        due.tick().await;
        due
    });
    let begun = Instant::now();
    for _ in 0..RATE * SECONDS {
        let tick = runtime.block_on(due.tick());
        let late = u64::try_from(tick.elapsed().as_micros())?;
        let body = json!({"metadata": {"sent": micros().saturating_sub(late)}}).to_string();
        super::flow_http::ask(url, key, &format!("PUT /sessions/{session}"), &body)?;
    }
    ensure!(begun.elapsed() < Duration::from_secs(2 * SECONDS), "the changes took too long");
    Ok(RATE * SECONDS)
}

#[expect(clippy::disallowed_methods, reason = "two processes of one machine share this clock")]
fn micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
