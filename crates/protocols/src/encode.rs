//! A run's log in LangGraph's words: what each mode of a stream tells of an event.

use std::collections::HashMap;
use std::sync::Arc;

use flow::{Event, Logged, Replay, Said, Status, StepKind, Update};
use serde_json::{Map, Value, json};

use crate::messages::{message_shown, shown};
use crate::threads::{RunStatus, interrupt};

/// What a stream is asked to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All fields after each step.
    Values,
    /// What each node has set.
    Updates,
    /// Messages as they grow, whole each time.
    Messages,
    /// Messages as they grow, piece by piece.
    MessagesTuple,
    /// What begins, streams and ends.
    Events,
    /// What flows write by themselves: nothing, here.
    Custom,
}

impl Mode {
    pub(crate) const ALL: [(&'static str, Self); 6] = [
        ("values", Self::Values),
        ("updates", Self::Updates),
        ("messages", Self::Messages),
        ("messages-tuple", Self::MessagesTuple),
        ("events", Self::Events),
        ("custom", Self::Custom),
    ];

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, mode)| mode)
    }
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) id: String,
    pub(crate) event: &'static str,
    pub(crate) data: Value,
}

/// Where a stream was cut: behind the parts of an event, and maybe in a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    seq: i64,
    part: usize,
    /// Step, attempt, bytes.
    text: Option<(u64, u32, usize)>,
}

impl Place {
    /// Reads an id that a [`Part`] had: `SEQ-PART`, or `SEQ-tSTEP.ATTEMPT.BYTES`.
    pub(crate) fn parse(id: &str) -> Option<Self> {
        let (seq, rest) = id.split_once('-')?;
        let seq = seq.parse().ok()?;
        let Some(text) = rest.strip_prefix('t') else {
            return Some(Self { seq, part: rest.parse().ok()?, text: None });
        };
        let mut parts = text.splitn(3, '.');
        let step = parts.next()?.parse().ok()?;
        let attempt = parts.next()?.parse().ok()?;
        let bytes = parts.next()?.parse().ok()?;
        Some(Self { seq, part: usize::MAX, text: Some((step, attempt, bytes)) })
    }
}

/// A text as far as it was told.
#[derive(Debug, Default)]
struct Told {
    attempt: u32,
    text: String,
}

/// Tells a run's events in the modes asked for.
#[derive(Debug)]
pub(crate) struct Encoder {
    run_id: Arc<str>,
    flow_run: Arc<str>,
    modes: Vec<Mode>,
    replay: Replay,
    /// Steps under way: their nodes and kinds.
    steps: HashMap<u64, (Arc<str>, StepKind)>,
    told: HashMap<u64, Told>,
    /// Steps that are not at their first attempt.
    attempts: HashMap<u64, u32>,
    place: Place,
    seq: i64,
    parts: usize,
    out: Vec<Part>,
}

impl Encoder {
    pub(crate) fn new(
        run_id: &str,
        flow_run: &str,
        modes: Vec<Mode>,
        replay: Replay,
        place: Place,
    ) -> Self {
        Self {
            run_id: run_id.into(),
            flow_run: flow_run.into(),
            modes,
            replay,
            steps: HashMap::new(),
            told: HashMap::new(),
            attempts: HashMap::new(),
            place,
            seq: 0,
            parts: 0,
            out: Vec::new(),
        }
    }

    /// The run as far as it was told.
    pub(crate) const fn replay(&self) -> &Replay {
        &self.replay
    }

    /// Takes in an event that belongs to an earlier run: it is not told.
    pub(crate) fn pass(&mut self, logged: &Logged) {
        self.note_step(&logged.event);
        self.replay.apply(logged);
        self.forget_step(&logged.event);
    }

    /// Takes in an event, and tells it.
    pub(crate) fn event(&mut self, logged: &Logged) -> Vec<Part> {
        (self.seq, self.parts) = (logged.seq, 0);
        self.note_step(&logged.event);
        self.before(&logged.event);
        let updates = self.replay.apply(logged);
        self.after(&logged.event, updates);
        self.forget_step(&logged.event);
        std::mem::take(&mut self.out)
    }

    /// Takes in a piece of a text, and tells it.
    pub(crate) fn said(&mut self, said: &Said) -> Vec<Part> {
        let told = self.told.entry(said.step).or_default();
        if told.attempt != said.attempt {
            *told = Told { attempt: said.attempt, text: String::new() };
        }
        let known = told.text.len().saturating_sub(said.offset);
        let piece = said.text.get(known..).unwrap_or_default().to_owned();
        told.text.push_str(&piece);
        self.tell_piece(said.step, said.attempt, &piece);
        std::mem::take(&mut self.out)
    }

