//! The configuration: one typed tree, from one file, the environment and the command line.

mod environment;
mod keys;
mod sources;

use std::path::PathBuf;

use anyhow::Context as _;
use kernel::Secret;
use models::{ModelConfig, PriceConfig, ProviderConfig, ProviderKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use sources::Sources;

/// Everything that can be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The folder for everything that is kept.
    pub(crate) data: PathBuf,
    pub(crate) server: web::Config,
    pub(crate) database: store::Config,
    pub(crate) redis: Redis,
    pub(crate) log: Log,
    pub(crate) security: identity::Config,
    pub(crate) journal: ledger::Config,
    pub(crate) metering: metering::Config,
    pub(crate) providers: Vec<ProviderConfig>,
    pub(crate) models: Vec<ModelConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("data"),
            server: web::Config::default(),
            database: store::Config::default(),
            redis: Redis::default(),
            log: Log::default(),
            security: identity::Config::default(),
            journal: ledger::Config::default(),
            metering: metering::Config::default(),
            providers: Vec::new(),
            models: Vec::new(),
        }
    }
}

/// The `redis` section.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Redis {
    /// `redis://host:6379`; empty for none.
    pub(crate) url: Secret,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Pretty in a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// The `log` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or filters such as `info,ledger=debug`.
    pub(crate) level: String,
    /// `auto`, `json` or `pretty`.
    pub(crate) format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::default() }
    }
}

impl Config {
    /// Reads the configuration from its sources.
    pub(crate) fn load(sources: &Sources) -> anyhow::Result<Self> {
        let schema = Self::schema()?;
        let mut tree = sources.file_tree(&schema)?;
        keys::check(&tree, &schema)?;
        environment::apply(&mut tree, &schema, &sources.environment)?;
        serde_path_to_error::deserialize(tree).map_err(|error| {
            let path = error.path().to_string();
            anyhow::anyhow!("{path}: {}", error.into_inner())
        })
    }

    /// The configuration in force as YAML, secrets masked.
    pub(crate) fn effective(&self) -> anyhow::Result<String> {
        serde_saphyr::to_string(self).context("the configuration cannot be printed")
    }

    /// A tree in which every key there is appears, with its default; lists hold one example.
    fn schema() -> anyhow::Result<Value> {
        let price = PriceConfig {
            currency: "CNY".parse()?,
            input_per_million: kernel::Amount::ZERO,
            cached_input_per_million: None,
            cache_write_per_million: None,
            output_per_million: kernel::Amount::ZERO,
            reasoning_per_million: None,
            per_call: None,
        };
        let full = Self {
            providers: vec![ProviderConfig::new("example", ProviderKind::Sim, "")],
            models: vec![ModelConfig::new("example", "example", Some(price))],
            ..Self::default()
        };
        Ok(serde_json::to_value(full)?)
    }

    /// Settings that are accepted but that nothing in this version uses.
    pub(crate) fn without_effect(&self) -> Vec<&'static str> {
        let unused = [
            ("redis.url", !self.redis.url.is_empty()),
            ("database.replica_url", !self.database.replica_url.is_empty()),
            ("server.trusted_proxies", !self.server.trusted_proxies.is_empty()),
        ];
        unused.into_iter().filter(|(_, set)| *set).map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(yaml: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let sources = Sources::from_text(yaml, environment);
        Config::load(&sources).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_commented_file_holds_every_key_with_its_default() {
        let file = include_str!("../../../config/ledgerline.yaml");
        let config = load(file, &[]).unwrap();
        assert_eq!(config.effective().unwrap(), Config::default().effective().unwrap());
        let uncommented: String = file
            .lines()
            .map(|line| {
                line.strip_prefix("#-").map_or_else(|| line.to_owned(), |rest| format!("  {rest}"))
            })
            .map(|line| line + "\n")
            .collect();
        let uncommented =
            uncommented.replace("providers: []", "providers:").replace("models: []", "models:");
        let shown: Value = serde_saphyr::from_str(&uncommented).unwrap();
        let missing = keys::missing(&Config::schema().unwrap(), &shown);
        assert_eq!(missing, Vec::<String>::new());
        load(&uncommented, &[]).unwrap();
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest() {
        let error = load("server:\n  lisen: 127.0.0.1:1\n", &[]).unwrap_err();
        assert!(error.contains("server.lisen") && error.contains("server.listen"), "{error}");
        let error = load("modles: []\n", &[]).unwrap_err();
        assert!(error.contains("models"), "{error}");
        let error = load("models:\n- name: m\n  rotes: []\n", &[]).unwrap_err();
        assert!(error.contains("models[0].rotes") && error.contains("routes"), "{error}");
    }

    #[test]
    fn variables_fill_in_and_override() {
        let yaml =
            "server:\n  listen: ${ADDRESS:127.0.0.1:7000}\ndatabase:\n  url: mysql://u:${PW}@h/d\n";
        let config =
            load(yaml, &[("PW", "12"), ("LEDGERLINE_SERVER_MAX_BODY_BYTES", "99")]).unwrap();
        assert_eq!(config.server.listen.port(), 7000);
        assert_eq!(config.database.url.expose(), "mysql://u:12@h/d");
        assert_eq!(config.server.max_body_bytes, 99);
        let missing = load(yaml, &[]).unwrap_err();
        assert!(missing.contains("PW") && missing.contains("database.url"), "{missing}");
    }

    #[test]
    fn aliases_of_the_original_systems_are_understood() {
        let environment = [
            ("SAGEAPI_LOG_LEVEL", "debug"),
            ("HOST", "0.0.0.0"),
            ("PORT", "81"),
            ("CORS_ORIGINS", "[\"*\"]"),
        ];
        let config = load("", &environment).unwrap();
        assert_eq!(config.log.level, "debug");
        assert_eq!(config.server.listen.to_string(), "0.0.0.0:81");
        assert_eq!(config.server.cors_origins, ["*"]);
        let error = load("", &[("LEDGERLINE_SERVER_LISEN", "x")]).unwrap_err();
        assert!(error.contains("LEDGERLINE_SERVER_LISTEN"), "{error}");
    }

    #[test]
    fn wrong_types_name_their_place_and_secrets_stay_hidden() {
        let error = load("server:\n  max_connections: many\n", &[]).unwrap_err();
        assert!(error.contains("server.max_connections"), "{error}");
        let config =
            load("security:\n  secret: hunter2hunter2hunter2hunter2hunter2\n", &[]).unwrap();
        let shown = config.effective().unwrap();
        assert!(!shown.contains("hunter2") && shown.contains("***"), "{shown}");
    }
}
