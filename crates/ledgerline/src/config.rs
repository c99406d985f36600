//! The configuration: one typed tree, from one file, the environment and the command line.

mod environment;
mod keys;
mod located;
mod places;
mod sources;

use std::path::PathBuf;

use anyhow::Context as _;
use kernel::{Amount, Secret};
use models::{
    ModelConfig, PriceConfig, ProviderConfig, ProviderKind, RoutingConfig, UapiConfig, UapiMode,
    UapiStep,
};
use pricing::CachedResponse;
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
    pub(crate) redis: store::RedisConfig,
    pub(crate) log: Log,
    pub(crate) security: identity::Config,
    pub(crate) signing: identity::SigningConfig,
    pub(crate) journal: ledger::Config,
    pub(crate) metering: metering::Config,
    pub(crate) telemetry: telemetry::Config,
    pub(crate) routing: RoutingConfig,
    pub(crate) cache: gateway::CacheConfig,
    pub(crate) guard: gateway::GuardConfig,
    pub(crate) alerts: alerts::Config,
    pub(crate) customers: customers::Config,
    pub(crate) upstream: customers::UpstreamConfig,
    pub(crate) flow: flow::Config,
    pub(crate) agents: agents::Config,
    pub(crate) providers: Vec<ProviderConfig>,
    pub(crate) models: Vec<ModelConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("data"),
            server: web::Config::default(),
            database: store::Config::default(),
            redis: store::RedisConfig::default(),
            log: Log::default(),
            security: identity::Config::default(),
            signing: identity::SigningConfig::default(),
            journal: ledger::Config::default(),
            metering: metering::Config::default(),
            telemetry: telemetry::Config::default(),
            routing: RoutingConfig::default(),
            cache: gateway::CacheConfig::default(),
            guard: gateway::GuardConfig::default(),
            alerts: alerts::Config::default(),
            customers: customers::Config::default(),
            upstream: customers::UpstreamConfig::default(),
            flow: flow::Config::default(),
            agents: agents::Config::default(),
            providers: Vec::new(),
            models: Vec::new(),
        }
    }
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
    /// The file that lines are added to; empty for standard error.
    pub(crate) file: PathBuf,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::default(), file: PathBuf::new() }
    }
}

impl Config {
    /// Reads the configuration from its sources: the environment goes before the file.
    pub(crate) fn load(sources: &Sources) -> anyhow::Result<Self> {
        let schema = Self::schema()?;
        let mut settings = sources.file(&schema)?;
        environment::apply(&mut settings, &schema, &sources.environment)?;
        keys::check(&settings, &schema)?;
        settings.typed()
    }

    /// The configuration in force as YAML, secrets masked.
    pub(crate) fn effective(&self) -> anyhow::Result<String> {
        serde_saphyr::to_string(self).context("the configuration cannot be printed")
    }

    /// A description in which every key appears.
    fn described() -> UapiConfig {
        let step = || Some(UapiStep::default());
        let (mode, chunk_match) = (Some(UapiMode::Sync), Some("data:".to_owned()));
        UapiConfig { mode, chunk_match, call: step(), query: step(), ..UapiConfig::default() }
    }