    /// Tells how the run stands at its end.
    pub(crate) fn end(&mut self, error: Option<&Value>) -> Vec<Part> {
        let stands = self.replay.snapshot();
        if !stands.questions.is_empty() {
            let asked: Vec<Value> =
                stands.questions.iter().map(|one| interrupt(&self.flow_run, one)).collect();
            if self.has(Mode::Updates) {
                self.tell("updates", json!({"__interrupt__": asked}));
            }
            if self.has(Mode::Values) {
                let mut values = shown(&stands.fields);
                values.insert("__interrupt__".to_owned(), Value::Array(asked));
                self.tell("values", Value::Object(values));
            }
        }
        if let Some(error) = error {
            let text = |name: &str| error.get(name).cloned().unwrap_or_default();
            self.tell("error", json!({"error": text("code"), "message": text("message")}));
        }
        self.tell("end", Value::Null);
        std::mem::take(&mut self.out)
    }

    /// What is known of a step before its event is taken in.
    fn before(&mut self, event: &Event) {
        if let Event::StepFinished { step, output, .. } = event
            && let Some((_, StepKind::Llm)) = self.steps.get(step)
            && let Some(message) = output.get("message")
        {
            self.complete(*step, message, output.get("usage"));
        }
    }

    fn after(&mut self, event: &Event, updates: Vec<Update>) {
        for update in updates {
            if self.has(Mode::Updates) {
                let set = shown(&update.set);
                let set = if set.is_empty() { Value::Null } else { Value::Object(set) };
                self.tell("updates", json!({update.node.as_ref(): set}));
            }
        }
        match event {
            Event::Started { .. } => {
                self.tell_values();
                self.tell_event(
                    "on_chain_start",
                    "LangGraph",
                    &json!({"input": shown(self.replay.fields())}),
                );
            }
            Event::FrameMoved { frame: 0, .. } => self.tell_values(),
            Event::StepStarted { step, kind, node, .. } => {
                let name = match kind {
                    StepKind::Llm => "on_chat_model_start",
                    StepKind::Tool | StepKind::Http => "on_tool_start",
                    _ => "on_chain_start",
                };
                self.tell_event(name, node, &json!({"step": step}));
            }
            Event::StepFinished { step, output, .. } => {
                let Some((node, kind)) = self.steps.get(step).cloned() else { return };
                let name = match kind {
                    StepKind::Llm => "on_chat_model_end",
                    StepKind::Tool | StepKind::Http => "on_tool_end",
                    _ => "on_chain_end",
                };
                let output = match (kind, output.get("message")) {
                    (StepKind::Llm, Some(message)) => {
                        message_shown(message, &self.message_id(*step))
                    }
                    _ => output.clone(),
                };
                self.tell_event(name, &node, &json!({"output": output}));
            }
            Event::Finished { status: Status::Succeeded, .. } => {
                self.tell_event(
                    "on_chain_end",
                    "LangGraph",
                    &json!({"output": shown(self.replay.fields())}),
                );
            }
            _ => {}
        }
    }

    /// A model's message is whole: what of its text was not told yet is told now.
    fn complete(&mut self, step: u64, message: &Value, usage: Option<&Value>) {
        let whole = message.get("content").and_then(Value::as_str).unwrap_or_default();
        let told = self.told.remove(&step).unwrap_or_default();
        let attempt = self.attempts.remove(&step).unwrap_or(1);
        let from = told.text.len().max(self.heard(step, attempt));
        let rest = whole.get(from..).unwrap_or_default();
        for (event, data) in self.piece(step, rest, whole) {
            self.tell(event, data);
        }
        let mut last = message_shown(message, &self.message_id(step));
        if let Some(members) = last.as_object_mut() {
            members.insert("usage_metadata".to_owned(), usage_shown(usage));
        }
        if self.has(Mode::Messages) {
            self.tell("messages/complete", json!([last]));
        }
        if self.has(Mode::MessagesTuple) {
            if let Some(members) = last.as_object_mut() {
                members.insert("type".to_owned(), json!("AIMessageChunk"));
                members.insert("content".to_owned(), json!(""));
            }
            let about = self.about(step);
            self.tell("messages", json!([last, about]));
        }
    }

    /// How much of a text a client had before its stream was cut.
    fn heard(&self, step: u64, attempt: u32) -> usize {
        let same = |(known, of, _): &(u64, u32, usize)| (*known, *of) == (step, attempt);
        self.place.text.filter(same).map_or(0, |(_, _, bytes)| bytes)
    }

    /// A piece that has come, unless the client had it before.
    fn tell_piece(&mut self, step: u64, attempt: u32, piece: &str) {
        let whole = self.told.get(&step).map(|told| told.text.clone()).unwrap_or_default();
        let begins = whole.len().saturating_sub(piece.len());
        let known = self.heard(step, attempt).saturating_sub(begins).min(piece.len());
        let piece = piece.get(known..).unwrap_or_default();
        if self.seq < self.place.seq {
            return;
        }
        let id = format!("{}-t{step}.{attempt}.{}", self.seq, whole.len());
        let parts = self.piece(step, piece, &whole);
        let parts = parts.into_iter().map(|(event, data)| Part { id: id.clone(), event, data });
        self.out.extend(parts);
    }

