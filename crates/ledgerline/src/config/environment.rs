//! Settings in the environment.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use super::keys::{leaves, nearest};
use super::places::Settings;
use super::sources::scalar;

type Environment = BTreeMap<String, String>;
/// A name of another system, the setting it stands for, and how its value is read.
type Alias = (&'static str, &'static str, fn(&str) -> Value);

/// `LEDGERLINE_<SECTION>_<KEY>` overrides the file; `SAGEAPI_<SECTION>_<KEY>` means the same and
/// gives way to it.
const PREFIXES: [&str; 2] = ["SAGEAPI_", "LEDGERLINE_"];
/// Beginnings of the tests' variables, which are no settings.
const OF_TESTS: [&str; 2] = ["LEDGERLINE_TEST_", "LEDGERLINE_BIN"];
/// What the commands that ask a running server are told: no settings either.
const OF_COMMANDS: [&str; 2] = ["LEDGERLINE_API_KEY", "LEDGERLINE_URL"];

/// Names of the modular agent API that mean something here. `HOST` and `PORT` are apart: together
/// they are one setting.
const ALIASES: [Alias; 13] = [
    ("DATA_PATH", "data", |text| json!(text)),
    // Before LOG_LEVEL, which says it more exactly.
    ("DEBUG", "log.level", |text| if is_yes(text) { json!("debug") } else { Value::Null }),
    ("LOG_LEVEL", "log.level", |text| json!(level(text))),
    ("LOG_FILE", "log.file", |text| json!(text)),
    ("CACHE_TTL", "cache.ttl_seconds", scalar),
    ("CORS_ORIGINS", "server.cors_origins", list),
    ("SECRET_KEY", "security.secret", |text| json!(text)),
    ("APP_NAME", "agents.app_name", |text| json!(text)),
    ("APP_VERSION", "agents.app_version", |text| json!(text)),
    ("ENVIRONMENT", "agents.environment", |text| json!(text)),
    ("RATE_LIMIT_PER_MINUTE", "agents.rate_limit_per_minute", scalar),
    ("WEBSOCKET_PING_INTERVAL", "agents.websocket_ping_interval", scalar),
    ("WEBSOCKET_PING_TIMEOUT", "agents.websocket_ping_timeout", scalar),
];
const LISTEN: &str = "server.listen";

/// Puts the environment's settings over the file's: first the other systems' names, then ours.
pub(super) fn apply(
    settings: &mut Settings,
    schema: &Value,
    environment: &Environment,
) -> anyhow::Result<()> {
    let leaves = leaves(schema);
    for (alias, path, read) in ALIASES {
        if let Some(text) = environment.get(alias) {
            match read(text) {
                // Many programs read DEBUG, and mean other things by it.
                Value::Null => {}
                value => put(settings, path, value, alias),
            }
        }
    }
    listen(settings, schema, environment)?;
    let named: Vec<(String, &(String, &Value))> =
        leaves.iter().map(|leaf| (leaf.0.replace('.', "_").to_uppercase(), leaf)).collect();
    for prefix in PREFIXES {
        for (variable, text) in environment {
            let Some(name) = variable.strip_prefix(prefix) else { continue };
            if OF_TESTS.iter().any(|begin| variable.starts_with(begin))
                || OF_COMMANDS.contains(&variable.as_str())
            {
                continue;
            }
            let Some((_, (path, example))) = named.iter().find(|(known, _)| known == name) else {
                let near = nearest(name, named.iter().map(|(known, _)| known.as_str()));
                return unknown(variable, near.map(|near| format!("{prefix}{near}")));
            };
            put(settings, path, typed(text, example), variable);
        }
    }
    Ok(())
}

fn unknown(variable: &str, near: Option<String>) -> anyhow::Result<()> {
    match near {
        Some(near) => bail!("unknown setting {variable}: did you mean {near}?"),
        None => bail!("unknown setting {variable}: see config/ledgerline.yaml for what there is"),
    }
}

