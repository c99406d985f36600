//! A client of a running server: for the commands, and for the sync from an upstream.

use std::time::Duration;

use ::http::header::{AUTHORIZATION, CONTENT_TYPE};
use ::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kernel::{Secret, SharedClock};
use serde_json::Value;

const CONNECT: Duration = Duration::from_secs(5);
/// Until an answer is complete, or the next part of a long one is there.
const PATIENCE: Duration = Duration::from_secs(30);
/// The server keeps idle connections longer than this.
const IDLE: Duration = Duration::from_secs(4);
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;
const LONGEST_QUOTE: usize = 300;

type HttpClient = hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// How a client says who it is.
#[derive(Clone, Debug)]
pub enum Credential {
    /// An API key.
    Key(Secret),
    /// An application's key, in Sage's scheme.
    Deerer {
        /// The application.
        app_id: String,
        /// Its secret.
        secret: Secret,
        /// Its key.
        api_key: Secret,
    },
    /// An application's signature over the whole request.
    Uapi {
        /// The application.
        app_id: String,
        /// Its secret.
        secret: Secret,
    },
}

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server's address is not one.
    #[error("{0:?} is not an address such as https://ledgerline.example.com")]
    Address(String),
    /// The system has no certificates to trust.
    #[error("the system's certificates cannot be read")]
    Certificates(#[source] std::io::Error),
    /// The credential cannot be sent.
    #[error("the credential cannot be sent")]
    Credential,
    /// A value cannot be sent in a header.
    #[error("{0:?} cannot be sent in a header: use plain ASCII")]
    Header(String),
    /// The server cannot be reached, or hung up. Whether it did what was asked is not known.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, String),
    /// The server did not answer in time. Whether it did what was asked is not known.
    #[error("{0} did not answer in time")]
    Timeout(String),
    /// The answer is larger than what is read at once.
    #[error("the answer of {0} is too large to be read at once")]
    TooLarge(String),
    /// The server answered something else.
    #[error("the server's answer ({0}) is not one of this API: {1}")]
    Strange(u16, String),
    /// The server refused.
    #[error("{message} ({code})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The stable code.
        code: String,
        /// What happened and what to do.
        message: String,
        /// All that the server says of it.
        details: Box<Value>,
    },
}

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    base: String,
    http: HttpClient,
    credential: Credential,
    clock: SharedClock,
    patience: Duration,
}

/// What is asked of a server.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Such as `GET`.
    pub method: Method,
    /// Path and query, such as `/api/v1/users?page=2`.
    pub target: String,
    /// What is sent.
    pub body: Bytes,
    /// Headers beside the credential and `Content-Type: application/json`.
    pub headers: Vec<(HeaderName, String)>,
}

