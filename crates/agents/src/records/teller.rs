//! Tells the story of a run: from its events to records, one after another.

use std::collections::HashMap;
use std::sync::Arc;

use flow::{Asked, Event, Logged, Replay, Status, StepError, StepKind, Then};
use kernel::{Amount, Timestamp};
use metering::UsageRecord;
use serde_json::{Map, Value, json};

use super::{Decimal, Detail, Record, Seconds, Tokens};

/// What a call cost and used, as its usage record says.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    pub(crate) record: UsageRecord,
    /// Of its cost, what its output cost.
    pub(crate) completion: Amount,
}

/// A step that has begun.
#[derive(Clone, Debug)]
struct Begun {
    node: Arc<str>,
    kind: StepKind,
    asked: Option<Asked>,
    at: Timestamp,
    /// The record of its request.
    request_id: String,
}

/// Follows a run and says what goes into the history.
#[derive(Debug)]
pub(crate) struct Teller {
    replay: Replay,
    execution_id: Arc<str>,
    /// The messages that the session had before.
    carried: usize,
    steps: HashMap<u64, Begun>,
    last_error: Option<(String, String)>,
    /// Where requests of a model go first.
    providers: Arc<std::collections::BTreeMap<String, String>>,
}

impl Teller {
    pub(crate) fn new(
        replay: Replay,
        execution_id: Arc<str>,
        carried: usize,
        providers: Arc<std::collections::BTreeMap<String, String>>,
    ) -> Self {
        Self { replay, execution_id, carried, steps: HashMap::new(), last_error: None, providers }
    }

    /// The state as far as was told.
    pub(crate) const fn replay(&self) -> &Replay {
        &self.replay
    }

    /// The node and kind of a step that has not ended.
    pub(crate) fn step(&self, step: u64) -> Option<(&str, StepKind)> {
        self.steps.get(&step).map(|begun| (begun.node.as_ref(), begun.kind))
    }

    /// Takes in the next event; `usage` is that of the charge it names.
    pub(crate) fn take(&mut self, logged: &Logged, usage: Option<&Usage>) -> Vec<Record> {
        self.replay.apply(logged);
        let asked = match &logged.event {
            Event::StepStarted { step, .. } | Event::StepRetried { step, .. } => {
                self.replay.asked(*step)
            }
            _ => None,
        };
        let mut story = Story { teller: self, logged, records: Vec::new() };
        match &logged.event {
            Event::Created { input } => story.created(input),
            Event::StepStarted { step, node, kind, .. } => story.started(*step, node, *kind, asked),
            Event::StepRetried { step, .. } => story.retried(*step, asked),
            Event::StepWaiting { step, message, .. } => {
                let node = story.node(*step);
                let content = json!({"step": step, "message": message});
                story.put(node, Detail::System { event: "waiting", content });
            }
            Event::StepAnswered { step, answer } => {
                let node = story.node(*step);
                story.teller.steps.remove(step);
                let content = text_of(answer);
                story.put(node, Detail::Message { message_type: "user", content });
            }
            Event::StepFinished { step, output, .. } => story.finished(*step, output, usage),
            Event::StepFailed { step, error, then, .. } => {
                story.failed(*step, error, matches!(then, Then::Retry(_)), usage);
            }
            Event::Finished { status, error } => story.ended(*status, error.as_ref()),
            _ => {}
        }
        story.records
    }
}

/// What one event gives.
struct Story<'a> {
    teller: &'a mut Teller,
    logged: &'a Logged,
    records: Vec<Record>,
}

