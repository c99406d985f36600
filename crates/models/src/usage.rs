//! Usage as upstreams report it, normalised into disjoint token classes.

use pricing::Tokens;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::TokenEstimate;

/// More than any answer can have; beyond it a figure is noise.
const MOST_TOKENS: i128 = 1_000_000_000;
/// Members of a message that are no text.
pub(crate) const UNCOUNTED: [&str; 6] = ["role", "id", "type", "image_url", "input_audio", "file"];
/// The upstream's own figures are kept up to this size.
const RAW_LIMIT: usize = 4096;

/// What a call used, as reported by its upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens by class.
    pub tokens: Tokens,
    /// The upstream's own figures, as received.
    pub raw: String,
    /// What was odd about them, such as `negative:completion_tokens`.
    pub anomalies: Vec<String>,
}

impl Usage {
    /// Normalises the `usage` object of the OpenAI API and its relatives (DeepSeek, vLLM, ...).
    ///
    /// There, `prompt_tokens` includes cached tokens and `completion_tokens` includes reasoning;
    /// here the classes are disjoint. Odd figures are clamped and noted.
    pub fn parse(raw: &str) -> Self {
        let value: Value = serde_json::from_str(raw).unwrap_or_default();
        let mut anomalies = Vec::new();
        let mut read = |path: &[&str]| figure(&value, path, &mut anomalies);
        let prompt = read(&["prompt_tokens"]);
        let completion = read(&["completion_tokens"]);
        let cached = read(&["prompt_tokens_details", "cached_tokens"])
            .or_else(|| read(&["prompt_cache_hit_tokens"]));
        let written = read(&["prompt_tokens_details", "cache_creation_tokens"]);
        let reasoning = read(&["completion_tokens_details", "reasoning_tokens"]);
        let media = Media {
            audio_read: read(&["prompt_tokens_details", "audio_tokens"]).unwrap_or(0),
            image_read: read(&["prompt_tokens_details", "image_tokens"]).unwrap_or(0),
            audio_produced: read(&["completion_tokens_details", "audio_tokens"]).unwrap_or(0),
            image_produced: read(&["completion_tokens_details", "image_tokens"]).unwrap_or(0),
        };
        let total = read(&["total_tokens"]);
        if prompt.is_none() {
            anomalies.push("missing:prompt_tokens".to_owned());
        }
        let prompt = prompt.unwrap_or(0);
        // Embeddings report no completion; a chat answer whose total is larger forgot it.
        let completion =
            completion.unwrap_or_else(|| total.unwrap_or(prompt).saturating_sub(prompt));
        let (cached, written) = (cached.unwrap_or(0), written.unwrap_or(0));
        let cached = within(cached, prompt, "cached_exceeds_prompt", &mut anomalies);
        let written =
            within(written, prompt - cached, "cache_write_exceeds_prompt", &mut anomalies);
        let reasoning = within(
            reasoning.unwrap_or(0),
            completion,
            "reasoning_exceeds_completion",
            &mut anomalies,
        );
        let tokens = Tokens {
            input: prompt - cached - written,
            cached_input: cached,
            cache_write: written,
            output: completion - reasoning,
            reasoning,
            ..Tokens::default()
        };
        let tokens = media.taken_from(tokens, (prompt, completion), &mut anomalies);
        Self { tokens, raw: bounded(raw), anomalies }
    }

    /// The anomalies as one text, if there are any.
    pub fn anomaly_text(&self) -> Option<String> {
        (!self.anomalies.is_empty()).then(|| self.anomalies.join(","))
    }

    /// The upstream reported something that can be billed.
    pub fn is_usable(&self) -> bool {
        self.tokens.total() > 0
    }
}

/// What upstreams tell of audio and images, each a part of what was read or produced.
struct Media {
    audio_read: u64,
    image_read: u64,
    audio_produced: u64,
    image_produced: u64,
}