    /// A tree in which every key there is appears, with its default; lists hold one example.
    fn schema() -> anyhow::Result<Value> {
        let some = Some(Amount::ZERO);
        let price = PriceConfig {
            currency: "CNY".parse()?,
            input_per_million: Amount::ZERO,
            cached_input_per_million: some,
            cache_write_per_million: some,
            output_per_million: Amount::ZERO,
            reasoning_per_million: some,
            per_call: some,
        };
        let mut provider = ProviderConfig::new("example", ProviderKind::Sim, "");
        provider.headers.insert(keys::ANY.to_owned(), Secret::default());
        provider.uapi = Some(Self::described());
        let mut model = ModelConfig::new("example", "example", Some(price));
        model.cached_response = Some(CachedResponse { percent: 0, per_call: Amount::ZERO });
        for route in &mut model.routes {
            route.model = Some(String::new());
            route.cost = Some(price);
        }
        let mut telemetry = telemetry::Config::default();
        telemetry.otlp_headers.insert(keys::ANY.to_owned(), Secret::default());
        let mut tool = flow::HttpTool::new("example", "http://example.com");
        tool.headers.insert(keys::ANY.to_owned(), Secret::default());
        let flow = flow::Config { tools: vec![tool], ..flow::Config::default() };
        let (url, app_id, app_secret) = (String::new(), String::new(), Secret::default());
        let followers = vec![customers::FollowerConfig { url, app_id, app_secret }];
        let customers = customers::Config { followers, ..customers::Config::default() };
        let (providers, models) = (vec![provider], vec![model]);
        let full = Self { telemetry, customers, flow, providers, models, ..Self::default() };
        Ok(serde_json::to_value(full)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
        let uncommented = ["providers: []", "models: []", "tools: []", "mcp: []", "followers: []"]
            .iter()
            .fold(uncommented, |text, list| text.replace(list, list.trim_end_matches(" []")));
        let shown: Value = serde_saphyr::from_str(&uncommented).unwrap();
        let missing = keys::missing(&Config::schema().unwrap(), &shown);
        assert_eq!(missing, Vec::<String>::new());
        let given = load(&uncommented, &[]).unwrap();
        let (provider, model) = (&given.providers[0], &given.models[0]);
        let mut by_default =
            ProviderConfig::new(&provider.name, ProviderKind::OpenAi, &provider.base_url);
        by_default.uapi = Some(Config::described());
        assert_eq!(json!(provider), json!(by_default));
        let mut by_default = ModelConfig::new(&model.name, &provider.name, model.price);
        by_default.routes[0].model.clone_from(&model.routes[0].model);
        by_default.routes[0].cost = model.routes[0].cost;
        by_default.cached_response = model.cached_response;
        assert_eq!(json!(model), json!(by_default));
    }

    #[test]
    fn a_file_a_variable_and_an_alias_work_together() {
        let yaml = "server:\n  listen: ${ADDRESS:127.0.0.1:7000}\ndatabase:\n  url: mysql://u:${PW}@h/d\nredis:\n";
        let environment =
            [("PW", "12"), ("LEDGERLINE_SERVER_MAX_BODY_BYTES", "99"), ("PORT", "81")];
        let config = load(yaml, &environment).unwrap();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:81");
        assert_eq!(config.database.url.expose(), "mysql://u:12@h/d");
        assert_eq!(config.server.max_body_bytes, 99);
        let missing = load(yaml, &[]).unwrap_err();
        assert!(missing.contains("PW") && missing.contains("database.url (line 4)"), "{missing}");
    }

    #[test]
    fn prices_and_header_values_may_look_like_numbers() {
        let yaml = "models:\n- {name: m, routes: [{provider: p}], price: {currency: CNY, \
            input_per_million: 2, per_call: \"${FEE}\"}}\n\
            providers:\n- {name: p, kind: openai, headers: {x-token: \"${TOKEN}\"}}\n";
        let config = load(yaml, &[("FEE", "0.10"), ("TOKEN", "0778")]).unwrap();
        let price = config.models[0].price.unwrap();
        assert_eq!(price.input_per_million.to_string(), "2");
        assert_eq!(price.per_call.unwrap().to_string(), "0.1");
        assert_eq!(config.providers[0].headers["x-token"].expose(), "0778");
    }

    #[test]
    fn mistakes_are_named_with_their_line_or_variable() {
        let told = |yaml: &str| load(yaml, &[]).unwrap_err();
        assert_eq!(
            told("server:\n  lisen: 127.0.0.1:1\n"),
            "unknown key server.lisen (line 2): did you mean server.listen?"
        );
        assert_eq!(told("modles: []\n"), "unknown key modles (line 1): did you mean models?");
        assert_eq!(
            told("models:\n- name: m\n  rotes: []\n"),
            "unknown key models[0].rotes (line 3): did you mean models[0].routes?"
        );
        assert!(told("server:\n  max_connections: many\n").starts_with(
            "server.max_connections (line 2): expected a whole number, zero or more, not text"
        ));
        let listed = load("", &[("LEDGERLINE_PROVIDERS", "[{name: p, kind: sim, apikey: x}]")]);
        let expected = "unknown key providers[0].apikey (from LEDGERLINE_PROVIDERS): did you mean providers[0].api_key?";
        assert_eq!(listed.unwrap_err(), expected);
    }

    #[test]
    fn secrets_are_neither_in_errors_nor_in_what_is_printed() {
        let files = [
            "security:\n  secret: 778899778899778899\n",
            "security:\n  secret: [hunter2]\n",
            "security: hunter2\n",
            "security:\n  secret: \"hunter2\n",
            "database:\n  url: hunter2\n  url: hunter2\n",
            "providers:\n- {name: p, kind: openai, headers: {x: 778899}}\n",
        ];
        for file in files {
            let error = load(file, &[]).unwrap_err();
            assert!(!error.contains("hunter2") && !error.contains("778899"), "{error}");
        }
        let cut = load("", &[("LEDGERLINE_PROVIDERS", "[{name: p, api_key: hunter2")]).unwrap_err();
        assert!(cut.contains("LEDGERLINE_PROVIDERS") && !cut.contains("hunter2"), "{cut}");
        let given = "security: {secret: hunter2}\ndatabase: {url: 'mysql://hunter2@h/d', replica_url: hunter2}\n\
            redis: {url: hunter2}\n\
            providers: [{name: p, kind: openai, api_key: hunter2, headers: {x: hunter2}}]\n";
        let shown = load(given, &[]).unwrap().effective().unwrap();
        assert_eq!(
            (shown.matches("hunter2").count(), shown.matches("***").count()),
            (0, 6),
            "{shown}"
        );
    }
}
