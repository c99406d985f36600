//! Streamed answers: frames are relayed as they come, and counted on the way.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, Sleep};

use crate::uapi::Lines;
use crate::{CallError, Phase, TokenEstimate, Usage};

/// A frame larger than this is no frame.
const LARGEST_FRAME: usize = 1024 * 1024;
const DONE: &[u8] = b"data: [DONE]\n\n";

/// A part of a stream that is ready to be sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// One or more whole frames, as they came.
    Frames(Bytes),
    /// The last frame, `data: [DONE]`: send it when the call is settled.
    Done(Bytes),
}

/// What has come so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The upstream's usage, if it has reported any.
    pub usage: Option<Usage>,
    /// Tokens of the content so far, estimated.
    pub output: TokenEstimate,
    /// Frames that carry content so far. An upstream sends at least one token in each.
    pub content_frames: u64,
    /// A finish reason has come: the answer is whole.
    pub finished: bool,
    /// The upstream has reported an error in the stream.
    pub failed: bool,
}

impl Tally {
    /// Tokens received so far, as well as they can be known.
    pub fn received(&self) -> u64 {
        self.output.tokens().max(self.content_frames)
    }

    /// The upstream has reported an error and nothing else.
    pub fn is_only_an_error(&self) -> bool {
        self.failed && !self.finished && self.received() == 0
    }
}

/// A streamed answer.
#[derive(Debug)]
pub struct ChatStream {
    source: Source,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
    phase: Phase,
    strip_usage: bool,
    rest: BytesMut,
    ready: VecDeque<Piece>,
    tally: Tally,
    ended: bool,
}

#[derive(Debug)]
enum Source {
    Http(Incoming),
    Lines(Incoming, Box<Lines>),
    Frames(VecDeque<Bytes>),
}

impl ChatStream {
    /// The stream in an upstream's answer. `strip_usage` takes the usage frame out.
    pub(crate) fn from_http(
        body: Incoming,
        first: Duration,
        idle: Duration,
        strip_usage: bool,
    ) -> Self {
        Self::new(Source::Http(body), first, idle, strip_usage)
    }

    /// The stream in the answer of an upstream that is described by templates: `first` and `idle` as
    /// for any other.
    pub(crate) fn from_lines(
        body: Incoming,
        lines: Lines,
        (first, idle): (Duration, Duration),
        strip_usage: bool,
    ) -> Self {
        Self::new(Source::Lines(body, Box::new(lines)), first, idle, strip_usage)
    }

    /// A stream of frames that are there already.
    pub(crate) fn from_frames(frames: Vec<Bytes>, strip_usage: bool) -> Self {
        let long = Duration::from_hours(1);
        Self::new(Source::Frames(frames.into()), long, long, strip_usage)
    }

    fn new(source: Source, first: Duration, idle: Duration, strip_usage: bool) -> Self {
        Self {
            source,
            idle,
            deadline: Box::pin(tokio::time::sleep(first)),
            phase: Phase::FirstToken,
            strip_usage,
            rest: BytesMut::new(),
            ready: VecDeque::new(),
            tally: Tally::default(),
            ended: false,
        }
    }

