//! The guard of a streamed answer: a bounded part of the text is held back, so that what is found
//! across frames has not been passed on yet.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use models::split_frames;
use serde_json::Value;

use super::{Guard, masked};
use crate::GuardAction;

/// The members of a delta that hold text.
const FIELDS: [&str; 3] = ["content", "reasoning_content", "refusal"];

/// The guard of one streamed answer.
#[derive(Debug)]
pub(crate) struct StreamGuard {
    guard: Arc<Guard>,
    waiting: VecDeque<Waiting>,
    channels: Vec<Channel>,
}

/// Something was found that may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found;

/// A frame that is held back.
#[derive(Debug)]
struct Waiting {
    frame: Bytes,
    texts: Vec<Part>,
}

/// A text in a frame.
#[derive(Debug)]
struct Part {
    /// Where it stands in the frame's JSON.
    pointer: String,
    channel: usize,
    /// Its bytes in the channel's whole text.
    range: Range<usize>,
}

/// One text that grows over frames: a member of one choice.
#[derive(Debug)]
struct Channel {
    choice: String,
    member: String,
    /// The end of the text so far, and where it begins in the whole.
    tail: String,
    base: usize,
    /// Found in frames that are held back, in bytes of the whole text.
    hits: Vec<Range<usize>>,
    /// Looked through to its end.
    closed: bool,
}

impl StreamGuard {
    pub(crate) const fn new(guard: Arc<Guard>) -> Self {
        Self { guard, waiting: VecDeque::new(), channels: Vec::new() }
    }

    /// Takes frames in; gives those that may pass now.
    pub(crate) fn push(&mut self, frames: &Bytes) -> Result<Bytes, Found> {
        for frame in split_frames(frames) {
            let texts = match frame_json(&frame)? {
                Some(chunk) => self.take_in(&chunk)?,
                None => Vec::new(),
            };
            self.waiting.push_back(Waiting { frame, texts });
        }
        Ok(self.release())
    }

    /// The answer is over; gives the frames that are left.
    pub(crate) fn finish(&mut self) -> Result<Bytes, Found> {
        for at in 0..self.channels.len() {
            self.close(at)?;
        }
        Ok(self.release())
    }

    fn take_in(&mut self, chunk: &Value) -> Result<Vec<Part>, Found> {
        let mut parts = Vec::new();
        let choices = chunk.get("choices").and_then(Value::as_array).into_iter().flatten();
        for (place, choice) in choices.enumerate() {
            let index = choice.get("index").unwrap_or(&Value::Null).to_string();
            for (member, text) in texts_of(choice) {
                let channel = self.channel(&index, &member)?;
                let range = self.append(channel, text)?;
                let pointer = format!("/choices/{place}/delta{member}");
                parts.push(Part { pointer, channel, range });
            }
        }
        Ok(parts)
    }

    /// The channel of a member; the choice's others have ended with it.
    fn channel(&mut self, choice: &str, member: &str) -> Result<usize, Found> {
        for at in 0..self.channels.len() {
            let over = self
                .channels
                .get(at)
                .is_some_and(|known| known.choice == choice && known.member != member);
            if over {
                self.close(at)?;
            }
        }
        let known =
            self.channels.iter().position(|known| known.choice == choice && known.member == member);
        Ok(known.unwrap_or_else(|| {
            self.channels.push(Channel {
                choice: choice.to_owned(),
                member: member.to_owned(),
                tail: String::new(),
                base: 0,
                hits: Vec::new(),
                closed: false,
            });
            self.channels.len() - 1
        }))
    }

    fn append(&mut self, at: usize, text: &str) -> Result<Range<usize>, Found> {
        let Some(channel) = self.channels.get_mut(at) else { return Ok(0..0) };
        let start = channel.end();
        let from = channel.boundary(start.saturating_sub(self.guard.window));
        channel.tail.push_str(text);
        channel.closed = false;
        channel.look(&self.guard, from, false)?;
        // Twice the window: what is looked at, and what stands before it.
        channel.forget(self.guard.window * 2);
        Ok(start..start + text.len())
    }

    fn close(&mut self, at: usize) -> Result<(), Found> {
        let Some(channel) = self.channels.get_mut(at).filter(|channel| !channel.closed) else {
            return Ok(());
        };
        let from = channel.boundary(channel.end().saturating_sub(self.guard.window));
        channel.look(&self.guard, from, true)?;
        channel.closed = true;
        Ok(())
    }

