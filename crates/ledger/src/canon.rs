//! The bytes that hashes are made of: fixed order, fixed widths, lengths in front.

use kernel::Timestamp;
use store::Value;

use crate::{AccountKey, Command, LotTerms, Operation};

/// Fields in order, to be hashed as a whole: one long input is far cheaper than many short ones.
pub(crate) struct Canon(Vec<u8>);

/// Most rows fit without growing.
const ROOM: usize = 768;

impl Canon {
    pub(crate) fn new(domain: &str) -> Self {
        let mut canon = Self(Vec::with_capacity(ROOM));
        canon.bytes(domain.as_bytes());
        canon
    }

    pub(crate) fn int(&mut self, number: i64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.0.extend_from_slice(&(count as u64).to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn opt_int(&mut self, number: Option<i64>) {
        self.int(i64::from(number.is_some()));
        self.int(number.unwrap_or_default());
    }

    pub(crate) fn opt_bytes(&mut self, bytes: Option<&[u8]>) {
        self.int(i64::from(bytes.is_some()));
        self.bytes(bytes.unwrap_or_default());
    }

    pub(crate) fn account(&mut self, key: &AccountKey) {
        self.bytes(key.owner.as_bytes());
        self.bytes(key.kind.as_str().as_bytes());
        self.bytes(key.asset.as_str().as_bytes());
    }

    pub(crate) fn terms(&mut self, terms: &LotTerms) {
        self.bytes(terms.kind.as_str().as_bytes());
        self.int(i64::from(terms.priority));
        self.opt_int(terms.expires_at.map(Timestamp::micros));
    }

    pub(crate) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.int(0),
            Value::Int(number) => {
                self.int(1);
                self.int(*number);
            }
            // One server's text is another's bytes: they hash the same.
            Value::Text(text) => {
                self.int(2);
                self.bytes(text.as_bytes());
            }
            Value::Bytes(bytes) => {
                self.int(2);
                self.bytes(bytes);
            }
        }
    }

    pub(crate) fn long(&self) -> [u8; 32] {
        *blake3::hash(&self.0).as_bytes()
    }

    /// Half of the hash.
    pub(crate) fn short(&self) -> [u8; 16] {
        let mut short = [0; 16];
        short.iter_mut().zip(self.long()).for_each(|(slot, byte)| *slot = byte);
        short
    }
}

/// What makes two operations with one id the same: everything but when a lease ends.
pub(crate) fn content(operation: &Operation) -> [u8; 16] {
    let mut canon = Canon::new("ledgerline operation content 1");
    canon.opt_bytes(operation.fingerprint.as_ref().map(<[u8; 16]>::as_slice));
    canon.opt_bytes(operation.memo.as_deref().map(str::as_bytes));
    canon.int(kind(&operation.command));
    match &operation.command {
        Command::Transfer { legs } => {
            for leg in legs {
                canon.account(&leg.from);
                canon.account(&leg.to);
                canon.int(leg.amount.nanos());
            }
        }
        Command::Grant { leg, terms } => {
            canon.account(&leg.from);
            canon.account(&leg.to);
            canon.int(leg.amount.nanos());
            canon.terms(terms);
        }
        Command::ExpireLot { lot } => {
            canon.int(lot.seq);
            canon.int(lot.leg);
        }
        // Limits may have changed since the first try.
        Command::Hold { legs, claims: _, lease_until: _ } => {
            for leg in legs {
                canon.account(&leg.account);
                canon.int(leg.amount.nanos());
            }
        }
        Command::Extend { hold, leg, amount, tokens: _ } => {
            canon.int(hold.0);
            canon.int(i64::from(*leg));
            canon.int(amount.nanos());
        }
        Command::Renew { holds, lease_until: _ } => holds.iter().for_each(|hold| canon.int(hold.0)),
        Command::Settle { hold, charges, max_debt, tokens: _ } => {
            canon.int(hold.0);
            canon.int(max_debt.nanos());
            for charge in charges {
                canon.int(i64::from(charge.leg));
                canon.account(&charge.to);
                canon.int(charge.amount.nanos());
            }
        }
        Command::Void { hold } => canon.int(hold.0),
        Command::Expire { hold, orphaned } => {
            canon.int(hold.0);
            canon.int(i64::from(*orphaned));
        }
        Command::Reverse { original } => canon.bytes(original.as_bytes()),
        Command::Note => {}
    }
    canon.short()
}

/// The number a command's kind is stored as.
pub(crate) const fn kind(command: &Command) -> i64 {
    match command {
        Command::Transfer { .. } => TRANSFER,
        Command::Hold { .. } => HOLD,
        Command::Extend { .. } => EXTEND,
        Command::Renew { .. } => RENEW,
        Command::Settle { .. } => SETTLE,
        Command::Void { .. } => VOID,
        Command::Expire { .. } => EXPIRE,
        Command::Reverse { .. } => REVERSE,
        Command::Grant { .. } => GRANT,
        Command::ExpireLot { .. } => EXPIRE_LOT,
        Command::Note => NOTE,
    }
}

pub(crate) const TRANSFER: i64 = 1;
pub(crate) const HOLD: i64 = 2;
pub(crate) const EXTEND: i64 = 3;
pub(crate) const RENEW: i64 = 4;
pub(crate) const SETTLE: i64 = 5;
pub(crate) const VOID: i64 = 6;
pub(crate) const EXPIRE: i64 = 7;
pub(crate) const REVERSE: i64 = 8;
pub(crate) const GRANT: i64 = 9;
pub(crate) const EXPIRE_LOT: i64 = 10;
pub(crate) const NOTE: i64 = 20;

/// The hash of one audited row.
pub(crate) fn row_hash(table: &str, values: &[Value]) -> [u8; 16] {
    let mut canon = Canon::new("ledgerline row 1");
    canon.bytes(table.as_bytes());
    values.iter().for_each(|value| canon.value(value));
    canon.short()
}

/// One hash for an operation's audited rows, whatever order they are read back in.
pub(crate) fn rows_hash(mut rows: Vec<[u8; 16]>) -> Option<[u8; 16]> {
    if rows.is_empty() {
        return None;
    }
    rows.sort_unstable();
    let mut canon = Canon::new("ledgerline rows 1");
    rows.iter().for_each(|row| canon.bytes(row));
    Some(canon.short())
}
