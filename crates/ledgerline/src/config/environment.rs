//! Settings in the environment.

use std::collections::BTreeMap;

use anyhow::bail;
use serde_json::{Map, Value, json};

use super::keys::{leaves, nearest};
use super::sources::scalar;

/// `LEDGERLINE_<SECTION>_<KEY>` overrides the file; `SAGEAPI_<SECTION>_<KEY>` means the same.
const PREFIXES: [&str; 2] = ["SAGEAPI_", "LEDGERLINE_"];
/// Variables of the tests, which are no settings.
const OURS: [&str; 2] = ["LEDGERLINE_TEST_", "LEDGERLINE_BIN"];

/// Names of the modular agent API, and the settings they stand for.
const ALIASES: [(&str, &str); 4] = [
    ("DATA_PATH", "data"),
    ("LOG_LEVEL", "log.level"),
    ("CORS_ORIGINS", "server.cors_origins"),
    ("SECRET_KEY", "security.secret"),
];

/// Puts the environment's settings over the file's.
pub(super) fn apply(
    tree: &mut Value,
    schema: &Value,
    environment: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let leaves = leaves(schema);
    for (alias, path) in ALIASES {
        if let Some(value) = environment.get(alias) {
            let default = leaves.iter().find(|(leaf, _)| leaf == path).map(|(_, default)| default);
            put(tree, path, typed(value, default));
        }
    }
    listen(tree, environment)?;
    let names: Vec<(String, &(String, Value))> =
        leaves.iter().map(|leaf| (leaf.0.replace('.', "_").to_uppercase(), leaf)).collect();
    for prefix in PREFIXES {
        for (variable, value) in environment {
            let Some(name) = variable.strip_prefix(prefix) else { continue };
            if OURS.iter().any(|ours| variable.starts_with(ours)) {
                continue;
            }
            let Some((_, (path, default))) = names.iter().find(|(known, _)| known == name) else {
                match nearest(name, names.iter().map(|(known, _)| known.as_str())) {
                    Some(near) => bail!("unknown setting {variable}: did you mean {prefix}{near}?"),
                    None => bail!(
                        "unknown setting {variable}: see config/ledgerline.yaml for what there is"
                    ),
                }
            };
            put(tree, path, typed(value, Some(default)));
        }
    }
    Ok(())
}

/// `HOST` and `PORT` together are `server.listen`.
fn listen(tree: &mut Value, environment: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let Some(port) = environment.get("PORT") else { return Ok(()) };
    let host = environment.get("HOST").map_or("127.0.0.1", String::as_str);
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    let address =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    if address.parse::<std::net::SocketAddr>().is_err() {
        bail!("HOST and PORT must be an address and a number, not {host:?} and {port:?}");
    }
    put(tree, "server.listen", json!(address));
    Ok(())
}

/// Text stays text where text is wanted; everything else is read as YAML.
fn typed(value: &str, default: Option<&Value>) -> Value {
    if default.is_some_and(Value::is_string) { json!(value) } else { scalar(value) }
}

fn put(tree: &mut Value, path: &str, value: Value) {
    let mut place = tree;
    for name in path.split('.') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(members) = place else { return };
        place = members.entry(name).or_insert(Value::Null);
    }
    *place = value;
}
