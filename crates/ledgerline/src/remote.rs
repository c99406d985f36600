//! Which running server the commands ask, and as whom.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use customers::{Client, Credential};
use kernel::{Secret, SystemClock};
use serde_json::Value;

use crate::failure::usage;

const DEFAULT_SERVER: &str = "http://127.0.0.1:8000";
/// Where a server has its data when nobody says, and a demo the administrator's key.
const DEFAULT_DATA: &str = "data";

/// Which server, and who asks.
#[derive(Clone, Debug, Args)]
pub(crate) struct Remote {
    /// The server's address [default: `http://127.0.0.1:8000`]
    #[arg(long, value_name = "URL", env = "LEDGERLINE_URL", hide_env_values = true, global = true)]
    server: Option<String>,
    /// A file with the API key [default: what `LEDGERLINE_API_KEY` holds]
    #[arg(long, value_name = "FILE", global = true)]
    key_file: Option<PathBuf>,
    #[arg(
        env = "LEDGERLINE_API_KEY",
        hide = true,
        hide_env_values = true,
        long = "api-key-from-environment",
        global = true
    )]
    api_key: Option<String>,
}

impl Remote {
    /// A client with the key that was given.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        match self.given_key()? {
            Some(key) => self.client_of(None, &key),
            None => Err(usage("no API key: set LEDGERLINE_API_KEY, or name a --key-file")),
        }
    }

    /// A client of an administrator: with the key of the data folder that is named, or else with
    /// the one that was given, or else with that of the folder `data`.
    pub(crate) fn administrator(&self, data: Option<&Path>) -> anyhow::Result<Client> {
        if let Some(folder) = data {
            return self.of_folder(folder)?.ok_or_else(|| {
                usage(format!("{} has neither dev.json nor admin.key", folder.display()))
            });
        }
        if let Some(key) = self.given_key()? {
            return self.client_of(None, &key);
        }
        self.of_folder(Path::new(DEFAULT_DATA))?.ok_or_else(|| {
            usage("no administrator's key: set LEDGERLINE_API_KEY, or name a --key-file or --data")
        })
    }

    fn given_key(&self) -> anyhow::Result<Option<String>> {
        match &self.key_file {
            Some(file) => std::fs::read_to_string(file)
                .with_context(|| format!("the key cannot be read from {}", file.display()))
                .map(Some),
            None => Ok(self.api_key.clone()),
        }
    }

    /// With the demo's key and address, or the first administrator's key.
    fn of_folder(&self, folder: &Path) -> anyhow::Result<Option<Client>> {
        let (demo, first) = (folder.join("dev.json"), folder.join("admin.key"));
        if demo.exists() {
            let text = std::fs::read_to_string(&demo);
            let text = text.with_context(|| format!("{} cannot be read", demo.display()))?;
            let demo: Value = serde_json::from_str(&text)
                .with_context(|| format!("{} is damaged", demo.display()))?;
            let text = |pointer| demo.pointer(pointer).and_then(Value::as_str);
            let key = text("/admin/api_key").unwrap_or_default();
            return self.client_of(text("/base_url"), key).map(Some);
        }
        if first.exists() {
            let key = std::fs::read_to_string(&first);
            let key = key.with_context(|| format!("{} cannot be read", first.display()))?;
            return self.client_of(None, &key).map(Some);
        }
        Ok(None)
    }

    fn client_of(&self, found: Option<&str>, key: &str) -> anyhow::Result<Client> {
        let server = self.server.as_deref().or(found).unwrap_or(DEFAULT_SERVER);
        let credential = Credential::Key(Secret::from(key.trim()));
        Ok(Client::new(server, credential, Arc::new(SystemClock))?)
    }
}
