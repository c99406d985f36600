//! Dify's DSL: workflows and chatflows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Imported, Notes, finish, list, part, plain, text};

/// A Dify file being taken over.
struct Import<'a> {
    /// Nodes by their ids.
    nodes: BTreeMap<&'a str, &'a Value>,
    edges: &'a [Value],
    variables: Map<String, Value>,
    /// Fields, and what they begin with.
    state: Map<String, Value>,
    flows: Map<String, Value>,
    notes: Notes,
}

pub(super) fn import(value: &Value) -> Imported {
    let app = value.get("app").cloned().unwrap_or_default();
    let graph = value.pointer("/workflow/graph").cloned().unwrap_or_default();
    let nodes = list(&graph, "nodes");
    let mut import = Import {
        nodes: nodes.iter().map(|node| (text(node, "id"), node)).collect(),
        edges: list(&graph, "edges"),
        variables: Map::new(),
        state: Map::new(),
        flows: Map::new(),
        notes: Notes::default(),
    };
    import.take_variables(value);
    let (nodes, edges, entry) = import.graph("");
    let name = Some(text(&app, "name")).filter(|name| !name.is_empty()).unwrap_or("imported");
    let mut definition = Map::new();
    let mut put = |name: &str, value: Value| drop(definition.insert(name.to_owned(), value));
    put("name", json!(name));
    put("description", json!(text(&app, "description")));
    put("state", Value::Object(import.state));
    put("nodes", Value::Object(nodes));
    put("edges", Value::Array(edges));
    if let Some(entry) = entry {
        put("entry_point", json!(entry));
    }
    put("output", json!("= result"));
    if !import.flows.is_empty() {
        put("flows", Value::Object(import.flows));
    }
    finish("dify", &definition, import.notes)
}

/// The flow's own name of a node.
fn name_of(id: &str) -> String {
    format!("n_{}", plain(id))
}

