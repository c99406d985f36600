//! Simulated chat completions.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for what it has not")]

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::json::fitting;
use super::{Directive, SimRefusal, count_tokens};

const WORDS: [&str; 24] = [
    "ledger", "balance", "every", "call", "is", "priced", "held", "run", "settled", "once", "and",
    "recorded", "before", "the", "answer", "ends", "so", "nobody", "pays", "twice", "for", "what",
    "they", "asked",
];
const DEFAULT_WORDS: usize = 24;
const MOST_WORDS: usize = 100_000;

/// A chat request as the simulation reads it.
#[derive(Clone, Debug, Deserialize)]
pub struct SimRequest {
    model: String,
    messages: Vec<Value>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: Value,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
    #[serde(default)]
    n: Option<u64>,
    #[serde(default)]
    stop: Value,
    #[serde(default)]
    tools: Vec<Value>,
    #[serde(default)]
    tool_choice: Value,
    #[serde(default)]
    response_format: Value,
}

/// What is reported as usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// The truth.
    #[default]
    Normal,
    /// Nothing, even when asked.
    Missing,
    /// Figures that cannot be.
    Odd,
}

/// A simulated answer.
#[derive(Clone, Debug)]
pub struct SimReply {
    id: String,
    model: String,
    reasoning: Vec<String>,
    content: Vec<String>,
    tool_call: Option<(String, String)>,
    finish: &'static str,
    choices: u64,
    prompt_tokens: u64,
    include_usage: bool,
}

impl SimRequest {
    /// Reads a request.
    pub fn parse(body: &[u8]) -> Result<Self, SimRefusal> {
        let request: Self = serde_json::from_slice(body)
            .map_err(|cause| SimRefusal::new(400, &format!("the request is not valid: {cause}")))?;
        if request.messages.is_empty() {
            return Err(SimRefusal::new(400, "messages must not be empty"));
        }
        Ok(request)
    }

    /// The answer is to be streamed.
    pub const fn stream(&self) -> bool {
        self.stream
    }

    /// The directives in the last user message.
    pub fn directives(&self) -> Vec<Directive> {
        let last = self.messages.iter().rev().find(|message| message["role"] == "user");
        last.map(|message| Directive::all(&text_of(&message["content"]))).unwrap_or_default()
    }

    /// The answer, always the same to the same request.
    pub fn answer(&self) -> Result<SimReply, SimRefusal> {
        let directives = self.directives();
        if let Some(status) = Directive::find(&directives, "fail") {
            return Err(SimRefusal::new(status.trim().parse().unwrap_or(500), "simulated failure"));
        }
        let texts: Vec<String> =
            self.messages.iter().map(|message| text_of(&message["content"])).collect();
        let digest = blake3::hash(texts.join("\n").as_bytes());
        let thoughts = number(&directives, "reason").unwrap_or(0);
        let tool_call = self.tool_call(&directives);
        let start = digest.as_bytes().iter().fold(0, |sum, byte| sum + usize::from(*byte));
        let content = if tool_call.is_some() { Vec::new() } else { self.words(&directives, start) };
        let (content, cut) = self.within_limits(content, thoughts);
        let finish = match (&tool_call, cut) {
            (Some(_), _) => "tool_calls",
            (None, true) => "length",
            (None, false) => "stop",
        };
        Ok(SimReply {
            id: format!("chatcmpl-{}", digest.to_hex().chars().take(24).collect::<String>()),
            model: self.model.clone(),
            reasoning: (0..thoughts).map(|at| word(at + 5)).collect(),
            content,
            tool_call,
            finish,
            choices: self.n.unwrap_or(1),
            prompt_tokens: texts.iter().map(|text| count_tokens(text)).sum::<u64>().max(1),
            include_usage: self.stream_options["include_usage"] == true,
        })
    }

    /// The content up to a stop word and `max_tokens`; tells whether the latter cut it.
    fn within_limits(&self, mut content: Vec<String>, thoughts: usize) -> (Vec<String>, bool) {
        if let Some(at) = content.iter().position(|word| self.stops_at(word)) {
            content.truncate(at);
        }
        let limit = self.max_completion_tokens.or(self.max_tokens).unwrap_or(u64::MAX);
        let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(thoughts);
        let cut = content.len() > room;
        content.truncate(room);
        (content, cut)
    }

    fn words(&self, directives: &[Directive], start: usize) -> Vec<String> {
        let split = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        if let Some(text) = Directive::find(directives, "say") {
            return split(text);
        }
        match self.response_format["type"].as_str() {
            Some("json_object") => return vec![json!({"answer": WORDS.join("-")}).to_string()],
            Some("json_schema") => {
                return vec![fitting(&self.response_format["json_schema"]["schema"]).to_string()];
            }
            _ => {}
        }
        if let Some(last) = self.messages.last().filter(|message| message["role"] == "tool") {
            return split(&format!("the tool says {}", text_of(&last["content"])));
        }
        let count = number(directives, "words").unwrap_or(DEFAULT_WORDS);
        (0..count).map(|at| word(start + at)).collect()
    }

    fn tool_call(&self, directives: &[Directive]) -> Option<(String, String)> {
        if let Some(call) = Directive::find(directives, "tool")
            && self.messages.last().is_some_and(|message| message["role"] == "user")
        {
            let (name, arguments) = call.split_once(' ').unwrap_or((call, "{}"));
            return Some((name.to_owned(), arguments.to_owned()));
        }
        let last_is_user = self.messages.last().is_some_and(|message| message["role"] == "user");
        if !last_is_user
            || self.tool_choice == "none"
            || Directive::find(directives, "say").is_some()
        {
            return None;
        }
        let chosen = &self.tool_choice["function"]["name"];
        let tool = match chosen.as_str() {
            Some(name) => self.tools.iter().find(|tool| tool["function"]["name"] == name)?,
            None => self.tools.first()?,
        };
        let arguments = fitting(&tool["function"]["parameters"]).to_string();
        Some((tool["function"]["name"].as_str()?.to_owned(), arguments))
    }