    /// What has come so far.
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The next part; `None` after [`Piece::Done`]. A stream that stops before its finish reason
    /// ends in [`CallError::Broken`]; one that only forgets its last frame is given one.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, CallError>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(self.poll_chunk(cx)) {
                Some(Ok(chunk)) => {
                    if let Err(error) = self.take_in(chunk) {
                        self.ended = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.ended = true;
                    return Poll::Ready(Some(self.end()));
                }
            }
        }
    }

    /// Puts a part back in front, to be given again.
    pub fn unread(&mut self, piece: Piece) {
        self.ready.push_front(piece);
    }

    /// The next part, awaited.
    pub async fn next(&mut self) -> Option<Result<Piece, CallError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        let (body, mut lines) = match &mut self.source {
            Source::Frames(frames) => return Poll::Ready(frames.pop_front().map(Ok)),
            Source::Http(body) => (body, None),
            Source::Lines(body, lines) => (body, Some(lines)),
        };
        loop {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    self.phase = Phase::Idle;
                    self.deadline.as_mut().reset(Instant::now() + self.idle);
                    let Some(lines) = &mut lines else { return Poll::Ready(Some(Ok(data))) };
                    match lines.take_in(&data) {
                        // No line is whole yet.
                        Ok(frames) if frames.is_empty() => {}
                        outcome => return Poll::Ready(Some(outcome)),
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(CallError::Broken(error.to_string()))));
                }
                Poll::Ready(None) => {
                    let last = lines
                        .map(|lines| lines.end())
                        .filter(|last| !last.as_ref().is_ok_and(Bytes::is_empty));
                    return Poll::Ready(last);
                }
                Poll::Pending => break,
            }
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Some(Err(CallError::Timeout(self.phase))))
    }

    fn end(&self) -> Result<Piece, CallError> {
        if self.tally.finished {
            return Ok(Piece::Done(Bytes::from_static(DONE)));
        }
        Err(CallError::Broken("the stream ended before the answer did".to_owned()))
    }

    /// Cuts what has come into whole frames and keeps the rest.
    fn take_in(&mut self, chunk: Bytes) -> Result<(), CallError> {
        let buffer = if self.rest.is_empty() {
            chunk
        } else {
            self.rest.extend_from_slice(&chunk);
            self.rest.split().freeze()
        };
        let mut relayed = 0;
        let mut at = 0;
        while let Some(length) = frame_length(buffer.get(at..).unwrap_or_default()) {
            let end = at + length;
            match self.inspect(buffer.get(at..end).unwrap_or_default()) {
                Kind::Relay => {}
                Kind::Strip => {
                    self.relay(buffer.slice(relayed..at));
                    relayed = end;
                }
                Kind::Done => {
                    self.relay(buffer.slice(relayed..at));
                    self.ready.push_back(Piece::Done(buffer.slice(at..end)));
                    self.ended = true;
                    return Ok(());
                }
            }
            at = end;
        }
        self.relay(buffer.slice(relayed..at));
        let rest = buffer.get(at..).unwrap_or_default();
        if rest.len() > LARGEST_FRAME {
            return Err(CallError::Broken(format!("a frame is larger than {LARGEST_FRAME} bytes")));
        }
        self.rest.extend_from_slice(rest);
        Ok(())
    }

    fn relay(&mut self, frames: Bytes) {
        if !frames.is_empty() {
            self.ready.push_back(Piece::Frames(frames));
        }
    }

    fn inspect(&mut self, frame: &[u8]) -> Kind {
        let data = frame_data(frame);
        if data.as_ref() == b"[DONE]" {
            return Kind::Done;
        }
        let Ok(chunk) = serde_json::from_slice::<ChunkWire<'_>>(&data) else {
            return Kind::Relay;
        };
        if let Some(raw) = chunk.usage {
            self.tally.usage = Some(Usage::parse(raw.get()));
        }
        self.tally.failed |= chunk.error.is_some();
        for choice in &chunk.choices {
            self.count(choice);
        }
        if self.strip_usage && chunk.usage.is_some() && chunk.choices.is_empty() {
            return Kind::Strip;
        }
        Kind::Relay
    }

    fn count(&mut self, choice: &ChoiceWire<'_>) {
        self.tally.finished |= choice.finish_reason.is_some();
        let Some(delta) = &choice.delta else { return };
        let calls = delta.tool_calls.iter().flatten().filter_map(|call| call.function.as_ref());
        let texts = [&delta.content, &delta.reasoning_content, &delta.refusal]
            .into_iter()
            .chain(calls.flat_map(|function| [&function.name, &function.arguments]))
            .flatten()
            .filter(|text| !text.is_empty());
        let mut any = false;
        for text in texts {
            self.tally.output.add(text);
            any = true;
        }
        self.tally.content_frames += u64::from(any);
    }
}

enum Kind {
    Relay,
    Strip,
    Done,
}

#[derive(Deserialize)]
struct ChunkWire<'a> {
    #[serde(default, borrow)]
    choices: Vec<ChoiceWire<'a>>,
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct ChoiceWire<'a> {
    #[serde(default, borrow)]
    delta: Option<DeltaWire<'a>>,
    #[serde(default)]
    finish_reason: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct DeltaWire<'a> {
    #[serde(default, borrow)]
    content: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    refusal: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    tool_calls: Option<Vec<ToolCallWire<'a>>>,
}

#[derive(Deserialize)]
struct ToolCallWire<'a> {
    #[serde(default, borrow)]
    function: Option<FunctionWire<'a>>,
}