impl Import<'_> {
    fn take_variables(&mut self, value: &Value) {
        self.declare("result", &Value::Null);
        let workflow = value.get("workflow").cloned().unwrap_or_default();
        for variable in list(&workflow, "environment_variables") {
            let (name, kind) = (text(variable, "name"), text(variable, "value_type"));
            if kind == "secret" {
                let message = format!(
                    "the secret {name} is not taken over: put it where it is used, or use a tool"
                );
                self.notes.add("environment_variables", message);
            } else {
                let value = variable.get("value").cloned().unwrap_or_default();
                self.variables.insert(name.to_owned(), value);
            }
        }
        for variable in list(&workflow, "conversation_variables") {
            let value = variable.get("value").cloned().unwrap_or_default();
            self.declare(&plain(text(variable, "name")), &value);
            let message = "a field of the run: it lasts as long as its thread".to_owned();
            self.notes.add(text(variable, "name"), message);
        }
    }

    fn declare(&mut self, field: &str, initial: &Value) {
        let kind = match initial {
            Value::Array(_) => "list",
            Value::Object(_) => "dict",
            Value::Number(_) => "float",
            Value::Bool(_) => "bool",
            _ => "any",
        };
        self.state.insert(field.to_owned(), json!({"type": kind, "default": initial}));
    }

    /// The graph on one level: nodes, edges, and where it begins.
    fn graph(&mut self, parent: &str) -> (Map<String, Value>, Vec<Value>, Option<String>) {
        let inside = |node: &Value| {
            let data = node.get("data").cloned().unwrap_or_default();
            let own = [text(node, "parentId"), text(&data, "iteration_id"), text(&data, "loop_id")];
            own.iter().find(|id| !id.is_empty()).map(|id| (*id).to_owned()).unwrap_or_default()
        };
        let ids: Vec<String> = self
            .nodes
            .iter()
            .filter(|(_, node)| inside(node) == parent)
            .map(|(id, _)| (*id).to_owned())
            .collect();
        let mut nodes = Map::new();
        let mut entry = None;
        for id in &ids {
            let Some(node) = self.nodes.get(id.as_str()).copied() else { continue };
            let data = node.get("data").cloned().unwrap_or_default();
            let kind = text(&data, "type").to_owned();
            if matches!(kind.as_str(), "start" | "iteration-start") {
                entry = Some(name_of(id));
            }
            let Some(mut made) = self.node(id, &kind, &data) else { continue };
            if let Some(members) = made.as_object_mut() {
                let title = text(&data, "title");
                if !title.is_empty() {
                    members.insert("description".to_owned(), json!(title));
                }
                self.policies(id, &data, members);
            }
            nodes.insert(name_of(id), made);
        }
        let known: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
        let edges = self.edges_of(&known, &nodes);
        (nodes, edges, entry)
    }

    fn node(&mut self, id: &str, kind: &str, data: &Value) -> Option<Value> {
        let own = name_of(id);
        let made = match kind {
            "" => return None,
            "start" => self.start(data),
            "iteration-start" | "if-else" => json!({"type": "pass"}),
            "end" => {
                let outputs = list(data, "outputs").iter().map(|output| {
                    let value = self.selected(id, part(output, "value_selector"));
                    (text(output, "variable").to_owned(), json!(format!("= {value}")))
                });
                let outputs: Map<String, Value> = outputs.collect();
                json!({"type": "transform", "config": {"set": {"result": outputs}}})
            }
            "answer" => {
                let answer = self.template(id, text(data, "answer"));
                json!({"type": "transform", "config": {"set": {"result": answer}}})
            }
            "llm" => self.llm(id, data),
            "http-request" => self.http(id, data),
            "template-transform" => self.rendered(id, data),
            "variable-aggregator" | "variable-assigner" => self.aggregated(id, data),
            "iteration" => self.iteration(id, data),
            other => {
                self.notes.add(
                    id,
                    format!(
                        "a node {other:?} cannot be taken over: it does nothing, and gives null"
                    ),
                );
                json!({"type": "pass"})
            }
        };
        if !matches!(kind, "start" | "iteration-start" | "if-else" | "end" | "answer") {
            self.declare(&own, &Value::Null);
        }
        Some(made)
    }

    fn start(&mut self, data: &Value) -> Value {
        for variable in list(data, "variables") {
            let initial = match text(variable, "type") {
                "number" => json!(0),
                "file" | "file-list" => {
                    self.notes
                        .add("start", "files cannot be given to a run: give a text or an address");
                    Value::Null
                }
                _ => json!(""),
            };
            let initial = variable
                .get("default")
                .filter(|value| !value.is_null())
                .cloned()
                .unwrap_or(initial);
            self.declare(&plain(text(variable, "variable")), &initial);
        }
        self.declare("query", &json!(""));
        json!({"type": "start"})
    }

    fn llm(&mut self, id: &str, data: &Value) -> Value {
        let model = data.get("model").cloned().unwrap_or_default();
        let (mut system, mut prompt) = (Vec::new(), Vec::new());
        let prompts = match data.get("prompt_template") {
            Some(Value::Array(all)) => all.clone(),
            Some(one) => vec![one.clone()],
            None => Vec::new(),
        };
        for part in &prompts {
            let said = self.template(id, text(part, "text"));
            match text(part, "role") {
                "system" => system.push(said),
                "assistant" => {
                    self.notes
                        .add(id, "an example answer in the prompt is put into the prompt's text");
                    prompt.push(said);
                }
                _ => prompt.push(said),
            }
        }
        if prompt.is_empty() {
            // Chatflows may leave the user's message to the system.
            prompt.push("{{ query }}".to_owned());
        }
        let mut config = Map::new();
        config.insert("model".to_owned(), json!(text(&model, "name")));
        if !system.is_empty() {
            config.insert("system_prompt".to_owned(), json!(system.join("\n")));
        }
        config.insert("prompt".to_owned(), json!(prompt.join("\n")));
        config.insert("output".to_owned(), json!(name_of(id)));
        let known = ["temperature", "top_p", "max_tokens", "presence_penalty", "frequency_penalty"];
        for (name, value) in
            model.get("completion_params").and_then(Value::as_object).into_iter().flatten()
        {
            if known.contains(&name.as_str()) {
                config.insert(name.clone(), value.clone());
            } else if name == "stop" {
                config.insert("stop_sequences".to_owned(), value.clone());
            } else {
                self.notes.add(id, format!("the model's setting {name} is not taken over"));
            }
        }
        for (name, enabled) in [("context", "/context/enabled"), ("vision", "/vision/enabled")] {
            if data.pointer(enabled) == Some(&json!(true)) {
                self.notes.add(id, format!("{name} is not taken over"));
            }
        }
        if data.get("memory").is_some_and(|memory| !memory.is_null()) {
            self.notes.add(
                id,
                "memory is not taken over: set `history: true` to go on with the conversation",
            );
        }
        json!({"type": "llm", "config": config})
    }

    fn http(&mut self, id: &str, data: &Value) -> Value {
        let mut headers = Map::new();
        for line in text(data, "headers").lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = self.template(id, value.trim());
            headers.insert(name.trim().to_lowercase(), json!(value));
        }
        if !matches!(
            data.pointer("/authorization/type").and_then(Value::as_str),
            None | Some("no-auth")
        ) {
            self.notes.add(id, "credentials are not taken over: set the header authorization");
        }
        let mut url = self.template(id, text(data, "url"));
        for (at, line) in
            text(data, "params").lines().filter(|line| !line.trim().is_empty()).enumerate()
        {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = self.template(id, value.trim());
            let sign = if at == 0 && !url.contains('?') { "?" } else { "&" };
            if value.contains("{{") {
                self.notes.add(
                    id,
                    format!(
                        "the parameter {} goes into the address as it is, not encoded",
                        name.trim()
                    ),
                );
            }
            url.extend([sign, name.trim(), "=", &value]);
        }
        let mut config = Map::new();
        let body = data.pointer("/body/data").cloned().unwrap_or_default();
        let kind = data.pointer("/body/type").and_then(Value::as_str).unwrap_or("none");
        let body_text = match &body {
            Value::String(text) => text.clone(),
            Value::Array(parts) if matches!(kind, "json" | "raw-text" | "raw") => {
                parts.iter().map(|part| text(part, "value")).collect()
            }
            _ => String::new(),
        };
        match kind {
            "none" => {}
            "json" => {
                headers.entry("content-type").or_insert(json!("application/json"));
                config.insert("body".to_owned(), json!(self.template(id, &body_text)));
            }
            "raw-text" | "raw" => {
                config.insert("body".to_owned(), json!(self.template(id, &body_text)));
            }
            other => self.notes.add(
                id,
                format!("a body of {other:?} is not taken over: write it as text or JSON"),
            ),
        }
        config.insert("method".to_owned(), json!(text(data, "method").to_uppercase()));
        config.insert("url".to_owned(), json!(url));
        config.insert("headers".to_owned(), Value::Object(headers));
        config.insert("fail_on_status".to_owned(), json!(false));
        config.insert("output".to_owned(), json!(name_of(id)));
        json!({"type": "http", "config": config})
    }

    fn rendered(&mut self, id: &str, data: &Value) -> Value {
        let mut source = String::new();
        for variable in list(data, "variables") {
            let value = self.selected(id, part(variable, "value_selector"));
            let name = plain(text(variable, "variable"));
            source.extend(["{% set ", &name, " = ", &value, " %}"]);
        }
        source.push_str(text(data, "template"));
        // A text without a place for a value would not be rendered.
        if !source.contains("{{") {
            source.push_str("{{ '' }}");
        }
        json!({"type": "transform", "config": {"set": {name_of(id): source}}})
    }

    fn aggregated(&mut self, id: &str, data: &Value) -> Value {
        if data.pointer("/advanced_settings/group_enabled") == Some(&json!(true)) {
            self.notes.add(id, "its groups are not taken over: it gives the first value of all");
        }
        let all: Vec<String> =
            list(data, "variables").iter().map(|one| self.selected(id, one)).collect();
        let first = all
            .iter()
            .rev()
            .fold("null".to_owned(), |rest, one| format!("({one} != null ? {one} : {rest})"));
        json!({"type": "transform", "config": {"set": {name_of(id): format!("= {first}")}}})
    }

    fn iteration(&mut self, id: &str, data: &Value) -> Value {
        let items = self.selected(id, part(data, "iterator_selector"));
        let (nodes, edges, entry) = self.graph(id);
        let output = self.selected(id, part(data, "output_selector"));
        let flow = format!("flow_{}", plain(id));
        let mut inner = Map::new();
        inner.insert("nodes".to_owned(), Value::Object(nodes));
        inner.insert("edges".to_owned(), Value::Array(edges));
        if let Some(entry) = entry {
            inner.insert("entry_point".to_owned(), json!(entry));
        }
        inner.insert("output".to_owned(), json!(format!("= {output}")));
        self.flows.insert(flow.clone(), Value::Object(inner));
        if !matches!(text(data, "error_handle_mode"), "" | "terminated") {
            self.notes.add(id, "an item that fails ends the iteration: give its nodes `on_error`");
        }
        let side_by_side = data.get("is_parallel") == Some(&json!(true));
        let most = data.get("parallel_nums").and_then(Value::as_u64).filter(|_| side_by_side);
        json!({"type": "map", "config": {"items": format!("= {items}"), "flow": flow,
            "max_parallel": most.unwrap_or(1).clamp(1, 100), "output": name_of(id)}})
    }

    /// Retries and what becomes of failures.
    fn policies(&mut self, id: &str, data: &Value, members: &mut Map<String, Value>) {
        let retry = data.get("retry_config").cloned().unwrap_or_default();
        if retry.get("retry_enabled") == Some(&json!(true)) {
            let times = retry.get("max_retries").and_then(Value::as_u64).unwrap_or(3) + 1;
            let pause = retry.get("retry_interval").and_then(Value::as_u64).unwrap_or(1000);
            members
                .insert("retry".to_owned(), json!({"attempts": times.min(10), "delay_ms": pause}));
        }
        match text(data, "error_strategy") {
            "" | "none" => {}
            "default-value" => {
                let defaults = list(data, "default_value");
                let value = match defaults {
                    [one] => one.get("value").cloned().unwrap_or_default(),
                    _ => defaults
                        .iter()
                        .map(|one| {
                            (
                                text(one, "key").to_owned(),
                                one.get("value").cloned().unwrap_or_default(),
                            )
                        })
                        .collect::<Map<_, _>>()
                        .into(),
                };
                members.insert("on_error".to_owned(), json!({"value": value}));
            }
            "fail-branch" => {
                let branch = |edge: &&Value| {
                    text(edge, "source") == id && text(edge, "sourceHandle") == "fail-branch"
                };
                if let Some(edge) = self.edges.iter().find(branch) {
                    members.insert(
                        "on_error".to_owned(),
                        json!({"goto": name_of(text(edge, "target"))}),
                    );
                }
            }
            other => self.notes.add(id, format!("the error strategy {other:?} is not taken over")),
        }
    }

    fn edges_of(&mut self, ids: &BTreeSet<&str>, nodes: &Map<String, Value>) -> Vec<Value> {
        let mut edges = Vec::new();
        for edge in self.edges {
            let (from, to) = (text(edge, "source"), text(edge, "target"));
            let handle = text(edge, "sourceHandle");
            let inside = ids.contains(from) && nodes.contains_key(&name_of(to));
            if !inside || handle == "fail-branch" {
                continue;
            }
            let mut made = json!({"from": name_of(from), "to": name_of(to)});
            let data =
                self.nodes.get(from).and_then(|node| node.get("data")).cloned().unwrap_or_default();
            if text(&data, "type") == "if-else"
                && let Some(members) = made.as_object_mut()
            {
                members.insert("type".to_owned(), json!("conditional"));
                members.insert("condition".to_owned(), json!(self.case(from, &data, handle)));
            }
            edges.push(made);
        }
        edges
    }

    /// When the way of this handle is taken: its case holds, and none before it.
    fn case(&mut self, id: &str, data: &Value, handle: &str) -> String {
        let older = [json!({"case_id": "true", "logical_operator": data.get("logical_operator"),
            "conditions": data.get("conditions")})];
        let cases = match list(data, "cases") {
            [] => older.as_slice(),
            cases => cases,
        };
        let mut parts = Vec::new();
        for case in cases {
            let holds = self.all_of(id, case);
            if text(case, "case_id") == handle {
                parts.push(holds);
                return parts.join(" && ");
            }
            parts.push(format!("!{holds}"));
        }
        parts.join(" && ")
    }

    fn all_of(&mut self, id: &str, case: &Value) -> String {
        let between = if text(case, "logical_operator") == "or" { " || " } else { " && " };
        let conditions = list(case, "conditions").to_vec();
        let all: Vec<String> = conditions.iter().map(|one| self.condition(id, one)).collect();
        if all.is_empty() { "(true)".to_owned() } else { format!("({})", all.join(between)) }
    }

    fn condition(&mut self, id: &str, condition: &Value) -> String {
        let field = self.selected(id, part(condition, "variable_selector"));
        let given = match condition.get("value") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        let value = match given.strip_prefix("{{#").and_then(|rest| rest.strip_suffix("#}}")) {
            Some(inner) => {
                let parts: Vec<&str> = inner.split('.').collect();
                format!("string({})", self.selected(id, &json!(parts)))
            }
            None => json!(given).to_string(),
        };
        let number = given.trim().parse::<f64>().unwrap_or(0.0);
        let there = format!("({field} != null)");
        let compared = |sign: &str| format!("({there} && double({field}) {sign} {number:?})");
        let held = |method: &str| format!("({there} && string({field}).{method}({value}))");
        match text(condition, "comparison_operator") {
            "contains" => held("contains"),
            "not contains" => format!("!{}", held("contains")),
            "start with" => held("startsWith"),
            "end with" => held("endsWith"),
            "is" | "in" => format!("({there} && string({field}) == {value})"),
            "is not" | "not in" => format!("!({there} && string({field}) == {value})"),
            "empty" | "null" | "not exists" => format!("!truthy({field})"),
            "not empty" | "not null" | "exists" => format!("truthy({field})"),
            "=" => compared("=="),
            "\u{2260}" => format!("!{}", compared("==")),
            ">" => compared(">"),
            "<" => compared("<"),
            "\u{2265}" => compared(">="),
            "\u{2264}" => compared("<="),
            other => {
                self.notes
                    .add(id, format!("the comparison {other:?} is not taken over: it never holds"));
                "(false)".to_owned()
            }
        }
    }

    /// A reference as an expression: a field, or a part of one.
    fn selected(&mut self, at: &str, selector: &Value) -> String {
        let parts: Vec<&str> =
            selector.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let [node, rest @ ..] = parts.as_slice() else { return "null".to_owned() };
        let (first, deeper) =
            rest.split_first().map_or(("", &[][..]), |(first, deeper)| (*first, deeper));
        let kind = self
            .nodes
            .get(node)
            .and_then(|node| node.pointer("/data/type"))
            .and_then(Value::as_str);
        let base = match (*node, kind) {
            ("sys", _) if first == "query" => "query".to_owned(),
            ("sys", _) => {
                self.notes.add(at, format!("sys.{first} is not known here: it is null"));
                return "null".to_owned();
            }
            ("env", _) => match self.variables.get(first) {
                Some(value) => value.to_string(),
                None => "null".to_owned(),
            },
            ("conversation", _) | (_, Some("start")) => plain(first),
            (_, Some("iteration")) if matches!(first, "item" | "index") => first.to_owned(),
            (id, Some("http-request")) => {
                let part = if first == "status_code" { "status" } else { first };
                format!("{}.{part}", name_of(id))
            }
            // Whatever its one output is called.
            (id, Some(_)) => name_of(id),
            (id, None) => {
                self.notes
                    .add(at, format!("it refers to {id}, which is not in the file: that is null"));
                return "null".to_owned();
            }
        };
        deeper.iter().fold(base, |base, part| format!("{base}.{}", plain(part)))
    }

    /// A text with `{{#node.variable#}}` as one with `{{ field }}`.
    fn template(&mut self, at: &str, source: &str) -> String {
        let mut done = String::new();
        let mut rest = source;
        while let Some((before, after)) = rest.split_once("{{#") {
            done.push_str(before);
            let Some((inner, behind)) = after.split_once("#}}") else {
                rest = after;
                continue;
            };
            if inner == "context" {
                self.notes.add(at, "{{#context#}} is not taken over: it is empty");
            } else {
                let parts: Vec<&str> = inner.split('.').collect();
                let value = self.selected(at, &json!(parts));
                done.extend(["{{ ", &value, " }}"]);
            }
            rest = behind;
        }
        done.push_str(rest);
        done
    }
}