    fn stops_at(&self, word: &str) -> bool {
        match &self.stop {
            Value::String(stop) => stop == word,
            Value::Array(stops) => stops.iter().any(|stop| stop == word),
            _ => false,
        }
    }
}

impl SimReply {
    /// The tokens produced in each choice, thoughts included.
    fn completion_tokens(&self) -> u64 {
        let call = self.tool_call.as_ref().map_or(0, |(_, arguments)| 1 + count_tokens(arguments));
        (self.reasoning.len() + self.content.len()) as u64 + call
    }

    /// The usage object in this style.
    pub fn usage(&self, style: Style) -> Option<Value> {
        let completion = self.completion_tokens() * self.choices;
        let reasoning = self.reasoning.len() as u64 * self.choices;
        match style {
            Style::Missing => None,
            Style::Odd => Some(json!({
                "prompt_tokens": self.prompt_tokens, "completion_tokens": -7,
                "total_tokens": 3, "prompt_tokens_details": {"cached_tokens": self.prompt_tokens + 100}})),
            Style::Normal => Some(json!({
                "prompt_tokens": self.prompt_tokens, "completion_tokens": completion,
                "total_tokens": self.prompt_tokens + completion,
                "prompt_tokens_details": {"cached_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": reasoning}})),
        }
    }

    /// The complete answer.
    pub fn full(&self, style: Style) -> Bytes {
        let mut message = json!({"role": "assistant", "content": self.content.join(" ")});
        if let Some((name, arguments)) = &self.tool_call {
            message["content"] = Value::Null;
            message["tool_calls"] = json!([{"id": "call_sim_1", "type": "function",
                "function": {"name": name, "arguments": arguments}}]);
        }
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = json!(self.reasoning.join(" "));
        }
        let choices: Vec<Value> = (0..self.choices)
            .map(|index| json!({"index": index, "message": message, "logprobs": null, "finish_reason": self.finish}))
            .collect();
        let mut answer = json!({"id": self.id, "object": "chat.completion", "created": CREATED,
            "model": self.model, "choices": choices});
        if let Some(usage) = self.usage(style) {
            answer["usage"] = usage;
        }
        Bytes::from(answer.to_string())
    }

    /// The streamed answer, frame by frame; `pieces` says into how many the content is cut (one a
    /// word without it).
    pub fn frames(&self, style: Style, pieces: Option<usize>) -> Vec<Bytes> {
        let mut frames = Vec::new();
        for index in 0..self.choices {
            frames.push(self.frame(
                index,
                &json!({"role": "assistant", "content": ""}),
                &Value::Null,
            ));
            for thought in &self.reasoning {
                frames.push(self.frame(
                    index,
                    &json!({"reasoning_content": format!("{thought} ")}),
                    &Value::Null,
                ));
            }
            for text in self.cut(pieces) {
                frames.push(self.frame(index, &json!({"content": text}), &Value::Null));
            }
            if let Some((name, arguments)) = &self.tool_call {
                let call = json!({"tool_calls": [{"index": 0, "id": "call_sim_1", "type": "function",
                    "function": {"name": name, "arguments": ""}}]});
                frames.push(self.frame(index, &call, &Value::Null));
                let rest =
                    json!({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]});
                frames.push(self.frame(index, &rest, &Value::Null));
            }
            frames.push(self.frame(index, &json!({}), &json!(self.finish)));
        }
        if let Some(usage) = self.usage(style).filter(|_| self.include_usage) {
            let chunk = json!({"id": self.id, "object": "chat.completion.chunk", "created": CREATED,
                "model": self.model, "choices": [], "usage": usage});
            frames.push(Bytes::from(format!("data: {chunk}\n\n")));
        }
        frames.push(Bytes::from_static(b"data: [DONE]\n\n"));
        frames
    }

    fn frame(&self, index: u64, delta: &Value, finish: &Value) -> Bytes {
        let chunk = json!({"id": self.id, "object": "chat.completion.chunk", "created": CREATED,
            "model": self.model, "choices": [{"index": index, "delta": delta, "finish_reason": finish}]});
        Bytes::from(format!("data: {chunk}\n\n"))
    }

    /// The content in so many texts, whose sum is the whole.
    fn cut(&self, pieces: Option<usize>) -> Vec<String> {
        let last = self.content.len().saturating_sub(1);
        let spaced: Vec<String> = self
            .content
            .iter()
            .enumerate()
            .map(|(at, word)| if at == last { word.clone() } else { format!("{word} ") })
            .collect();
        let Some(pieces) = pieces else { return spaced };
        let size = spaced.len().div_ceil(pieces.max(1)).max(1);
        spaced.chunks(size).map(<[String]>::concat).collect()
    }
}

/// A fixed date, so that answers are the same on every day.
const CREATED: u64 = 1_767_225_600;

fn word(at: usize) -> String {
    WORDS.get(at % WORDS.len()).copied().unwrap_or_default().to_owned()
}

fn number(directives: &[Directive], name: &str) -> Option<usize> {
    let number: usize = Directive::find(directives, name)?.trim().parse().ok()?;
    Some(number.min(MOST_WORDS))
}

/// A message's text: a string, or the text parts of an array.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}
