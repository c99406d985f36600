//! Whether lots are what was granted less what was burnt, and counters what open holds claim.

use std::collections::HashMap;

use kernel::Amount;
use store::{Result, Snapshot, Value};

use super::Books;
use crate::counters::{CounterId, read_claims};
use crate::lots::Burn;
use crate::read::read_lot;
use crate::{Lot, LotId};

/// The lots and burns of one range of operations.
#[derive(Default)]
pub(super) struct Rows {
    lots: HashMap<i64, Vec<Lot>>,
    burns: HashMap<i64, Vec<Burn>>,
}

/// What the operations read so far leave of each lot.
#[derive(Default)]
pub(super) struct Fold {
    lots: HashMap<LotId, (Lot, i64)>,
}

impl Rows {
    pub(super) async fn read(snapshot: &mut Snapshot, range: &[Value]) -> Result<Self> {
        let mut rows = Self::default();
        let sql = "SELECT op_seq, leg, account_id, kind, priority, expires_at, granted, remaining \
                   FROM ledger_lots WHERE op_seq >= ? AND op_seq <= ? ORDER BY op_seq, leg";
        for row in snapshot.query(sql, range).await? {
            let lot = read_lot(&row)?;
            rows.lots.entry(lot.id.seq).or_default().push(lot);
        }
        let sql = "SELECT op_seq, lot_seq, lot_leg, amount FROM ledger_burns \
                   WHERE op_seq >= ? AND op_seq <= ? ORDER BY op_seq, position";
        for row in snapshot.query(sql, range).await? {
            let lot = LotId { seq: row.int(1)?, leg: row.int(2)? };
            rows.burns.entry(row.int(0)?).or_default().push(Burn { lot, amount: row.int(3)? });
        }
        Ok(rows)
    }

    pub(super) fn lots(&self, seq: i64) -> &[Lot] {
        self.lots.get(&seq).map_or(&[], Vec::as_slice)
    }

    pub(super) fn burns(&self, seq: i64) -> &[Burn] {
        self.burns.get(&seq).map_or(&[], Vec::as_slice)
    }

    pub(super) fn operations(&self) -> impl Iterator<Item = &i64> {
        self.lots.keys().chain(self.burns.keys())
    }
}

impl Books {
    /// Takes in what one operation created and burnt.
    pub(super) fn fold_lots(&mut self, seq: i64, rows: &Rows) {
        for lot in rows.lots(seq) {
            self.lots.lots.insert(lot.id, (*lot, lot.granted.nanos()));
        }
        for burn in rows.burns(seq) {
            let Some((_, left)) = self.lots.lots.get_mut(&burn.lot) else {
                self.find("lots", format!("ledger_burns {seq}"), "burns a lot that there is not");
                continue;
            };
            *left = left.saturating_sub(burn.amount);
            if *left < 0 {
                self.find("lots", format!("ledger_burns {seq}"), "burns more than was left");
            }
        }
    }

    /// Each lot has left what its burns leave, and no account less than its lots.
    pub(super) fn check_lots(&mut self) {
        let mut in_lots: HashMap<i64, i64> = HashMap::new();
        let mut wrong = Vec::new();
        let mut lots: Vec<(Lot, i64)> = self.lots.lots.values().copied().collect();
        lots.sort_unstable_by_key(|(lot, _)| lot.id);
        for (lot, left) in lots {
            *in_lots.entry(lot.account).or_default() += left;
            if lot.remaining.nanos() != left {
                let name = format!("ledger_lots {} {}", lot.id.seq, lot.id.leg);
                let left = Amount::from_nanos(left);
                let detail = format!("has {} left; its burns leave {left}", lot.remaining);
                wrong.push((name, detail));
            }
        }
        for (account, sum) in in_lots {
            let posted = self.folded.get(&account).copied().unwrap_or_default().posted;
            if sum > posted.nanos() {
                let detail = format!("has {posted}, and more in its lots");
                wrong.push((format!("ledger_accounts {account}"), detail));
            }
        }
        for (row, detail) in wrong {
            self.find("lots", row, detail);
        }
    }

    /// What counters hold is what the open holds claim.
    pub(super) async fn check_counters(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        let mut claimed: HashMap<CounterId, i64> = HashMap::new();
        for row in snapshot.query("SELECT hold_seq, claims FROM ledger_claims", &[]).await? {
            if !self.open.contains_key(&row.int(0)?) {
                let name = format!("ledger_claims {}", row.int(0)?);
                self.find("counters", name, "belongs to no open hold");
            }
            for claim in read_claims(Some(row.text(1)?)) {
                *claimed.entry(claim.id).or_default() += claim.amount;
            }
        }
        let sql = "SELECT counter, starts_at, held FROM ledger_counters";
        for row in snapshot.query(sql, &[]).await? {
            let id = CounterId { counter: row.text(0)?.into(), start: row.int(1)? };
            let (held, expected) = (row.int(2)?, claimed.remove(&id).unwrap_or(0));
            if held != expected {
                let name = format!("ledger_counters {} {}", id.counter, id.start);
                self.find("counters", name, format!("holds {held}; open holds claim {expected}"));
            }
        }
        if let Some(id) = claimed.into_iter().find(|(_, amount)| *amount > 0).map(|(id, _)| id) {
            let name = format!("ledger_counters {} {}", id.counter, id.start);
            self.find("counters", name, "is missing, and an open hold has a claim on it");
        }
        Ok(())
    }
}