impl Media {
    /// Classes are disjoint: what was served from a cache or thought stays that, whatever it was of,
    /// since upstreams do not tell; of the rest, audio and images are no text.
    fn taken_from(
        self,
        mut tokens: Tokens,
        (prompt, completion): (u64, u64),
        anomalies: &mut Vec<String>,
    ) -> Tokens {
        let audio = within(self.audio_read, prompt, "audio_exceeds_prompt", anomalies);
        let image = within(self.image_read, prompt - audio, "image_exceeds_prompt", anomalies);
        tokens.input_audio = audio.min(tokens.input);
        tokens.input -= tokens.input_audio;
        tokens.input_image = image.min(tokens.input);
        tokens.input -= tokens.input_image;
        let audio = within(self.audio_produced, completion, "audio_exceeds_completion", anomalies);
        let image =
            within(self.image_produced, completion - audio, "image_exceeds_completion", anomalies);
        tokens.output_audio = audio.min(tokens.output);
        tokens.output -= tokens.output_audio;
        tokens.output_image = image.min(tokens.output);
        tokens.output -= tokens.output_image;
        tokens
    }
}

fn figure(value: &Value, path: &[&str], anomalies: &mut Vec<String>) -> Option<u64> {
    let found = path
        .iter()
        .try_fold(value, |value, name| value.get(name))
        .filter(|value| !value.is_null())?;
    let name = path.join(".");
    let Some(number) = integer(found) else {
        anomalies.push(format!("not_a_count:{name}"));
        return None;
    };
    if number < 0 {
        anomalies.push(format!("negative:{name}"));
    }
    if number > MOST_TOKENS {
        anomalies.push(format!("huge:{name}"));
    }
    u64::try_from(number.clamp(0, MOST_TOKENS)).ok()
}

fn integer(value: &Value) -> Option<i128> {
    let number = value.as_number()?;
    number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
        // Some upstreams write whole numbers as 12.0.
        .or_else(|| number.to_string().strip_suffix(".0")?.parse().ok())
}

fn within(part: u64, whole: u64, anomaly: &str, anomalies: &mut Vec<String>) -> u64 {
    if part > whole {
        anomalies.push(anomaly.to_owned());
    }
    part.min(whole)
}

fn bounded(raw: &str) -> String {
    let end =
        (0..=RAW_LIMIT.min(raw.len())).rev().find(|at| raw.is_char_boundary(*at)).unwrap_or(0);
    raw.get(..end).unwrap_or_default().to_owned()
}

/// What a complete answer says of its usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerUsage {
    /// The upstream counted.
    Reported(Usage),
    /// It did not: the estimated tokens of the contents.
    Estimated(u64),
    /// It is an error, or no answer at all, whatever its status: nothing to be charged.
    Failed,
}

#[derive(Deserialize)]
struct AnswerWire<'a> {
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
}

/// The usage in a complete answer.
pub fn answer_usage(body: &[u8]) -> AnswerUsage {
    let wire = match serde_json::from_slice::<AnswerWire<'_>>(body) {
        Ok(AnswerWire { usage, error: None }) => usage,
        Ok(AnswerWire { error: Some(_), .. }) | Err(_) => return AnswerUsage::Failed,
    };
    if let Some(usage) = wire.map(|raw| Usage::parse(raw.get())).filter(Usage::is_usable) {
        return AnswerUsage::Reported(usage);
    }
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut estimate = TokenEstimate::default();
    let choices = answer.get("choices").and_then(Value::as_array).into_iter().flatten();
    choices
        .filter_map(|choice| choice.get("message"))
        .for_each(|message| add_texts(message, &mut estimate));
    AnswerUsage::Estimated(estimate.tokens())
}

/// The estimated tokens of a request's texts, at least one: for calls whose upstream does not tell.
pub fn estimate_input(body: &[u8]) -> u64 {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut estimate = TokenEstimate::default();
    for part in ["messages", "input", "tools"].iter().filter_map(|name| request.get(name)) {
        add_texts(part, &mut estimate);
    }
    estimate.tokens().max(1)
}

