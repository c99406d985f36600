//! An upstream that speaks the OpenAI HTTP API.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

use crate::{
    Answer, CallError, ChatStream, ConfigError, Endpoint, Phase, ProviderConfig, Refusal,
    UpstreamCall,
};

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// So much of a refusal's text is kept.
const REFUSAL_LIMIT: usize = 16 * 1024;
/// Reading a refusal's text takes no longer than this.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An upstream that speaks the OpenAI HTTP API.
#[derive(Debug)]
pub(crate) struct HttpProvider {
    /// One for each thread that serves, so that a connection is used on the thread it lives on.
    clients: Vec<HttpClient>,
    chat: Uri,
    embeddings: Uri,
    headers: HeaderMap,
    first_token: Duration,
    idle: Duration,
    total: Duration,
    max_answer: usize,
}

impl HttpProvider {
    pub(crate) fn new(config: &ProviderConfig) -> Result<Self, ConfigError> {
        let invalid = |what: String| ConfigError::Provider { provider: config.name.clone(), what };
        let address = |path: &str| -> Result<Uri, ConfigError> {
            let text = format!("{}{path}", config.base_url.trim_end_matches('/'));
            let uri: Uri = text
                .parse()
                .map_err(|_cause| invalid(format!("base_url {:?}", config.base_url)))?;
            match (uri.scheme_str(), uri.host()) {
                (Some("http" | "https"), Some(_)) => Ok(uri),
                _ => Err(invalid(format!("base_url {:?}", config.base_url))),
            }
        };
        Ok(Self {
            clients: clients(config)?,
            chat: address("/chat/completions")?,
            embeddings: address("/embeddings")?,
            headers: headers(config).ok_or_else(|| invalid("api_key or headers".to_owned()))?,
            first_token: config.first_token_timeout(),
            idle: config.idle_timeout(),
            total: config.total_timeout(),
            max_answer: config.max_answer_bytes,
        })
    }

    pub(crate) async fn call(&self, call: UpstreamCall) -> Result<Answer, CallError> {
        if call.stream {
            return self.stream(call).await;
        }
        timeout(self.total, self.full(call)).await.unwrap_or(Err(CallError::Timeout(Phase::Total)))
    }

    async fn full(&self, call: UpstreamCall) -> Result<Answer, CallError> {
        let response = self.send(call).await?;
        let content_type = content_type(&response);
        let body = read_body(response.into_body(), self.max_answer).await?;
        Ok(Answer::Full { content_type, body })
    }

    async fn stream(&self, call: UpstreamCall) -> Result<Answer, CallError> {
        let strip_usage = call.strip_usage;
        let answered = timeout(self.first_token, self.send(call)).await;
        let response = answered.unwrap_or(Err(CallError::Timeout(Phase::FirstToken)))?;
        if !content_type(&response).starts_with("text/event-stream") {
            return Err(CallError::Broken(
                "a stream was asked for and something else came".to_owned(),
            ));
        }
        let stream =
            ChatStream::from_http(response.into_body(), self.first_token, self.idle, strip_usage);
        Ok(Answer::Stream(Box::new(stream)))
    }

    fn client(&self) -> Result<&HttpClient, CallError> {
        let at = thread_number() % self.clients.len().max(1);
        self.clients.get(at).ok_or_else(|| CallError::Connect("there is no client".to_owned()))
    }

    /// Sends the request; an answer that is no success is an error.
    async fn send(&self, call: UpstreamCall) -> Result<Response<Incoming>, CallError> {
        let uri = match call.endpoint {
            Endpoint::Chat => &self.chat,
            Endpoint::Embeddings => &self.embeddings,
        };
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = self.headers.clone();
        if let Ok(id) = HeaderValue::from_str(&call.request_id) {
            request.headers_mut().insert(REQUEST_ID, id);
        }
        if let Some(traceparent) = call.traceparent {
            request.headers_mut().insert(TRACEPARENT, traceparent);
        }
        let response = self.client()?.request(request).await.map_err(|error| failed(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refused(response).await)
    }
}

fn failed(error: &hyper_util::client::legacy::Error) -> CallError {
    let cause = innermost(error);
    if error.is_connect() { CallError::Connect(cause) } else { CallError::Broken(cause) }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

async fn refused(response: Response<Incoming>) -> CallError {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let reading = read_body(response.into_body(), REFUSAL_LIMIT);
    let body =
        timeout(REFUSAL_TIMEOUT, reading).await.ok().and_then(Result::ok).unwrap_or_default();
    CallError::Refused(Box::new(Refusal { status, body, retry_after }))
}

fn content_type(response: &Response<Incoming>) -> String {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or("application/json").to_owned()
}

async fn read_body(mut body: Incoming, limit: usize) -> Result<Bytes, CallError> {
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| CallError::Broken(innermost(&error)))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.len() + data.len() > limit {
            return Err(CallError::TooLarge(limit));
        }
        // Most answers come in one piece and need no copy.
        match first.take() {
            None if whole.is_empty() => first = Some(data),
            None => whole.extend_from_slice(&data),
            Some(earlier) => {
                whole.extend_from_slice(&earlier);
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

fn clients(config: &ProviderConfig) -> Result<Vec<HttpClient>, ConfigError> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_millis(config.connect_timeout_ms)));
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
        .map_err(ConfigError::Certificates)?
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    let client = |connector| {
        Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(config.pool_idle_ms))
            .build(connector)
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(std::iter::repeat_n(connector, threads).map(client).collect())
}

/// The number of this thread among those that have called an upstream.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! { static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed); }
    NUMBER.with(|number| *number)
}

fn headers(config: &ProviderConfig) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    if !config.api_key.is_empty() {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {}", config.api_key.expose())).ok()?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    for (name, value) in &config.headers {
        let mut value = HeaderValue::from_str(value.expose()).ok()?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
    }
    Some(headers)
}
