//! Requests: parsed once, checked, and sent on with as little change as possible.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};
use memchr::memmem;
use serde::{Deserialize, Deserializer};
use serde_json::Map;
use serde_json::value::RawValue;

use crate::RequestError;
use crate::outline::Outline;

const MOST_CHOICES: u64 = 128;

/// A chat completion request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatRequest {
    body: Bytes,
    model: String,
    model_at: Range<usize>,
    stream: bool,
    stream_options: Option<Range<usize>>,
    include_usage: bool,
    max_output: Option<u64>,
    choices: u64,
    images: u64,
}

/// An embeddings request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingsRequest {
    body: Bytes,
    model: String,
    model_at: Range<usize>,
}

#[derive(Deserialize)]
struct ChatWire<'a> {
    #[serde(borrow)]
    model: Text<'a>,
    #[serde(borrow)]
    messages: Vec<MessageWire<'a>>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default, borrow, deserialize_with = "present")]
    stream_options: Option<&'a RawValue>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
    #[serde(default)]
    n: Option<u64>,
    #[serde(default, rename = "tools")]
    _tools: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
struct MessageWire<'a> {
    #[serde(borrow, rename = "role")]
    _role: Cow<'a, str>,
}

#[derive(Deserialize)]
struct EmbeddingsWire<'a> {
    #[serde(borrow)]
    model: Text<'a>,
    #[serde(borrow)]
    input: &'a RawValue,
}

/// A string, and where it stands.
struct Text<'a> {
    raw: &'a RawValue,
    value: String,
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        let value = serde_json::from_str(raw.get())
            .map_err(|_other| serde::de::Error::custom("expected a string"))?;
        Ok(Self { raw, value })
    }
}

/// Keeps a value that is there, also when it is `null`.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

impl ChatRequest {
    /// Reads and checks a request.
    pub fn parse(body: &Bytes) -> Result<Self, RequestError> {
        by_outline(body, Self::read)
    }

    fn read(body: &Bytes, outline: &Outline<'_>) -> Result<Self, RequestError> {
        let wire: ChatWire<'_> = read(outline.text())?;
        if wire.messages.is_empty() {
            return Err(field("messages", "must hold at least one message"));
        }
        let max_output = wire.max_completion_tokens.or(wire.max_tokens);
        if max_output == Some(0) {
            return Err(field("max_tokens", "must be at least 1"));
        }
        let choices = wire.n.unwrap_or(1);
        if !(1..=MOST_CHOICES).contains(&choices) {
            return Err(field("n", "must be 1 to 128"));
        }
        let options = wire.stream_options.filter(|raw| raw.get() != "null");
        let include_usage = match options {
            Some(raw) if !raw.get().starts_with('{') => {
                return Err(field("stream_options", "must be an object"));
            }
            Some(raw) => serde_json::from_str::<StreamOptions>(raw.get())
                .map_err(|_other| {
                    field("stream_options", "must be an object with include_usage true or false")
                })?
                .include_usage
                .unwrap_or(false),
            None => false,
        };
        Ok(Self {
            model_at: outline.place(wire.model.raw),
            stream_options: wire.stream_options.map(|raw| outline.place(raw)),
            model: checked_model(wire.model.value)?,
            stream: wire.stream.unwrap_or(false),
            include_usage,
            max_output,
            choices,
            images: memmem::find_iter(outline.text(), b"\"image_url\"").count().div_ceil(2) as u64,
            body: body.clone(),
        })
    }

    /// The request as it came.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The public model name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The answer is to be streamed.
    pub const fn stream(&self) -> bool {
        self.stream
    }

    /// The client wants the usage frame.
    pub const fn include_usage(&self) -> bool {
        self.include_usage
    }

    /// No tokenizer makes more tokens than there are bytes; an image counts as configured.
    pub const fn input_bound(&self, image_tokens: u64) -> u64 {
        (self.body.len() as u64).saturating_add(self.images.saturating_mul(image_tokens))
    }

