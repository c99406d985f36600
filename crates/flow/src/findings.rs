//! What is wrong with a definition: everything that was found, with its place and remedy.

use std::cell::RefCell;
use std::fmt;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The definition cannot run.
    Error,
    /// It runs, probably not as meant.
    Warning,
    /// Worth knowing.
    Info,
}

/// One thing that was found in a definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name, such as `unknown_node`.
    pub code: &'static str,
    /// Where, such as `nodes.plan.config.max_tokens`.
    pub path: String,
    /// The line of the text, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The value that is meant, shortened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        write!(f, "{severity}[{}] {}", self.code, self.path)?;
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, ": {}; {}", self.message, self.remedy)
    }
}

/// More are not collected: whoever made them knows by then.
const MOST: usize = 200;

/// Findings as they are collected.
#[derive(Debug, Default)]
pub(crate) struct Findings(RefCell<Vec<Finding>>);

/// Where in a definition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) path: String,
    pub(crate) line: Option<u64>,
}

impl Place {
    pub(crate) fn root() -> Self {
        Self::default()
    }

    pub(crate) fn member(&self, name: &str, line: Option<u64>) -> Self {
        let path =
            if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Self { path, line: line.or(self.line) }
    }

    pub(crate) fn item(&self, at: usize) -> Self {
        Self { path: format!("{}[{at}]", self.path), line: self.line }
    }
}

impl Findings {
    pub(crate) fn error(&self, code: &'static str, place: &Place, message: String, remedy: &str) {
        self.add((Severity::Error, code), place, None, message, remedy);
    }

    pub(crate) fn warning(&self, code: &'static str, place: &Place, message: String, remedy: &str) {
        self.add((Severity::Warning, code), place, None, message, remedy);
    }

    pub(crate) fn info(&self, code: &'static str, place: &Place, message: String, remedy: &str) {
        self.add((Severity::Info, code), place, None, message, remedy);
    }

    pub(crate) fn bad_value(&self, place: &Place, shown: String, message: String, remedy: &str) {
        self.add((Severity::Error, "bad_value"), place, Some(shown), message, remedy);
    }

    fn add(
        &self,
        (severity, code): (Severity, &'static str),
        place: &Place,
        value: Option<String>,
        message: String,
        remedy: &str,
    ) {
        let mut all = self.0.borrow_mut();
        if all.len() < MOST {
            all.push(Finding {
                severity,
                code,
                path: place.path.clone(),
                line: place.line,
                value,
                message,
                remedy: remedy.to_owned(),
            });
        }
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.0.borrow().iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Everything found, the worst first, otherwise in the order of the text.
    pub(crate) fn into_sorted(self) -> Vec<Finding> {
        let mut all = self.0.into_inner();
        all.sort_by_key(|finding| finding.severity);
        all
    }
}