    /// The frames in front that nothing found later can concern.
    fn release(&mut self) -> Bytes {
        let mut released = BytesMut::new();
        while let Some(waiting) = self.waiting.front() {
            let settled = waiting.texts.iter().all(|part| {
                self.channels.get(part.channel).is_none_or(|channel| {
                    channel.closed || part.range.end + self.guard.window < channel.end()
                })
            });
            if !settled {
                break;
            }
            let Some(waiting) = self.waiting.pop_front() else { break };
            released.extend_from_slice(&self.rendered(&waiting));
            for part in &waiting.texts {
                if let Some(channel) = self.channels.get_mut(part.channel) {
                    channel.hits.retain(|hit| hit.end > part.range.end);
                }
            }
        }
        released.freeze()
    }

    /// The frame, masked where something was found.
    fn rendered(&self, waiting: &Waiting) -> Bytes {
        let hit = |part: &Part| {
            let channel = self.channels.get(part.channel)?;
            let hits: Vec<Range<usize>> =
                channel.hits.iter().filter(|hit| overlap(hit, &part.range)).cloned().collect();
            (!hits.is_empty()).then_some(hits)
        };
        if waiting.texts.iter().all(|part| hit(part).is_none()) {
            return waiting.frame.clone();
        }
        // It was read when it came.
        let mut chunk = frame_json(&waiting.frame).ok().flatten().unwrap_or_default();
        for part in &waiting.texts {
            if let (Some(hits), Some(Value::String(text))) =
                (hit(part), chunk.pointer_mut(&part.pointer))
            {
                *text = masked(text, part.range.start, &hits);
            }
        }
        format!("data: {chunk}\n\n").into()
    }
}

impl Channel {
    const fn end(&self) -> usize {
        self.base + self.tail.len()
    }

    /// The place in `tail` for this byte of the whole text, or the next before a character.
    fn boundary(&self, byte: usize) -> usize {
        let at = byte.saturating_sub(self.base).min(self.tail.len());
        (at..=self.tail.len()).find(|at| self.tail.is_char_boundary(*at)).unwrap_or_default()
    }

    /// Looks for what may not pass. What touches the end may go on, and is left until more is there.
    fn look(&mut self, guard: &Guard, from: usize, is_over: bool) -> Result<(), Found> {
        let mut hits = guard.hits(&self.tail, from);
        hits.retain(|hit| is_over || hit.end < self.tail.len());
        if !hits.is_empty() && guard.action == GuardAction::Refuse {
            return Err(Found);
        }
        for hit in hits {
            let hit = self.base + hit.start..self.base + hit.end;
            // The same is seen more than once while the text grows.
            if !self.hits.contains(&hit) {
                self.hits.push(hit);
            }
        }
        Ok(())
    }

    /// Forgets all but the last so many bytes.
    fn forget(&mut self, keep: usize) {
        let from = self.boundary(self.end().saturating_sub(keep));
        self.tail.drain(..from);
        self.base += from;
    }
}

const fn overlap(one: &Range<usize>, two: &Range<usize>) -> bool {
    one.start < two.end && two.start < one.end
}

/// The texts in a choice's delta, each with its place there.
fn texts_of(choice: &Value) -> Vec<(String, &str)> {
    let Some(delta) = choice.get("delta") else { return Vec::new() };
    let plain = FIELDS.iter().map(|name| (format!("/{name}"), delta.get(name)));
    let calls = delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    let arguments = calls.enumerate().map(|(at, call)| {
        (format!("/tool_calls/{at}/function/arguments"), call.pointer("/function/arguments"))
    });
    let texts = plain.chain(arguments);
    texts
        .filter_map(|(place, text)| Some((place, text?.as_str()?)))
        .filter(|(_, text)| !text.is_empty())
        .collect()
}

