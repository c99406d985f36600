//! An upstream that is described by templates: what is sent, and what its answers mean.
//!
//! Only the operator's hosts are asked, with the operator's credentials: templates may come from a server
//! that is followed, but no path and no answer leads to another host, redirections are not followed, and
//! private addresses are reached if the operator allows it.

mod answer;
mod config;
mod description;
mod lines;
mod row;
mod template;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use web::{Outside, OutsideError, read_at_most};

use self::answer::{House, Progress};
pub use self::config::{UapiConfig, UapiMode, UapiStep};
use self::description::Description;
pub(crate) use self::lines::Lines;
pub use self::row::UapiRow;
use crate::{
    Answer, CallError, ChatStream, ConfigError, Endpoint, Phase, ProviderConfig, Refusal,
    UpstreamCall,
};

/// So much of a refusal's text is kept.
const REFUSAL_LIMIT: usize = 16 * 1024;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What says where a request goes and where it ends: not for templates to say.
const FRAMING: [HeaderName; 7] =
    [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE, TE, TRAILER];

/// An upstream that is described by templates.
#[derive(Debug)]
pub(crate) struct UapiProvider {
    base: String,
    outside: Outside,
    config: UapiConfig,
    /// Or why there is none.
    description: ArcSwap<Result<Arc<Description>, String>>,
    /// What templates see beside the request.
    credentials: Map<String, Value>,
    headers: HeaderMap,
    first_token: Duration,
    idle: Duration,
    total: Duration,
    max_answer: usize,
}

impl UapiProvider {
    pub(crate) fn new(config: &ProviderConfig) -> Result<Self, ConfigError> {
        let invalid = |what: String| ConfigError::Provider { provider: config.name.clone(), what };
        let uapi =
            config.uapi.clone().ok_or_else(|| invalid("uapi, which is missing,".to_owned()))?;
        let base = config.base_url.trim_end_matches('/').to_owned();
        let uri: Uri = base.parse().map_err(|_cause| invalid(format!("base_url {base:?}")))?;
        let port = uri
            .port_u16()
            .unwrap_or_else(|| if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let allowed =
            uri.host().filter(|_| uapi.allow_private).map(|host| format!("{host}:{port}"));
        let allowed: Vec<String> = allowed.into_iter().collect();
        let outside = Outside::new(&allowed).map_err(ConfigError::Certificates)?;
        outside.check(&uri).map_err(|error| invalid(format!("base_url {base:?} ({error})")))?;
        let written = Description::configured(&uapi);
        let written = written.map_err(|why| invalid(format!("uapi.{why}")))?;
        let unheard = || format!("no description {:?} was heard of yet", uapi.cached);
        let description = written.map(Arc::new).ok_or_else(unheard);
        let secret = |text: &kernel::Secret| Value::from(text.expose());
        let credentials = Map::from_iter([
            ("apikey".to_owned(), secret(&config.api_key)),
            ("secretkey".to_owned(), secret(&uapi.secret_key)),
        ]);
        let headers =
            config.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
        let headers = header_map(headers).map_err(|why| invalid(format!("headers: {why}")))?;
        Ok(Self {
            base,
            outside,
            description: ArcSwap::from_pointee(description),
            credentials,
            headers,
            first_token: config.first_token_timeout(),
            idle: config.idle_timeout(),
            total: config.total_timeout(),
            max_answer: config.max_answer_bytes,
            config: uapi,
        })
    }

    /// Why it cannot be called: the description that it follows is missing or not valid.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.description.load().as_ref().as_ref().err().cloned()
    }

    pub(crate) fn is_described(&self) -> bool {
        self.description.load().is_ok()
    }

    /// Its description is another server's.
    pub(crate) const fn follows(&self) -> bool {
        !self.config.cached.is_empty()
    }

    /// Goes by what the followed server has now. A description that is gone or not valid is not
    /// replaced by the one before: all instances do the same, also those that start later.
    pub(crate) fn follow(&self, provider: &str, rows: &[UapiRow]) {
        if !self.follows() {
            return;
        }
        let description = Description::followed(&self.config, rows);
        let before = self.trouble();
        match &description {
            Err(why) if before.as_ref() != Some(why) => {
                tracing::error!(provider, why, "the provider cannot be called");
            }
            Ok(_) if before.is_some() => tracing::info!(provider, "the provider is described"),
            _ => {}
        }
        self.description.store(Arc::new(description.map(Arc::new)));
    }

    pub(crate) async fn call(&self, call: UpstreamCall) -> Result<Answer, CallError> {
        if call.endpoint != Endpoint::Chat {
            return Err(CallError::Broken(
                "an upstream described by templates only chats".to_owned(),
            ));
        }
        let request: Map<String, Value> = serde_json::from_slice(&call.body)
            .map_err(|error| CallError::Broken(error.to_string()))?;
        let description = match self.description.load().as_ref() {
            Ok(description) => Arc::clone(description),
            // It went after the route was chosen.
            Err(why) => return Err(CallError::Connect(why.clone())),
        };
        let asked = Asked { provider: self, description, call: &call, request: &request };
        let until = Instant::now() + self.total;
        let house = match asked.description.mode {
            UapiMode::Stream => {
                let stream = asked.stream().await?;
                if call.stream {
                    return Ok(Answer::Stream(Box::new(stream)));
                }
                timeout_at(until, answer::collect(stream, self.max_answer)).await
            }
            UapiMode::Sync => timeout_at(until, asked.ask("call", Map::new())).await,
            UapiMode::Async => timeout_at(until, asked.poll()).await,
        };
        let house = house.unwrap_or(Err(CallError::Timeout(Phase::Total)))?;
        let model = request.get("model").and_then(Value::as_str).unwrap_or_default();
        if call.stream {
            let stream = ChatStream::from_frames(house.frames(model), call.strip_usage);
            return Ok(Answer::Stream(Box::new(stream)));
        }
        Ok(Answer::Full { content_type: "application/json".to_owned(), body: house.whole(model) })
    }

