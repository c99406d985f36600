//! Accounts, operations and their outcomes.

use std::fmt;
use std::sync::Arc;

use kernel::{Amount, Asset, Timestamp};
use store::Value;

use crate::{Claim, Claimed, HoldRef, LotId, LotTerms, Sums};

/// What an account is for. Its floor follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    /// Prepaid money of an organization or user: never below zero.
    Wallet,
    /// What a wallet owes because a call cost more than was held and free: at most zero, repaid
    /// first from whatever reaches the wallet.
    Debt,
    /// Sales of the owner.
    Revenue,
    /// Purchases of the owner.
    Cost,
    /// The source of money given away.
    Grant,
    /// The world outside: top-ups come from here.
    External,
    /// Value that expired unused.
    Breakage,
}

/// Names an account. An account begins with the first operation that names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountKey {
    /// The organization or user it belongs to.
    pub owner: Arc<str>,
    /// What it is for.
    pub kind: AccountKind,
    /// Its currency or unit.
    pub asset: Asset,
}

/// An account's state. `posted - held` is free; it never falls below the floor of its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Sum of all entries.
    pub posted: Amount,
    /// Set aside by open holds.
    pub held: Amount,
}

impl Balance {
    /// What can be spent or held.
    pub fn available(self) -> Amount {
        self.posted.saturating_sub(self.held)
    }
}

/// Names a hold: the sequence number of the operation that took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId(pub i64);

/// A movement of money: `amount` (above zero) leaves `from` and reaches `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Debited.
    pub from: AccountKey,
    /// Credited.
    pub to: AccountKey,
    /// How much, above zero.
    pub amount: Amount,
}

/// A part of a hold: so much of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldLeg {
    /// Whose money is set aside.
    pub account: AccountKey,
    /// How much, zero or more.
    pub amount: Amount,
}

/// A charge against one part of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The position of the hold's leg that pays.
    pub leg: u16,
    /// Who is paid.
    pub to: AccountKey,
    /// How much, zero or more; may exceed what was held.
    pub amount: Amount,
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Moves money; refused as a whole if one account would fall below its floor.
    Transfer {
        /// The movements, in order, at least one.
        legs: Vec<Leg>,
    },
    /// Moves money that comes under terms of its own: a lot.
    Grant {
        /// The movement; its destination is a wallet.
        leg: Leg,
        /// The terms.
        terms: LotTerms,
    },
    /// Moves what is left of a lot to its owner's breakage, as far as no hold needs it; refused
    /// before the lot's end.
    ExpireLot {
        /// The lot.
        lot: LotId,
    },
    /// Sets money aside; refused as a whole if one account has not enough free or one limit is
    /// reached.
    Hold {
        /// The parts, at least one; each account at most once.
        legs: Vec<HoldLeg>,
        /// What it counts towards. Does not count when a replay is compared.
        claims: Vec<Claim>,
        /// When the hold may be expired unless renewed.
        lease_until: Timestamp,
    },
    /// Adds to a hold's leg; refused if not enough is free.
    Extend {
        /// The hold.
        hold: HoldId,
        /// The position of its leg.
        leg: u16,
        /// How much more, zero or more: an answer can outgrow its hold without costing more.
        amount: Amount,
        /// How many more tokens the hold's claims count.
        tokens: i64,
    },
    /// Postpones the end of several open holds; others are passed over.
    Renew {
        /// The holds.
        holds: Vec<HoldId>,
        /// The new end, if later than the present one.
        lease_until: Timestamp,
    },
    /// Charges a hold and releases the rest. What exceeds the hold comes from free balance, then
    /// becomes debt up to `max_debt` per leg, and is written off beyond. A hold that has expired
    /// is charged all the same and the outcome marked late.
    Settle {
        /// The hold.
        hold: HoldId,
        /// The charges.
        charges: Vec<Charge>,
        /// The most that each leg's account may come to owe.
        max_debt: Amount,
        /// How many tokens the hold's claims count.
        tokens: i64,
    },
    /// Releases a hold.
    Void {
        /// The hold.
        hold: HoldId,
    },
    /// Releases a hold whose lease has ended; refused before, unless `orphaned`.
    Expire {
        /// The hold.
        hold: HoldId,
        /// The process that took the hold is known to be gone.
        orphaned: bool,
    },
    /// Moves back what an earlier operation moved; refused if it was reversed before, or if an
    /// account would fall below its floor.
    Reverse {
        /// The id of the operation to reverse.
        original: Arc<str>,
    },
    /// Moves nothing: what is attached is written once, in its order among the operations.
    Note,
}

