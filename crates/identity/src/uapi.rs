//! `Authorization: Uapi key=…,ts=…,nonce=…,sig=…`: requests signed whole with HMAC-SHA256, so that
//! neither the secret nor an API key travels and nothing of a request can be changed. The scheme is
//! written down in `docs/uapi.md`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use futures_util::future::Either;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use kernel::{AppId, Timestamp};
use ring::{digest, hmac};
use tower::{Layer, Service};

use crate::{Caller, Identity, Result, SigningError};

const SCHEME: &str = "Uapi";
const VERSION: &str = "UAPI1";
const LONGEST_NONCE: usize = 64;
const SHORTEST_NONCE: usize = 8;

/// A signature as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Header {
    key_id: AppId,
    seconds: i64,
    nonce: String,
    signature: [u8; 32],
}

/// A request that says it is signed: what its signature must cover, or why it cannot be right. Made by
/// [`ReadSigned`], which alone sees the body.
#[derive(Clone, Debug)]
pub(crate) struct Signed(Result<Arc<(Header, String)>>);

/// Whether a request says it is signed.
pub(crate) fn is_signed(authorization: &str) -> bool {
    let scheme = authorization.split_once(' ').map_or(authorization, |(scheme, _)| scheme);
    scheme.eq_ignore_ascii_case(SCHEME)
}

impl Header {
    fn parse(authorization: &str) -> Option<Self> {
        let (mut key_id, mut seconds, mut nonce, mut signature) = (None, None, None, None);
        let (_, fields) = authorization.split_once(' ')?;
        for field in fields.split(',') {
            let (name, value) = field.trim().split_once('=')?;
            let twice = match name {
                "key" => key_id.replace(AppId::from(value)).is_some(),
                "ts" => seconds.replace(value.parse::<u32>().ok()?).is_some(),
                "nonce" => nonce.replace(value.to_owned()).is_some(),
                "sig" => signature.replace(from_hex(value)?).is_some(),
                _ => true,
            };
            if twice {
                return None;
            }
        }
        let nonce = nonce.filter(|nonce: &String| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            (SHORTEST_NONCE..=LONGEST_NONCE).contains(&nonce.len()) && nonce.bytes().all(plain)
        });
        Some(Self {
            key_id: key_id?,
            seconds: i64::from(seconds?),
            nonce: nonce?,
            signature: signature?,
        })
    }

    /// The text that the signature covers.
    fn text(&self, request: &Parts, body: &[u8]) -> String {
        let path = request.uri.path();
        let mut pairs: Vec<&str> = request
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .collect();
        pairs.sort_unstable();
        let body = to_hex(digest::digest(&digest::SHA256, body).as_ref());
        let (seconds, nonce, key_id) = (self.seconds, &self.nonce, &self.key_id);
        let (method, query) = (&request.method, pairs.join("&"));
        format!("{VERSION}\n{method}\n{path}\n{query}\n{body}\n{seconds}\n{nonce}\n{key_id}")
    }

    const fn at(&self) -> Timestamp {
        Timestamp::from_micros(self.seconds * 1_000_000)
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| DIGITS.get(usize::from(digit))).collect()
}

/// The `Authorization` of a request signed with an application's secret.
pub fn sign(
    (app_id, secret): (&str, &str),
    (method, path_and_query): (&http::Method, &str),
    body: &[u8],
    (now, nonce): (Timestamp, &str),
) -> Result<String> {
    let request = http::Request::builder().method(method).uri(path_and_query).body(());
    let (parts, ()) = request.map_err(|_not_a_path| SigningError::Unfit)?.into_parts();
    let (key_id, nonce, signature) = (AppId::from(app_id), nonce.to_owned(), [0; 32]);
    let header = Header { key_id, seconds: now.seconds(), nonce, signature };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = to_hex(hmac::sign(&key, header.text(&parts, body).as_bytes()).as_ref());
    let Header { seconds, nonce, .. } = header;
    Ok(format!("{SCHEME} key={app_id},ts={seconds},nonce={nonce},sig={signature}"))
}

/// A layer outside of all routes: reads the body of a request that says it is signed, up to so many
/// bytes, and leaves for [`crate::Authenticated`] what the signature must cover. Without the layer such
/// requests are refused. All others pass through as they are.
#[derive(Clone, Debug)]
pub struct ReadSigned {
    identity: Identity,
    most: usize,
}

/// What [`ReadSigned`] makes of a service.
#[derive(Clone, Debug)]
pub struct ReadsSigned<S> {
    layer: ReadSigned,
    inner: S,
}

impl ReadSigned {
    /// Bodies of signed requests have at most so many bytes.
    pub const fn new(identity: Identity, most: usize) -> Self {
        Self { identity, most }
    }

