//! Which keys there are. A schema is a tree in which every key appears; a list holds one example of
//! its elements, and [`ANY`] stands for keys that the operator names.

use anyhow::bail;
use serde_json::Value;

use super::located::member;
use super::places::{Settings, kind};

/// Stands in a schema for every key of a section that takes any.
pub(super) const ANY: &str = "*";

/// Refuses keys that the schema does not have, with the nearest that it has, and values where the
/// schema has a section.
pub(super) fn check(settings: &Settings, schema: &Value) -> anyhow::Result<()> {
    walk(&settings.tree, schema, "", settings)
}

fn walk(tree: &Value, schema: &Value, path: &str, settings: &Settings) -> anyhow::Result<()> {
    match (tree, schema) {
        (Value::Object(members), Value::Object(_)) => {
            for (name, value) in members {
                let path = member(path, name);
                match under(schema, name) {
                    Some(schema) => walk(value, schema, &path, settings)?,
                    None => return refuse(name, &path, schema, settings),
                }
            }
            Ok(())
        }
        (other, Value::Object(_)) => {
            let place =
                if path.is_empty() { "the configuration".to_owned() } else { settings.place(path) };
            bail!("{place}: expected keys and values, not {}", kind(other))
        }
        (Value::Array(items), Value::Array(known)) => {
            let Some(schema) = known.first() else { return Ok(()) };
            for (at, item) in items.iter().enumerate() {
                walk(item, schema, &format!("{path}[{at}]"), settings)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn refuse(name: &str, path: &str, schema: &Value, settings: &Settings) -> anyhow::Result<()> {
    let siblings: Vec<&str> =
        schema.as_object().into_iter().flat_map(|known| known.keys().map(String::as_str)).collect();
    let place = settings.place(path);
    let parent = path.strip_suffix(name).unwrap_or_default();
    match nearest(name, siblings.iter().copied()) {
        Some(near) => bail!("unknown key {place}: did you mean {parent}{near}?"),
        None => bail!("unknown key {place}: there are {}", siblings.join(", ")),
    }
}

/// The schema of a member of a section.
pub(super) fn under<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema.get(name).or_else(|| schema.get(ANY))
}

/// The candidate that is most like a name, if any is much like it.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let scored =
        candidates.map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate));
    let (distance, candidate) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= name.len().div_ceil(2)).then_some(candidate)
}

/// All settings that one environment variable can set, as `section.key` and example.
pub(super) fn leaves(schema: &Value) -> Vec<(String, &Value)> {
    let mut all = Vec::new();
    collect(schema, "", &mut all);
    all
}

fn collect<'a>(schema: &'a Value, path: &str, all: &mut Vec<(String, &'a Value)>) {
    match schema {
        Value::Object(members) => {
            for (name, value) in members {
                collect(value, &member(path, name), all);
            }
        }
        leaf => all.push((path.to_owned(), leaf)),
    }
}

/// Keys of the schema that a tree does not show.
#[cfg(test)]
pub(super) fn missing(schema: &Value, tree: &Value) -> Vec<String> {
    let mut all = Vec::new();
    compare(schema, tree, "", &mut all);
    all
}

#[cfg(test)]
fn compare(schema: &Value, tree: &Value, path: &str, all: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            for (name, value) in members.iter().filter(|(name, _)| *name != ANY) {
                match tree.get(name) {
                    Some(shown) => compare(value, shown, &member(path, name), all),
                    None => all.push(member(path, name)),
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = items.first() {
                compare(item, tree.get(0).unwrap_or(&Value::Null), &format!("{path}[0]"), all);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(tree: Value) -> String {
        let schema =
            json!({"server": {"listen": "", "max": 1}, "list": [{"name": "", "free": {"*": ""}}]});
        let settings = Settings { tree, ..Settings::default() };
        check(&settings, &schema).map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn unknown_keys_are_told_with_the_nearest_or_with_what_there_is() {
        assert_eq!(told(json!({"list": [{"free": {"x-any": "y"}}], "server": {}})), "fine");
        assert_eq!(
            told(json!({"server": {"lisen": ""}})),
            "unknown key server.lisen: did you mean server.listen?"
        );
        assert_eq!(
            told(json!({"list": [{}, {"nam": ""}]})),
            "unknown key list[1].nam: did you mean list[1].name?"
        );
        assert_eq!(told(json!({"zzz": 1})), "unknown key zzz: there are list, server");
        assert_eq!(
            told(json!({"server": {"a.b": 1}})),
            "unknown key server.a.b: there are listen, max"
        );
        assert_eq!(told(json!({"server": "x"})), "server: expected keys and values, not text");
        assert_eq!(told(json!(["x"])), "the configuration: expected keys and values, not a list");
    }

    #[test]
    fn keys_that_are_not_shown_are_listed() {
        let schema = json!({"a": {"b": 1, "c": [{"d": 1}]}});
        assert_eq!(
            missing(&schema, &json!({"a": {"b": 1, "c": [{"d": 2}]}})),
            Vec::<String>::new()
        );
        assert_eq!(missing(&schema, &json!({"a": {"c": []}})), ["a.b", "a.c[0].d"]);
    }
}
