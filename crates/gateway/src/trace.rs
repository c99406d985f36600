//! Calls in traces: begun with the request, ended by metering.

use http::{HeaderMap, HeaderValue};
use metering::Admission;
use serde::Deserialize;
use serde_json::value::RawValue;
use telemetry::CallSpan;

use crate::{Error, Gateway};

/// A call's span, and what makes the upstream's trace a part of it. Empty when nothing is traced.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) span: Option<Box<CallSpan>>,
    pub(crate) parent: Option<HeaderValue>,
}

impl Gateway {
    /// Begins the trace of a call, if calls are traced.
    pub(crate) fn trace(
        &self,
        operation: &'static str,
        model: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Trace {
        let Some(traces) = &self.traces else { return Trace::default() };
        let mut span = traces.begin(operation, model, headers);
        if span.records_content()
            && let Some(input) = input(body)
        {
            span.note("gen_ai.input.messages", input);
        }
        Trace { parent: span.traceparent(), span: Some(Box::new(span)) }
    }
}

impl Trace {
    /// The call was not admitted.
    pub(crate) fn refused(&mut self, error: &Error) {
        if let Some(mut span) = self.span.take() {
            span.failed(error.record_code());
        }
    }
}

/// The part of a request's body that is content.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

/// The part of an answer that is.
#[derive(Deserialize)]
struct Answered<'a> {
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
}

fn input(body: &[u8]) -> Option<String> {
    let asked: Asked<'_> = serde_json::from_slice(body).ok()?;
    Some(asked.messages.or(asked.input)?.get().to_owned())
}

/// Notes a complete answer, if content is asked for.
pub(crate) fn note_answer(admission: &mut Admission, body: &[u8]) {
    let Some(span) = admission.span().filter(|span| span.records_content()) else { return };
    let answered: Option<Answered<'_>> = serde_json::from_slice(body).ok();
    if let Some(choices) = answered.and_then(|answered| answered.choices) {
        span.note("gen_ai.output.messages", choices.get().to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_the_conversation_or_the_texts() {
        let chat = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        assert_eq!(input(chat).unwrap(), r#"[{"role":"user","content":"hi"}]"#);
        assert_eq!(input(br#"{"input":["a","b"]}"#).unwrap(), r#"["a","b"]"#);
        assert_eq!(input(b"{}"), None);
    }
}
