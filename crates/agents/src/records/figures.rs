//! Figures that records add to: sums by hour, which add up to any longer span.

use std::collections::BTreeMap;

use kernel::{Amount, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Detail, Record};

/// Microseconds.
pub(crate) const HOUR: i64 = 3_600_000_000;
/// So many steps from one power of two to the next: a step is an eighth at most.
const STEPS: u64 = 8;

/// A sum of like things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    /// How many.
    pub(crate) number: i64,
    /// All of them together.
    pub(crate) total: i64,
    /// The least and the most of them.
    pub(crate) least: i64,
    pub(crate) most: i64,
}

impl Sum {
    pub(crate) fn add(&mut self, other: Self) {
        if other.number == 0 {
            return;
        }
        if self.number == 0 {
            *self = other;
            return;
        }
        self.number = self.number.saturating_add(other.number);
        self.total = self.total.saturating_add(other.total);
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }
}

/// Figures by hour, kind and name:
///
/// | kind | name | sum of |
/// |---|---|---|
/// | `record` | the record's type | nothing: they are counted |
/// | `latency` | a bucket of response times | microseconds |
/// | `prompt`, `completion` | the model | tokens |
/// | `cost` | the currency, and the model | billionths |
/// | `error` | the error's type | nothing |
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures(BTreeMap<(i64, &'static str, String), Sum>);

impl Figures {
    /// Counts a record in.
    pub(crate) fn count(&mut self, record: &Record) {
        let detail = &record.detail;
        let one = |total| Sum { number: 1, total, least: total, most: total };
        self.add(record.at, "record", detail.record_type().to_owned(), one(0));
        match detail {
            Detail::LlmResponse { response_time, .. } => {
                let micros = i64::try_from(response_time.0).unwrap_or(i64::MAX);
                self.add(record.at, "latency", bucket(response_time.0), one(micros));
            }
            Detail::TokenUsage { model, tokens, .. } => {
                self.add(record.at, "prompt", named(model), one(tokens.prompt_tokens));
                self.add(record.at, "completion", named(model), one(tokens.completion_tokens));
            }
            Detail::Cost { model, total_cost, currency, .. } => {
                let name = format!("{currency} {}", named(model));
                self.add(record.at, "cost", name, one(total_cost.0.nanos()));
            }
            Detail::Error { error_type, .. } => {
                self.add(record.at, "error", named(error_type), one(0));
            }
            _ => {}
        }
    }

    fn add(&mut self, at: Timestamp, kind: &'static str, name: String, sum: Sum) {
        let place = self.0.entry((hour_of(at), kind, name));
        place.and_modify(|known| known.add(sum)).or_insert(sum);
    }

    /// Counts a record in that was written before.
    pub(crate) fn count_kept(&mut self, body: &str) {
        let Ok(record) = &serde_json::from_str::<Value>(body) else { return };
        let exact: Exact<'_> = serde_json::from_str(body).unwrap_or_default();
        let text = |name: &str| record[name].as_str().unwrap_or_default();
        let Ok(at) = serde_json::from_value::<Timestamp>(record["timestamp"].clone()) else {
            return;
        };
        let one = |total| Sum { number: 1, total, least: total, most: total };
        self.add(at, "record", text("record_type").to_owned(), one(0));
        match text("record_type") {
            "llm_response" => {
                // Seconds with six places, as billionths with nine.
                let seconds = amount(exact.response_time);
                let micros = seconds.nanos() / 1000;
                self.add(at, "latency", bucket(micros.unsigned_abs()), one(micros));
            }
            "token_usage" => {
                let number = |name: &str| record[name].as_i64().unwrap_or_default();
                self.add(at, "prompt", named(text("model")), one(number("prompt_tokens")));
                self.add(at, "completion", named(text("model")), one(number("completion_tokens")));
            }
            "cost" => {
                let name = format!("{} {}", text("currency"), named(text("model")));
                self.add(at, "cost", name, one(amount(exact.total_cost).nanos()));
            }
            "error" => self.add(at, "error", named(text("error_type")), one(0)),
            _ => {}
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &'static str, &str, &Sum)> {
        self.0.iter().map(|((hour, kind, name), sum)| (*hour, *kind, name.as_str(), sum))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Numbers of which every digit counts, as they are written.
#[derive(Default, Deserialize)]
struct Exact<'a> {
    #[serde(borrow)]
    total_cost: Option<&'a RawValue>,
    #[serde(borrow)]
    response_time: Option<&'a RawValue>,
}

fn amount(number: Option<&RawValue>) -> Amount {
    number.and_then(|number| number.get().parse().ok()).unwrap_or_default()
}

/// A name as it fits its column.
fn named(text: &str) -> String {
    text.chars().take(128).collect()
}

pub(crate) const fn hour_of(at: Timestamp) -> i64 {
    at.micros() - at.micros().rem_euclid(HOUR)
}

/// `2026-11-21`, of an instant.
pub(crate) fn date_of(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

/// The bucket of a response time, as text that sorts like the times.
fn bucket(micros: u64) -> String {
    let power = u64::BITS - micros.leading_zeros();
    let shift = power.saturating_sub(4);
    let place = u64::from(shift) * STEPS + (micros >> shift);
    format!("{place:04}")
}

/// A response time in the middle of a bucket, in microseconds.
pub(crate) fn bucket_value(name: &str) -> i64 {
    let place: u64 = name.parse().unwrap_or_default();
    if place < 2 * STEPS {
        return i64::try_from(place).unwrap_or_default();
    }
    let shift = place / STEPS - 1;
    let least = (place % STEPS + STEPS).checked_shl(u32::try_from(shift).unwrap_or(u32::MAX));
    let half = 1_u64.checked_shl(u32::try_from(shift).unwrap_or(u32::MAX)).unwrap_or_default() / 2;
    i64::try_from(least.unwrap_or_default() + half).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_sort_like_times_and_are_an_eighth_wide() {
        let mut last = String::new();
        let mut micros = 0_u64;
        while micros < 10_000_000_000 {
            let name = bucket(micros);
            assert!(name >= last, "{micros}");
            let value = bucket_value(&name).cast_unsigned();
            assert!(value.abs_diff(micros) <= micros / 8 + 1, "{micros} {name} {value}");
            last = name;
            micros += 1 + micros / 100;
        }
        assert_eq!(bucket(u64::MAX).len(), 4);
    }

    #[test]
    fn sums_of_parts_are_sums_of_all() {
        let one = |total| Sum { number: 1, total, least: total, most: total };
        let mut sum = Sum { number: 0, total: 0, least: 0, most: 0 };
        [5, 2, 9].into_iter().for_each(|total| sum.add(one(total)));
        assert_eq!(sum, Sum { number: 3, total: 16, least: 2, most: 9 });
        assert_eq!(date_of(Timestamp::from_micros(1_763_712_000_000_001)), "2025-11-21");
    }
}
