//! An upstream that is described by templates: what is sent, and what its answers mean.
//!
//! Only the operator writes templates, and only the operator's hosts are asked: a path or an answer cannot
//! lead to another host, redirections are not followed, and private addresses are reached if the
//! description allows it.

mod answer;
mod config;
mod lines;
mod template;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use web::{Outside, OutsideError, read_at_most};

use self::answer::{House, Progress};
pub use self::config::{UapiConfig, UapiMode, UapiStep};
pub(crate) use self::lines::Lines;
use self::template::Templates;
use crate::{
    Answer, CallError, ChatStream, ConfigError, Endpoint, Phase, ProviderConfig, Refusal,
    UpstreamCall,
};

/// So much of a refusal's text is kept.
const REFUSAL_LIMIT: usize = 16 * 1024;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An upstream that is described by templates.
#[derive(Debug)]
pub(crate) struct UapiProvider {
    base: String,
    outside: Outside,
    config: UapiConfig,
    templates: std::sync::Arc<Templates>,
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
        if uapi.mode == UapiMode::Async && uapi.query.is_none() {
            return Err(invalid("uapi.mode async without uapi.query".to_owned()));
        }
        let templates = Templates::new(&uapi).map_err(|why| invalid(format!("uapi.{why}")))?;
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
            templates: templates.into(),
            credentials,
            headers,
            first_token: config.first_token_timeout(),
            idle: config.idle_timeout(),
            total: config.total_timeout(),
            max_answer: config.max_answer_bytes,
            config: uapi,
        })
    }

    pub(crate) async fn call(&self, call: UpstreamCall) -> Result<Answer, CallError> {
        if call.endpoint != Endpoint::Chat {
            return Err(CallError::Broken(
                "an upstream described by templates only chats".to_owned(),
            ));
        }
        let request: Map<String, Value> = serde_json::from_slice(&call.body)
            .map_err(|error| CallError::Broken(error.to_string()))?;
        let until = Instant::now() + self.total;
        let house = match self.config.mode {
            UapiMode::Stream => {
                let stream = self.stream(&call, &request).await?;
                if call.stream {
                    return Ok(Answer::Stream(Box::new(stream)));
                }
                timeout_at(until, answer::collect(stream, self.max_answer)).await
            }
            UapiMode::Sync => {
                timeout_at(until, self.ask("call", &call, &request, Map::new())).await
            }
            UapiMode::Async => timeout_at(until, self.poll(&call, &request)).await,
        };
        let house = house.unwrap_or(Err(CallError::Timeout(Phase::Total)))?;
        let model = request.get("model").and_then(Value::as_str).unwrap_or_default();
        if call.stream {
            let stream = ChatStream::from_frames(house.frames(model), call.strip_usage);
            return Ok(Answer::Stream(Box::new(stream)));
        }
        Ok(Answer::Full { content_type: "application/json".to_owned(), body: house.whole(model) })
    }

    /// Asks once and gives what the answer means.
    async fn ask(
        &self,
        step: &'static str,
        call: &UpstreamCall,
        request: &Map<String, Value>,
        task: Map<String, Value>,
    ) -> Result<House, CallError> {
        let response = self.send(step, call, request, task).await?;
        let body = read_at_most(response.into_body(), self.max_answer).await.map_err(failed)?;
        let body: Value = serde_json::from_slice(&body)
            .map_err(|error| CallError::Broken(format!("the answer is no JSON: {error}")))?;
        self.templates.answer(step, body, request)
    }

    /// Hands the work in, and asks for it until it is done.
    async fn poll(
        &self,
        call: &UpstreamCall,
        request: &Map<String, Value>,
    ) -> Result<House, CallError> {
        let mut house = self.ask("call", call, request, Map::new()).await?;
        let task = house.members().clone();
        loop {
            match house.progress() {
                Progress::Done => return Ok(house),
                Progress::Failed(why) => {
                    return Err(CallError::Broken(format!("the task failed: {why}")));
                }
                Progress::Running => {
                    sleep(Duration::from_millis(self.config.period_ms.max(50))).await;
                }
            }
            house = self.ask("query", call, request, task.clone()).await?;
        }
    }

    /// A stream that is put together here keeps its usage.
    async fn stream(
        &self,
        call: &UpstreamCall,
        request: &Map<String, Value>,
    ) -> Result<ChatStream, CallError> {
        let asked = timeout(self.first_token, self.send("call", call, request, Map::new())).await;
        let response = asked.unwrap_or(Err(CallError::Timeout(Phase::FirstToken)))?;
        let lines =
            Lines::new(self.templates.clone(), self.config.chunk_match.clone(), request.clone());
        Ok(ChatStream::from_lines(
            response.into_body(),
            lines,
            (self.first_token, self.idle),
            call.stream && call.strip_usage,
        ))
    }

    /// Sends what a step's templates say; an answer that is no success is an error.
    async fn send(
        &self,
        step: &'static str,
        call: &UpstreamCall,
        request: &Map<String, Value>,
        task: Map<String, Value>,
    ) -> Result<Response<Incoming>, CallError> {
        // What the caller calls like these is not seen by these names.
        let mut fields = request.clone();
        fields.extend(task);
        fields.extend(self.credentials.clone());
        fields.insert("request".to_owned(), Value::Object(request.clone()));
        let sent = self.templates.request(step, &fields).map_err(CallError::Broken)?;
        let mut message = Request::new(Full::new(Bytes::from(sent.data)));
        *message.uri_mut() = self.address(&sent.path, &sent.params)?;
        let method = self.config.step(step).method.as_bytes();
        *message.method_mut() = Method::from_bytes(method).unwrap_or(Method::POST);
        let headers = message.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.headers.clone());
        headers.extend(header_map(sent.headers.into_iter()).map_err(CallError::Broken)?);
        if let Ok(id) = HeaderValue::from_str(&call.request_id) {
            headers.insert(REQUEST_ID, id);
        }
        let response = self.outside.send(message).await.map_err(failed)?;
        if response.status().is_success() { Ok(response) } else { Err(refused(response).await) }
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
