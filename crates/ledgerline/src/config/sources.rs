//! Where settings come from, and `${VARIABLE}` in the file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

use super::keys;
use super::located::{self, member};
use super::places::Settings;

/// The file's text and the environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    text: String,
    pub(super) environment: BTreeMap<String, String>,
}

impl Sources {
    /// The file, if one is named, and this process's environment, with what `.env` adds to it.
    pub(crate) fn from_process(file: Option<&Path>) -> anyhow::Result<Self> {
        let text = match file {
            Some(file) => std::fs::read_to_string(file)
                .with_context(|| format!("the configuration {} cannot be read", file.display()))?,
            None => String::new(),
        };
        let mut environment = dotenv(Path::new(".env"))?;
        environment.extend(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }));
        Ok(Self { text, environment })
    }

    #[cfg(test)]
    pub(super) fn from_text(text: &str, environment: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self { text: text.to_owned(), environment: environment.iter().map(owned).collect() }
    }

    /// What the file says, with variables filled in.
    pub(super) fn file(&self, schema: &Value) -> anyhow::Result<Settings> {
        let (mut tree, lines) = located::read(&self.text)?;
        if tree.is_null() {
            tree = Value::Object(Map::new());
        }
        let mut settings = Settings { tree: Value::Null, lines, ..Settings::default() };
        self.fill_in(&mut tree, schema, "", &settings)?;
        drop_unset(&mut tree);
        settings.tree = tree;
        Ok(settings)
    }

    fn fill_in(
        &self,
        tree: &mut Value,
        schema: &Value,
        path: &str,
        settings: &Settings,
    ) -> anyhow::Result<()> {
        match tree {
            Value::Object(members) => {
                for (name, value) in members.iter_mut() {
                    let schema = keys::under(schema, name).unwrap_or(&Value::Null);
                    self.fill_in(value, schema, &member(path, name), settings)?;
                }
            }
            Value::Array(items) => {
                let schema = schema.get(0).unwrap_or(&Value::Null);
                for (at, item) in items.iter_mut().enumerate() {
                    self.fill_in(item, schema, &format!("{path}[{at}]"), settings)?;
                }
            }
            Value::String(text) if text.contains("${") => {
                let filled = self.substitute(text).with_context(|| settings.place(path))?;
                *tree = if schema.is_string() { Value::String(filled) } else { scalar(&filled) };
            }
            _ => {}
        }
        Ok(())
    }

    /// `${NAME}` and `${NAME:default}`; `$${` stands for `${`.
    fn substitute(&self, text: &str) -> anyhow::Result<String> {
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
            let Some((inside, end)) = after.split_once('}') else {
                bail!("${{ is not closed by }}: write $${{ for the characters themselves")
            };
            filled.push_str(self.variable(inside)?);
            rest = end;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn variable<'a>(&'a self, inside: &'a str) -> anyhow::Result<&'a str> {
        let (name, default) = match inside.split_once(':') {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            bail!(
                "${{ is not followed by the name of a variable: write $${{ for the characters themselves"
            )
        }
        match (self.environment.get(name), default) {
            (Some(value), _) => Ok(value),
            (None, Some(default)) => Ok(default),
            (None, None) => {
                bail!("the environment has no {name}: set it, or write ${{{name}:default}}")
            }
        }
    }
}

/// A key without a value is a key that is not set: a section whose keys are all commented out is
/// how a file starts.
fn drop_unset(tree: &mut Value) {
    match tree {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(drop_unset);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_unset),
        _ => {}
    }
}

/// A text as YAML reads it: a number, a flag, a list, or itself.
pub(super) fn scalar(text: &str) -> Value {
    located::read(text).map_or_else(|_no_yaml| Value::String(text.to_owned()), |(value, _)| value)
}

/// The variables in a file of `NAME=value` lines, if there is one.
fn dotenv(file: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let lines = match dotenvy::from_path_iter(file) {
        Ok(lines) => lines,
        Err(error) if error.not_found() => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).with_context(|| file.display().to_string()),
    };
    lines.map(|line| line.with_context(|| file.display().to_string())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(text: &str) -> Result<Value, String> {
        let schema = json!({"text": "", "count": 0, "free": {"*": ""}, "list": [0]});
        Sources::from_text(text, &[("A", "1"), ("B", "x"), ("EMPTY", "")])
            .file(&schema)
            .map(|settings| settings.tree)
            .map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn variables_keep_the_type_that_is_wanted() {
        assert_eq!(filled("text: ${A}").unwrap(), json!({"text": "1"}));
        assert_eq!(filled("count: ${A}${A}").unwrap(), json!({"count": 11}));
        assert_eq!(filled("free: {token: \"${A}\"}").unwrap(), json!({"free": {"token": "1"}}));
        assert_eq!(filled("list: [\"${A}\", \"${C:2}\"]").unwrap(), json!({"list": [1, 2]}));
        assert_eq!(
            filled("text: <${B}|${C:http://h:1}|${EMPTY}>").unwrap(),
            json!({"text": "<x|http://h:1|>"})
        );
        assert_eq!(filled("text: $${B} $5 {A}").unwrap(), json!({"text": "${B} $5 {A}"}));
        assert_eq!(filled("free:\n\ntext:\n").unwrap(), json!({}));
    }

    #[test]
    fn what_cannot_be_filled_in_names_its_place() {
        assert_eq!(
            filled("count: 1\ntext: ${C}").unwrap_err(),
            "text (line 2): the environment has no C: set it, or write ${C:default}"
        );
        for odd in ["text: a${B", "text: a${}", "text: ${hunter2 }"] {
            let error = filled(odd).unwrap_err();
            assert!(error.contains("text (line 1)") && error.contains("$${"), "{error}");
        }
    }
}
