//! Log lines: JSON for machines, pretty in a terminal. Never a secret, never a prompt.

mod json;

use std::fs::{File, OpenOptions};
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::{Log, LogFormat};

/// Starts logging to standard error, or to a file. `requests` adds a line for every request.
pub(crate) fn init(config: &Log, requests: bool) -> anyhow::Result<()> {
    let level =
        if requests { config.level.clone() } else { format!("{},access=off", config.level) };
    let filter = EnvFilter::try_new(&level)
        .with_context(|| format!("log.level: {:?} is not a level or filter", config.level))?;
    let file = opened(&config.file)?;
    let terminal = file.is_none() && std::io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !terminal,
    };
    let writer = match file {
        Some(file) => BoxMakeWriter::new(Arc::new(file)),
        None => BoxMakeWriter::new(std::io::stderr),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let outcome = if json {
        builder.event_format(json::Lines).try_init()
    } else {
        builder.with_ansi(terminal).try_init()
    };
    outcome.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))
}

/// The file of this name, to be added to; `None` without a name.
fn opened(path: &Path) -> anyhow::Result<Option<File>> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let file = match path.parent().map_or(Ok(()), std::fs::create_dir_all) {
        Ok(()) => OpenOptions::new().append(true).create(true).open(path),
        Err(error) => Err(error),
    };
    Ok(Some(file.with_context(|| format!("log.file: {} cannot be written", path.display()))?))
}
