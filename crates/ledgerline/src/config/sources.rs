//! Where settings come from, and `${VARIABLE}` in the file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

/// The file's text and the environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    text: String,
    pub(crate) environment: BTreeMap<String, String>,
}

impl Sources {
    /// The file, if one is named, and this process's environment.
    pub(crate) fn from_process(file: Option<&Path>) -> anyhow::Result<Self> {
        let text = match file {
            Some(file) => std::fs::read_to_string(file)
                .with_context(|| format!("the configuration {} cannot be read", file.display()))?,
            None => String::new(),
        };
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Self { text, environment })
    }

    #[cfg(test)]
    pub(crate) fn from_text(text: &str, environment: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self { text: text.to_owned(), environment: environment.iter().map(owned).collect() }
    }

    /// The file as a tree, with variables filled in.
    pub(crate) fn file_tree(&self, schema: &Value) -> anyhow::Result<Value> {
        if self.text.trim().is_empty() {
            return Ok(Value::Object(Map::new()));
        }
        let mut tree: Value =
            serde_saphyr::from_str(&self.text).context("the configuration is not YAML")?;
        if tree.is_null() {
            tree = Value::Object(Map::new());
        }
        self.fill_in(&mut tree, schema, "")?;
        Ok(tree)
    }

    fn fill_in(&self, tree: &mut Value, schema: &Value, path: &str) -> anyhow::Result<()> {
        match tree {
            Value::Object(members) => {
                for (name, member) in members.iter_mut() {
                    let path =
                        if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    self.fill_in(member, schema.get(name).unwrap_or(&Value::Null), &path)?;
                }
            }
            Value::Array(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    self.fill_in(
                        item,
                        schema.get(0).unwrap_or(&Value::Null),
                        &format!("{path}[{at}]"),
                    )?;
                }
            }
            Value::String(text) if text.contains("${") => {
                let filled = self.substitute(text, path)?;
                *tree = if schema.is_string() { Value::String(filled) } else { scalar(&filled) };
            }
            _ => {}
        }
        Ok(())
    }

    /// `${NAME}` and `${NAME:default}`; `$${` stands for `${`.
    fn substitute(&self, text: &str, path: &str) -> anyhow::Result<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(escaped) = before.strip_suffix('$') {
                filled.push_str(escaped);
                filled.push_str("${");
                rest = after;
                continue;
            }
            filled.push_str(before);
            let Some((name, end)) = after.split_once('}') else {
                bail!("{path}: ${{ is not closed by }}")
            };
            rest = end;
            let (name, default) = match name.split_once(':') {
                Some((name, default)) => (name, Some(default)),
                None => (name, None),
            };
            match (self.environment.get(name), default) {
                (Some(value), _) => filled.push_str(value),
                (None, Some(default)) => filled.push_str(default),
                (None, None) => bail!(
                    "{path}: the environment has no {name}: set it, or write ${{{name}:default}}"
                ),
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

/// A text as YAML reads it: a number, a flag, a list, or itself.
pub(super) fn scalar(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|_no_yaml| Value::String(text.to_owned()))
}
