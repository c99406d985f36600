//! Log lines: JSON for machines, pretty in a terminal. Never a secret, never a prompt.

mod json;

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts logging to standard error. `requests` adds a line for every request.
pub(crate) fn init(config: &Log, requests: bool) -> anyhow::Result<()> {
    let level =
        if requests { config.level.clone() } else { format!("{},access=off", config.level) };
    let filter = EnvFilter::try_new(&level)
        .with_context(|| format!("log.level: {:?} is not a level or filter", config.level))?;
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let outcome = if json {
        builder.event_format(json::Lines).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    outcome.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))
}