/// A command under an id chosen by the caller. The id is applied at most once, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// At most 128 bytes.
    pub id: Arc<str>,
    /// What else makes a replay the same request (such as the hash of a request body); two
    /// operations with one id must agree in command and fingerprint.
    pub fingerprint: Option<[u8; 16]>,
    /// A few words for whoever reads the books, at most 255 bytes; part of what a replay is
    /// compared by.
    pub memo: Option<Arc<str>>,
    /// What to do. `lease_until` does not count when a replay is compared.
    pub command: Command,
}

impl Operation {
    /// An operation with neither fingerprint nor memo.
    pub fn new(id: impl Into<Arc<str>>, command: Command) -> Self {
        Self { id: id.into(), fingerprint: None, memo: None, command }
    }
}

impl From<Operation> for Unit {
    /// The operation alone.
    fn from(operation: Operation) -> Self {
        Self::new(operation, Vec::new())
    }
}

/// The answer to an operation, now or when it is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Position in the journal: gap-free, in commit order.
    pub seq: i64,
    /// When it was committed.
    pub at: Timestamp,
    /// The id had been used before with the same content: this is the first outcome again.
    pub replayed: bool,
    /// What happened.
    pub outcome: Outcome,
    /// How the counters stand that a new hold has a claim on, in the claims' order.
    pub claims: Vec<Claimed>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Applied(Applied),
    /// It was refused; nothing moved. The id is used up, but for [`Refusal::is_passing`].
    Refused(Refusal),
}

/// The figures of an applied operation, about its primary account: that of a hold's first leg, or
/// for a transfer the first leg's destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Moved, held, added or charged there; for a charge that includes debt but not what was
    /// written off.
    pub amount: Amount,
    /// Of `amount`, what became debt.
    pub debt: Amount,
    /// Asked for but neither free nor within `max_debt`.
    pub written_off: Amount,
    /// What the primary account has free afterwards.
    pub available: Amount,
    /// The hold had expired before it was settled.
    pub late: bool,
}

/// Why an operation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An account has not enough free.
    #[error("{required} is needed and {available} is available")]
    InsufficientFunds {
        /// What the operation needs of that account.
        required: Amount,
        /// What it has free.
        available: Amount,
    },
    /// There is no such hold, or no such leg in it.
    #[error("there is no such hold")]
    HoldNotFound,
    /// The hold was settled, voided or (except for a settle) expired before.
    #[error("the hold is resolved already")]
    HoldResolved,
    /// The hold's lease has not ended.
    #[error("the hold's lease has not ended")]
    HoldNotDue,
    /// A claim would take its counter beyond the limit.
    #[error("the limit is {limit}, {used} is used and {wanted} more is asked for")]
    LimitReached {
        /// The position of the claim; for an extension, among those that the hold keeps.
        claim: u16,
        /// The limit.
        limit: i64,
        /// Used and held so far.
        used: i64,
        /// What the claim asks for.
        wanted: i64,
        /// When the counter starts again from zero; `None` if it never does.
        resets_at: Option<Timestamp>,
    },
    /// There is no such lot, or nothing is left of it.
    #[error("there is no such lot, or it is used up")]
    LotNotFound,
    /// The lot has not ended, or holds need all of it.
    #[error("the lot has not ended, or holds need it")]
    LotNotDue,
    /// There is no operation to reverse under that id, or it moved nothing.
    #[error("there is nothing to reverse")]
    NothingToReverse,
    /// It was reversed before.
    #[error("the operation was reversed already")]
    AlreadyReversed,
    /// A sum would leave the range of amounts, an amount is not allowed here, or the command has
    /// no legs.
    #[error("the operation is not well formed")]
    Malformed,
}

/// A value of a row that is written with an operation; some are known only when it is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Known beforehand.
    Value(Value),
    /// [`Receipt::seq`].
    Seq,
    /// [`Receipt::at`] in microseconds.
    At,
    /// The number of the hold that the operation is about.
    Hold,
    /// [`Applied::amount`] in billionths.
    Amount,
    /// [`Applied::debt`] in billionths.
    Debt,
    /// [`Applied::written_off`] in billionths.
    WrittenOff,
    /// [`Applied::late`] as 0 or 1.
    Late,
}

