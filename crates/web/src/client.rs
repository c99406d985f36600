//! Where a request comes from, as far as that can be believed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::extract::FromRequestParts;
use http::header::FORWARDED;
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Config, Error};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// An address, or a range of them such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpNet);

/// A text that is neither an address nor a range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address such as 192.0.2.7 or a range such as 10.0.0.0/8")]
pub struct NetworkError(String);

impl Network {
    /// Whether the address is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let address = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
        address
            .or_else(|_range| text.parse::<IpNet>())
            .map(|net| Self(net.trunc()))
            .map_err(|_neither| NetworkError(text.to_owned()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            return write!(f, "{}", self.0.addr());
        }
        write!(f, "{}", self.0)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The header in which trusted proxies say whom they speak for. Only the one they write is read: a
/// client could send the other through them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: 192.0.2.7, 10.0.0.1`
    #[default]
    XForwardedFor,
    /// `Forwarded: for=192.0.2.7;proto=https` (RFC 7239)
    Forwarded,
}

/// The address of whoever sent the request: the connection's, or, when that is a trusted proxy's,
/// the last one before the proxies. `None` when a proxy does not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientIp(pub Option<IpAddr>);

impl<S: Send + Sync> FromRequestParts<S> for ClientIp {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        Ok(Self::of(parts))
    }
}

impl ClientIp {
    /// The address found when the request came in.
    pub fn of(parts: &Parts) -> Self {
        parts.extensions.get().copied().unwrap_or(Self(None))
    }
}

/// Which peers are proxies, and what they say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    pub(crate) trusted: Vec<Network>,
    pub(crate) header: ForwardedHeader,
}

impl From<&Config> for Proxies {
    fn from(config: &Config) -> Self {
        Self { trusted: config.trusted_proxies.clone(), header: config.forwarded_header }
    }
}

impl Proxies {
    /// Whose request this is. What a client writes into the header stands left of what the first
    /// trusted proxy adds, and is never reached.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> ClientIp {
        let peer = peer.ip().to_canonical();
        if !self.trusts(peer) {
            return ClientIp(Some(peer));
        }
        let mut nearest = peer;
        for value in self.values(headers).rev() {
            // From the right: the last proxy wrote last.
            for hop in value.rsplit(',') {
                let Some(address) = self.address(hop) else { return ClientIp(None) };
                if !self.trusts(address) {
                    return ClientIp(Some(address));
                }
                nearest = address;
            }
        }
        ClientIp(Some(nearest))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    fn values<'a>(&self, headers: &'a HeaderMap) -> impl DoubleEndedIterator<Item = &'a str> {
        let name = match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => FORWARDED,
        };
        // What is not text is nobody's address.
        headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("unknown"))
    }

    fn address(&self, hop: &str) -> Option<IpAddr> {
        let node = match self.header {
            ForwardedHeader::XForwardedFor => hop,
            ForwardedHeader::Forwarded => hop.split(';').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.trim().eq_ignore_ascii_case("for").then_some(value)
            })?,
        };
        node_address(node.trim().trim_matches('"'))
    }
}

/// `192.0.2.7`, `192.0.2.7:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn node_address(node: &str) -> Option<IpAddr> {
    let plain = node.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(node);
    let address = plain
        .parse::<IpAddr>()
        .or_else(|_with_port| node.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(header: ForwardedHeader, trusted: &[&str]) -> Proxies {
        Proxies { trusted: trusted.iter().map(|text| text.parse().unwrap()).collect(), header }
    }

    fn found(proxies: &Proxies, peer: &str, header: &'static str, values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header, value.parse().unwrap());
        }
        let peer = SocketAddr::new(peer.parse().unwrap(), 1);
        let ClientIp(address) = proxies.client(peer, &headers);
        address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_what_they_added() {
        let inside = proxies(ForwardedHeader::XForwardedFor, &["10.0.0.0/8", "2001:db8::5"]);
        let ask = |peer, values: &[&str]| found(&inside, peer, "x-forwarded-for", values);
        // A client that writes the header itself.
        assert_eq!(ask("192.0.2.7", &["10.1.1.1"]), "192.0.2.7");
        assert_eq!(ask("10.0.0.1", &["1.1.1.1, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(ask("10.0.0.1", &["1.1.1.1, 192.0.2.7, 10.0.0.2"]), "192.0.2.7");
        assert_eq!(ask("10.0.0.1", &["1.1.1.1", "192.0.2.7", "10.0.0.2"]), "192.0.2.7");
        assert_eq!(ask("10.0.0.1", &["rubbish, 192.0.2.7:4711"]), "192.0.2.7");
        assert_eq!(ask("2001:db8::5", &["[2001:db8::7]:80"]), "2001:db8::7");
        assert_eq!(ask("::ffff:10.0.0.1", &["::ffff:192.0.2.7"]), "192.0.2.7");
        // Nobody but proxies: the first of them; nothing said: the proxy.
        assert_eq!(ask("10.0.0.1", &["10.0.0.3,10.0.0.2"]), "10.0.0.3");
        assert_eq!(ask("10.0.0.1", &[]), "10.0.0.1");
        // What a proxy does not know is nobody's address, least of all the proxy's.
        for last in ["unknown", "", "1.1.1.1, unknown", "1.1.1.1,", "192.0.2.7:port"] {
            assert_eq!(ask("10.0.0.1", &[last]), "unknown", "{last:?}");
        }
        // The header that the proxies do not write is not looked at.
        assert_eq!(found(&inside, "10.0.0.1", "forwarded", &["for=1.1.1.1"]), "10.0.0.1");
        let nobody = Proxies::default();
        assert_eq!(found(&nobody, "127.0.0.1", "x-forwarded-for", &["1.1.1.1"]), "127.0.0.1");
    }

    #[test]
    fn the_standard_header_is_read_from_the_right_too() {
        let inside = proxies(ForwardedHeader::Forwarded, &["10.0.0.1", "10.0.0.2"]);
        let ask = |values: &[&str]| found(&inside, "10.0.0.1", "forwarded", values);
        assert_eq!(
            ask(&["for=1.1.1.1, proto=https;For=\"192.0.2.7:47\", for=10.0.0.2"]),
            "192.0.2.7"
        );
        assert_eq!(ask(&["for=\"[2001:db8::7]\";by=10.0.0.1"]), "2001:db8::7");
        assert_eq!(ask(&["for=1.1.1.1, for=_hidden"]), "unknown");
        assert_eq!(ask(&["for=1.1.1.1, proto=https"]), "unknown");
    }

    #[test]
    fn networks_read_and_print() {
        for (text, printed) in [
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), printed);
        }
        for text in ["", "10.0.0", "10.0.0.0/33", "example.com", "10.0.0.0/8 "] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
