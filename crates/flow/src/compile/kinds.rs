//! The node types and their settings.

use std::time::Duration;

use serde_json::{Value, json};

use super::edges::condition_of;
use super::settings::is_field_name;
use super::{Compiler, Names, seconds};
use crate::findings::Place;
use crate::graph::{
    Body, Child, Http, Kind, Llm, Node, OnError, Retry, Shape, Test, To, Tool, ToolCalls, Wait, Way,
};
use crate::reader::Reader;
use crate::template::Data;
use kernel::yaml::Node as Tree;

/// An effect that has no answer by then has failed.
const TIMEOUT: Duration = Duration::from_mins(1);
const LLM_TIMEOUT: Duration = Duration::from_mins(10);
const PARALLEL: u64 = 10;
const MOST_PARALLEL: u64 = 1000;

const TYPES: &str = "llm, tool, tool_node, http, condition, transform, parallel, map, loop, wait, \
    delay, subflow, start, end (or the names of v1: llm_node, analysis_node, condition_node, wait_node)";

impl<'a> Compiler<'a> {
    pub(super) fn node(&mut self, names: &Names<'_>, id: &str, reader: Reader<'a>) -> Node {
        let type_name = ["type", "function", "function_name"]
            .iter()
            .find_map(|key| reader.text(key))
            .unwrap_or_default();
        let description = reader.text("description").unwrap_or_default();
        for key in ["id", "name", "ui"] {
            reader.node(key);
        }
        let empty = &Tree::Leaf(Value::Null);
        let config = reader.node("config").unwrap_or(empty);
        let config = Reader::new(config, reader.at("config"), self.findings);
        let mut ways = Vec::new();
        let kind = self.kind(&type_name, names, &reader, &config, &mut ways);
        let first_only = !ways.is_empty();
        if let Some(next) = config.text("next_node") {
            let to = self.target(names, &next, &config.at("next_node"));
            ways.push(Way { test: Test::Always, to, label: None });
        }
        let output = ["output", "output_key", "auto_resume_key"]
            .iter()
            .find_map(|key| config.text(key).or_else(|| reader.text(key)));
        if output.as_deref().is_some_and(|name| !is_field_name(name)) {
            let message = "output must name a field: letters, digits and _".to_owned();
            self.findings.error("bad_field_name", &config.at("output"), message, "rename it");
        }
        let timeout = timeout(&kind, &reader, &config);
        let node = Node {
            id: id.into(),
            description,
            first_only,
            output: output.or_else(|| default_output(&type_name)),
            retry: self.retry(&reader, &config),
            timeout,
            on_error: self.on_error(names, &reader),
            pause_before: reader.flag("pause_before").unwrap_or(false),
            pause_after: reader.flag("pause_after").unwrap_or(false),
            type_name,
            kind,
            ways,
        };
        config.finish();
        reader.finish();
        node
    }

    fn kind(
        &mut self,
        type_name: &str,
        names: &Names<'_>,
        reader: &Reader<'a>,
        config: &Reader<'a>,
        ways: &mut Vec<Way>,
    ) -> Kind {
        match type_name {
            "llm" | "llm_node" | "analysis_node" => self.llm(type_name, config),
            "tool" => self.tool(config),
            "tool_node" | "tool_calls" => tool_calls(config),
            "http" => self.http(config),
            "condition" | "condition_node" => {
                self.cases(names, config, ways);
                Kind::Pass
            }
            "transform" => self.transform(config),
            "wait" | "wait_node" => self.wait(names, config, ways),
            "delay" => Kind::Delay(self.data(config, "seconds").unwrap_or_else(|| {
                config.missing("seconds", "say how long to wait");
                Data::Const(json!(0))
            })),
            "subflow" | "map" | "parallel" | "loop" => self.child(type_name, config),
            "start" | "start_node" | "pass" => Kind::Pass,
            "end" | "end_node" => Kind::End,
            "" => {
                reader.missing("type", &format!("use one of {TYPES}"));
                Kind::Pass
            }
            other => {
                let message = format!("there is no type of node {other}");
                let remedy = format!("use one of {TYPES}");
                self.findings.error("unknown_type", &reader.at("type"), message, &remedy);
                config.take_all();
                Kind::Pass
            }
        }
    }

