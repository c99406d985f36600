//! Templates: text with `{{ … }}`, rendered within limits, and settings that may hold them.

use std::io::{self, Write};
use std::sync::Arc;

use minijinja::value::{Serde, Value as Jinja};
use minijinja::{Environment, UndefinedBehavior, filters};
use serde_json::Value;

use crate::expr::{Expr, Fields, truthy};
use kernel::yaml::Node;

/// Steps a rendering may take.
const FUEL: u64 = 100_000;
/// The longest text a rendering may give.
const LONGEST: usize = 256 * 1024;
const LONGEST_SOURCE: usize = 64 * 1024;

/// The templates of a definition, and the room in which they are rendered: no files, no other
/// templates, a few harmless filters.
#[derive(Debug)]
pub(crate) struct Templates(Environment<'static>);

/// A compiled template.
#[derive(Clone, Debug)]
pub(crate) struct Template(Arc<str>);

/// A setting: a constant, or made from the fields when it is used.
#[derive(Debug)]
pub(crate) enum Data {
    Const(Value),
    Text(Template),
    Expr(Expr),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Templates {
    pub(crate) fn new() -> Self {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(64);
        environment.add_filter("upper", filters::upper);
        environment.add_filter("lower", filters::lower);
        environment.add_filter("trim", filters::trim);
        environment.add_filter("join", filters::join);
        environment.add_filter("length", filters::length);
        environment.add_filter("first", filters::first);
        environment.add_filter("last", filters::last);
        environment.add_filter("default", filters::default);
        environment.add_filter("tojson", filters::tojson);
        environment.add_test("defined", minijinja::tests::is_defined);
        environment.add_test("none", minijinja::tests::is_none);
        Self(environment)
    }

    pub(crate) fn compile(&mut self, source: &str) -> Result<Template, String> {
        if source.len() > LONGEST_SOURCE {
            return Err(format!("it has more than {LONGEST_SOURCE} bytes"));
        }
        let name: Arc<str> = blake3::hash(source.as_bytes()).to_hex().as_str().into();
        self.0
            .add_template_owned(name.to_string(), source.to_owned())
            .map_err(|error| reason(&error))?;
        Ok(Template(name))
    }

    pub(crate) fn render(&self, template: &Template, scopes: &[&Fields]) -> Result<String, String> {
        let compiled = self.0.get_template(&template.0).map_err(|error| reason(&error))?;
        let mut fields = Fields::new();
        for scope in scopes {
            fields.extend(scope.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        let mut text = Limited(Vec::new());
        compiled
            .render_captured_to(Jinja::from(Serde(&fields)), &mut text)
            .map_err(|error| reason(&error))?;
        String::from_utf8(text.0).map_err(|_no_text| "it renders to no text".to_owned())
    }

    /// Reads a setting: text that begins with `=` is an expression, other text a template.
    pub(crate) fn data(&mut self, node: &Node) -> Result<Data, String> {
        Ok(match node {
            Node::Leaf(Value::String(text)) => match text.strip_prefix('=') {
                Some(source) => Data::Expr(Expr::compile(source.trim())?),
                None if text.contains("{{") || text.contains("{%") => {
                    Data::Text(self.compile(text)?)
                }
                None => Data::Const(Value::String(text.clone())),
            },
            Node::Leaf(value) => Data::Const(value.clone()),
            Node::List(items) => {
                Data::List(items.iter().map(|item| self.data(item)).collect::<Result<_, _>>()?)
            }
            Node::Section(members) => Data::Map(
                members
                    .iter()
                    .map(|member| Ok((member.name.clone(), self.data(&member.value)?)))
                    .collect::<Result<_, String>>()?,
            ),
        })
    }

    /// What a setting is, with these fields.
    pub(crate) fn value(&self, data: &Data, scopes: &[&Fields]) -> Result<Value, String> {
        match data {
            Data::Const(value) => Ok(value.clone()),
            Data::Text(template) => self.render(template, scopes).map(Value::String),
            Data::Expr(expr) => expr.eval(scopes),
            Data::List(items) => items.iter().map(|item| self.value(item, scopes)).collect(),
            Data::Map(members) => members
                .iter()
                .map(|(name, data)| Ok((name.clone(), self.value(data, scopes)?)))
                .collect::<Result<_, String>>()
                .map(Value::Object),
        }
    }

    /// A setting as text; what is no text is written as JSON.
    pub(crate) fn text(&self, data: &Data, scopes: &[&Fields]) -> Result<String, String> {
        Ok(match self.value(data, scopes)? {
            Value::String(text) => text,
            other => other.to_string(),
        })
    }

    /// A setting as a condition.
    pub(crate) fn holds(&self, data: &Data, scopes: &[&Fields]) -> Result<bool, String> {
        self.value(data, scopes).map(|value| truthy(&value))
    }
}

fn reason(error: &minijinja::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (in ").next().unwrap_or_default();
    match error.line() {
        Some(line) => format!("{text} (its line {line})"),
        None => text.to_owned(),
    }
}

/// Takes so many bytes and no more.
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST {
            return Err(io::Error::other(format!("the text is longer than {LONGEST} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(source: &str, fields: Value) -> Result<String, String> {
        let Value::Object(fields) = fields else { panic!("fields") };
        let mut templates = Templates::new();
        let template = templates.compile(source)?;
        templates.render(&template, &[&fields])
    }

    #[test]
    fn fields_are_filled_in_and_absent_ones_are_empty() {
        let fields = json!({"name": "Ada", "items": [1, 2], "who": {"age": 36}});
        let text =
            "{{ name|upper }} {{ who.age }} {% for i in items %}{{ i }};{% endfor %}{{ no.x }}";
        assert_eq!(render(text, fields).unwrap(), "ADA 36 1;2;");
    }

    #[test]
    fn hostile_templates_end_with_an_error() {
        for hostile in [
            "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
            "{% include '/etc/passwd' %}",
            "{% import 'x' as y %}",
            "{{ name.__class__.__mro__() }}",
            "{{ 'x' * 1000000000 }}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{{ unclosed",
            "{% set a = ['xxxxxxxxxx'] * 100000 %}{{ a }}",
        ] {
            assert!(render(hostile, json!({"name": "x"})).is_err(), "{hostile}");
        }
        assert!(render(&"x".repeat(70_000), json!({})).unwrap_err().contains("bytes"));
        let long = json!({"s": "x".repeat(200_000)});
        assert!(render("{{ s }}{{ s }}", long).is_err());
    }

    #[test]
    fn a_setting_keeps_its_shape() {
        let mut templates = Templates::new();
        let node = kernel::yaml::read("{a: '= n + 1', b: ['{{ n }}', 2, plain], c: null}").unwrap();
        let data = templates.data(&node).unwrap();
        let Value::Object(fields) = json!({"n": 1}) else { panic!() };
        let value = templates.value(&data, &[&fields]).unwrap();
        assert_eq!(value, json!({"a": 2, "b": ["1", 2, "plain"], "c": null}));
    }
}