fn is_yes(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
}

/// `HOST` and `PORT` are the two halves of `server.listen`; a half that is absent stays.
fn listen(
    settings: &mut Settings,
    schema: &Value,
    environment: &Environment,
) -> anyhow::Result<()> {
    let (host, port) = (environment.get("HOST"), environment.get("PORT"));
    let host = match host.map(|text| (text, address(text))) {
        Some((_, Some(host))) => Some(host),
        // Shells call the machine's name HOST, too.
        Some(_) if port.is_none() => None,
        Some((text, None)) => bail!("HOST: expected an address such as 0.0.0.0, not {text:?}"),
        None => None,
    };
    let port = match port.map(|text| (text, text.parse::<u16>())) {
        Some((_, Ok(port))) => Some(port),
        Some((text, Err(_))) => bail!("PORT: expected a number from 0 to 65535, not {text:?}"),
        None => None,
    };
    let variable = match (host, port) {
        (None, None) => return Ok(()),
        (Some(_), None) => "HOST",
        (None, Some(_)) => "PORT",
        (Some(_), Some(_)) => "HOST and PORT",
    };
    let mut listen = in_force(settings, schema)?;
    listen.set_ip(host.unwrap_or_else(|| listen.ip()));
    listen.set_port(port.unwrap_or_else(|| listen.port()));
    put(settings, LISTEN, json!(listen), variable);
    Ok(())
}

fn address(text: &str) -> Option<IpAddr> {
    let text = if text == "localhost" { "127.0.0.1" } else { text };
    text.parse().ok()
}

/// The file's address, or the default.
fn in_force(settings: &Settings, schema: &Value) -> anyhow::Result<SocketAddr> {
    let pointer = format!("/{}", LISTEN.replace('.', "/"));
    let listen = settings.tree.pointer(&pointer).or_else(|| schema.pointer(&pointer));
    listen
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok())
        .with_context(|| format!("{}: expected address:port", settings.place(LISTEN)))
}

/// Text stays text where text is wanted; everything else is read as YAML.
fn typed(text: &str, example: &Value) -> Value {
    if example.is_string() { json!(text) } else { scalar(text) }
}

/// Python's names of levels, as ours.
fn level(text: &str) -> String {
    match text.to_lowercase().as_str() {
        "warning" => "warn".to_owned(),
        "critical" | "fatal" => "error".to_owned(),
        "notset" => "trace".to_owned(),
        level @ ("error" | "info" | "debug") => level.to_owned(),
        _ => text.to_owned(),
    }
}

/// A YAML list, or texts between commas.
fn list(text: &str) -> Value {
    match scalar(text) {
        list @ Value::Array(_) => list,
        _ => text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect(),
    }
}