    fn llm(&mut self, type_name: &str, config: &Reader<'a>) -> Kind {
        let named = if config.node("model").is_some() { "model" } else { "llm_client" };
        let model = self.data(config, named).unwrap_or_else(|| {
            config.missing("model", "name a model of GET /v1/models");
            Data::Const(Value::Null)
        });
        self.check_model(&model, &config.at(named));
        config.node("llm_client");
        let system = match config.text("system_prompt_template") {
            Some(text) => self.data_of(
                &Tree::Leaf(json!(placeholders(&text))),
                &config.at("system_prompt_template"),
            ),
            None => self.data(config, "system_prompt"),
        };
        let prompt = self.data(config, "prompt");
        let tools: Vec<String> = ["tools", "available_tools"]
            .iter()
            .filter_map(|key| config.texts(key).map(|tools| (key, tools)))
            .flat_map(|(key, tools)| {
                tools.iter().for_each(|tool| self.check_tool(tool, &config.at(key)));
                tools
            })
            .collect();
        config
            .without_effect(&["tool_threshold"], "the model itself decides whether it calls tools");
        config
            .without_effect(&["include_tool_results"], "tool results are part of the conversation");
        let history =
            config.flag("history").unwrap_or_else(|| prompt.is_none() || type_name != "llm");
        Kind::Llm(Box::new(Llm {
            model,
            system,
            prompt,
            history,
            window: config.count("context_window_size", 1, 10_000_000),
            tools,
            json: matches!(config.text("format").as_deref(), Some("json")),
            parameters: parameters(config),
        }))
    }

    fn check_model(&self, model: &Data, place: &Place) {
        let (Data::Const(Value::String(name)), Some(models)) = (model, &self.surroundings.models)
        else {
            return;
        };
        if !models.contains(name) {
            let message = format!("there is no model {name}; the default model is used");
            let remedy = "name a model of GET /v1/models, or set flow.default_model";
            self.findings.warning("unknown_model", place, message, remedy);
        }
    }

    fn check_tool(&self, name: &str, place: &Place) {
        if !self.surroundings.tools.is_empty() && !self.surroundings.tools.contains(name) {
            let all: Vec<&str> = self.surroundings.tools.iter().map(String::as_str).collect();
            let message = format!("there is no tool {name}");
            let remedy = format!("use one of {}", all.join(", "));
            self.findings.error("unknown_tool", place, message, &remedy);
        }
    }

    fn tool(&mut self, config: &Reader<'a>) -> Kind {
        let name = config.text("tool").unwrap_or_default();
        if name.is_empty() {
            config.missing("tool", "name the tool to call");
        } else {
            self.check_tool(&name, &config.at("tool"));
        }
        let arguments = self.data(config, "arguments");
        Kind::Tool(Box::new(Tool {
            name,
            arguments: arguments.unwrap_or_else(|| Data::Const(json!({}))),
        }))
    }

    fn http(&mut self, config: &Reader<'a>) -> Kind {
        let method = config.text("method").unwrap_or_else(|| "GET".to_owned()).to_uppercase();
        if !matches!(method.as_str(), "GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD") {
            let remedy = "use GET, POST, PUT, PATCH, DELETE or HEAD";
            let message = "there is no such method".to_owned();
            self.findings.bad_value(&config.at("method"), method.clone(), message, remedy);
        }
        let url = self.data(config, "url").unwrap_or_else(|| {
            config.missing("url", "say what to call");
            Data::Const(Value::Null)
        });
        let mut headers = Vec::new();
        if let Some(section) = config.section("headers") {
            for member in section.take_all() {
                let place = section.at(&member.name);
                if let Some(data) = self.data_of(&member.value, &place) {
                    headers.push((member.name.clone(), data));
                }
            }
        }
        let body = self.data(config, "body");
        let fail_on_status = config.flag("fail_on_status").unwrap_or(true);
        Kind::Http(Box::new(Http { method, url, headers, body, fail_on_status }))
    }

