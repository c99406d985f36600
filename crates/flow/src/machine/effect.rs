//! What an effect is to do, made from the state when it begins.

use serde_json::{Map, Value, json};

use crate::event::{StepError, StepKind};
use crate::expr::Fields;
use crate::graph::{Kind, Llm, Node, Program};
use crate::state::{State, Step};
use crate::update::tool_calls;

/// What an effect is to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Calls a model.
    Llm {
        /// Its name as the definition says it.
        model: String,
        /// The request, without the model and the tools' descriptions.
        request: Map<String, Value>,
        /// The tools that are offered.
        tools: Vec<String>,
        /// What was asked, if it is to be part of the conversation.
        prompt: Option<String>,
        /// The answer is JSON.
        json: bool,
    },
    /// Calls a tool.
    Tool {
        /// Its name.
        name: String,
        /// What it is given.
        arguments: Value,
        /// A tool call of a model: its result is marked as good or bad.
        listed: bool,
    },
    /// Makes an HTTP request.
    Http {
        /// Such as `GET`.
        method: String,
        /// Where to.
        url: String,
        /// Besides those that always are there.
        headers: Vec<(String, String)>,
        /// JSON, or text as it is.
        body: Option<Value>,
        /// An answer that is no success is an error.
        fail_on_status: bool,
    },
}

/// What this step is to do.
pub(crate) fn effect_of(
    program: &Program,
    state: &State,
    step: &Step,
) -> Result<Effect, StepError> {
    let gone = || StepError::new("interrupted", "the step is gone");
    let node = state.node_of(program, step).ok_or_else(gone)?;
    let fields = &state.frame(step.frame).ok_or_else(gone)?.fields;
    made(program, node, fields, step).map_err(|message| StepError::new("bad_expression", message))
}

fn made(program: &Program, node: &Node, fields: &Fields, step: &Step) -> Result<Effect, String> {
    let templates = &program.templates;
    debug_assert!(step.kind != StepKind::Flow);
    Ok(match &node.kind {
        Kind::Llm(llm) => request(program, llm, fields)?,
        Kind::Tool(tool) => Effect::Tool {
            name: tool.name.clone(),
            arguments: templates.value(&tool.arguments, &[fields])?,
            listed: false,
        },
        Kind::ToolCalls(_) => {
            let calls = tool_calls(fields);
            let call = calls.get(step.slot).ok_or("there is no such tool call")?;
            let (name, arguments) = (call.name.clone(), call.arguments.clone());
            Effect::Tool { name, arguments, listed: true }
        }
        Kind::Http(http) => Effect::Http {
            method: http.method.clone(),
            url: templates.text(&http.url, &[fields])?,
            headers: http
                .headers
                .iter()
                .map(|(name, data)| Ok((name.clone(), templates.text(data, &[fields])?)))
                .collect::<Result<_, String>>()?,
            body: http.body.as_ref().map(|body| templates.value(body, &[fields])).transpose()?,
            fail_on_status: http.fail_on_status,
        },
        _ => return Err("the node has no effect".to_owned()),
    })
}

fn request(program: &Program, llm: &Llm, fields: &Fields) -> Result<Effect, String> {
    let templates = &program.templates;
    let mut messages = Vec::new();
    if let Some(system) = &llm.system {
        messages.push(json!({"role": "system", "content": templates.text(system, &[fields])?}));
    }
    if llm.history {
        let all = fields.get("messages").and_then(Value::as_array);
        messages.extend(recent(all.map_or(&[], Vec::as_slice), llm.window).iter().cloned());
    }
    let prompt = llm.prompt.as_ref().map(|prompt| templates.text(prompt, &[fields])).transpose()?;
    if let Some(prompt) = &prompt {
        messages.push(json!({"role": "user", "content": prompt}));
    }
    if messages.is_empty() {
        return Err("there is nothing to send: no prompt and no messages".to_owned());
    }
    let mut request = Map::new();
    request.insert("messages".to_owned(), Value::Array(messages));
    for (name, value) in &llm.parameters {
        request.insert((*name).to_owned(), value.clone());
    }
    if llm.json {
        request.insert("response_format".to_owned(), json!({"type": "json_object"}));
    }
    Ok(Effect::Llm {
        model: templates.text(&llm.model, &[fields])?,
        request,
        tools: llm.tools.clone(),
        prompt: prompt.filter(|_| llm.history),
        json: llm.json,
    })
}

/// The last messages that fit the window, never beginning with the answer of a tool.
fn recent(messages: &[Value], window: Option<u64>) -> &[Value] {
    let Some(window) = window else { return messages };
    let mut used = 0;
    let mut from = messages.len();
    for (at, message) in messages.iter().enumerate().rev() {
        used += super::value_size(message) as u64 / 4 + 4;
        if used > window && from < messages.len() {
            break;
        }
        from = at;
    }
    let kept = messages.get(from..).unwrap_or_default();
    let orphans = kept.iter().take_while(|message| message["role"] == "tool").count();
    kept.get(orphans..).unwrap_or_default()
}
