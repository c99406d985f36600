//! A YAML (or JSON) text as a tree that keeps the order and the lines of its keys.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};
use serde_saphyr::Spanned;

/// A value of the text.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Text, a number, a flag or nothing.
    Leaf(Value),
    /// Values in order.
    List(Vec<Self>),
    /// Members in order; no two have one name.
    Section(Vec<Member>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The key.
    pub name: String,
    /// The line of the key, the first being 1.
    pub line: u64,
    /// Its value.
    pub value: Node,
}

/// Reads a text. Only `true` and `false` are flags: a field may be called `n` or `on`. Depth, size and
/// aliases are bounded by the parser.
///
/// # Errors
/// What is wrong with the text, and in which line.
pub fn read(text: &str) -> Result<Node, (String, Option<u64>)> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map(|location| location.line());
        (error.to_string(), line)
    })
}

impl Node {
    /// The value of a member, if this is a section that has it.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Section(members) => {
                members.iter().find(|member| member.name == name).map(|member| &member.value)
            }
            _ => None,
        }
    }

    /// The members, none if it is no section.
    pub fn members(&self) -> &[Member] {
        match self {
            Self::Section(members) => members,
            _ => &[],
        }
    }

    /// Nothing is there.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Leaf(Value::Null))
    }

    /// Text, or a number or flag as text.
    pub fn as_text(&self) -> Option<String> {
        match self {
            Self::Leaf(Value::String(text)) => Some(text.clone()),
            Self::Leaf(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
            _ => None,
        }
    }

    /// Without lines and order.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Leaf(value) => value.clone(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Section(members) => Value::Object(
                members
                    .iter()
                    .map(|member| (member.name.clone(), member.value.to_json()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// What it is, for messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Leaf(Value::Null) => "nothing",
            Self::Leaf(Value::Bool(_)) => "a flag",
            Self::Leaf(Value::Number(_)) => "a number",
            Self::Leaf(_) => "text",
            Self::List(_) => "a list",
            Self::Section(_) => "a section",
        }
    }

    /// A short form for messages.
    pub fn shown(&self) -> String {
        const LONGEST: usize = 80;
        let text = self.to_json().to_string();
        match text.char_indices().nth(LONGEST) {
            Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
            None => text,
        }
    }

    /// This over `base`: sections are merged, everything else replaced.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        match (self, base) {
            (Self::Section(mine), Self::Section(mut merged)) => {
                for member in mine {
                    match merged.iter_mut().find(|known| known.name == member.name) {
                        Some(known) => {
                            let below =
                                std::mem::replace(&mut known.value, Self::Leaf(Value::Null));
                            known.value = member.value.over(below);
                            known.line = member.line;
                        }
                        None => merged.push(member),
                    }
                }
                Self::Section(merged)
            }
            (mine, _) => mine,
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
        while let Some((name, value)) = map.next_entry::<Spanned<String>, Node>()? {
            let line = name.referenced.line();
            members.push(Member { name: name.value, line, value });
        }
        Ok(Node::Section(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_lines_are_kept() {
        let tree = read("b: 1\na:\n  x: [1, {y: 2}]\n").unwrap();
        let names: Vec<_> =
            tree.members().iter().map(|member| (member.name.as_str(), member.line)).collect();
        assert_eq!(names, [("b", 1), ("a", 2)]);
        assert_eq!(tree.to_json(), json!({"a": {"x": [1, {"y": 2}]}, "b": 1}));
    }

    #[test]
    fn bombs_and_depth_are_refused() {
        let deep = format!("a: {}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(read(&deep).is_err());
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            bomb = format!("{bomb}a{level}: &a{level} [{below}]\n");
        }
        assert!(read(&bomb).is_err());
        assert!(read("a: 1\na: 2\n").unwrap_err().0.contains('a'));
    }

    #[test]
    fn an_heir_keeps_what_it_does_not_say() {
        let base = read("a: {x: 1, y: 2}\nb: [1]").unwrap();
        let heir = read("a: {y: 3}\nb: [2]\nc: 4").unwrap();
        assert_eq!(heir.over(base).to_json(), json!({"a": {"x": 1, "y": 3}, "b": [2], "c": 4}));
    }
}