    fn transform(&mut self, config: &Reader<'a>) -> Kind {
        let section = config.section("set").or_else(|| config.section("assign"));
        let Some(section) = section else {
            config.missing("set", "say which fields get which values");
            return Kind::Transform(Vec::new());
        };
        let mut set = Vec::new();
        for member in section.take_all() {
            let place = section.at(&member.name);
            if !is_field_name(&member.name) {
                let message = format!("{:?} is no name for a field", member.name);
                self.findings.error("bad_field_name", &place, message, "use letters, digits and _");
            }
            if let Some(data) = self.data_of(&member.value, &place) {
                set.push((member.name.clone(), data));
            }
        }
        Kind::Transform(set)
    }

    /// `conditions`: the first that holds says where the path goes on.
    fn cases(&mut self, names: &Names<'_>, config: &Reader<'a>, ways: &mut Vec<Way>) {
        let place = config.at("conditions");
        let cases = match config.node("conditions") {
            Some(Tree::List(cases)) => cases.as_slice(),
            Some(other) => {
                let _: Option<()> = config.wrong("conditions", other, "a list");
                &[]
            }
            None => &[],
        };
        for (at, case) in cases.iter().enumerate() {
            let case = Reader::new(case, place.item(at), self.findings);
            let kind = case.text("type").unwrap_or_else(|| "custom".to_owned());
            let mut given = case.node("parameters").map_or_else(|| json!({}), Tree::to_json);
            let text = case.text("expression").or_else(|| case.text("condition"));
            if let (Some(text), Value::Object(given)) = (text, &mut given) {
                given.insert("expression".to_owned(), json!(text));
            }
            case.text("description");
            let next = case.text("next_node").or_else(|| case.text("to"));
            match next {
                Some(next) => ways.push(Way {
                    test: condition_of(self, &kind, &given, case.place()),
                    to: self.target(names, &next, &case.at("next_node")),
                    label: Some(shown_case(&kind, &given)),
                }),
                None => case.missing("next_node", "name the node to go on with"),
            }
            case.finish();
        }
        if let Some(next) = config.text("default_next_node").or_else(|| config.text("default")) {
            let to = self.target(names, &next, &config.at("default_next_node"));
            ways.push(Way { test: Test::Otherwise, to, label: Some("otherwise".to_owned()) });
        }
    }

    fn wait(&mut self, names: &Names<'_>, config: &Reader<'a>, ways: &mut Vec<Way>) -> Kind {
        let message = self
            .data(config, "message")
            .or_else(|| self.data(config, "wait_message"))
            .unwrap_or_else(|| Data::Const(json!("")));
        let schema = config.node("schema").map(Tree::to_json);
        if let Some(Err(error)) = schema.as_ref().map(crate::schema::check) {
            let remedy = "correct the JSON schema";
            self.findings.bad_value(&config.at("schema"), String::new(), error, remedy);
        }
        let enabled = config.flag("timeout_enabled").unwrap_or(true);
        let strategy = config.text("timeout_strategy");
        let expires = config.number("expires_seconds", 0.001, 1e8);
        let given = config.number("timeout_seconds", 0.001, 1e8);
        let continue_node = config
            .text("continue_node")
            .map(|name| self.target(names, &name, &config.at("continue_node")));
        let (expires, on_expiry) = match (strategy.as_deref(), expires.or(given)) {
            _ if !enabled => (None, OnError::Fail),
            (Some("continue_waiting"), _) | (None, None) => (None, self.expiry(names, config)),
            (Some("cache_and_exit"), given) => {
                (Some(given.unwrap_or(300.0)), OnError::Goto(To::End))
            }
            (Some("llm_continue"), given) => {
                let to = continue_node.unwrap_or(To::End);
                (Some(given.unwrap_or(300.0)), OnError::Goto(to))
            }
            (None, given) => (given, self.expiry(names, config)),
            (Some(other), _) => {
                let remedy = "use continue_waiting, cache_and_exit or llm_continue";
                let message = "there is no such strategy".to_owned();
                let place = config.at("timeout_strategy");
                self.findings.bad_value(&place, other.to_owned(), message, remedy);
                (None, OnError::Fail)
            }
        };
        self.routing(names, config, ways);
        Kind::Wait(Box::new(Wait { message, schema, expires: expires.map(seconds), on_expiry }))
    }

