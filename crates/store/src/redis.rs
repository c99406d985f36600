//! A Redis server, for what may be lost: messages between instances, and what is costly to read.

use std::sync::Arc;
use std::time::Duration;

use kernel::Secret;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Until a connection stands, and until a command is answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// The `redis` section of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://user:password@host:6379/0`; empty for none.
    pub url: Secret,
    /// Begins all names there: installations that share a server have different ones.
    pub prefix: String,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self { url: Secret::default(), prefix: "ledgerline:".to_owned() }
    }
}

/// Where a Redis server is, and whose names there are ours. Cheap to clone; nothing is connected
/// before it is needed.
#[derive(Clone)]
pub struct Redis {
    client: Client,
    prefix: Arc<str>,
}

impl std::fmt::Debug for Redis {
    /// Without the address, which holds the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Redis {
    /// The configured server, if there is one.
    pub fn new(config: &RedisConfig) -> Result<Option<Self>> {
        if config.url.is_empty() {
            return Ok(None);
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || ":_-.".contains(c);
        if config.prefix.len() > 64 || !config.prefix.chars().all(plain) {
            return Err(Error::RedisPrefix(config.prefix.clone()));
        }
        // The cause would show the address, and the password in it.
        let client = Client::open(config.url.expose()).map_err(|_shown| Error::RedisUrl)?;
        Ok(Some(Self { client, prefix: config.prefix.as_str().into() }))
    }

    /// For connections of one's own.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// What all names begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A new connection, which gives up on what is not answered within a second.
    pub async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(url: &str, prefix: &str) -> Result<Option<Redis>> {
        Redis::new(&RedisConfig { url: url.into(), prefix: prefix.to_owned() })
    }

    #[test]
    fn an_address_that_is_none_is_refused_without_showing_it() {
        assert!(opened("", "ledgerline:").unwrap().is_none());
        let redis = opened("redis://:hunter2@127.0.0.1:6379/0", "ledgerline:").unwrap();
        assert!(!format!("{redis:?}").contains("hunter2"));
        let refused = opened("hunter2@host", "ledgerline:").unwrap_err();
        assert!(!format!("{refused:?} {refused}").contains("hunter2"));
        assert!(opened("redis://127.0.0.1", "all*").is_err());
    }
}