    /// The path behind the base address: whatever it holds, it stays there.
    fn address(&self, path: &str, params: &BTreeMap<String, String>) -> Result<Uri, CallError> {
        let broken = || {
            CallError::Broken(format!(
                "the path {:?} is none",
                path.chars().take(200).collect::<String>()
            ))
        };
        let mut text = format!("{}{path}", self.base);
        let plain = path.is_empty() || path.starts_with('/');
        if !plain || path.split(['/', '?']).any(climbs) || path.contains('#') {
            return Err(broken());
        }
        if !params.is_empty() {
            text.push(if path.contains('?') { '&' } else { '?' });
            text.push_str(&serde_urlencoded::to_string(params).map_err(|_cause| broken())?);
        }
        let uri: Uri = text.parse().map_err(|_cause| broken())?;
        let base: Uri = self.base.parse().map_err(|_cause| broken())?;
        if uri.authority() == base.authority() { Ok(uri) } else { Err(broken()) }
    }
}

/// A call, and the description that it began with.
struct Asked<'a> {
    provider: &'a UapiProvider,
    description: Arc<Description>,
    call: &'a UpstreamCall,
    request: &'a Map<String, Value>,
}

impl Asked<'_> {
    /// Asks once and gives what the answer means.
    async fn ask(&self, step: &'static str, task: Map<String, Value>) -> Result<House, CallError> {
        let response = self.send(step, task).await?;
        let body = read_at_most(response.into_body(), self.provider.max_answer).await;
        let body: Value = serde_json::from_slice(&body.map_err(failed)?)
            .map_err(|error| CallError::Broken(format!("the answer is no JSON: {error}")))?;
        self.description.templates.answer(step, body, self.request)
    }

    /// Hands the work in, and asks for it until it is done.
    async fn poll(&self) -> Result<House, CallError> {
        let mut house = self.ask("call", Map::new()).await?;
        let task = house.members().clone();
        let period = Duration::from_millis(self.provider.config.period_ms.max(50));
        loop {
            match house.progress() {
                Progress::Done => return Ok(house),
                Progress::Failed(why) => {
                    return Err(CallError::Broken(format!("the task failed: {why}")));
                }
                Progress::Running => sleep(period).await,
            }
            house = self.ask("query", task.clone()).await?;
        }
    }

    /// A stream that is put together here keeps its usage.
    async fn stream(&self) -> Result<ChatStream, CallError> {
        let (first_token, idle) = (self.provider.first_token, self.provider.idle);
        let asked = timeout(first_token, self.send("call", Map::new())).await;
        let response = asked.unwrap_or(Err(CallError::Timeout(Phase::FirstToken)))?;
        let lines = Lines::new(Arc::clone(&self.description), self.request.clone());
        let strip_usage = self.call.stream && self.call.strip_usage;
        Ok(ChatStream::from_lines(response.into_body(), lines, (first_token, idle), strip_usage))
    }

    /// Sends what a step's templates say; an answer that is no success is an error.
    async fn send(
        &self,
        step: &'static str,
        task: Map<String, Value>,
    ) -> Result<Response<Incoming>, CallError> {
        // What the caller calls like these is not seen by these names.
        let mut fields = self.request.clone();
        fields.extend(task);
        fields.extend(self.provider.credentials.clone());
        fields.insert("request".to_owned(), Value::Object(self.request.clone()));
        let sent = self.description.templates.request(step, &fields).map_err(CallError::Broken)?;
        let mut message = Request::new(Full::new(Bytes::from(sent.data)));
        *message.uri_mut() = self.provider.address(&sent.path, &sent.params)?;
        *message.method_mut() = self.description.method(step);
        let headers = message.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.provider.headers.clone());
        let given = header_map(sent.headers.into_iter()).map_err(CallError::Broken)?;
        if let Some(framing) = FRAMING.iter().find(|name| given.contains_key(*name)) {
            return Err(CallError::Broken(format!("{step}.headers gives {framing}")));
        }
        headers.extend(given);
        if let Ok(id) = HeaderValue::from_str(&self.call.request_id) {
            headers.insert(REQUEST_ID, id);
        }
        let response = self.provider.outside.send(message).await.map_err(failed)?;
        if response.status().is_success() { Ok(response) } else { Err(refused(response).await) }
    }
}

/// `..`, also where its dots are encoded.
fn climbs(segment: &str) -> bool {
    segment.to_ascii_lowercase().replace("%2e", ".") == ".."
}

fn header_map(headers: impl Iterator<Item = (String, String)>) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let bad = || format!("the header {:?} is none", name.chars().take(64).collect::<String>());
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_cause| bad())?;
        let mut value = HeaderValue::from_str(&value).map_err(|_cause| bad())?;
        value.set_sensitive(true);
        map.insert(header, value);
    }
    Ok(map)
}

fn failed(error: OutsideError) -> CallError {
    match error {
        OutsideError::Broken(why) => CallError::Broken(why),
        OutsideError::TooLarge(most) => CallError::TooLarge(most),
        other => CallError::Connect(other.to_string()),
    }
}

async fn refused(response: Response<Incoming>) -> CallError {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    let reading =
        timeout(Duration::from_secs(5), read_at_most(response.into_body(), REFUSAL_LIMIT));
    let body = reading.await.ok().and_then(Result::ok).unwrap_or_default();
    let retry_after = retry_after.map(Duration::from_secs);
    CallError::Refused(Box::new(Refusal { status, body, retry_after }))
}