    /// `on_expiry`: what becomes of a wait that nobody answers in time.
    fn expiry(&self, names: &Names<'_>, config: &Reader<'_>) -> OnError {
        config
            .node("on_expiry")
            .map_or(OnError::Fail, |node| self.policy(names, node, &config.at("on_expiry")))
    }

    /// `routing_rules`: which answer leads where.
    fn routing(&self, names: &Names<'_>, config: &Reader<'_>, ways: &mut Vec<Way>) {
        let field = config
            .text("output")
            .or_else(|| config.text("auto_resume_key"))
            .unwrap_or_else(|| "human_review_result".to_owned());
        let place = config.at("routing_rules");
        for member in config.node("routing_rules").map(Tree::members).unwrap_or_default() {
            let place = place.member(&member.name, Some(member.line));
            let Some(next) = member.value.as_text() else { continue };
            ways.push(Way {
                test: Test::FieldIs(field.clone(), json!(member.name)),
                to: self.target(names, &next, &place),
                label: Some(member.name.clone()),
            });
        }
        if let Some(next) = config.text("default_next_node") {
            let to = self.target(names, &next, &config.at("default_next_node"));
            ways.push(Way { test: Test::Otherwise, to, label: Some("otherwise".to_owned()) });
        }
    }

    fn child(&mut self, type_name: &str, config: &Reader<'a>) -> Kind {
        let parallel = config.count("max_parallel", 1, MOST_PARALLEL).unwrap_or(PARALLEL);
        let input = self.data(config, "input");
        let shape = if type_name == "parallel" {
            self.branches(config)
        } else {
            let name = config.text("flow").unwrap_or_default();
            if name.is_empty() {
                config.missing("flow", "name a flow defined under flows");
            }
            let graph = if name.is_empty() { 0 } else { self.flow(&name, &config.at("flow")) };
            self.single(type_name, Body { graph, input }, config)
        };
        Kind::Child(Box::new(Child {
            shape,
            parallel: usize::try_from(parallel).unwrap_or(usize::MAX),
        }))
    }

    fn single(&mut self, type_name: &str, body: Body, config: &Reader<'a>) -> Shape {
        match type_name {
            "map" => {
                let items = self.data(config, "items").unwrap_or_else(|| {
                    config.missing("items", "say over what, such as \"= plan\"");
                    Data::Const(json!([]))
                });
                Shape::Each { items, body }
            }
            "loop" => Shape::Repeat {
                body,
                until: self.data(config, "until"),
                most: config.count("max_iterations", 1, 10_000).unwrap_or(100),
            },
            _ => Shape::Once(body),
        }
    }

    fn branches(&mut self, config: &Reader<'a>) -> Shape {
        let place = config.at("branches");
        let pairs: Vec<(String, String)> = match config.node("branches") {
            Some(Tree::List(items)) => {
                items.iter().filter_map(Tree::as_text).map(|name| (name.clone(), name)).collect()
            }
            Some(section) => section
                .members()
                .iter()
                .filter_map(|member| Some((member.name.clone(), member.value.as_text()?)))
                .collect(),
            None => Vec::new(),
        };
        if pairs.is_empty() {
            config.missing("branches", "name the flows that run side by side");
        }
        let mut all = Vec::new();
        for (label, name) in pairs {
            let input = self.data(config, "input");
            all.push((label, Body { graph: self.flow(&name, &place), input }));
        }
        Shape::All(all)
    }