impl<T: Into<Value>> From<T> for Cell {
    fn from(value: T) -> Self {
        Self::Value(value.into())
    }
}

/// A table that rows are added to together with operations.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The columns given, in order. An audited table has `op_seq` ([`Cell::Seq`]) first, unique.
    pub columns: &'static [&'static str],
    /// Rows are covered by the journal's hash chain, so they can never be changed.
    pub audited: bool,
}

/// A row or statement written in the same transaction as its operation, if that is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A new row. It must not be able to clash: its key follows from the operation's id.
    Insert {
        /// Where.
        table: &'static Table,
        /// A value per column.
        cells: Vec<Cell>,
    },
    /// A new row, as [`Attachment::Insert`], that is added to sums. All rows of a table that has
    /// sums must be written so.
    Summed {
        /// Where.
        table: &'static Table,
        /// What it is added to.
        sums: &'static [Sums],
        /// A value per column.
        cells: Vec<Cell>,
    },
    /// Any other write. Must be valid on every database and must not fail on any data.
    Run {
        /// Text with `?` placeholders.
        sql: &'static str,
        /// A value per placeholder.
        cells: Vec<Cell>,
    },
}

/// The unit of work of the journal: an operation and what is written with it, all or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The operation.
    pub operation: Operation,
    /// Written if the operation is applied (not when it is refused or replayed), in order.
    pub attachments: Vec<Attachment>,
    /// The hold that the operation is about, if it may not be on disk yet: its number in the command is
    /// the one that it has when the operation is applied.
    pub hold: Option<HoldRef>,
    /// The operation's id was made for it alone and is handed in for the first time: that it is unused
    /// is not looked up. The database refuses an id twice all the same; then the journal looks, and gives
    /// the first outcome. A hold that was told to be decided meanwhile is lost.
    pub fresh: bool,
}

impl Unit {
    /// An operation whose id may have been handed in before, what is written with it, and no hold.
    pub const fn new(operation: Operation, attachments: Vec<Attachment>) -> Self {
        Self { operation, attachments, hold: None, fresh: false }
    }

    pub(crate) fn name_hold(&mut self) {
        if let (Some(hold), Some(named)) = (&self.hold, self.operation.command.hold_mut()) {
            *named = hold.id();
        }
    }
}

impl Command {
    /// The hold that it is about, if that is one.
    const fn hold_mut(&mut self) -> Option<&mut HoldId> {
        match self {
            Self::Extend { hold, .. }
            | Self::Settle { hold, .. }
            | Self::Void { hold }
            | Self::Expire { hold, .. } => Some(hold),
            _ => None,
        }
    }
}

impl Refusal {
    /// It may be otherwise at the next try: it is not recorded, and the id stays unused.
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::LimitReached { .. } | Self::LotNotDue)
    }
}

impl Attachment {
    /// What a row is added to.
    pub(crate) const fn sums(&self) -> &'static [Sums] {
        match self {
            Self::Summed { sums, .. } => sums,
            Self::Insert { .. } | Self::Run { .. } => &[],
        }
    }
}

impl AccountKey {
    /// The account of this owner, kind and asset.
    pub fn new(owner: impl Into<Arc<str>>, kind: AccountKind, asset: Asset) -> Self {
        Self { owner: owner.into(), kind, asset }
    }

    /// The same owner's account of another kind.
    #[must_use]
    pub fn sibling(&self, kind: AccountKind) -> Self {
        Self { owner: Arc::clone(&self.owner), kind, asset: self.asset }
    }
}

impl AccountKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Wallet,
        Self::Debt,
        Self::Revenue,
        Self::Cost,
        Self::Grant,
        Self::External,
        Self::Breakage,
    ];

    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wallet => "wallet",
            Self::Debt => "debt",
            Self::Revenue => "revenue",
            Self::Cost => "cost",
            Self::Grant => "grant",
            Self::External => "external",
            Self::Breakage => "breakage",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// `posted - held` never falls below this; `None` where it may.
    pub const fn floor(self) -> Option<Amount> {
        match self {
            Self::Wallet => Some(Amount::ZERO),
            _ => None,
        }
    }
}

impl fmt::Display for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.owner, self.kind.as_str(), self.asset)
    }
}