    /// The most tokens of all answers together, if each may have `default` when the request sets
    /// no limit.
    pub fn output_bound(&self, default: u64) -> u64 {
        self.max_output.unwrap_or(default).saturating_mul(self.choices)
    }

    /// The body to send upstream: the same bytes where the name is the same and usage need not be
    /// asked for, otherwise with just these two changed.
    pub fn body_for(&self, upstream_model: &str) -> Bytes {
        let mut edits = Vec::new();
        if upstream_model != self.model {
            edits.push((self.model_at.clone(), quoted(upstream_model)));
        }
        if self.stream && !self.include_usage {
            edits.push(self.ask_for_usage());
        }
        splice(&self.body, edits)
    }

    fn ask_for_usage(&self) -> (Range<usize>, String) {
        let Some(range) = self.stream_options.clone() else {
            let start = memchr::memchr(b'{', &self.body).map_or(0, |brace| brace + 1);
            return (start..start, "\"stream_options\":{\"include_usage\":true},".to_owned());
        };
        let old = self.body.get(range.clone()).unwrap_or_default();
        let mut options: Map<String, serde_json::Value> =
            serde_json::from_slice(old).unwrap_or_default();
        options.insert("include_usage".to_owned(), true.into());
        (range, serde_json::Value::Object(options).to_string())
    }
}

impl EmbeddingsRequest {
    /// Reads and checks a request.
    pub fn parse(body: &Bytes) -> Result<Self, RequestError> {
        by_outline(body, Self::read)
    }

    fn read(body: &Bytes, outline: &Outline<'_>) -> Result<Self, RequestError> {
        let wire: EmbeddingsWire<'_> = read(outline.text())?;
        if !wire.input.get().starts_with(['"', '[']) {
            return Err(field("input", "must be a string or an array"));
        }
        Ok(Self {
            model_at: outline.place(wire.model.raw),
            model: checked_model(wire.model.value)?,
            body: body.clone(),
        })
    }

    /// The request as it came.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The public model name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// No tokenizer makes more tokens than there are bytes.
    pub const fn input_bound(&self) -> u64 {
        self.body.len() as u64
    }

    /// The body to send upstream, with the model's name there.
    pub fn body_for(&self, upstream_model: &str) -> Bytes {
        if upstream_model == self.model {
            return self.body.clone();
        }
        splice(&self.body, vec![(self.model_at.clone(), quoted(upstream_model))])
    }
}