    async fn read(&self, request: Request, header: Option<Header>) -> Request {
        let (mut parts, body) = request.into_parts();
        let (signed, body) = match self.identity.expect_body(header).await {
            Err(error) => (Err(error), Body::empty()),
            Ok(header) => match to_bytes(body, self.most).await {
                Err(_cut_or_too_large) => (Err(SigningError::Body.into()), Body::empty()),
                Ok(bytes) => {
                    let text = header.text(&parts, &bytes);
                    (Ok(Arc::new((header, text))), Body::from(bytes))
                }
            },
        };
        parts.extensions.insert(Signed(signed));
        Request::from_parts(parts, body)
    }
}

impl<S> Layer<S> for ReadSigned {
    type Service = ReadsSigned<S>;

    fn layer(&self, inner: S) -> ReadsSigned<S> {
        ReadsSigned { layer: self.clone(), inner }
    }
}

impl<S> Service<Request> for ReadsSigned<S>
where
    S: Service<Request, Error = Infallible> + Clone + Send + 'static,
    S::Response: 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = Either<S::Future, Reading<S::Response>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Some(authorization) = signed_header(request.headers()) else {
            return Either::Left(self.inner.call(request));
        };
        let (header, layer) = (Header::parse(authorization), self.layer.clone());
        // The one that is ready is called; the next request gets the other.
        let other = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, other);
        Either::Right(Box::pin(async move {
            let request = layer.read(request, header).await;
            ready.call(request).await
        }))
    }
}

/// A signed request that is read, and then answered.
type Reading<T> = Pin<Box<dyn Future<Output = std::result::Result<T, Infallible>> + Send>>;

fn signed_header(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok().filter(|text| is_signed(text))
}

impl Identity {
    /// Refuses early, before a body is read, what cannot be right anyway.
    async fn expect_body(&self, header: Option<Header>) -> Result<Header> {
        let header = header.ok_or(SigningError::Unfit)?;
        self.check_time(header.at())?;
        self.signing_app(&header.key_id).await?;
        Ok(header)
    }

    /// Who signed this request.
    pub(crate) async fn authenticate_signed(&self, signed: Option<&Signed>) -> Result<Arc<Caller>> {
        let Signed(signed) = signed.ok_or(SigningError::Unfit)?;
        let signed = signed.as_ref().map_err(Clone::clone)?;
        let (header, text) = signed.as_ref();
        let app = self.signing_app(&header.key_id).await?;
        let fits = app
            .secrets(self.now())
            .any(|secret| hmac::verify(&secret.mac, text.as_bytes(), &header.signature).is_ok());
        if !fits {
            return Err(SigningError::Unfit.into());
        }
        self.check_time(header.at())?;
        let token = self.replay_token(&[b"uapi", &header.signature]);
        self.use_once(token, header.at()).await?;
        Ok(Arc::clone(&app.caller))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of docs/uapi.md.
    const VECTORS: &str = include_str!("../../../docs/uapi-vectors.json");

    #[test]
    fn the_published_vectors_are_signed_so() {
        let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
        let vectors = vectors.as_array().unwrap();
        assert!(vectors.len() >= 3);
        for vector in vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let method: http::Method = text("method").parse().unwrap();
            let at = Timestamp::from_micros(vector["timestamp"].as_i64().unwrap() * 1_000_000);
            let authorization = sign(
                (text("key_id"), text("secret")),
                (&method, text("target")),
                text("body").as_bytes(),
                (at, text("nonce")),
            );
            assert_eq!(authorization.unwrap(), text("authorization"));
            let header = Header::parse(text("authorization")).unwrap();
            let request = http::Request::builder().method(method).uri(text("target")).body(());
            let (parts, ()) = request.unwrap().into_parts();
            assert_eq!(header.text(&parts, text("body").as_bytes()), text("string_to_sign"));
        }
    }

    #[test]
    fn a_malformed_header_is_none() {
        let sig = "0".repeat(64);
        let good = format!("Uapi key=a,ts=1717000000,nonce=12345678,sig={sig}");
        assert!(Header::parse(&good).is_some());
        for (from, to) in [
            ("key=a,", ""),
            ("ts=1717000000", "ts=1717000000.5"),
            ("ts=1717000000", "ts=-1"),
            ("nonce=12345678", "nonce=1234567"),
            ("nonce=12345678", "nonce=1234567\u{20ac}"),
            ("sig=0", "sig=A"),
            ("sig=00", "sig=0"),
            ("key=a", "key=a,key=b"),
            ("key=a", "key=a,more=b"),
        ] {
            assert_eq!(Header::parse(&good.replace(from, to)), None, "{to}");
        }
    }
}
