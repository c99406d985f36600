//! A YAML text as a tree that knows where its keys are.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::anyhow;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};
use serde_saphyr::Spanned;

/// The line of each key, by its path, such as `models[0].price.currency`.
pub(super) type Lines = BTreeMap<String, u64>;

/// Reads a text. Nothing of the text is in the error, because it may hold secrets.
pub(super) fn read(text: &str) -> anyhow::Result<(Value, Lines)> {
    let options = serde_saphyr::options! { with_snippet: false };
    let node: Node =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| refused(&error))?;
    let mut lines = Lines::new();
    let value = node.into_value("", &mut lines);
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

enum Node {
    Leaf(Value),
    List(Vec<Self>),
    Section(Vec<(Spanned<String>, Self)>),
}

impl Node {
    /// A key without a value is a key that is not set.
    fn into_value(self, path: &str, lines: &mut Lines) -> Value {
        match self {
            Self::Leaf(value) => value,
            Self::List(items) => {
                let numbered = items.into_iter().enumerate();
                numbered
                    .map(|(at, item)| item.into_value(&format!("{path}[{at}]"), lines))
                    .collect()
            }
            Self::Section(members) => {
                let mut section = Map::new();
                for (name, node) in members {
                    let path = member(path, &name.value);
                    lines.insert(path.clone(), name.referenced.line());
                    let value = node.into_value(&path, lines);
                    section.insert(name.value, value);
                }
                Value::Object(section)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Node, E> {
        Ok(Node::Leaf(json!(flag)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Leaf(json!(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Leaf(json!(number)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Leaf(json!(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Leaf(json!(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Node::Section(members))
    }
}

#[cfg(test)]
mod tests {
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