/// What a frame says, if it says anything: comments and the end do not. What cannot be read does not
/// pass.
fn frame_json(frame: &[u8]) -> Result<Option<Value>, Found> {
    let data = models::frame_data(frame);
    if data.is_empty() || *data == *b"[DONE]" {
        return Ok(None);
    }
    serde_json::from_slice(&data).map(Some).map_err(|_unreadable| Found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::GuardConfig;

    fn guard(action: GuardAction) -> Arc<Guard> {
        let config = GuardConfig {
            words: vec!["secret".to_owned(), "禁止词".to_owned()],
            patterns: vec![r"\b\d{4}\b".to_owned()],
            window_bytes: 16,
            action,
            ..GuardConfig::default()
        };
        Guard::new(&config).unwrap().unwrap()
    }

    fn frame(text: &str) -> Bytes {
        let chunk = json!({"choices": [{"index": 0, "delta": {"content": text}}]});
        format!("data: {chunk}\n\n").into()
    }

    /// The text that has passed, and whether it was refused.
    fn pass(action: GuardAction, pieces: &[&str]) -> (String, bool) {
        let mut guard = StreamGuard::new(guard(action));
        let mut passed = String::new();
        for piece in pieces {
            match guard.push(&frame(piece)) {
                Ok(frames) => passed.push_str(&text_of(&frames)),
                Err(Found) => return (passed, true),
            }
        }
        match guard.finish() {
            Ok(frames) => (passed + &text_of(&frames), false),
            Err(Found) => (passed, true),
        }
    }

    fn text_of(frames: &Bytes) -> String {
        let chunks = split_frames(frames).filter_map(|frame| frame_json(&frame).unwrap());
        chunks
            .filter_map(|chunk| {
                chunk.pointer("/choices/0/delta/content")?.as_str().map(str::to_owned)
            })
            .collect()
    }

    #[test]
    fn frames_that_cannot_be_read_do_not_pass() {
        let mut stream = StreamGuard::new(guard(GuardAction::Mask));
        let silent = Bytes::from_static(b": still here\n\ndata: [DONE]\n\n");
        assert_eq!(stream.push(&silent), Ok(silent));
        let half = br#"data: {"choices":[{"index":0,"delta":{"content":"\ud800"}}]}"#;
        let half = Bytes::from([half.as_slice(), b"\n\n"].concat());
        assert_eq!(stream.push(&half), Err(Found));
    }

    #[test]
    fn what_spans_frames_is_found_before_any_of_it_has_passed() {
        let (passed, refused) = pass(GuardAction::Refuse, &["the s", "ec", "r", "et is out"]);
        assert!(refused && !passed.contains('s'), "{passed}");
        let masked =
            pass(GuardAction::Mask, &["the s", "ec", "r", "et is out, 禁", "止词 at 12", "34."]);
        assert_eq!(masked, ("the ****** is out, *** at ****.".to_owned(), false));
    }

    #[test]
    fn what_only_looks_like_it_passes() {
        for pieces in [&["12", "34", "5"][..], &["secre", "cy"], &["x1234", " y"]] {
            assert_eq!(pass(GuardAction::Refuse, pieces), (pieces.concat(), false));
        }
        assert!(pass(GuardAction::Refuse, &["12", "34"]).1, "the end ends a number");
    }

    #[test]
    fn a_text_that_has_ended_holds_nothing_back() {
        let mut stream = StreamGuard::new(guard(GuardAction::Refuse));
        let delta = |delta: Value| -> Bytes {
            format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta}]})).into()
        };
        let thought = delta(json!({"reasoning_content": "hm"}));
        assert_eq!(stream.push(&thought).unwrap(), "");
        let word = delta(json!({"content": "so"}));
        assert_eq!(stream.push(&word).unwrap(), thought);
        let end: Bytes = "data: {\"choices\":[],\"usage\":{}}\n\n".into();
        assert_eq!(stream.push(&end).unwrap(), "");
        assert_eq!(stream.finish().unwrap(), [word, end].concat());
    }

    proptest! {
        /// However a text is cut into frames, it comes out as it would in one.
        #[test]
        fn where_a_text_is_cut_makes_no_difference(
            text in "([ a-c]|secret|1234|12345|禁止词|止){0,20}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            places.push(text.len());
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.get(&places)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|pair| text.get(pair[0]..pair[1]).unwrap()).collect();
            let whole = guard(GuardAction::Mask);
            let expected = masked(&text, 0, &whole.hits(&text, 0));
            prop_assert_eq!(pass(GuardAction::Mask, &pieces), (expected.clone(), false));
            prop_assert_eq!(pass(GuardAction::Refuse, &pieces).1, expected != text);
        }
    }
}
