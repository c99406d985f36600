//! The `server` section of the configuration.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::client::{ForwardedHeader, Network};

/// How the server listens and what it takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// The address under which clients reach the server, for links; empty to use `listen`.
    pub public_url: String,
    /// Addresses and ranges of reverse proxies, which are believed whom they speak for.
    pub trusted_proxies: Vec<Network>,
    /// The header in which they say it: `x-forwarded-for` or `forwarded`.
    pub forwarded_header: ForwardedHeader,
    /// Web origins whose pages may call, or `*`; none by default.
    pub cors_origins: Vec<String>,
    /// The largest request body in bytes.
    pub max_body_bytes: usize,
    /// Connections served at once; more wait.
    pub max_connections: usize,
    /// Seconds that a stopping server goes on taking requests, while `/readyz` sends new ones elsewhere.
    pub grace_seconds: u64,
    /// Seconds that running requests get to finish when the server stops.
    pub drain_seconds: u64,
    /// Seconds a client may take to send a request's headers.
    pub header_timeout_seconds: u64,
    /// Log a line for every request.
    pub log_requests: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            public_url: String::new(),
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            cors_origins: Vec::new(),
            max_body_bytes: 32 * 1024 * 1024,
            max_connections: 10_000,
            grace_seconds: 0,
            drain_seconds: 30,
            header_timeout_seconds: 30,
            log_requests: true,
        }
    }
}
