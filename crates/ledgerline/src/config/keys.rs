//! Which keys there are.

use anyhow::bail;
use serde_json::Value;

/// Refuses keys that the schema does not have, with the nearest that it has.
pub(super) fn check(tree: &Value, schema: &Value) -> anyhow::Result<()> {
    let mut unknown = Vec::new();
    walk(tree, schema, "", &mut unknown);
    let Some((path, siblings)) = unknown.into_iter().next() else { return Ok(()) };
    let parent = path.rsplit_once('.').map_or(String::new(), |(parent, _)| format!("{parent}."));
    let name = path.rsplit('.').next().unwrap_or_default();
    match nearest(name, siblings.iter().map(String::as_str)) {
        Some(near) => bail!("unknown key {path}: did you mean {parent}{near}?"),
        None => bail!("unknown key {path}: there are {}", siblings.join(", ")),
    }
}

fn walk(tree: &Value, schema: &Value, path: &str, unknown: &mut Vec<(String, Vec<String>)>) {
    match (tree, schema) {
        // An empty object in the schema takes any keys.
        (Value::Object(members), Value::Object(known)) if !known.is_empty() => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match known.get(name) {
                    Some(schema) => walk(member, schema, &path, unknown),
                    None => unknown.push((path, known.keys().cloned().collect())),
                }
            }
        }
        (Value::Array(items), Value::Array(known)) => {
            if let Some(schema) = known.first() {
                for (at, item) in items.iter().enumerate() {
                    walk(item, schema, &format!("{path}[{at}]"), unknown);
                }
            }
        }
        _ => {}
    }
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

/// All settings that are not lists of sections, as `section.key` and default.
pub(super) fn leaves(schema: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    collect(schema, "", &mut all);
    all
}

fn collect(schema: &Value, path: &str, all: &mut Vec<(String, Value)>) {
    match schema {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(member, &path, all);
            }
        }
        leaf => all.push((path.to_owned(), leaf.clone())),
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
            for (name, member) in members {
                match tree.get(name) {
                    Some(shown) => compare(member, shown, &format!("{path}.{name}"), all),
                    None => all.push(format!("{path}.{name}")),
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