    fn retry(&self, reader: &Reader<'_>, config: &Reader<'_>) -> Retry {
        let mut retry = Retry::default();
        let again = config.flag("retry_on_failure");
        let times = config.count("max_retries", 0, 100);
        if again == Some(true) {
            retry.attempts = 1 + u32::try_from(times.unwrap_or(3)).unwrap_or(3);
        }
        let Some(own) = reader.section("retry") else { return retry };
        if let Some(attempts) = own.count("attempts", 1, 100) {
            retry.attempts = u32::try_from(attempts).unwrap_or(1);
        }
        if let Some(delay) = own.count("delay_ms", 0, 86_400_000) {
            retry.delay = Duration::from_millis(delay);
        }
        if let Some(longest) = own.count("max_delay_ms", 0, 86_400_000) {
            retry.longest = Duration::from_millis(longest);
        }
        retry.factor = own.number("factor", 1.0, 10.0).unwrap_or(retry.factor);
        if let Some(source) = own.text("if") {
            match crate::expr::Expr::compile(source.trim_start_matches('=')) {
                Ok(expr) => retry.only_if = Some(expr),
                Err(error) => {
                    let remedy = "use a CEL expression over error.code and error.message";
                    self.findings.bad_value(&own.at("if"), source, error, remedy);
                }
            }
        }
        own.finish();
        retry
    }

    fn on_error(&self, names: &Names<'_>, reader: &Reader<'_>) -> OnError {
        reader
            .node("on_error")
            .map_or(OnError::Fail, |node| self.policy(names, node, &reader.at("on_error")))
    }

    /// `fail`, `{value: …}` or `{goto: node}`.
    fn policy(&self, names: &Names<'_>, node: &Tree, place: &Place) -> OnError {
        if let Some(value) = node.get("value") {
            return OnError::Value(value.to_json());
        }
        if let Some(name) = node.get("goto").and_then(Tree::as_text) {
            return OnError::Goto(self.target(names, &name, place));
        }
        if node.as_text().as_deref() != Some("fail") {
            let message = "it is no policy for errors".to_owned();
            let remedy = "use fail, {value: …} or {goto: NODE}";
            self.findings.bad_value(place, node.shown(), message, remedy);
        }
        OnError::Fail
    }
}

fn timeout(kind: &Kind, reader: &Reader<'_>, config: &Reader<'_>) -> Duration {
    let given = reader.number("timeout_seconds", 0.001, 86_400.0);
    let given = given.or_else(|| match kind {
        Kind::Wait(_) => None,
        _ => config.number("timeout", 0.001, 86_400.0),
    });
    let usual = if matches!(kind, Kind::Llm(_)) { LLM_TIMEOUT } else { TIMEOUT };
    given.map_or(usual, seconds)
}

fn default_output(type_name: &str) -> Option<String> {
    (type_name == "wait_node").then(|| "human_review_result".to_owned())
}

fn shown_case(kind: &str, given: &Value) -> String {
    let expression = given.get("expression").and_then(Value::as_str);
    expression.filter(|_| kind == "custom").unwrap_or(kind).to_owned()
}

fn tool_calls(config: &Reader<'_>) -> Kind {
    config.without_effect(&["tool_manager"], "the tools are those of the configuration");
    let parallel = config.count("max_parallel_calls", 1, 100).unwrap_or(1);
    Kind::ToolCalls(ToolCalls {
        parallel: usize::try_from(parallel).unwrap_or(1),
        continue_on_error: config.flag("continue_on_error").unwrap_or(true),
    })
}

fn parameters(config: &Reader<'_>) -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    if let Some(most) = config.count("max_tokens", 1, 10_000_000) {
        all.push(("max_tokens", json!(most)));
    }
    for (name, least, most) in [
        ("temperature", 0.0, 2.0),
        ("top_p", 0.0, 1.0),
        ("frequency_penalty", -2.0, 2.0),
        ("presence_penalty", -2.0, 2.0),
    ] {
        if let Some(number) = config.number(name, least, most) {
            all.push((name, json!(number)));
        }
    }
    if let Some(stop) = config.texts("stop_sequences").filter(|stop| !stop.is_empty()) {
        all.push(("stop", json!(stop)));
    }
    all
}

/// The `{name}` placeholders of v1 prompts as template expressions; other braces stay.
fn placeholders(text: &str) -> String {
    [
        ("{max_iterations}", "{{ max_iterations }}"),
        ("{current_step}", "{{ current_step }}"),
        ("{tool_results_count}", "{{ tool_results|length }}"),
        ("{messages_count}", "{{ messages|length }}"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}