    /// What each mode tells of a piece with which a text is now this.
    fn piece(&self, step: u64, piece: &str, text: &str) -> Vec<(&'static str, Value)> {
        let mut parts = Vec::new();
        if piece.is_empty() {
            return parts;
        }
        let (about, message_id) = (self.about(step), self.message_id(step));
        let chunk = json!({"role": "assistant", "content": piece});
        let mut chunk = message_shown(&chunk, &message_id);
        if let Some(members) = chunk.as_object_mut() {
            members.insert("type".to_owned(), json!("AIMessageChunk"));
        }
        if self.has(Mode::Messages) {
            if text.len() == piece.len() {
                let metadata = json!({message_id.as_str(): {"metadata": about}});
                parts.push(("messages/metadata", metadata));
            }
            let whole = message_shown(&json!({"role": "assistant", "content": text}), &message_id);
            parts.push(("messages/partial", json!([whole])));
        }
        if self.has(Mode::MessagesTuple) {
            parts.push(("messages", json!([chunk, about])));
        }
        if self.has(Mode::Events) {
            let node = self.steps.get(&step).map(|(node, _)| Arc::clone(node)).unwrap_or_default();
            let data =
                event_json("on_chat_model_stream", &node, &self.run_id, &json!({"chunk": chunk}));
            parts.push(("events", data));
        }
        parts
    }

    fn tell_values(&mut self) {
        if self.has(Mode::Values) {
            let values = shown(self.replay.fields());
            self.tell("values", Value::Object(values));
        }
    }

    fn tell_event(&mut self, event: &str, name: &str, data: &Value) {
        if self.has(Mode::Events) {
            let data = event_json(event, name, &self.run_id, data);
            self.tell("events", data);
        }
    }

    fn tell(&mut self, event: &'static str, data: Value) {
        let part = self.parts;
        self.parts += 1;
        let told = self.seq < self.place.seq
            || (self.seq == self.place.seq && self.place.seq > 0 && part <= self.place.part);
        // An end is told again: nothing follows it.
        if !told || event == "end" {
            self.out.push(Part { id: format!("{}-{part}", self.seq), event, data });
        }
    }

    fn has(&self, mode: Mode) -> bool {
        self.modes.contains(&mode)
    }

    fn message_id(&self, step: u64) -> String {
        format!("run-{}-{step}", self.flow_run)
    }

    fn about(&self, step: u64) -> Value {
        let node = self.steps.get(&step).map(|(node, _)| Arc::clone(node));
        json!({"run_id": self.run_id.as_ref(), "langgraph_node": node, "langgraph_step": step, "tags": []})
    }

    fn note_step(&mut self, event: &Event) {
        if let Event::StepStarted { step, node, kind, .. } = event {
            self.steps.insert(*step, (Arc::clone(node), *kind));
        }
    }

    fn forget_step(&mut self, event: &Event) {
        match event {
            Event::StepFinished { step, .. } | Event::StepAnswered { step, .. } => {
                self.steps.remove(step);
            }
            Event::StepFailed { step, .. } => drop(self.told.remove(step)),
            Event::StepRetried { step, attempt, .. } => {
                self.told.remove(step);
                self.attempts.insert(*step, *attempt);
            }
            _ => {}
        }
    }
}

/// Whether a run, as far as it was told, has ended or asks.
pub(crate) fn is_over(replay: &Replay) -> bool {
    !RunStatus::of(replay.status(), replay.asks()).is_active()
}

fn event_json(event: &str, name: &str, run_id: &str, data: &Value) -> Value {
    json!({"event": event, "name": name, "run_id": run_id, "data": data, "metadata": {}, "tags": [],
        "parent_ids": []})
}

fn usage_shown(usage: Option<&Value>) -> Value {
    let count = |name: &str| usage.and_then(|usage| usage.get(name)).and_then(Value::as_u64);
    let (input, output) = (count("prompt_tokens"), count("completion_tokens"));
    match (input, output) {
        (None, None) => Value::Null,
        (input, output) => {
            let (input, output) = (input.unwrap_or(0), output.unwrap_or(0));
            let mut all = Map::new();
            all.insert("input_tokens".to_owned(), json!(input));
            all.insert("output_tokens".to_owned(), json!(output));
            all.insert("total_tokens".to_owned(), json!(input + output));
            Value::Object(all)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_back_and_nonsense_is_not() {
        assert_eq!(Place::parse("7-2"), Some(Place { seq: 7, part: 2, text: None }));
        let text = Some((3, 1, 40));
        assert_eq!(Place::parse("7-t3.1.40"), Some(Place { seq: 7, part: usize::MAX, text }));
        for nonsense in ["", "7", "x-1", "7-x", "7-t3", "7-t3.1", "7-t3.1.x", "-"] {
            assert_eq!(Place::parse(nonsense), None, "{nonsense}");
        }
    }
}
