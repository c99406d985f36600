//! Counters: how much of a limit is used, in a window of time.
//!
//! A hold may carry claims on counters. They are checked and taken with the money, all or nothing,
//! and end with the hold, so that limits are exact on any number of instances and after crashes.
//! Counters are not money: they are no part of the hash chain, and old ones are deleted.

use std::sync::Arc;

use kernel::Timestamp;

/// What a claim counts, and so what is left of it when its hold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// One per operation; counts whatever becomes of the hold.
    Requests,
    /// Tokens; a settlement says how many it was.
    Tokens,
    /// Money, in billionths; what the settlement charges.
    Spend,
    /// Places; free again when the hold ends.
    Slots,
}

/// The time that a counter counts over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// No time: what is held now.
    Standing,
    /// The minute of the ledger's clock.
    Minute,
    /// Longer ones, in somebody's calendar: from `start` to before `end`, and then another of the
    /// same kind that starts at `end`.
    Period {
        /// Its beginning.
        start: Timestamp,
        /// Its end.
        end: Timestamp,
    },
}

/// A hold's claim on a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Names the counter, but for its window; at most 160 bytes.
    pub counter: Arc<str>,
    /// Over which time.
    pub window: Window,
    /// What is counted.
    pub measure: Measure,
    /// How much, zero or more.
    pub amount: i64,
    /// The most that the counter may show with it; `None` counts without a limit.
    pub limit: Option<i64>,
}

/// How a counter stands after a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The counter's name.
    pub counter: Arc<str>,
    /// What is counted.
    pub measure: Measure,
    /// The limit of the claim.
    pub limit: Option<i64>,
    /// Used and held, this claim included.
    pub used: i64,
    /// When the counter starts again from zero; `None` if it never does.
    pub resets_at: Option<Timestamp>,
}

/// A counter in one window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CounterId {
    pub(crate) counter: Arc<str>,
    pub(crate) start: i64,
}

/// What it shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) end: i64,
    pub(crate) used: i64,
    pub(crate) held: i64,
}

/// A claim as an open hold keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldClaim {
    pub(crate) id: CounterId,
    pub(crate) end: i64,
    pub(crate) measure: Measure,
    pub(crate) amount: i64,
    /// Bounds the claim's growth.
    pub(crate) limit: Option<i64>,
}

const MINUTE: i64 = 60_000_000;

impl Window {
    /// The beginning and end of the window that holds this instant, in microseconds.
    pub(crate) const fn at(self, at: i64) -> (i64, i64) {
        match self {
            Self::Standing => (0, i64::MAX),
            Self::Minute => {
                let start = at.div_euclid(MINUTE) * MINUTE;
                (start, start.saturating_add(MINUTE))
            }
            Self::Period { start, end } => {
                let (start, end) = (start.micros(), end.micros());
                // An operation that waited past the end counts in the window after it, whose own
                // end is not known yet: of its length, and set right by the next claim.
                if at < end { (start, end) } else { (end, end.saturating_add(end - start)) }
            }
        }
    }
}

/// The end of a window; standing counters never start again.
pub(crate) fn resets_at(end: i64) -> Option<Timestamp> {
    (end < i64::MAX).then(|| Timestamp::from_micros(end))
}

impl Claim {
    pub(crate) fn held(&self, at: i64) -> HeldClaim {
        let (start, end) = self.window.at(at);
        HeldClaim {
            id: CounterId { counter: Arc::clone(&self.counter), start },
            end,
            measure: self.measure,
            amount: self.amount,
            // A call that runs is not cut off because its minute is full.
            limit: self.limit.filter(|_| self.window != Window::Minute),
        }
    }
}

impl Measure {
    const ALL: [Self; 4] = [Self::Requests, Self::Tokens, Self::Spend, Self::Slots];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Spend => "spend",
            Self::Slots => "slots",
        }
    }

    /// The measure of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.as_str() == name)
    }
}

/// Claims as one column of text keeps them: one a line, the counter's name last.
pub(crate) fn write_claims(claims: &[HeldClaim]) -> Option<String> {
    use std::fmt::Write as _;
    if claims.is_empty() {
        return None;
    }
    let mut text = String::new();
    for claim in claims {
        let HeldClaim { id, end, measure, amount, limit } = claim;
        let limit = limit.unwrap_or(-1);
        // Writing to a string cannot fail.
        let line = (id.start, end, measure.as_str(), amount, limit, &id.counter);
        let (start, end, measure, amount, limit, counter) = line;
        writeln!(text, "{start} {end} {measure} {amount} {limit} {counter}").unwrap_or_default();
    }
    Some(text)
}

/// The claims of a column; a line that cannot be read is passed over.
pub(crate) fn read_claims(text: Option<&str>) -> Vec<HeldClaim> {
    text.into_iter().flat_map(str::lines).filter_map(read_claim).collect()
}

fn read_claim(line: &str) -> Option<HeldClaim> {
    let mut parts = line.splitn(6, ' ');
    let mut number = || parts.next()?.parse::<i64>().ok();
    let (start, end) = (number()?, number()?);
    let measure = Measure::parse(parts.next()?)?;
    let mut number = || parts.next()?.parse::<i64>().ok();
    let (amount, limit) = (number()?, number()?);
    let limit = (limit >= 0).then_some(limit);
    let counter = parts.next()?.into();
    Some(HeldClaim { id: CounterId { counter, start }, end, measure, amount, limit })
}