/// Reads a request by its outline. If that does not fit, the whole body tells what is wrong, and where.
fn by_outline<T>(
    body: &Bytes,
    read: fn(&Bytes, &Outline<'_>) -> Result<T, RequestError>,
) -> Result<T, RequestError> {
    check_text(body)?;
    let outline = Outline::of(body);
    match read(body, &outline) {
        Err(_) if !outline.is_whole() => read(body, &Outline::whole(body)),
        outcome => outcome,
    }
}

/// JSON is UTF-8, also where nobody here looks at it: an upstream might read something else into it
/// than the guard.
fn check_text(body: &[u8]) -> Result<(), RequestError> {
    let Err(error) = simdutf8::compat::from_utf8(body) else { return Ok(()) };
    let valid = body.get(..error.valid_up_to()).unwrap_or_default();
    let line_start = memchr::memrchr(b'\n', valid).map_or(0, |at| at + 1);
    let line = memchr::memchr_iter(b'\n', valid).count() + 1;
    Err(RequestError::Malformed { line, column: valid.len() - line_start + 1 })
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, RequestError> {
    let wire = serde_json::from_slice(body).map_err(|cause| explain::<T>(body, &cause))?;
    // An array in the fields' order would read as well.
    if body.trim_ascii_start().starts_with(b"{") {
        Ok(wire)
    } else {
        Err(field("body", "must be an object"))
    }
}

/// A second, slower reading that knows where in the document it is.
fn explain<'a, T: Deserialize<'a>>(body: &'a [u8], cause: &serde_json::Error) -> RequestError {
    if !cause.is_data() {
        return RequestError::Malformed { line: cause.line(), column: cause.column() };
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Ok(_) => field("body", "does not fit"),
        Err(located) => {
            let path = located.path().to_string();
            let text = located.inner().to_string();
            let reason = text.split(" at line ").next().unwrap_or_default().to_owned();
            field(if path.starts_with(['.', '[']) { "body" } else { &path }, &reason)
        }
    }
}

fn field(field: &str, reason: &str) -> RequestError {
    RequestError::Field { field: field.to_owned(), reason: reason.to_owned() }
}

fn checked_model(model: String) -> Result<String, RequestError> {
    if model.is_empty() || model.len() > 255 {
        return Err(field("model", "must be a name of 1 to 255 bytes"));
    }
    Ok(model)
}

/// Where a borrowed value stands in the body it was read from.
pub(crate) fn place(raw: &RawValue, body: &[u8]) -> Range<usize> {
    let start = raw.get().as_ptr().addr() - body.as_ptr().addr();
    start..start + raw.get().len()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The body with these ranges replaced.
pub(crate) fn splice(body: &Bytes, mut edits: Vec<(Range<usize>, String)>) -> Bytes {
    if edits.is_empty() {
        return body.clone();
    }
    edits.sort_by_key(|(range, _)| range.start);
    let added: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut edited = BytesMut::with_capacity(body.len() + added);
    let mut copied = 0;
    for (range, text) in edits {
        edited.put_slice(body.get(copied..range.start).unwrap_or_default());
        edited.put_slice(text.as_bytes());
        copied = range.end;
    }
    edited.put_slice(body.get(copied..).unwrap_or_default());
    edited.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(text: &'static str) -> Result<ChatRequest, RequestError> {
        ChatRequest::parse(&Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_request_that_needs_no_change_is_sent_as_it_came() {
        let text = r#"{ "model":"m", "messages":[{"role":"user","content":"hi"}], "x":[1, 2] }"#;
        assert_eq!(chat(text).unwrap().body_for("m"), text);
        let streamed = r#"{"stream":true,"stream_options":{"include_usage":true},"model":"m","messages":[{"role":"user"}]}"#;
        assert_eq!(chat(streamed).unwrap().body_for("m"), streamed);
    }

    #[test]
    fn only_what_must_change_is_changed() {
        let request =
            chat(r#" {"messages":[{"role":"user"}],"model":"a\u0062c","stream":true}"#).unwrap();
        assert_eq!(request.model(), "abc");
        assert_eq!(
            request.body_for("up/stream"),
            r#" {"stream_options":{"include_usage":true},"messages":[{"role":"user"}],"model":"up/stream","stream":true}"#
        );
        let options = chat(
            r#"{"model":"m","stream":true,"stream_options":{"other":1},"messages":[{"role":"user"}]}"#,
        );
        let sent = options.unwrap().body_for("m");
        let value: serde_json::Value = serde_json::from_slice(&sent).unwrap();
        assert_eq!(value["stream_options"], serde_json::json!({"other": 1, "include_usage": true}));
        let null = chat(
            r#"{"model":"m","stream":true,"stream_options":null,"messages":[{"role":"user"}]}"#,
        );
        assert!(
            null.unwrap().body_for("m").starts_with(
                br#"{"model":"m","stream":true,"stream_options":{"include_usage":true}"#
            )
        );
    }

    #[test]
    fn refusals_name_the_field() {
        let cases = [
            (r#"{"messages":[{"role":"user"}]}"#, "body"),
            (r#"{"model":7,"messages":[{"role":"user"}]}"#, "model"),
            (r#"{"model":"m","messages":"hi"}"#, "messages"),
            (r#"{"model":"m","messages":[]}"#, "messages"),
            (r#"{"model":"m","messages":[{"content":"x"}]}"#, "messages[0]"),
            (r#"{"model":"m","messages":[{"role":5}]}"#, "messages[0].role"),
            (r#"{"model":"m","messages":[{"role":"user"}],"stream":"yes"}"#, "stream"),
            (r#"{"model":"m","messages":[{"role":"user"}],"max_tokens":-1}"#, "max_tokens"),
            (r#"{"model":"m","messages":[{"role":"user"}],"max_tokens":0}"#, "max_tokens"),
            (r#"{"model":"m","messages":[{"role":"user"}],"n":0}"#, "n"),
            (r#"{"model":"m","messages":[{"role":"user"}],"tools":{}}"#, "tools"),
            (r#"{"model":"m","messages":[{"role":"user"}],"stream_options":[]}"#, "stream_options"),
            ("[1]", "body"),
        ];
        for (text, expected) in cases {
            match chat(text) {
                Err(RequestError::Field { field, .. }) => assert_eq!(field, expected, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(matches!(chat("{\"model\":"), Err(RequestError::Malformed { line: 1, .. })));
        let twice = chat(r#"{"model":"a","model":"b","messages":[{"role":"user"}]}"#);
        assert!(matches!(twice, Err(RequestError::Field { .. })), "{twice:?}");
    }

    #[test]
    fn bounds_cover_images_and_choices() {
        let request = chat(
            r#"{"model":"m","n":3,"max_tokens":10,"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"u"}}]}]}"#,
        )
        .unwrap();
        assert_eq!(request.output_bound(99), 30);
        assert_eq!(request.input_bound(2000), request.input_bound(0) + 2000);
    }

    fn long(text: &str) -> String {
        text.replace('*', &"all work and no play ".repeat(2_000))
    }

    #[test]
    fn a_large_request_is_read_and_changed_like_a_small_one() {
        let text = long(
            r#"{"tools":[{"about":"*"}],"messages":[{"role":"user","content":[{"type":"text","text":"*"},{"type":"image_url","image_url":{"url":"data:*"}}]}],"model":"a","stream_options":{"other":"*"},"stream":true}"#,
        );
        let request = ChatRequest::parse(&text.clone().into()).unwrap();
        assert_eq!((request.model(), request.stream()), ("a", true));
        assert_eq!(request.input_bound(1), text.len() as u64 + 1);
        let sent = text
            .replace(r#""model":"a""#, r#""model":"b""#)
            .replace(r#"{"other""#, r#"{"include_usage":true,"other""#);
        assert!(request.body_for("b") == sent);
        // What is long and no text is read too.
        let tokens = format!(r#"{{"input":[{}1],"model":"a"}}"#, "12, ".repeat(10_000));
        let request = EmbeddingsRequest::parse(&tokens.clone().into()).unwrap();
        assert!(request.body_for("b") == tokens.replace(r#""a""#, r#""b""#));
    }

    #[test]
    fn what_is_wrong_with_a_large_request_is_told_as_with_a_small_one() {
        let told = |text: &str| ChatRequest::parse(&long(text).into()).unwrap_err();
        let field = |text| match told(text) {
            RequestError::Field { field, .. } => field,
            malformed @ RequestError::Malformed { .. } => panic!("{text}: {malformed:?}"),
        };
        assert_eq!(field(r#"{"messages":[{"content":"*"}],"model":"m"}"#), "messages[0]");
        assert_eq!(field(r#"{"messages":[{"role":"user","content":"*"}],"model":"*"}"#), "model");
        assert_eq!(field(r#"{"messages":[{"role":"user"}],"*model":"m","x":"*"}"#), "body");
        assert_eq!(
            told(
                "{\"model\":\"m\",\n\"messages\":[{\"content\":\"*\",\"role\":\"user\"}],\n\"n\":x}"
            ),
            RequestError::Malformed { line: 3, column: 5 }
        );
    }

    #[test]
    fn a_body_is_utf8_also_where_nobody_looks() {
        let (before, after) =
            ("{\"model\":\"m\",\n\"x\":\"", "\",\"messages\":[{\"role\":\"user\"}]}");
        for text in [String::new(), long("*")] {
            let body = [before.as_bytes(), text.as_bytes(), b"\xe4\xb8", after.as_bytes()].concat();
            let malformed = RequestError::Malformed { line: 2, column: 6 + text.len() };
            assert_eq!(ChatRequest::parse(&body.into()), Err(malformed));
        }
    }
}