impl Story<'_> {
    fn put(&mut self, node: Option<String>, detail: Detail) -> String {
        let id = format!("{}.{}.{}", self.teller.execution_id, self.logged.seq, self.records.len());
        self.records.push(Record { id: id.clone(), at: self.logged.at, node, detail });
        id
    }

    fn node(&self, step: u64) -> Option<String> {
        self.teller.steps.get(&step).map(|begun| begun.node.to_string())
    }

    fn created(&mut self, input: &Map<String, Value>) {
        self.put(None, Detail::System { event: "run.created", content: Value::Null });
        let messages = input.get("messages").and_then(Value::as_array);
        for message in messages.into_iter().flatten().skip(self.teller.carried) {
            let (message_type, content) = (message_type(message), content_of(message));
            self.put(None, Detail::Message { message_type, content });
        }
    }

    fn started(&mut self, step: u64, node: &Arc<str>, kind: StepKind, asked: Option<Asked>) {
        let at = self.logged.at;
        let request_id = self.asked(node, asked.as_ref());
        let begun = Begun { node: Arc::clone(node), kind, asked, at, request_id };
        self.teller.steps.insert(step, begun);
    }

    fn retried(&mut self, step: u64, asked: Option<Asked>) {
        let Some(begun) = self.teller.steps.get(&step).cloned() else { return };
        self.started(step, &begun.node, begun.kind, asked.or(begun.asked));
    }

    /// The request of a model, told when it is made.
    fn asked(&mut self, node: &Arc<str>, asked: Option<&Asked>) -> String {
        let Some(Asked::Model { model, request }) = asked else { return String::new() };
        let mut parameters = request.clone();
        let messages = parameters.remove("messages").unwrap_or_default();
        let messages: Vec<Value> =
            messages.as_array().into_iter().flatten().map(as_recorded).collect();
        let bytes = messages.iter().map(|message| message.to_string().len() as u64).sum::<u64>();
        let provider = self.teller.providers.get(model).cloned().unwrap_or_default();
        let request = Detail::LlmRequest {
            model: model.clone(),
            provider,
            messages,
            parameters: Value::Object(parameters),
            estimated_tokens: bytes / 4,
        };
        self.put(Some(node.to_string()), request)
    }

    fn finished(&mut self, step: u64, output: &Value, usage: Option<&Usage>) {
        let Some(begun) = self.teller.steps.remove(&step) else { return };
        let node = Some(begun.node.to_string());
        match begun.asked {
            Some(Asked::Model { model, .. }) => {
                let content = content_of(&output["message"]);
                let reason = output["finish_reason"].as_str().unwrap_or("stop").to_owned();
                let took = self.logged.at.since(begun.at).as_micros();
                let response = Detail::LlmResponse {
                    request_id: begun.request_id,
                    content: content.clone(),
                    finish_reason: reason,
                    token_usage: usage.map_or(NO_TOKENS, tokens),
                    response_time: Seconds(u64::try_from(took).unwrap_or(u64::MAX)),
                    model: usage.map_or(model, |usage| usage.record.model.clone()),
                };
                self.put(node.clone(), response);
                if !content.is_empty() {
                    self.put(node.clone(), Detail::Message { message_type: "assistant", content });
                }
                self.used(node, usage);
            }
            Some(Asked::Tool { name, arguments }) => {
                let tool_output = as_object(output);
                let call = Detail::ToolCall { tool_name: name, tool_input: arguments, tool_output };
                self.put(node, call);
            }
            Some(Asked::Http { method, url }) => {
                let call = Detail::ToolCall {
                    tool_name: "http".to_owned(),
                    tool_input: json!({"method": method, "url": url}),
                    tool_output: as_object(output),
                };
                self.put(node, call);
            }
            None => {}
        }
    }

    fn failed(&mut self, step: u64, error: &StepError, retried: bool, usage: Option<&Usage>) {
        let begun = self.teller.steps.get(&step).cloned();
        let node = begun.as_ref().map(|begun| begun.node.to_string());
        let call = match begun.and_then(|begun| begun.asked) {
            Some(Asked::Tool { name, arguments }) => Some((name, arguments)),
            Some(Asked::Http { method, url }) => {
                Some(("http".to_owned(), json!({"method": method, "url": url})))
            }
            _ => None,
        };
        if let Some((tool_name, tool_input)) = call {
            let tool_output = Value::Null;
            self.put(node.clone(), Detail::ToolCall { tool_name, tool_input, tool_output });
        }
        self.used(node.clone(), usage);
        self.error(node, error);
        if !retried {
            self.teller.steps.remove(&step);
        }
    }

    fn error(&mut self, node: Option<String>, error: &StepError) {
        self.teller.last_error = Some((error.code.clone(), error.message.clone()));
        let error_id = format!("{}.{}", self.teller.execution_id, self.logged.seq);
        let (error_type, error_message) = (error.code.clone(), error.message.clone());
        self.put(node, Detail::Error { error_id, error_type, error_message });
    }

    fn ended(&mut self, status: Status, error: Option<&StepError>) {
        if let Some(error) = error {
            let told = Some((error.code.clone(), error.message.clone()));
            // What failed the step has been told.
            if self.teller.last_error != told {
                self.error(error.node.as_ref().map(ToString::to_string), error);
            }
        }
        let content = json!({"status": status.as_str()});
        self.put(None, Detail::System { event: "run.finished", content });
    }

    fn used(&mut self, node: Option<String>, usage: Option<&Usage>) {
        let Some(usage) = usage else { return };
        let record = &usage.record;
        let (model, provider) = (record.model.clone(), record.provider.clone().unwrap_or_default());
        let tokens = tokens(usage);
        let source = match record.usage_source.as_str() {
            "reported" => "api",
            "estimated" => "local",
            _ => "hybrid",
        };
        if tokens.total_tokens > 0 {
            let (model, provider) = (model.clone(), provider.clone());
            let used = Detail::TokenUsage { model, provider, tokens, source, confidence: 1 };
            self.put(node.clone(), used);
        }
        if record.cost != Amount::ZERO {
            let cost = Detail::Cost {
                model,
                provider,
                tokens,
                prompt_cost: Decimal(record.cost.saturating_sub(usage.completion)),
                completion_cost: Decimal(usage.completion),
                total_cost: Decimal(record.cost),
                currency: record.currency.to_string(),
            };
            self.put(node, cost);
        }
    }
}

const NO_TOKENS: Tokens = Tokens { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };

fn tokens(usage: &Usage) -> Tokens {
    let record = &usage.record;
    let prompt = record.input_tokens + record.cached_input_tokens + record.cache_write_tokens;
    let completion = record.output_tokens + record.reasoning_tokens;
    Tokens {
        prompt_tokens: prompt,
        completion_tokens: completion,
        total_tokens: prompt + completion,
    }
}

fn message_type(message: &Value) -> &'static str {
    let named = message.get("role").or_else(|| message.get("type")).and_then(Value::as_str);
    match named.unwrap_or_default() {
        "assistant" | "ai" | "AIMessage" => "assistant",
        "system" | "SystemMessage" => "system",
        _ => "user",
    }
}

/// A message's text; content of several parts is their texts.
pub(crate) fn content_of(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part["text"].as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A message as requests record it: `{type, content, additional_kwargs}`.
fn as_recorded(message: &Value) -> Value {
    let mut more = message.as_object().cloned().unwrap_or_default();
    let role = more.remove("role").and_then(|role| role.as_str().map(str::to_owned));
    more.remove("content");
    let kind = match role.as_deref() {
        Some("assistant") => "ai",
        Some("system") => "system",
        Some("tool") => "tool",
        _ => "human",
    };
    json!({"type": kind, "content": content_of(message), "additional_kwargs": more})
}

/// A tool's output is an object or nothing.
fn as_object(output: &Value) -> Value {
    match output {
        Value::Object(_) | Value::Null => output.clone(),
        other => json!({ "result": other }),
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
