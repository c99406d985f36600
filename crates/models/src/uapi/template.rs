//! The templates of a description, and the room in which they are rendered: no files, no other templates,
//! limits on steps and on the length of what comes out.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use minijinja::value::{Kwargs, Object, Serde, Value as Jinja, from_args};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, filters, functions};
use serde_json::{Map, Value};

use super::answer::House;
use super::config::UapiStep;
use crate::CallError;

/// Steps a rendering may take.
const FUEL: u64 = 200_000;
/// The longest text a rendering may give: a body with images.
const LONGEST: usize = 32 * 1024 * 1024;
const LONGEST_SOURCE: usize = 64 * 1024;
const PARTS: [&str; 5] = ["path", "headers", "params", "data", "response"];

/// The compiled templates of a description.
#[derive(Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
}

/// What is to be sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) params: BTreeMap<String, String>,
    pub(crate) data: String,
}

/// `json.dumps` and `json.loads`, which descriptions are written with.
#[derive(Debug)]
struct Json;

impl Object for Json {
    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Jinja],
    ) -> Result<Jinja, Error> {
        let refused =
            |error: serde_json::Error| Error::new(ErrorKind::InvalidOperation, error.to_string());
        match method {
            "dumps" => {
                // How it is written makes no difference to JSON.
                let (value, _how): (Jinja, Kwargs) = from_args(args)?;
                serde_json::to_string(&value).map(Jinja::from).map_err(refused)
            }
            "loads" => {
                let (text,): (String,) = from_args(args)?;
                let value: Value = serde_json::from_str(&text).map_err(refused)?;
                Ok(Jinja::from(Serde(&value)))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

impl Templates {
    /// Compiles them; the error names the template and says what is wrong.
    pub(crate) fn new(call: &UapiStep, query: Option<&UapiStep>) -> Result<Self, String> {
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
        environment.add_filter("int", filters::int);
        environment.add_filter("replace", filters::replace);
        environment.add_filter("default", filters::default);
        environment.add_filter("tojson", filters::tojson);
        environment.add_test("defined", minijinja::tests::is_defined);
        environment.add_test("none", minijinja::tests::is_none);
        environment.add_function("dict", functions::dict);
        environment.add_global("json", Jinja::from_object(Json));
        let steps = [("call", Some(call)), ("query", query)];
        for (name, step) in steps {
            let Some(step) = step else { continue };
            let sources = [&step.path, &step.headers, &step.params, &step.data, &step.response];
            for (part, source) in PARTS.into_iter().zip(sources) {
                let wrong = |why: String| format!("{name}.{part} ({why})");
                if source.len() > LONGEST_SOURCE {
                    return Err(wrong(format!("it has more than {LONGEST_SOURCE} bytes")));
                }
                let added =
                    environment.add_template_owned(format!("{name}.{part}"), source.clone());
                added.map_err(|error| wrong(reason(&error)))?;
            }
        }
        Ok(Self { environment })
    }

    /// What a step sends.
    pub(crate) fn request(&self, step: &str, fields: &Map<String, Value>) -> Result<Sent, String> {
        let render = |part: &str| self.render(step, part, fields);
        let pairs =
            |part: &str| object(&render(part)?).map_err(|why| format!("{step}.{part}: {why}"));
        Ok(Sent {
            path: render("path")?.trim().to_owned(),
            headers: pairs("headers")?,
            params: pairs("params")?,
            data: render("data")?.trim().to_owned(),
        })
    }

    /// What an answer, or a part of one, means. Its members are fields, `resp` is all of it, and
    /// `request` what was asked.
    pub(crate) fn answer(
        &self,
        step: &str,
        answer: Value,
        request: &Map<String, Value>,
    ) -> Result<House, CallError> {
        let template = self.environment.get_template(&format!("{step}.response"));
        if template.is_ok_and(|template| template.source().trim().is_empty()) {
            return Ok(House::new(answer));
        }
        let mut fields = answer.as_object().cloned().unwrap_or_default();
        fields.insert("resp".to_owned(), answer);
        fields.insert("request".to_owned(), Value::Object(request.clone()));
        let text = self.render(step, "response", &fields).map_err(CallError::Broken)?;
        if text.trim().is_empty() {
            return Ok(House::new(Value::Null));
        }
        let house = serde_json::from_str(&text);
        let house = house.map_err(|error| {
            CallError::Broken(format!("{step}.response gives no JSON: {error}"))
        })?;
        Ok(House::new(house))
    }

    fn render(
        &self,
        step: &str,
        part: &str,
        fields: &Map<String, Value>,
    ) -> Result<String, String> {
        let told = |error: &Error| format!("{step}.{part}: {}", reason(error));
        let template = self.environment.get_template(&format!("{step}.{part}"));
        let template = template.map_err(|error| told(&error))?;
        let mut text = Limited(Vec::new());
        template
            .render_captured_to(Jinja::from(Serde(fields)), &mut text)
            .map_err(|error| told(&error))?;
        String::from_utf8(text.0).map_err(|_no_text| format!("{step}.{part} gives no text"))
    }
}

/// The texts of a JSON object; nothing for an empty text.
fn object(text: &str) -> Result<BTreeMap<String, String>, String> {
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    let object: Map<String, Value> =
        serde_json::from_str(text).map_err(|_shown| "it gives no JSON object".to_owned())?;
    let text = |(name, value)| match value {
        Value::String(text) => Some((name, text)),
        Value::Null => None,
        other => Some((name, other.to_string())),
    };
    Ok(object.into_iter().filter_map(text).collect())
}

fn reason(error: &Error) -> String {
    let text = error.to_string();
    let text = text.split(" (in ").next().unwrap_or_default();
    match error.line() {
        Some(line) => format!("{text}, its line {line}"),
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
