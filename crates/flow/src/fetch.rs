//! HTTP requests of flows: only to public addresses, unless the operator allows a host.

use std::str::FromStr as _;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use serde_json::{Value, json};
use web::{Outside, OutsideError};

use crate::event::StepError;

/// Makes HTTP requests.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    outside: Outside,
    most: usize,
}

/// An HTTP request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Value>,
    /// The URL is the operator's, not a caller's.
    pub(crate) trusted: bool,
}

impl Fetcher {
    pub(crate) fn new(allowed_hosts: &[String], most: usize) -> Result<Self, std::io::Error> {
        Ok(Self { outside: Outside::new(allowed_hosts)?, most })
    }

    /// Makes a request: `{"status", "headers", "body"}`. Redirections are answers, not followed.
    pub(crate) async fn fetch(&self, outgoing: Outgoing, key: &str) -> Result<Value, StepError> {
        let uri: Uri = outgoing.url.parse().map_err(|error| {
            StepError::new("bad_url", format!("{:?} is no URL: {error}", outgoing.url))
        })?;
        if !outgoing.trusted {
            self.outside.check(&uri).map_err(|error| step_error(&error))?;
        }
        let request = request(&outgoing, uri, key)?;
        let response = if outgoing.trusted {
            self.outside.send_trusted(request).await
        } else {
            self.outside.send(request).await
        };
        let response = response.map_err(|error| step_error(&error))?;
        let status = response.status().as_u16();
        let headers: serde_json::Map<String, Value> = response
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.to_string(), json!(value.to_str().ok()?))))
            .collect();
        let body = web::read_at_most(response.into_body(), self.most)
            .await
            .map_err(|error| step_error(&error))?;
        let text = String::from_utf8_lossy(&body);
        let body = serde_json::from_slice(&body).unwrap_or_else(|_no_json| json!(text));
        Ok(json!({"status": status, "headers": headers, "body": body}))
    }
}

fn step_error(error: &OutsideError) -> StepError {
    match error {
        OutsideError::Scheme | OutsideError::NoHost => StepError::new("bad_url", error.to_string()),
        OutsideError::NotPublic(_) => StepError::new(
            "address_not_allowed",
            format!("{error}; the operator may allow it in flow.allowed_hosts"),
        ),
        OutsideError::Unreachable(_) => StepError::temporary("http_unreachable", error.to_string()),
        OutsideError::Broken(_) => StepError::temporary("http_broken", error.to_string()),
        OutsideError::TooLarge(_) => StepError::new("output_too_large", error.to_string()),
    }
}

fn request(outgoing: &Outgoing, uri: Uri, key: &str) -> Result<Request<Full<Bytes>>, StepError> {
    let (body, content_type) = match &outgoing.body {
        None => (Bytes::new(), None),
        Some(Value::String(text)) => (Bytes::from(text.clone()), Some("text/plain; charset=utf-8")),
        Some(value) => (Bytes::from(value.to_string()), Some("application/json")),
    };
    let bad = |what: &str| StepError::new("bad_request", what.to_owned());
    let mut request = Request::new(Full::new(body));
    *request.method_mut() =
        Method::from_str(&outgoing.method).map_err(|_unknown| bad("there is no such method"))?;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    if let Some(content_type) = content_type {
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    headers.insert(http::header::USER_AGENT, HeaderValue::from_static("ledgerline"));
    // Whoever is called can tell a repeated attempt from a new one.
    if let Ok(key) = HeaderValue::from_str(key) {
        headers.insert(HeaderName::from_static("idempotency-key"), key);
    }
    for (name, value) in &outgoing.headers {
        let name =
            HeaderName::from_str(name).map_err(|_bad| bad("a header's name is not valid"))?;
        if matches!(name.as_str(), "host" | "content-length" | "transfer-encoding" | "connection") {
            return Err(bad("this header cannot be set"));
        }
        let value =
            HeaderValue::from_str(value).map_err(|_bad| bad("a header's value is not valid"))?;
        headers.insert(name, value);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn private_addresses_are_not_reached_in_any_spelling() {
        let fetcher = Fetcher::new(&[], 1000).unwrap();
        for url in [
            "http://127.0.0.1:9/",
            "http://[::1]:9/",
            "http://localhost:9/",
            "http://0.0.0.0:9/",
            "http://[::ffff:127.0.0.1]:9/",
            "http://169.254.169.254/latest",
            "http://2130706433:9/",
            "http://0x7f.1:9/",
            "http://127.1:9/",
        ] {
            let outgoing =
                Outgoing { method: "GET".into(), url: url.into(), ..Outgoing::default() };
            let error = fetcher.fetch(outgoing, "k").await.unwrap_err();
            assert!(
                matches!(error.code.as_str(), "address_not_allowed" | "http_unreachable"),
                "{url}: {error:?}"
            );
            assert!(!error.message.contains("refused"), "{url} was connected to");
        }
        for url in ["file:///etc/passwd", "gopher://x/", "no url"] {
            let outgoing =
                Outgoing { method: "GET".into(), url: url.into(), ..Outgoing::default() };
            assert!(fetcher.fetch(outgoing, "k").await.is_err(), "{url}");
        }
    }
}
