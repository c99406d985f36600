//! What is written: the rows of the journal's own tables.

use std::sync::Arc;

use kernel::{Amount, Timestamp};

use crate::canon::Canon;
use crate::counters::HeldClaim;
use crate::lots::Burn;
use crate::{AccountKey, Applied, Balance, Lot, Outcome, Receipt, Refusal};

/// Where the journal stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) seq: i64,
    pub(crate) at: i64,
    pub(crate) hash: [u8; 32],
    pub(crate) next_account: i64,
}

/// An account as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) id: i64,
    pub(crate) key: AccountKey,
    pub(crate) created_seq: i64,
    pub(crate) balance: Balance,
}

/// A movement as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransferRow {
    pub(crate) debit: i64,
    pub(crate) credit: i64,
    pub(crate) amount: i64,
}

/// Where a hold stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HoldState {
    Open,
    Settled,
    Voided,
    Expired,
}

impl HoldState {
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::Open => 0,
            Self::Settled => 1,
            Self::Voided => 2,
            Self::Expired => 3,
        }
    }

    pub(crate) const fn of(number: i64) -> Self {
        match number {
            0 => Self::Open,
            1 => Self::Settled,
            2 => Self::Voided,
            _ => Self::Expired,
        }
    }
}

/// A part of a hold as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HoldLegRow {
    pub(crate) account: i64,
    pub(crate) opened: i64,
    pub(crate) amount: i64,
}

/// A hold as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) legs: Vec<HoldLegRow>,
    pub(crate) lease_until: i64,
    pub(crate) state: HoldState,
    pub(crate) claims: Vec<HeldClaim>,
}

/// What an operation has created and moved: what its hash covers besides its own row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written<'a> {
    pub(crate) accounts: &'a [&'a Account],
    pub(crate) opened: &'a [HoldLegRow],
    pub(crate) transfers: &'a [TransferRow],
    pub(crate) lots: &'a [Lot],
    pub(crate) burns: &'a [Burn],
}

/// An operation as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OperationRow {
    pub(crate) seq: i64,
    pub(crate) op_id: Arc<str>,
    pub(crate) kind: i64,
    pub(crate) content: [u8; 16],
    pub(crate) memo: Option<Arc<str>>,
    pub(crate) outcome: i64,
    pub(crate) ref_seq: Option<i64>,
    pub(crate) leg: Option<i64>,
    pub(crate) amount: i64,
    pub(crate) debt: i64,
    pub(crate) written_off: i64,
    pub(crate) available: i64,
    pub(crate) late: bool,
    pub(crate) at: i64,
    pub(crate) rows_hash: Option<[u8; 16]>,
    pub(crate) hash: [u8; 32],
}

pub(crate) const APPLIED: i64 = 0;
const INSUFFICIENT: i64 = 1;
const REFUSALS: [(i64, Refusal); 7] = [
    (2, Refusal::HoldNotFound),
    (3, Refusal::HoldResolved),
    (4, Refusal::HoldNotDue),
    (5, Refusal::NothingToReverse),
    (6, Refusal::AlreadyReversed),
    (7, Refusal::Malformed),
    (8, Refusal::LotNotFound),
];

/// An outcome as stored: its number, and its figures.
pub(crate) fn outcome_figures(outcome: &Outcome) -> (i64, Applied) {
    match *outcome {
        Outcome::Applied(applied) => (APPLIED, applied),
        Outcome::Refused(Refusal::InsufficientFunds { required, available }) => {
            (INSUFFICIENT, Applied { amount: required, available, ..Applied::default() })
        }
        Outcome::Refused(refusal) => {
            let number = REFUSALS
                .iter()
                .find(|(_, known)| *known == refusal)
                .map_or(7, |(number, _)| *number);
            (number, Applied::default())
        }
    }
}

impl OperationRow {
    /// The receipt as it was first given.
    pub(crate) fn receipt(&self, replayed: bool) -> Receipt {
        let outcome = match self.outcome {
            APPLIED => Outcome::Applied(Applied {
                amount: Amount::from_nanos(self.amount),
                debt: Amount::from_nanos(self.debt),
                written_off: Amount::from_nanos(self.written_off),
                available: Amount::from_nanos(self.available),
                late: self.late,
            }),
            INSUFFICIENT => Outcome::Refused(Refusal::InsufficientFunds {
                required: Amount::from_nanos(self.amount),
                available: Amount::from_nanos(self.available),
            }),
            number => {
                let known = REFUSALS.iter().find(|(known, _)| *known == number);
                Outcome::Refused(known.map_or(Refusal::Malformed, |(_, refusal)| *refusal))
            }
        };
        let at = Timestamp::from_micros(self.at);
        Receipt { seq: self.seq, at, replayed, outcome, claims: Vec::new() }
    }

    /// The hash that continues `previous` over this row and all that was written with it.
    pub(crate) fn chained(&self, previous: &[u8; 32], written: &Written<'_>) -> [u8; 32] {
        let mut canon = Canon::new("ledgerline operation 1");
        canon.bytes(previous);
        canon.int(self.seq);
        canon.bytes(self.op_id.as_bytes());
        canon.int(self.kind);
        canon.bytes(&self.content);
        canon.opt_bytes(self.memo.as_deref().map(str::as_bytes));
        canon.int(self.outcome);
        canon.opt_int(self.ref_seq);
        canon.opt_int(self.leg);
        for figure in [self.amount, self.debt, self.written_off, self.available] {
            canon.int(figure);
        }
        canon.int(i64::from(self.late));
        canon.int(self.at);
        canon.opt_bytes(self.rows_hash.as_ref().map(<[u8; 16]>::as_slice));
        canon.count(written.accounts.len());
        for account in written.accounts {
            canon.int(account.id);
            canon.account(&account.key);
        }
        canon.count(written.opened.len());
        for leg in written.opened {
            canon.int(leg.account);
            canon.int(leg.opened);
        }
        canon.count(written.transfers.len());
        for transfer in written.transfers {
            canon.int(transfer.debit);
            canon.int(transfer.credit);
            canon.int(transfer.amount);
        }
        canon.count(written.lots.len());
        for lot in written.lots {
            canon.int(lot.id.leg);
            canon.int(lot.account);
            canon.terms(&lot.terms);
            canon.int(lot.granted.nanos());
        }
        canon.count(written.burns.len());
        for burn in written.burns {
            canon.int(burn.lot.seq);
            canon.int(burn.lot.leg);
            canon.int(burn.amount);
        }
        canon.long()
    }
}
