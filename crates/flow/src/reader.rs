//! Reads the settings of a section, and notes what does not fit.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::findings::{Findings, Place};
use kernel::yaml::Node;

/// A section whose keys are taken one by one; what is left at the end is reported.
pub(crate) struct Reader<'a> {
    node: &'a Node,
    place: Place,
    findings: &'a Findings,
    known: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(node: &'a Node, place: Place, findings: &'a Findings) -> Self {
        if !matches!(node, Node::Section(_)) && !node.is_null() {
            findings.bad_value(
                &place,
                node.shown(),
                format!("a section is expected and {} was given", node.kind()),
                "write `key: value` lines below it",
            );
        }
        Self { node, place, findings, known: RefCell::default() }
    }

    pub(crate) const fn findings(&self) -> &'a Findings {
        self.findings
    }

    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    /// The place of a member.
    pub(crate) fn at(&self, name: &str) -> Place {
        let line = self.node.members().iter().find(|member| member.name == name);
        self.place.member(name, line.map(|member| member.line))
    }

    /// A member, whatever it is; one without a value is absent.
    pub(crate) fn node(&self, name: &str) -> Option<&'a Node> {
        let member = self.node.members().iter().find(|member| member.name == name)?;
        self.known.borrow_mut().insert(&member.name);
        (!member.value.is_null()).then_some(&member.value)
    }

    /// The first of these members that is there, and its name.
    pub(crate) fn either(&self, names: &[&'static str]) -> Option<(&'static str, &'a Node)> {
        names.iter().find_map(|name| Some((*name, self.node(name)?)))
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let node = self.node(name)?;
        node.as_text().or_else(|| self.wrong(name, node, "text"))
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        match self.node(name)? {
            Node::Leaf(Value::Bool(flag)) => Some(*flag),
            other => self.wrong(name, other, "true or false"),
        }
    }

    /// A whole number within these bounds.
    pub(crate) fn count(&self, name: &str, least: u64, most: u64) -> Option<u64> {
        let node = self.node(name)?;
        let number = match node {
            Node::Leaf(value) => value.as_u64(),
            _ => None,
        };
        match number {
            Some(number) if (least..=most).contains(&number) => Some(number),
            _ => self.wrong(name, node, &format!("a whole number from {least} to {most}")),
        }
    }

    /// A number within these bounds.
    pub(crate) fn number(&self, name: &str, least: f64, most: f64) -> Option<f64> {
        let node = self.node(name)?;
        let number = match node {
            Node::Leaf(value) => value.as_f64(),
            _ => None,
        };
        match number {
            Some(number) if (least..=most).contains(&number) => Some(number),
            _ => self.wrong(name, node, &format!("a number from {least} to {most}")),
        }
    }

    /// A list of texts; one text counts as a list of one.
    pub(crate) fn texts(&self, name: &str) -> Option<Vec<String>> {
        let node = self.node(name)?;
        let texts: Option<Vec<String>> = match node {
            Node::List(items) => items.iter().map(Node::as_text).collect(),
            other => other.as_text().map(|text| vec![text]),
        };
        texts.or_else(|| self.wrong(name, node, "a list of texts"))
    }

    pub(crate) fn section(&self, name: &str) -> Option<Reader<'a>> {
        let node = self.node(name)?;
        Some(Reader::new(node, self.at(name), self.findings))
    }

    /// Notes that a value is not what it must be.
    pub(crate) fn wrong<T>(&self, name: &str, node: &Node, wanted: &str) -> Option<T> {
        self.findings.bad_value(
            &self.at(name),
            node.shown(),
            format!("{wanted} is expected and {} was given", node.kind()),
            "correct the value",
        );
        None
    }

    /// Notes a member that must be there and is not.
    pub(crate) fn missing(&self, name: &str, remedy: &str) {
        let place = self.place.member(name, None);
        self.findings.error("missing_key", &place, format!("{name} is missing"), remedy);
    }

    /// Takes keys that mean something elsewhere but nothing here.
    pub(crate) fn without_effect(&self, names: &[&str], why: &str) {
        for name in names {
            if self.node(name).is_some() {
                let message = format!("{name} has no effect: {why}");
                self.findings.info("no_effect", &self.at(name), message, "it may be left out");
            }
        }
    }

    /// Reports members that nobody asked for.
    pub(crate) fn finish(self) {
        let known = self.known.borrow();
        for member in self.node.members() {
            if !known.contains(member.name.as_str()) {
                self.findings.warning(
                    "unknown_key",
                    &self.place.member(&member.name, Some(member.line)),
                    format!("{} is not a key of this section and is not used", member.name),
                    "remove it, or correct its spelling",
                );
            }
        }
    }

    /// Marks all members as known.
    pub(crate) fn take_all(&self) -> &'a [kernel::yaml::Member] {
        let members = self.node.members();
        self.known.borrow_mut().extend(members.iter().map(|member| member.name.as_str()));
        members
    }
}
