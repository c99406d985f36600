//! Where a setting came from, so that an error can send the operator there. An error shows the kind
//! of a value and never the value: it may be a secret.

use std::collections::BTreeMap;

use anyhow::anyhow;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::located::Lines;

/// The settings, and where each is from.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) tree: Value,
    pub(super) lines: Lines,
    /// The environment variable that set a path.
    pub(super) variables: BTreeMap<String, String>,
}

impl Settings {
    /// The typed tree, or the path, the kind of the value and what was expected.
    pub(super) fn typed<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_path_to_error::deserialize(&self.tree).map_err(|error| {
            let path = error.path().to_string();
            let place = self.place(&path);
            anyhow!("{place}: {}", self.reason(&path, &error.inner().to_string()))
        })
    }

    /// A path, and the line or the variable that set it or what it is in.
    pub(super) fn place(&self, path: &str) -> String {
        let mut within = path;
        loop {
            if let Some(variable) = self.variables.get(within) {
                return format!("{path} (from {variable})");
            }
            if let Some(line) = self.lines.get(within) {
                return format!("{path} (line {line})");
            }
            match within.rfind(['.', '[']).and_then(|end| within.get(..end)) {
                Some(parent) => within = parent,
                None => return path.to_owned(),
            }
        }
    }

    fn reason(&self, path: &str, message: &str) -> String {
        let Some((_, expected)) = mismatch(message) else { return message.to_owned() };
        let Some(found) = find(&self.tree, path).map(kind) else {
            return format!("expected {}", plain(expected));
        };
        let hint = if plain(expected) == "text" && matches!(found, "a number" | "a flag") {
            ": put it in quotes"
        } else {
            ""
        };
        format!("expected {}, not {found}{hint}", plain(expected))
    }
}

/// What stood there and what was expected, of serde's words for a value of another type.
fn mismatch(message: &str) -> Option<(&str, &str)> {
    let told = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    told.rsplit_once(", expected ")
}

fn plain(expected: &str) -> &str {
    match expected {
        "usize" | "u64" | "u32" | "u16" => "a whole number, zero or more",
        "a boolean" => "true or false",
        "a string" | "path string" => "text",
        "a sequence" => "a list",
        "a map" => "keys and values",
        _ if expected.starts_with("struct ") => "keys and values",
        _ => expected,
    }
}

/// What an operator calls a value.
pub(super) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a flag",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "keys and values",
    }
}

fn find<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    let mut place = tree;
    let steps = path.split(['.', '[']).filter(|step| !step.is_empty());
    for step in steps {
        place = match step.strip_suffix(']') {
            Some(index) => place.get(index.parse::<usize>().ok()?)?,
            None => place.get(step)?,
        };
    }
    Some(place)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only whether it can be read matters")]
    struct Tree {
        #[serde(default)]
        count: u64,
        #[serde(default)]
        on: bool,
        #[serde(default)]
        name: String,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only whether it can be read matters")]
    struct Inner {
        secret: String,
    }

    fn told(tree: Value) -> String {
        let lines = Lines::from([("inner".to_owned(), 3), ("inner[0].secret".to_owned(), 4)]);
        let variables = BTreeMap::from([("count".to_owned(), "X_COUNT".to_owned())]);
        let settings = Settings { tree, lines, variables };
        format!("{:#}", settings.typed::<Tree>().unwrap_err())
    }

    #[test]
    fn a_wrong_type_names_place_kind_and_what_is_expected_and_no_value() {
        let number = "a whole number, zero or more";
        assert_eq!(
            told(json!({"count": "many"})),
            format!("count (from X_COUNT): expected {number}, not text")
        );
        assert_eq!(
            told(json!({"count": -7})),
            format!("count (from X_COUNT): expected {number}, not a number")
        );
        assert_eq!(told(json!({"on": []})), "on: expected true or false, not a list");
        assert_eq!(
            told(json!({"inner": [{"secret": 778_899}]})),
            "inner[0].secret (line 4): expected text, not a number: put it in quotes"
        );
        assert_eq!(
            told(json!({"inner": ["hunter2"]})),
            "inner[0] (line 3): expected keys and values, not text"
        );
        assert_eq!(
            told(json!({"inner": "hunter2, expected x"})),
            "inner (line 3): expected a list, not text"
        );
        assert_eq!(told(json!({"inner": [{}]})), "inner[0] (line 3): missing field `secret`");
    }
}