/// An answer that is not a refusal, its body still to be read.
#[derive(Debug)]
pub struct Answer {
    base: String,
    patience: Duration,
    response: Response<Incoming>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the server at this address, such as `http://127.0.0.1:8000`.
    pub fn new(
        base: &str,
        credential: Credential,
        clock: SharedClock,
    ) -> Result<Self, ClientError> {
        let base = base.trim_end_matches('/').to_owned();
        let uri: Option<Uri> = base.parse().ok();
        let known = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
        if !uri.as_ref().is_some_and(known) {
            return Err(ClientError::Address(base));
        }
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(ClientError::Certificates)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self { base, http, credential, clock, patience: PATIENCE })
    }

    /// The same, waiting so long for an answer, or for the next part of one.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks; gives the whole answer.
    pub async fn get(&self, target: &str) -> Result<Value, ClientError> {
        self.json(Ask { target: target.to_owned(), ..Ask::default() }).await
    }

    /// Posts JSON, under an idempotency key if there is one; gives the whole answer.
    pub async fn post(
        &self,
        target: &str,
        body: &Value,
        key: Option<&str>,
    ) -> Result<Value, ClientError> {
        let name = HeaderName::from_static("idempotency-key");
        self.json(Ask {
            method: Method::POST,
            target: target.to_owned(),
            body: body.to_string().into(),
            headers: key.map(|key| (name, key.to_owned())).into_iter().collect(),
        })
        .await
    }

    async fn json(&self, ask: Ask) -> Result<Value, ClientError> {
        let answered = async {
            let answer = self.ask(ask).await?;
            let status = answer.status();
            let body = answer.bytes().await?;
            serde_json::from_slice(&body).map_err(|_cause| strange(status, &body))
        };
        let answered = tokio::time::timeout(self.patience, answered).await;
        answered.unwrap_or_else(|_elapsed| Err(ClientError::Timeout(self.base.clone())))
    }

    /// Asks; gives an answer once its head is there. A refusal is an error, read to its end.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, ClientError> {
        let response = self.http.request(self.request(ask)?);
        let answered = tokio::time::timeout(self.patience, response).await;
        let response = answered.map_err(|_elapsed| ClientError::Timeout(self.base.clone()))?;
        let response = response
            .map_err(|error| ClientError::Unreachable(self.base.clone(), innermost(&error)))?;
        let answer = Answer { base: self.base.clone(), patience: self.patience, response };
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        Err(refusal(status, &answer.bytes().await?))
    }

    fn request(&self, ask: Ask) -> Result<Request<Full<Bytes>>, ClientError> {
        let Ask { method, target, body, headers: given } = ask;
        let strange = || ClientError::Address(format!("{}{target}", self.base));
        let uri: Uri = format!("{}{target}", self.base).parse().map_err(|_cause| strange())?;
        let path = uri.path_and_query().ok_or_else(strange)?.as_str().to_owned();
        let authorization = self.authorization(&method, &path, &body)?;
        let mut request = Request::new(Full::new(body));
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, authorization);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in given {
            let value =
                HeaderValue::from_str(&value).map_err(|_cause| ClientError::Header(value))?;
            headers.insert(name, value);
        }
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        Ok(request)
    }

    fn authorization(
        &self,
        method: &Method,
        path: &str,
        body: &[u8],
    ) -> Result<HeaderValue, ClientError> {
        let now = self.clock.now();
        let text = match &self.credential {
            Credential::Key(key) => format!("Bearer {}", key.expose()),
            Credential::Deerer { app_id, secret, api_key } => {
                identity::deerer_header((app_id, secret.expose()), api_key.expose(), now)
            }
            Credential::Uapi { app_id, secret } => {
                let nonce = kernel::id::new();
                identity::sign((app_id, secret.expose()), (method, path), body, (now, &nonce))
                    .map_err(|_not_a_path| ClientError::Credential)?
            }
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_cause| ClientError::Credential)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The next part of its body; none after the last.
    pub async fn part(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let frame = tokio::time::timeout(self.patience, self.response.frame()).await;
            let frame = frame.map_err(|_elapsed| ClientError::Timeout(self.base.clone()))?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame
                .map_err(|error| ClientError::Unreachable(self.base.clone(), innermost(&error)))?;
            // Others are trailers.
            if let Ok(part) = frame.into_data() {
                return Ok(Some(part));
            }
        }
    }

    /// All of its body, up to 64 MiB.
    pub async fn bytes(mut self) -> Result<Bytes, ClientError> {
        let mut all = BytesMut::new();
        while let Some(part) = self.part().await? {
            if all.len().saturating_add(part.len()) > LARGEST_ANSWER {
                return Err(ClientError::TooLarge(self.base));
            }
            all.extend_from_slice(&part);
        }
        Ok(all.freeze())
    }
}

/// What a refusal says, in whichever of the server's dialects.
fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return strange(status, body) };
    let inner = ["data", "error"].into_iter().find_map(|name| answer.get(name));
    let told = inner.unwrap_or(&answer);
    let text = |name: &str| told.get(name).and_then(Value::as_str).map(str::to_owned);
    match (text("code"), text("message").or_else(|| text("detail"))) {
        (Some(code), Some(message)) => {
            let details = Box::new(told.clone());
            ClientError::Refused { status: status.as_u16(), code, message, details }
        }
        _ => strange(status, body),
    }
}

fn strange(status: StatusCode, body: &[u8]) -> ClientError {
    let quote = String::from_utf8_lossy(body).chars().take(LONGEST_QUOTE).collect();
    ClientError::Strange(status.as_u16(), quote)
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
