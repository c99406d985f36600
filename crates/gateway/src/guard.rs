//! The guard: words and patterns that are let neither in nor out.

mod stream;

use std::ops::Range;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use bytes::Bytes;
use models::Unreadable;
use regex::Regex;

pub(crate) use stream::{Found, StreamGuard};

use crate::{GuardAction, GuardConfig, GuardOn};

/// More is no word.
const LONGEST_WORD: usize = 4096;

/// Words or patterns that cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The file of words cannot be read.
    #[error("guard.words_file {file:?} cannot be read")]
    File {
        /// Its path.
        file: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A word is empty or too long.
    #[error("guard.words: a word must have 1 to {LONGEST_WORD} bytes, not {0}")]
    Word(usize),
    /// Too many words.
    #[error("guard.words cannot be used")]
    Words(#[source] aho_corasick::BuildError),
    /// A pattern is not valid, or is found everywhere.
    #[error("guard.patterns: {0:?} is not valid, or matches an empty text")]
    Pattern(String),
}

/// Words and patterns that are not let through.
#[derive(Debug)]
pub struct Guard {
    words: Option<AhoCorasick>,
    patterns: Vec<Regex>,
    on: GuardOn,
    action: GuardAction,
    /// The longest match in a stream, in bytes.
    window: usize,
}

/// What the guard says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing was found.
    Fine,
    /// So it may pass.
    Masked(Bytes),
    /// It may not pass.
    Refused,
}

impl Guard {
    /// The guard as configured; `None` if nothing is.
    pub fn new(config: &GuardConfig) -> Result<Option<Arc<Self>>, GuardError> {
        let mut words = config.words.clone();
        words.extend(words_in(&config.words_file)?);
        if words.is_empty() && config.patterns.is_empty() {
            return Ok(None);
        }
        if let Some(word) = words.iter().find(|word| !(1..=LONGEST_WORD).contains(&word.len())) {
            return Err(GuardError::Word(word.len()));
        }
        let longest = words.iter().map(String::len).max().unwrap_or(0);
        let words = (!words.is_empty())
            .then(|| AhoCorasick::builder().ascii_case_insensitive(true).build(&words));
        Ok(Some(Arc::new(Self {
            words: words.transpose().map_err(GuardError::Words)?,
            patterns: config.patterns.iter().map(|text| pattern(text)).collect::<Result<_, _>>()?,
            on: config.on,
            action: config.action,
            window: if config.patterns.is_empty() {
                longest
            } else {
                longest.max(config.window_bytes)
            },
        })))
    }

    /// Reads a request.
    pub(crate) fn input(&self, body: &Bytes) -> Verdict {
        match self.on {
            GuardOn::Output => Verdict::Fine,
            GuardOn::Input | GuardOn::Both => self.read(body, models::edit_request),
        }
    }

    /// Reads a complete answer.
    pub(crate) fn output(&self, body: &Bytes) -> Verdict {
        if self.reads_output() { self.read(body, models::edit_answer) } else { Verdict::Fine }
    }

    /// Streams are to be read as well.
    pub(crate) const fn reads_output(&self) -> bool {
        matches!(self.on, GuardOn::Output | GuardOn::Both)
    }