#[derive(Deserialize)]
struct FunctionWire<'a> {
    #[serde(default, borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    arguments: Option<Cow<'a, str>>,
}

/// The length of the first whole frame: up to and including its empty line.
fn frame_length(buffer: &[u8]) -> Option<usize> {
    let mut line = 0;
    for newline in memchr::memchr_iter(b'\n', buffer) {
        if matches!(buffer.get(line..newline), Some(b"" | b"\r")) {
            return Some(newline + 1);
        }
        line = newline + 1;
    }
    None
}

/// The frames that these bytes are made of; what follows the last whole one is left out.
pub fn split_frames(bytes: &Bytes) -> impl Iterator<Item = Bytes> + use<> {
    let mut rest = bytes.clone();
    std::iter::from_fn(move || frame_length(&rest).map(|length| rest.split_to(length)))
}

/// The frame's `data`, its lines joined.
pub fn frame_data(frame: &[u8]) -> Cow<'_, [u8]> {
    let mut lines = frame.split(|byte| *byte == b'\n').filter_map(|line| {
        let data = line.strip_suffix(b"\r").unwrap_or(line).strip_prefix(b"data:")?;
        Some(data.strip_prefix(b" ").unwrap_or(data))
    });
    let first = lines.next().unwrap_or_default();
    match lines.next() {
        None => Cow::Borrowed(first),
        Some(second) => {
            let rest = std::iter::once(second).chain(lines);
            Cow::Owned(
                rest.fold(first.to_vec(), |joined, line| [joined.as_slice(), b"\n", line].concat()),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAMES: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\r\n\r\n\
        : a comment\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"h\u{e9}llo \"}}]}\n\n\
        data: {\"choices\":[{\"delta\":\ndata: {\"content\":\"wor\\nld\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n\
        data: [DONE]\n\n";

    async fn run(
        chunks: Vec<Bytes>,
        strip: bool,
    ) -> (String, Vec<Result<Piece, CallError>>, Tally) {
        let mut stream = ChatStream::from_frames(chunks, strip);
        let (mut text, mut all) = (String::new(), Vec::new());
        while let Some(piece) = stream.next().await {
            if let Ok(Piece::Frames(bytes) | Piece::Done(bytes)) = &piece {
                text.push_str(std::str::from_utf8(bytes).unwrap());
            }
            all.push(piece);
        }
        (text, all, stream.tally().clone())
    }

    fn blocking<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn a_stream_that_stops_early_is_broken_and_one_without_its_last_frame_is_not() {
        let cut = Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
        let (_, all, tally) = blocking(run(vec![cut], false));
        assert!(matches!(all.last(), Some(Err(CallError::Broken(_)))));
        assert_eq!((tally.received(), tally.finished), (1, false));
        let whole = Bytes::from_static(b"data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n");
        let (text, _, _) = blocking(run(vec![whole], false));
        assert!(text.ends_with("data: [DONE]\n\n"));
    }

    #[test]
    fn an_endless_frame_is_refused() {
        let chunks = (0..40).map(|_| Bytes::from(vec![b'x'; 64 * 1024])).collect();
        let (_, all, _) = blocking(run(chunks, false));
        assert!(matches!(all.as_slice(), [Err(CallError::Broken(_))]));
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_makes_no_difference(mut cuts in prop::collection::vec(0..FRAMES.len(), 0..12), strip: bool) {
            cuts.sort_unstable();
            cuts.insert(0, 0);
            cuts.push(FRAMES.len());
            let bytes = Bytes::from_static(FRAMES.as_bytes());
            let chunks = cuts.windows(2).map(|pair| bytes.slice(pair[0]..pair[1])).collect();
            let (text, all, tally) = blocking(run(chunks, strip));
            let usage = FRAMES.split_inclusive("\n\n").find(|frame| frame.contains("usage")).unwrap();
            let expected = if strip { FRAMES.replace(usage, "") } else { FRAMES.to_owned() };
            prop_assert_eq!(text, expected);
            prop_assert_eq!(all.last(), Some(&Ok(Piece::Done(Bytes::from_static(DONE)))));
            prop_assert_eq!(tally.usage.unwrap().tokens.total(), 5);
            prop_assert_eq!((tally.content_frames, tally.finished, tally.failed), (2, true, false));
        }
    }
}
