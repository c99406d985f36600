//! Lots: credits that are spent in an order, and may expire.
//!
//! Most money needs none: what a wallet has beyond its lots is its *base*, paid and without end.
//! Every account's lots together never exceed what it has posted.

use kernel::{Amount, Timestamp};

/// What a credit was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LotKind {
    /// Given away; spent before paid credits of the same priority and expiry.
    Promotional,
    /// Paid for.
    Paid,
}

/// The terms that a credit comes under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LotTerms {
    /// What it was given for.
    pub kind: LotKind,
    /// Lower is spent first; the base has [`BASE_PRIORITY`].
    pub priority: i32,
    /// From then on it can be expired.
    pub expires_at: Option<Timestamp>,
}

/// The priority of money without terms.
pub const BASE_PRIORITY: i32 = 100;

/// Names a lot: the operation that created it, and the position of its leg there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LotId {
    /// The operation's sequence number.
    pub seq: i64,
    /// The position of the leg.
    pub leg: i64,
}

/// A lot as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lot {
    /// Its name.
    pub id: LotId,
    /// The account it is part of.
    pub account: i64,
    /// Its terms.
    pub terms: LotTerms,
    /// What it began with.
    pub granted: Amount,
    /// What is left.
    pub remaining: Amount,
}

/// A change of a lot: above zero was spent, below was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Burn {
    pub(crate) lot: LotId,
    pub(crate) amount: i64,
}

/// What is burnt of which lot when so much leaves an account with so much posted: by priority, then
/// the earlier expiry, promotional before paid, the older. What remains comes from the base.
pub(crate) fn burns(lots: &[Lot], posted: i64, wanted: i64) -> Vec<Burn> {
    let in_lots: i64 = lots.iter().map(|lot| lot.remaining.nanos()).sum();
    let base = posted.saturating_sub(in_lots).max(0);
    let mut sources: Vec<(Order, Option<LotId>, i64)> =
        lots.iter().map(|lot| (order(lot), Some(lot.id), lot.remaining.nanos())).collect();
    sources.push((BASE_ORDER, None, base));
    sources.sort_unstable_by_key(|(order, _, _)| *order);
    let mut left = wanted;
    let mut burns = Vec::new();
    for (_, lot, remaining) in sources {
        let amount = left.min(remaining);
        left -= amount;
        if let (Some(lot), 1..) = (lot, amount) {
            burns.push(Burn { lot, amount });
        }
    }
    burns
}

/// By what lots are spent first.
pub(crate) type Order = (i32, i64, LotKind, LotId);

/// The base was there before every lot.
const BASE_ORDER: Order = (BASE_PRIORITY, i64::MAX, LotKind::Paid, LotId { seq: 0, leg: 0 });

pub(crate) fn order(lot: &Lot) -> Order {
    let expires = lot.terms.expires_at.map_or(i64::MAX, Timestamp::micros);
    (lot.terms.priority, expires, lot.terms.kind, lot.id)
}

impl LotKind {
    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Promotional => "promotional",
            Self::Paid => "paid",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Promotional, Self::Paid].into_iter().find(|kind| kind.as_str() == name)
    }
}
