//! The `agents` section of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How the agent API answers, and where its workflows are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The name it greets with.
    pub app_name: String,
    /// The version it greets with; empty for this program's.
    pub app_version: String,
    /// The environment it greets with; `production` asks browsers for HTTPS.
    pub environment: String,
    /// The folder of workflow files; nothing outside of it is ever read.
    pub workflows: PathBuf,
    /// How long a request for a run waits for its end, in seconds; the run goes on.
    pub run_wait_seconds: u64,
    /// Sessions, workflows and history also as files in the data folder.
    pub mirror: bool,
    /// Seconds between two questions whether a WebSocket client lives.
    pub websocket_ping_interval: u64,
    /// Seconds it has for its answer.
    pub websocket_ping_timeout: u64,
    /// WebSocket connections that a caller may have.
    pub max_connections: usize,
    /// Requests in any 60 seconds from one address; 0 for any number.
    pub rate_limit_per_minute: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            app_name: "Modular Agent API".to_owned(),
            app_version: String::new(),
            environment: "development".to_owned(),
            workflows: PathBuf::from("configs/workflows"),
            run_wait_seconds: 300,
            mirror: true,
            websocket_ping_interval: 20,
            websocket_ping_timeout: 10,
            max_connections: 100,
            rate_limit_per_minute: 0,
        }
    }
}
