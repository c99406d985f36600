//! Bodies without the middle of their long texts.
//!
//! Of a prompt nothing needs to be known but that it is a text: its end, and that nothing in it spoils
//! the JSON. Most of a large body is that. What is left of it is read as if it were the whole.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::value::RawValue;

use crate::request::place;

/// Bytes that are looked at together: enough for the processor's wide instructions, and more than the
/// longest name that a request is read for has (255).
const BLOCK: usize = 256;
/// One block of so many tells whether an outline is worth its making.
const SAMPLE: usize = 16;
/// Smaller bodies are read as they are.
const LEAST: usize = 16 * 1024;
/// Stands for what is left out. JSON has it in texts only, so that an outline that has lost something
/// else cannot be read.
const MARK: u8 = b'~';

/// A body, or what is left of it without the middle of its long texts.
///
/// An outline that can be read as JSON is that of a body which can, if that is UTF-8: what is left out
/// is free of whatever ends a text, begins an escape or is forbidden in it. Texts and names of up to
/// 256 bytes are whole, longer ones stay longer. An outline that cannot be read says nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outline<'a> {
    text: Cow<'a, [u8]>,
    cuts: Vec<Range<usize>>,
}

impl<'a> Outline<'a> {
    /// The body's outline, if that seems to be much smaller, and else the body.
    pub(crate) fn of(body: &'a [u8]) -> Self {
        if body.len() < LEAST || !is_mostly_plain(body) {
            return Self::whole(body);
        }
        let cuts = cuts(body);
        let (mut text, mut from) = (Vec::new(), 0);
        for cut in &cuts {
            text.extend_from_slice(body.get(from..cut.start).unwrap_or_default());
            text.push(MARK);
            from = cut.end;
        }
        text.extend_from_slice(body.get(from..).unwrap_or_default());
        Self { text: Cow::Owned(text), cuts }
    }

    /// The body as it is.
    pub(crate) const fn whole(body: &'a [u8]) -> Self {
        Self { text: Cow::Borrowed(body), cuts: Vec::new() }
    }

    /// Nothing is left out.
    pub(crate) const fn is_whole(&self) -> bool {
        self.cuts.is_empty()
    }

    /// What is to be read.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Where a value that was read from the text stands in the body.
    pub(crate) fn place(&self, raw: &RawValue) -> Range<usize> {
        let Range { start, end } = place(raw, &self.text);
        self.in_body(start)..self.in_body(end)
    }

    /// Where this byte of the text stands in the body.
    fn in_body(&self, at: usize) -> usize {
        let mut left_out = 0;
        for cut in &self.cuts {
            if at <= cut.start - left_out {
                break;
            }
            left_out += cut.len() - 1;
        }
        at + left_out
    }
}

/// Text that is broken into lines, or is code, has something special in nearly every block.
fn is_mostly_plain(body: &[u8]) -> bool {
    let sample = body.chunks(BLOCK).step_by(SAMPLE);
    let blocks = sample.len();
    sample.filter(|block| is_plain(block)).count() > blocks / 2
}

/// The plain blocks behind plain blocks: the first of several in a row stays, so that no name becomes
/// another, and no escape loses its digits.
fn cuts(body: &[u8]) -> Vec<Range<usize>> {
    let mut cuts: Vec<Range<usize>> = Vec::new();
    let (mut at, mut after_plain) = (0, false);
    for block in body.chunks(BLOCK) {
        let (end, plain) = (at + block.len(), is_plain(block));
        match cuts.last_mut() {
            Some(cut) if plain && cut.end == at => cut.end = end,
            _ if plain && after_plain => cuts.push(at..end),
            _ => {}
        }
        (at, after_plain) = (end, plain);
    }
    cuts
}

/// Within a text, none of these bytes means anything. All are looked at, whatever the first ones are:
/// so the processor takes many at a time.
fn is_plain(block: &[u8]) -> bool {
    let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    !block.iter().fold(false, |found, byte| found | special(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn is_json(text: &[u8]) -> bool {
        serde_json::from_slice::<Value>(text).is_ok()
    }

    #[derive(serde::Deserialize)]
    struct Wire<'a> {
        #[serde(borrow)]
        a: &'a RawValue,
        #[serde(borrow)]
        model: &'a RawValue,
        #[serde(borrow)]
        b: &'a RawValue,
    }

    /// A body that is mostly long plain texts.
    fn long(text: &str) -> String {
        text.replace('*', &"all work and no play ".repeat(1_000))
    }

    #[test]
    fn long_texts_are_left_out_and_places_found() {
        let body = long(r#"{"a":"*\n*","model":"some","b":["*","\"*"]}"#);
        let outline = Outline::of(body.as_bytes());
        assert!(outline.text().len() < 10 * BLOCK, "{}", outline.text().len());
        let wire: Wire<'_> = serde_json::from_slice(outline.text()).unwrap();
        assert_eq!(body.get(outline.place(wire.a)).unwrap(), long(r#""*\n*""#));
        assert_eq!(body.get(outline.place(wire.model)).unwrap(), r#""some""#);
        assert_eq!(body.get(outline.place(wire.b)).unwrap(), long(r#"["*","\"*"]"#));
    }

    #[test]
    fn what_is_small_or_full_of_escapes_is_read_as_it_is() {
        for body in [r#"{"a":"b"}"#.to_owned(), format!("[\"{}\"]", "line\\n".repeat(10_000))] {
            assert!(Outline::of(body.as_bytes()).is_whole());
        }
    }

    #[test]
    fn nothing_but_texts_is_left_out_unnoticed() {
        for body in [
            format!("[{}1]", "1,".repeat(20_000)),
            format!("[{}1]", "[],".repeat(20_000)),
            format!("{}[]", " ".repeat(40_000)),
            format!("[{}]", "1".repeat(40_000)),
            long("[\"\"*]"),
            long("[\"*"),
            long("[\"*\" *]"),
        ] {
            let outline = Outline::of(body.as_bytes());
            assert!(!outline.is_whole() && !is_json(outline.text()), "{body:.40}");
        }
    }

    #[test]
    fn names_that_are_long_stay_long() {
        let body = long(r#"{"*model":1,"model":"*"}"#);
        let outline = Outline::of(body.as_bytes());
        let value: serde_json::Map<String, Value> = serde_json::from_slice(outline.text()).unwrap();
        assert!(value.keys().any(|name| name.len() > BLOCK && name.ends_with("model")));
        assert!(value["model"].as_str().unwrap().len() > BLOCK);
    }

    proptest! {
        /// Whatever the pieces: an outline that can be read is that of a body that can.
        #[test]
        fn an_outline_promises_no_more_than_the_body_holds(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "\"", "\\", "\\\"", "\\u00", "\u{1}", "\n", "{", "}", "[", "]", ":", ",", "1", " ", "a", "é",
                ]),
                0..24,
            ),
            lengths in prop::collection::vec(0_usize..4, 24),
        ) {
            let mut body = "[\"".to_owned();
            for (piece, length) in pieces.iter().zip(lengths) {
                body.push_str(piece);
                body.push_str(&"plain".repeat(length * 100));
            }
            body.push_str(&"plain".repeat(10_000));
            body.push_str("\"]");
            let outline = Outline::of(body.as_bytes());
            prop_assert!(!outline.is_whole());
            prop_assert!(!is_json(outline.text()) || is_json(body.as_bytes()));
        }
    }
}
