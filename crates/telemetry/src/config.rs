//! The `telemetry` section of the configuration.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use kernel::Secret;
use serde::{Deserialize, Serialize};

/// What the server tells about itself, and to whom.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Networks whose hosts may read `/metrics` without an administrator's key.
    pub metrics_allow: Vec<IpNet>,
    /// Where traces are sent (OTLP over HTTP), such as `http://collector:4318`; empty for nowhere.
    pub otlp_endpoint: String,
    /// Headers to send there.
    pub otlp_headers: BTreeMap<String, Secret>,
    /// Traces hold prompts and answers as well.
    pub record_content: bool,
}

impl Config {
    /// Whether this host may read `/metrics` without a key.
    pub fn allows(&self, host: IpAddr) -> bool {
        let host = host.to_canonical();
        self.metrics_allow.iter().any(|network| network.contains(&host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_networks_are_allowed_and_by_default_none() {
        let host = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(!Config::default().allows(host("127.0.0.1")));
        let config = Config {
            metrics_allow: vec!["10.1.0.0/16".parse().unwrap(), "::1/128".parse().unwrap()],
            ..Config::default()
        };
        assert!(config.allows(host("10.1.2.3")) && config.allows(host("::1")));
        assert!(config.allows(host("::ffff:10.1.2.3")), "the same host through a dual socket");
        assert!(!config.allows(host("10.2.0.1")) && !config.allows(host("127.0.0.1")));
    }
}
