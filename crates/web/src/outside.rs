//! Requests to addresses that others chose: only public ones, unless the operator allows a host.

use std::collections::HashSet;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;

type HttpClient = Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

const CONNECT: Duration = Duration::from_secs(10);

/// Makes requests to addresses that others chose. Redirections are answers, not followed. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct Outside {
    guarded: HttpClient,
    /// Reaches private addresses too: for hosts that the operator named.
    open: HttpClient,
    allowed: HashSet<String>,
}

/// Why an address gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutsideError {
    /// Another protocol.
    #[error("only http and https are spoken")]
    Scheme,
    /// There is nobody to ask.
    #[error("the URL has no host")]
    NoHost,
    /// The host is, or its name leads to, a private address.
    #[error("{0} is no public address")]
    NotPublic(String),
    /// Nobody answers, or whoever does hung up.
    #[error("{0}")]
    Unreachable(String),
    /// The answer ended early.
    #[error("the answer broke off: {0}")]
    Broken(String),
    /// The answer is longer than this many bytes.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
}

impl Outside {
    /// Private addresses are reached at these hosts only, each `host` or `host:port`. Fails where the
    /// system has no certificates to trust.
    pub fn new(allowed_hosts: &[String]) -> std::io::Result<Self> {
        Ok(Self {
            guarded: client(true)?,
            open: client(false)?,
            allowed: allowed_hosts.iter().map(|host| host.to_lowercase()).collect(),
        })
    }

    /// Refuses what can be seen to be no place to ask, without looking its name up.
    pub fn check(&self, uri: &Uri) -> Result<(), OutsideError> {
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(OutsideError::Scheme);
        }
        let host = uri.host().ok_or(OutsideError::NoHost)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            // A host written as an address is never looked up: this is its only check.
            Ok(address) if !is_public(address) && !self.allows(uri) => {
                Err(OutsideError::NotPublic(host.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Asks; gives the answer as soon as it begins.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, OutsideError> {
        self.check(request.uri())?;
        let client = if self.allows(request.uri()) { &self.open } else { &self.guarded };
        client.request(request).await.map_err(|error| unreachable(&error))
    }

    /// The same, to an address that the operator wrote down: wherever it is.
    pub async fn send_trusted(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, OutsideError> {
        self.open.request(request).await.map_err(|error| unreachable(&error))
    }

    fn allows(&self, uri: &Uri) -> bool {
        let host = uri.host().unwrap_or_default().to_lowercase();
        let with_port = format!("{host}:{}", port(uri));
        self.allowed.contains(&host) || self.allowed.contains(&with_port)
    }
}

/// Reads an answer's body to its end, as long as it has no more bytes than that.
pub async fn read_at_most(mut body: Incoming, most: usize) -> Result<Bytes, OutsideError> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| OutsideError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > most {
            return Err(OutsideError::TooLarge(most));
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

fn client(guarded: bool) -> std::io::Result<HttpClient> {
    let mut http = HttpConnector::new_with_resolver(Resolver { guarded });
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT));
    let https = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new()).build(https))
}

fn port(uri: &Uri) -> u16 {
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    uri.port_u16().unwrap_or(usual)
}

fn unreachable(error: &hyper_util::client::legacy::Error) -> OutsideError {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    match text.find(NOT_PUBLIC) {
        Some(_) => OutsideError::NotPublic("what the name leads to".to_owned()),
        None => OutsideError::Unreachable(text),
    }
}

const NOT_PUBLIC: &str = "the name leads to no public address";

/// Looks names up; a guarded one gives public addresses only, and these are connected to.
#[derive(Clone, Debug)]
struct Resolver {
    guarded: bool,
}

type Addresses = std::vec::IntoIter<SocketAddr>;

impl tower::Service<Name> for Resolver {
    type Response = Addresses;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Addresses, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guarded = self.guarded;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let usable: Vec<SocketAddr> =
                found.filter(|address| !guarded || is_public(address.ip())).collect();
            if usable.is_empty() {
                return Err(std::io::Error::other(NOT_PUBLIC));
            }
            Ok(usable.into_iter())
        })
    }
}

/// Whether an address belongs to the public internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            let inner = address.to_ipv4_mapped().or_else(|| embedded(address));
            inner.map_or_else(|| is_public_v6(address), is_public_v4)
        }
    }
}

/// The address inside of one that is translated: `64:ff9b::/96` and `2002::/16`.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let inner = |from: usize| {
        let four: [u8; 4] = octets.get(from..from + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(four))
    };
    if octets.starts_with(&[0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]) {
        return inner(12);
    }
    if octets.starts_with(&[0x20, 0x02]) { inner(2) } else { None }
}

const fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && b >= 64 && b < 128)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)))
}

const fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Only 2000::/3 is given out; documentation, Teredo and benchmarking lie inside it.
    a & 0xe000 == 0x2000 && !(a == 0x2001 && (b == 0xdb8 || b < 0x200))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "::127.0.0.1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2002:0101:0101::"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn private_addresses_are_not_reached_in_any_spelling_unless_allowed() {
        let get = |url: &str| {
            let uri: Uri = url.parse().unwrap();
            Request::builder().uri(uri).body(Full::new(Bytes::new())).unwrap()
        };
        let outside = Outside::new(&["127.0.0.1:9".to_owned()]).unwrap();
        for url in [
            "http://127.0.0.1:8/",
            "http://[::1]:9/",
            "http://localhost:9/",
            "http://0.0.0.0:9/",
            "http://[::ffff:127.0.0.1]:9/",
            "http://169.254.169.254/latest",
        ] {
            let refused = outside.send(get(url)).await.unwrap_err();
            assert!(matches!(refused, OutsideError::NotPublic(_)), "{url}: {refused:?}");
        }
        // Whether these are names or addresses is the resolver's matter: nobody is connected to.
        for url in
            ["http://localhost.:9/", "http://2130706433:9/", "http://0x7f.1:9/", "http://127.1:9/"]
        {
            let refused = outside.send(get(url)).await.unwrap_err();
            assert!(!refused.to_string().contains("refused"), "{url} was connected to");
        }
        let allowed = outside.send(get("http://127.0.0.1:9/")).await.unwrap_err();
        assert!(matches!(allowed, OutsideError::Unreachable(_)), "{allowed:?}");
        assert_eq!(
            outside.check(&"ftp://example.com/".parse().unwrap()),
            Err(OutsideError::Scheme)
        );
        assert_eq!(outside.check(&"/path".parse().unwrap()), Err(OutsideError::Scheme));
    }
}
