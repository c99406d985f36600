//! Reading a tree of values by hand, so that every mistake in it is found and not the first alone.

use std::fmt;

use kernel::Amount;
use serde::Serialize;
use serde_json::{Map, Value};

/// Something wrong in a price file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Where, such as `rules[2].prices[0].price`.
    pub path: String,
    /// What stands there.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

/// What stands there is shown up to so many characters.
const SHOWN: usize = 80;

impl Mistake {
    pub(crate) fn new(
        path: impl Into<String>,
        value: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let value: String = value.into();
        let value = match value.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", value.get(..end).unwrap_or_default()),
            None => value,
        };
        Self { path: path.into(), value, problem: problem.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({}): {}", self.path, self.problem, self.value, self.remedy)
    }
}

/// The mistakes found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings(pub(crate) Vec<Mistake>);

impl Findings {
    /// Notes a mistake; gives nothing, so that a reader can end with it.
    pub(crate) fn note<T>(
        &mut self,
        node: &Node<'_>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Option<T> {
        self.0.push(Mistake::new(&node.path, node.value.to_string(), problem, remedy));
        None
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) value: &'a Value,
    pub(crate) path: String,
}

/// The members of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) node: Node<'a>,
    members: &'a Map<String, Value>,
}

impl<'a> Node<'a> {
    pub(crate) fn fields(&self, known: &[&str], found: &mut Findings) -> Option<Fields<'a>> {
        let Value::Object(members) = self.value else {
            return found.note(
                self,
                "is not a mapping",
                format!("write a mapping with {}", known.join(", ")),
            );
        };
        let fields = Fields { node: self.clone(), members };
        for name in members.keys().filter(|name| !known.contains(&name.as_str())) {
            let node = fields.at(name, &Value::Null);
            found.0.push(Mistake::new(
                node.path,
                name.as_str(),
                "is not a known field",
                format!("remove it, or use one of {}", known.join(", ")),
            ));
        }
        Some(fields)
    }

    pub(crate) fn items(&self, found: &mut Findings) -> Option<Vec<Self>> {
        let Value::Array(items) = self.value else {
            return found.note(self, "is not a list", "write a list");
        };
        let node = |(at, value)| Node { value, path: format!("{}[{at}]", self.path) };
        Some(items.iter().enumerate().map(node).collect())
    }

    pub(crate) fn text(&self, longest: usize, found: &mut Findings) -> Option<String> {
        match self.value {
            Value::String(text) if !text.trim().is_empty() && text.len() <= longest => {
                Some(text.clone())
            }
            Value::String(_) => {
                found.note(self, "is empty or too long", format!("write 1 to {longest} bytes"))
            }
            _ => found.note(self, "is not text", "write text, in quotes if it looks like a number"),
        }
    }

    /// An amount of zero or more.
    pub(crate) fn amount(&self, found: &mut Findings) -> Option<Amount> {
        let remedy = "write a decimal of zero or more such as \"12.5\"";
        match serde_json::from_value::<Amount>(self.value.clone()) {
            Ok(amount) if !amount.is_negative() => Some(amount),
            Ok(_) => found.note(self, "is below zero", remedy),
            Err(cause) => found.note(self, format!("is no amount: {cause}"), remedy),
        }
    }

    /// A whole number of at least `least`.
    pub(crate) fn whole(&self, least: u64, most: u64, found: &mut Findings) -> Option<u64> {
        match self.value.as_u64() {
            Some(number) if (least..=most).contains(&number) => Some(number),
            _ => found.note(
                self,
                "is not a whole number in the allowed range",
                format!("write a number from {least} to {most}"),
            ),
        }
    }

    /// One of some names.
    pub(crate) fn one_of<T: Copy>(&self, names: &[(&str, T)], found: &mut Findings) -> Option<T> {
        let wanted = self.value.as_str().unwrap_or_default();
        if let Some((_, value)) = names.iter().find(|(name, _)| *name == wanted) {
            return Some(*value);
        }
        let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        found.note(self, "is not known here", format!("use one of {}", known.join(", ")))
    }
}

impl<'a> Fields<'a> {
    fn at(&self, name: &str, value: &'a Value) -> Node<'a> {
        let dot = if self.node.path.is_empty() { "" } else { "." };
        Node { value, path: format!("{}{dot}{name}", self.node.path) }
    }

    /// The member of this name, if it is there and not null.
    pub(crate) fn get(&self, name: &str) -> Option<Node<'a>> {
        let value = self.members.get(name).filter(|value| !value.is_null())?;
        Some(self.at(name, value))
    }

    /// The member of this name, which must be there.
    pub(crate) fn required(&self, name: &str, found: &mut Findings) -> Option<Node<'a>> {
        let member = self.get(name);
        if member.is_none() {
            let node = self.at(name, &Value::Null);
            found.note::<()>(&node, "is missing", format!("add {name}"));
        }
        member
    }

    /// The member of this name as `read` takes it; noted mistakes make it absent.
    pub(crate) fn optional<T>(
        &self,
        name: &str,
        found: &mut Findings,
        read: impl FnOnce(&Node<'a>, &mut Findings) -> Option<T>,
    ) -> Option<T> {
        self.get(name).and_then(|node| read(&node, found))
    }
}
