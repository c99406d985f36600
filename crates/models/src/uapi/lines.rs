//! A stream of lines, each given its meaning by a template.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};

use super::description::Description;
use crate::CallError;

/// A line larger than this is none.
const LARGEST_LINE: usize = 1024 * 1024;

/// Turns an upstream's lines into the frames of OpenAI's streams.
#[derive(Debug)]
pub(crate) struct Lines {
    description: Arc<Description>,
    request: Map<String, Value>,
    rest: BytesMut,
    ended: bool,
}

impl Lines {
    pub(crate) fn new(description: Arc<Description>, request: Map<String, Value>) -> Self {
        Self { description, request, rest: BytesMut::new(), ended: false }
    }

    /// The frames that what has come is; none while no line is whole.
    pub(crate) fn take_in(&mut self, chunk: &[u8]) -> Result<Bytes, CallError> {
        self.rest.extend_from_slice(chunk);
        let mut frames = Vec::new();
        while let Some(end) = memchr::memchr(b'\n', &self.rest) {
            let line = self.rest.split_to(end + 1);
            self.line(&line, &mut frames)?;
        }
        if self.rest.len() > LARGEST_LINE {
            return Err(CallError::Broken(format!("a line is larger than {LARGEST_LINE} bytes")));
        }
        Ok(frames.into())
    }

    /// The last line, which may lack its end.
    pub(crate) fn end(&mut self) -> Result<Bytes, CallError> {
        let (mut frames, line) = (Vec::new(), self.rest.split());
        self.line(&line, &mut frames)?;
        Ok(frames.into())
    }

    fn line(&mut self, line: &[u8], frames: &mut Vec<u8>) -> Result<(), CallError> {
        let start = self.description.chunk_match.trim_end().as_bytes();
        let Some(data) = line.trim_ascii().strip_prefix(start) else { return Ok(()) };
        let data = data.trim_ascii();
        if data.is_empty() || self.ended {
            return Ok(());
        }
        if data == b"[DONE]" {
            self.ended = true;
            frames.extend_from_slice(b"data: [DONE]\n\n");
            return Ok(());
        }
        let answer: Value = serde_json::from_slice(data).map_err(|error| {
            CallError::Broken(format!("a line of the stream is no JSON: {error}"))
        })?;
        let house = self.description.templates.answer("call", answer, &self.request)?;
        let model = self.request.get("model").and_then(Value::as_str).unwrap_or_default();
        frames.extend_from_slice(&house.part(model));
        Ok(())
    }
}
