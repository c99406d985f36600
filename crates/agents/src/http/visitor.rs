//! Who asks.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use http::header::{AUTHORIZATION, FORWARDED, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use identity::Authenticated;
use web::ClientIp;

use crate::{Agents, Owner};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A caller with a valid credential whom the rules let use the route; in a demo also the developer at
/// this machine, without one.
#[derive(Clone, Debug)]
pub(super) struct Visitor(pub(super) Owner);

impl FromRequestParts<Agents> for Visitor {
    type Rejection = web::Error;

    async fn from_request_parts(parts: &mut Parts, agents: &Agents) -> Result<Self, web::Error> {
        if let Some(developer) = agents.developer()
            && carries_nothing(&parts.headers)
            && is_local(parts)
        {
            agents.parts().identity.admit(parts, developer)?;
            return Ok(Self(std::sync::Arc::clone(developer).into()));
        }
        let Authenticated(caller) = Authenticated::from_request_parts(parts, agents).await?;
        Ok(Self(caller.into()))
    }
}

/// Whoever presents something wants to be known by it: a wrong credential is refused.
fn carries_nothing(headers: &HeaderMap) -> bool {
    !headers.contains_key(AUTHORIZATION) && !headers.contains_key(API_KEY)
}

/// Sent by a program of this machine, or by a page that this server gave: a page of another origin
/// is told by its `Origin`, one behind a name that was turned to this machine by its `Host`, and what
/// a proxy passes on by what the proxy adds.
fn is_local(parts: &Parts) -> bool {
    let headers = &parts.headers;
    let ClientIp(address) = ClientIp::of(parts);
    let proxied = headers.contains_key(FORWARDED) || headers.contains_key(X_FORWARDED_FOR);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let Some(host) = host else { return false };
    address.is_some_and(|address| address.is_loopback())
        && !proxied
        && is_loopback_name(host)
        && has_origin_of(headers, host)
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let plain = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || plain.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// No page sends it, or one of this host.
pub(super) fn has_origin_of(headers: &HeaderMap, host: &str) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let origin = origin.to_str().unwrap_or_default();
    let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    from.is_some_and(|from| from.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(address: &str, headers: &[(&'static str, &str)]) -> bool {
        let mut request = http::Request::get("/sessions");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts.extensions.insert(ClientIp(address.parse().ok()));
        is_local(&parts)
    }

    #[test]
    fn only_this_machines_own_programs_and_pages_are_local() {
        for headers in [
            &[("host", "127.0.0.1:8000")][..],
            &[("host", "localhost")],
            &[("host", "[::1]:8000"), ("origin", "http://[::1]:8000")],
            &[("host", "localhost:8000"), ("origin", "http://localhost:8000")],
        ] {
            assert!(local("127.0.0.1", headers), "{headers:?}");
            assert!(!local("192.0.2.7", headers), "{headers:?}");
            assert!(!local("unknown", headers), "{headers:?}");
        }
        for headers in [
            &[][..],
            &[("host", "attacker.example")],
            &[("host", "attacker.example:8000")],
            &[("host", "127.0.0.1.attacker.example")],
            &[("host", "localhost:8000"), ("origin", "http://attacker.example")],
            &[("host", "localhost:8000"), ("origin", "http://localhost:9000")],
            &[("host", "localhost:8000"), ("origin", "null")],
            &[("host", "localhost"), ("x-forwarded-for", "192.0.2.7")],
            &[("host", "localhost"), ("forwarded", "for=192.0.2.7")],
        ] {
            assert!(!local("127.0.0.1", headers), "{headers:?}");
        }
    }
}