fn put(settings: &mut Settings, path: &str, value: Value, variable: &str) {
    let mut place = &mut settings.tree;
    for name in path.split('.') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(members) = place else { return };
        place = members.entry(name).or_insert(Value::Null);
    }
    *place = value;
    settings.variables.insert(path.to_owned(), variable.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(file: Value, environment: &[(&str, &str)]) -> Result<Value, String> {
        let schema = json!({
            "data": "", "log": {"level": ""}, "security": {"secret": ""},
            "server": {"listen": "127.0.0.1:8000", "cors_origins": [""], "max_body_bytes": 1, "log_requests": true},
        });
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut settings = Settings { tree: file, ..Settings::default() };
        apply(&mut settings, &schema, &environment.iter().map(owned).collect())
            .map(|()| settings.tree)
            .map_err(|error| error.to_string())
    }

    fn listening(file: Value, environment: &[(&str, &str)]) -> Result<String, String> {
        let tree = applied(file, environment)?;
        Ok(tree["server"]["listen"].as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn values_have_the_type_that_is_wanted() {
        let environment = [
            ("LEDGERLINE_SERVER_MAX_BODY_BYTES", "99"),
            ("LEDGERLINE_SERVER_LOG_REQUESTS", "false"),
            ("LEDGERLINE_SERVER_CORS_ORIGINS", "[http://a, http://b]"),
            ("LEDGERLINE_SECURITY_SECRET", "0123"),
            ("LEDGERLINE_TEST_ANYTHING", "x"),
            ("PATH", "x"),
        ];
        let expected = json!({
            "security": {"secret": "0123"},
            "server": {"max_body_bytes": 99, "log_requests": false, "cors_origins": ["http://a", "http://b"]},
        });
        assert_eq!(applied(json!({}), &environment).unwrap(), expected);
    }

    #[test]
    fn ours_go_before_the_aliases_and_those_before_the_file() {
        let file = json!({"log": {"level": "trace"}});
        let all = [
            ("LEDGERLINE_LOG_LEVEL", "info"),
            ("SAGEAPI_LOG_LEVEL", "debug"),
            ("LOG_LEVEL", "error"),
        ];
        for (at, expected) in ["info", "debug", "error"].into_iter().enumerate() {
            assert_eq!(applied(file.clone(), &all[at..]).unwrap()["log"]["level"], expected);
        }
        assert_eq!(applied(file, &[]).unwrap()["log"]["level"], "trace");
    }

    #[test]
    fn names_of_the_agent_api_are_read_as_written_there() {
        let environment =
            [("LOG_LEVEL", "WARNING"), ("DATA_PATH", "7"), ("CORS_ORIGINS", "http://a, http://b")];
        let tree = applied(json!({}), &environment).unwrap();
        let expected = json!({
            "log": {"level": "warn"}, "data": "7", "server": {"cors_origins": ["http://a", "http://b"]},
        });
        assert_eq!(tree, expected);
        let level = |all: &[(&str, &str)]| applied(json!({}), all).unwrap()["log"]["level"].clone();
        assert_eq!(level(&[("DEBUG", "true")]), "debug");
        assert_eq!(level(&[("DEBUG", "true"), ("LOG_LEVEL", "warn")]), "warn");
        assert_eq!(level(&[("DEBUG", "express:*")]), Value::Null);
        let tree = applied(json!({}), &[("CORS_ORIGINS", "[\"*\"]")]).unwrap();
        assert_eq!(tree["server"]["cors_origins"], json!(["*"]));
    }

    #[test]
    fn host_and_port_each_leave_the_other_as_it_is() {
        let file = || json!({"server": {"listen": "10.0.0.1:7000"}});
        assert_eq!(listening(file(), &[("PORT", "81")]).unwrap(), "10.0.0.1:81");
        assert_eq!(listening(file(), &[("HOST", "::")]).unwrap(), "[::]:7000");
        assert_eq!(listening(json!({}), &[("HOST", "localhost")]).unwrap(), "127.0.0.1:8000");
        assert_eq!(
            listening(json!({}), &[("HOST", "0.0.0.0"), ("PORT", "81")]).unwrap(),
            "0.0.0.0:81"
        );
        assert_eq!(listening(file(), &[("HOST", "build-machine")]).unwrap(), "10.0.0.1:7000");
        assert!(listening(file(), &[("HOST", "build-machine"), ("PORT", "81")]).is_err());
        assert!(listening(file(), &[("PORT", "http")]).unwrap_err().contains("PORT"));
    }

    #[test]
    fn unknown_variables_are_refused_with_the_nearest() {
        let told = |variable| applied(json!({}), &[(variable, "x")]).unwrap_err();
        assert_eq!(
            told("LEDGERLINE_SERVER_LISEN"),
            "unknown setting LEDGERLINE_SERVER_LISEN: did you mean LEDGERLINE_SERVER_LISTEN?"
        );
        assert!(told("SAGEAPI_LOG_LEVL").ends_with("did you mean SAGEAPI_LOG_LEVEL?"));
        assert!(told("LEDGERLINE_Q").ends_with("see config/ledgerline.yaml for what there is"));
    }
}