fn add_texts(value: &Value, estimate: &mut TokenEstimate) {
    match value {
        Value::String(text) => estimate.add(text),
        Value::Array(items) => items.iter().for_each(|item| add_texts(item, estimate)),
        Value::Object(members) => {
            let texts = members.iter().filter(|(name, _)| !UNCOUNTED.contains(&name.as_str()));
            texts.for_each(|(_, value)| add_texts(value, estimate));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(input: u64, cached: u64, output: u64, reasoning: u64) -> Tokens {
        Tokens { input, cached_input: cached, output, reasoning, ..Tokens::default() }
    }

    #[test]
    fn every_known_oddity_is_clamped_and_named() {
        let cases = [
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}"#,
                tokens(10, 0, 5, 0),
                "",
            ),
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}"#,
                tokens(6, 4, 3, 2),
                "",
            ),
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_cache_hit_tokens":7}"#,
                tokens(3, 7, 5, 0),
                "",
            ),
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":40}}"#,
                tokens(0, 10, 5, 0),
                "cached_exceeds_prompt",
            ),
            (
                r#"{"prompt_tokens":10,"completion_tokens":-5}"#,
                tokens(10, 0, 0, 0),
                "negative:completion_tokens",
            ),
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"completion_tokens_details":{"reasoning_tokens":9}}"#,
                tokens(10, 0, 0, 5),
                "reasoning_exceeds_completion",
            ),
            (
                r#"{"prompt_tokens":"ten","completion_tokens":5}"#,
                tokens(0, 0, 5, 0),
                "not_a_count:prompt_tokens,missing:prompt_tokens",
            ),
            (r#"{"prompt_tokens":10.0,"completion_tokens":5}"#, tokens(10, 0, 5, 0), ""),
            (r#"{"prompt_tokens":10,"total_tokens":12}"#, tokens(10, 0, 2, 0), ""),
            (
                r#"{"prompt_tokens":1e300,"completion_tokens":1}"#,
                tokens(0, 0, 1, 0),
                "not_a_count:prompt_tokens,missing:prompt_tokens",
            ),
            (
                r#"{"prompt_tokens":9000000000000,"completion_tokens":1}"#,
                tokens(1_000_000_000, 0, 1, 0),
                "huge:prompt_tokens",
            ),
            ("null", Tokens::default(), "missing:prompt_tokens"),
        ];
        for (raw, expected, anomalies) in cases {
            let usage = Usage::parse(raw);
            assert_eq!(usage.tokens, expected, "{raw}");
            assert_eq!(usage.anomalies.join(","), anomalies, "{raw}");
            assert_eq!(usage.raw, raw);
        }
    }

    #[test]
    fn audio_and_images_are_classes_of_their_own_and_nothing_counts_twice() {
        let told = |prompt: &str, completion: &str| {
            let raw = format!(
                r#"{{"prompt_tokens":100,"completion_tokens":50,"prompt_tokens_details":{prompt},"completion_tokens_details":{completion}}}"#
            );
            let usage = Usage::parse(&raw);
            assert_eq!((usage.tokens.context(), usage.tokens.produced()), (100, 50), "{raw}");
            (usage.tokens, usage.anomalies.join(","))
        };
        let (tokens, odd) = told(
            r#"{"audio_tokens":30,"image_tokens":20,"text_tokens":50}"#,
            r#"{"audio_tokens":40,"image_tokens":4,"reasoning_tokens":5}"#,
        );
        let expected = Tokens {
            input: 50,
            input_audio: 30,
            input_image: 20,
            output: 1,
            reasoning: 5,
            output_audio: 40,
            output_image: 4,
            ..Tokens::default()
        };
        assert_eq!((tokens, odd.as_str()), (expected, ""));
        // Of 80 cached tokens, at least 60 were of audio: 20 of it are left.
        let (tokens, odd) = told(r#"{"audio_tokens":80,"cached_tokens":80}"#, "{}");
        let read = (tokens.input, tokens.cached_input, tokens.input_audio);
        assert_eq!((read, odd.as_str()), ((0, 80, 20), ""));
        let (tokens, odd) =
            told(r#"{"audio_tokens":300,"image_tokens":1}"#, r#"{"audio_tokens":51}"#);
        assert_eq!((tokens.input_audio, tokens.output_audio), (100, 50));
        assert_eq!(odd, "audio_exceeds_prompt,image_exceeds_prompt,audio_exceeds_completion");
    }

    #[test]
    fn an_answer_without_usage_is_estimated_from_its_contents() {
        let body = br#"{"choices":[{"message":{"role":"assistant","content":"one two three"}}]}"#;
        assert_eq!(answer_usage(body), AnswerUsage::Estimated(3));
        assert_eq!(answer_usage(b"<html>"), AnswerUsage::Failed);
        assert_eq!(answer_usage(br#"{"error":{"message":"busy"}}"#), AnswerUsage::Failed);
        let reported = br#"{"usage":{"prompt_tokens":3,"completion_tokens":4},"choices":[]}"#;
        let AnswerUsage::Reported(usage) = answer_usage(reported) else { panic!("reported") };
        assert_eq!(usage.tokens, tokens(3, 0, 4, 0));
    }
}