    fn read(
        &self,
        body: &Bytes,
        edit: fn(&Bytes, &mut models::Edit<'_>) -> Result<Option<Bytes>, Unreadable>,
    ) -> Verdict {
        let mut found = false;
        let edited = edit(body, &mut |text| {
            let hits = self.hits(text, 0);
            found |= !hits.is_empty();
            (self.action == GuardAction::Mask && !hits.is_empty()).then(|| masked(text, 0, &hits))
        });
        match (self.action, edited) {
            // Whoever it is passed on to may read more in it.
            (_, Err(Unreadable)) => Verdict::Refused,
            (GuardAction::Refuse, Ok(_)) if found => Verdict::Refused,
            (GuardAction::Mask, Ok(Some(body))) => Verdict::Masked(body),
            _ => Verdict::Fine,
        }
    }

    /// Where words and patterns are found from this byte on.
    fn hits(&self, text: &str, from: usize) -> Vec<Range<usize>> {
        let mut hits = Vec::new();
        if let Some(words) = &self.words {
            let tail = text.get(from..).unwrap_or_default();
            let found = words.find_overlapping_iter(tail);
            hits.extend(found.map(|hit| from + hit.start()..from + hit.end()));
        }
        for pattern in &self.patterns {
            let mut at = from;
            // What stands before counts for `\b` and the like.
            while let Some(hit) = pattern.find_at(text, at) {
                hits.push(hit.range());
                at = hit.end();
            }
        }
        hits
    }
}

/// The text, which starts at byte `base` of a longer one, with the characters hit replaced.
fn masked(text: &str, base: usize, hits: &[Range<usize>]) -> String {
    let hit = |at: usize| hits.iter().any(|range| range.contains(&(base + at)));
    text.char_indices().map(|(at, character)| if hit(at) { '*' } else { character }).collect()
}

fn words_in(file: &str) -> Result<Vec<String>, GuardError> {
    if file.is_empty() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(file)
        .map_err(|cause| GuardError::File { file: file.to_owned(), cause })?;
    let words = text.lines().map(str::trim).filter(|word| !word.is_empty());
    Ok(words.filter(|word| !word.starts_with('#')).map(str::to_owned).collect())
}

fn pattern(text: &str) -> Result<Regex, GuardError> {
    let invalid = || GuardError::Pattern(text.to_owned());
    let pattern = Regex::new(text).map_err(|_cause| invalid())?;
    if pattern.is_match("") { Err(invalid()) } else { Ok(pattern) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(words: &[&str], patterns: &[&str], action: GuardAction) -> Arc<Guard> {
        let config = GuardConfig {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
            action,
            ..GuardConfig::default()
        };
        Guard::new(&config).unwrap().unwrap()
    }

    fn request(content: &str) -> Bytes {
        serde_json::json!({"messages": [{"role": "user", "content": content}]}).to_string().into()
    }

    #[test]
    fn requests_are_refused_or_masked() {
        let refusing = guard(&["Forbidden", "禁止"], &[r"\b\d{4}\b"], GuardAction::Refuse);
        for text in ["so fOrbidden!", "这是禁止的", "pin 1234."] {
            assert_eq!(refusing.input(&request(text)), Verdict::Refused, "{text}");
        }
        assert_eq!(refusing.input(&request("12345 is allowed")), Verdict::Fine);
        let masking = guard(&["abc", "bcd", "禁止"], &[], GuardAction::Mask);
        let masked = Verdict::Masked(request("x****y **"));
        assert_eq!(masking.input(&request("xABCDy 禁止")), masked);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let half = Bytes::from_static(br#"{"messages":[{"role":"user","content":"\ud800"}]}"#);
        for action in [GuardAction::Refuse, GuardAction::Mask] {
            assert_eq!(guard(&["word"], &[], action).input(&half), Verdict::Refused);
        }
    }

    #[test]
    fn nothing_configured_is_no_guard_and_mistakes_are_named() {
        assert!(Guard::new(&GuardConfig::default()).unwrap().is_none());
        let told = |config: GuardConfig| Guard::new(&config).unwrap_err().to_string();
        let bad = |pattern: &str| GuardConfig {
            patterns: vec![pattern.to_owned()],
            ..GuardConfig::default()
        };
        assert!(told(bad("(")).contains("\"(\"") && told(bad("a*")).contains("\"a*\""));
        let empty = GuardConfig { words: vec![String::new()], ..GuardConfig::default() };
        assert!(told(empty).contains("1 to 4096"));
        let missing = GuardConfig { words_file: "/nowhere".to_owned(), ..GuardConfig::default() };
        assert!(told(missing).contains("/nowhere"));
    }
}
