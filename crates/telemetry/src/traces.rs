//! Traces: one span for each call of a model, sent to a collector by OTLP over HTTP.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanKind, Status, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use tokio::runtime::Handle;

use crate::Config;

/// A collector that has not answered by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a collector says is read up to here.
const LONGEST_ANSWER: usize = 64 * 1024;
const TRACES: &str = "/v1/traces";

/// Traces cannot be sent as configured.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The address is not one.
    #[error("telemetry.otlp_endpoint: {0:?} is not an address such as http://collector:4318")]
    Endpoint(String),
    /// A header is not one.
    #[error("telemetry.otlp_headers: {0:?} is not a header")]
    Header(String),
    /// The system's certificates cannot be read.
    #[error("the system's certificates cannot be read")]
    Certificates(#[source] std::io::Error),
    /// The exporter cannot be made.
    #[error("traces cannot be sent")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
}

/// Sends traces. What a collector does not take in time is dropped: calls never wait for it.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    record_content: bool,
}

impl Traces {
    /// Starts sending, if there is an address to send to. Must be called within a Tokio runtime.
    pub fn start(config: &Config) -> Result<Option<Self>, TracesError> {
        if config.otlp_endpoint.is_empty() {
            return Ok(None);
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new(config)?)
            .with_endpoint(address(&config.otlp_endpoint)?)
            .with_timeout(PATIENCE)
            .build()
            .map_err(TracesError::Exporter)?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(Resource::builder().with_service_name("ledgerline").build())
            .build();
        let tracer = provider.tracer("ledgerline");
        Ok(Some(Self { provider, tracer, record_content: config.record_content }))
    }

    /// Begins the span of a call, within the trace that the request names, if it names one.
    pub fn begin(&self, operation: &'static str, model: &str, headers: &HeaderMap) -> CallSpan {
        let caller = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HeaderExtractor(headers));
        let builder = SpanBuilder::from_name(format!("{operation} {model}"))
            .with_kind(SpanKind::Client)
            .with_attributes([
                KeyValue::new("gen_ai.operation.name", operation),
                KeyValue::new("gen_ai.request.model", model.to_owned()),
            ]);
        let span = self.tracer.build_with_context(builder, &caller);
        CallSpan { span, record_content: self.record_content }
    }

    /// Sends what waits, and stops. Blocks the thread while it does.
    pub fn stop(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(PATIENCE) {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// `/v1/traces` at the collector, unless the address names a path itself.
fn address(endpoint: &str) -> Result<String, TracesError> {
    let invalid = || TracesError::Endpoint(endpoint.to_owned());
    let uri: Uri = endpoint.parse().map_err(|_unreadable| invalid())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(_)) => {}
        _ => return Err(invalid()),
    }
    let path = if uri.path() == "/" { TRACES } else { "" };
    Ok(format!("{}{path}", endpoint.trim_end_matches('/')))
}

fn headers(config: &Config) -> Result<HeaderMap, TracesError> {
    let header = |(name, value): (&String, &kernel::Secret)| {
        let invalid = || TracesError::Header(name.clone());
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_unfit| invalid())?;
        value.set_sensitive(true);
        Ok((HeaderName::from_bytes(name.as_bytes()).map_err(|_unfit| invalid())?, value))
    };
    config.otlp_headers.iter().map(header).collect()
}

/// A call that is traced. Dropped without an end, it ends there.
#[derive(Debug)]
pub struct CallSpan {
    span: Span,
    record_content: bool,
}

impl CallSpan {
    /// The `traceparent` that makes an upstream's trace a part of this one.
    pub fn traceparent(&self) -> Option<HeaderValue> {
        let context = self.span.span_context();
        let text = format!(
            "00-{}-{}-{:02x}",
            context.trace_id(),
            context.span_id(),
            context.trace_flags().to_u8()
        );
        HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
    }

    /// Prompts and answers are asked for as well.
    pub fn records_content(&self) -> bool {
        self.record_content && self.span.is_recording()
    }

    /// Notes a fact.
    pub fn note(&mut self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        self.span.set_attribute(KeyValue::new(name, value));
    }

    /// Notes a moment.
    pub fn event(&mut self, name: &'static str, at: SystemTime) {
        self.span.add_event_with_timestamp(name, at, Vec::new());
    }

    /// The call failed with this code.
    pub fn failed(&mut self, code: &'static str) {
        self.span.set_status(Status::error(code));
        self.note("error.type", code);
    }
}

/// The way to the collector. Spans are sent from a thread without a runtime: the requests are made
/// on the server's.
#[derive(Debug)]
struct Collector {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    headers: HeaderMap,
    runtime: Handle,
}

impl Collector {
    fn new(config: &Config) -> Result<Self, TracesError> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(TracesError::Certificates)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let headers = headers(config)?;
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, headers, runtime: Handle::current() })
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut request = request.map(Full::new);
        for (name, value) in &self.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let sending = self.client.request(request);
        let sent = self.runtime.spawn(async move {
            let (parts, body) = tokio::time::timeout(PATIENCE, sending).await??.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(parts, body))
        });
        sent.await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_path_of_traces_unless_they_have_one() {
        assert_eq!(address("http://c:4318").unwrap(), "http://c:4318/v1/traces");
        assert_eq!(address("https://c/").unwrap(), "https://c/v1/traces");
        assert_eq!(address("https://c/mine/traces").unwrap(), "https://c/mine/traces");
        for wrong in ["c:4318", "ftp://c", "/v1/traces", "http:///x"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
