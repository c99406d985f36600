//! A YAML text as a tree that knows where its keys are.

use std::collections::BTreeMap;

use anyhow::anyhow;
use kernel::yaml::{Member, Node};
use serde_json::{Map, Value};

/// The line of each key, by its path, such as `models[0].price.currency`.
pub(super) type Lines = BTreeMap<String, u64>;

/// Reads a text. Nothing of the text is in the error, because it may hold secrets.
pub(super) fn read(text: &str) -> anyhow::Result<(Value, Lines)> {
    let options = serde_saphyr::options! { with_snippet: false };
    let node: Node =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| refused(&error))?;
    let mut lines = Lines::new();
    let value = into_value(node, "", &mut lines);
    Ok((value, lines))
}

/// Where a member of a section is.
pub(super) fn member(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

fn refused(error: &serde_saphyr::Error) -> anyhow::Error {
    match error {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), location } => {
            anyhow!("the configuration has {key} twice in one section (line {})", location.line())
        }
        _ => anyhow!("the configuration is not YAML: {error}"),
    }
}

/// A key without a value is a key that is not set.
fn into_value(node: Node, path: &str, lines: &mut Lines) -> Value {
    match node {
        Node::Leaf(value) => value,
        Node::List(items) => {
            let numbered = items.into_iter().enumerate();
            numbered.map(|(at, item)| into_value(item, &format!("{path}[{at}]"), lines)).collect()
        }
        Node::Section(members) => {
            let mut section = Map::new();
            for Member { name, line, value } in members {
                let path = member(path, &name);
                lines.insert(path.clone(), line);
                section.insert(name, into_value(value, &path, lines));
            }
            Value::Object(section)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_key_knows_its_line() {
        let (tree, lines) = read("a: 1\n\nb:\n- c: x\n  d: [true, 1.5, ~]\n- {e: -2}\n").unwrap();
        assert_eq!(tree, json!({"a": 1, "b": [{"c": "x", "d": [true, 1.5, null]}, {"e": -2}]}));
        let lines: Vec<(&str, u64)> =
            lines.iter().map(|(path, line)| (path.as_str(), *line)).collect();
        assert_eq!(lines, [("a", 1), ("b", 3), ("b[0].c", 4), ("b[0].d", 5), ("b[1].e", 6)]);
    }

    #[test]
    fn a_broken_text_is_named_by_its_line_and_not_shown() {
        for broken in ["a: hunter2\nb: \"hunter2", "a: hunter2\na: hunter2\n", "a:\n  {hunter2"] {
            let error = format!("{:#}", read(broken).unwrap_err());
            assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
        }
    }
}
