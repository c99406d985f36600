//! Reads all the books again and says whether everything fits, and if not, what does not.

mod lots;

use std::collections::HashMap;

use kernel::{Amount, Asset};
use serde::Serialize;
use store::{Database, Result, Row, Snapshot, Value};

use crate::backend::account_key;
use crate::canon::{EXPIRE, EXTEND, HOLD, SETTLE, VOID, row_hash, rows_hash};
use crate::rows::{APPLIED, Account, HoldLegRow, HoldState, OperationRow, TransferRow, Written};
use crate::{Balance, Table};

/// Operations read at once.
const PORTION: i64 = 5_000;
const PORTION_LENGTH: usize = 5_000;

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which promise is broken.
    pub check: &'static str,
    /// The first row that does not fit, such as `ledger_operations 17`.
    pub row: String,
    /// What is wrong with it.
    pub detail: String,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Everything fits.
    pub ok: bool,
    /// Operations read.
    pub operations: i64,
    /// Accounts read.
    pub accounts: usize,
    /// Holds that are open.
    pub open_holds: usize,
    /// The last operation.
    pub head_seq: i64,
    /// The hash over all operations: kept elsewhere, it proves later that none was changed.
    pub head_hash: String,
    /// For each broken promise, the first row that does not fit.
    pub findings: Vec<Finding>,
}

/// Reads all operations in one snapshot and checks: the sequence has no gap; every hash continues
/// the one before; every movement is between two accounts of one asset; sums are zero; balances are
/// the sum of their movements and open holds, and not below their floors; holds resolve once; lots have
/// left what was not burnt; counters hold what open holds claim; and
/// the rows of `tables`, which are audited, are those that were written.
pub async fn verify(database: &Database, tables: &[&'static Table]) -> Result<Report> {
    let mut snapshot = database.snapshot().await?;
    let mut books = Books::read(&mut snapshot).await?;
    let mut next = 1;
    loop {
        let portion = Portion::read(&mut snapshot, tables, next).await?;
        let Some(last) = portion.operations.last().map(|row| row.seq) else {
            break;
        };
        books.check_portion(&portion);
        next = last + 1;
    }
    books.check_counters(&mut snapshot).await?;
    snapshot.end().await?;
    Ok(books.report())
}

/// The rows of one range of operations.
struct Portion {
    operations: Vec<OperationRow>,
    transfers: HashMap<i64, Vec<TransferRow>>,
    holds: HashMap<i64, Vec<HoldRow>>,
    audited: HashMap<i64, Vec<[u8; 16]>>,
    lots: lots::Rows,
}

#[derive(Clone, Copy, Debug)]
struct HoldRow {
    leg: HoldLegRow,
    state: HoldState,
}

impl Portion {
    async fn read(snapshot: &mut Snapshot, tables: &[&'static Table], first: i64) -> Result<Self> {
        let columns = "seq, op_id, kind, content, memo, outcome, ref_seq, leg, amount, debt, written_off, \
                       available, late, at, rows_hash, hash";
        let sql =
            format!("SELECT {columns} FROM ledger_operations WHERE seq >= ? ORDER BY seq LIMIT ?");
        let rows = snapshot.query(&sql, &[first.into(), PORTION.into()]).await?;
        let operations = rows.iter().map(read_operation).collect::<Result<Vec<_>>>()?;
        // The last portion also takes in what lies beyond the last operation.
        let full = operations.len() == PORTION_LENGTH;
        let last = operations.last().filter(|_| full).map_or(i64::MAX, |row| row.seq.max(first));
        let range = [Value::from(if first <= 1 { i64::MIN } else { first }), Value::from(last)];
        let mut portion = Self {
            operations,
            transfers: HashMap::new(),
            holds: HashMap::new(),
            audited: HashMap::new(),
            lots: lots::Rows::read(snapshot, &range).await?,
        };
        portion.read_transfers(snapshot, &range).await?;
        portion.read_holds(snapshot, &range).await?;
        for table in tables {
            portion.read_audited(snapshot, table, &range).await?;
        }
        Ok(portion)
    }

    async fn read_transfers(&mut self, snapshot: &mut Snapshot, range: &[Value]) -> Result<()> {
        let sql = "SELECT op_seq, debit_account, credit_account, amount FROM ledger_transfers \
                   WHERE op_seq >= ? AND op_seq <= ? ORDER BY op_seq, leg";
        for row in snapshot.query(sql, range).await? {
            let transfer =
                TransferRow { debit: row.int(1)?, credit: row.int(2)?, amount: row.int(3)? };
            self.transfers.entry(row.int(0)?).or_default().push(transfer);
        }
        Ok(())
    }

    async fn read_holds(&mut self, snapshot: &mut Snapshot, range: &[Value]) -> Result<()> {
        let sql = "SELECT hold_seq, account_id, opened, amount, state FROM ledger_holds \
                   WHERE hold_seq >= ? AND hold_seq <= ? ORDER BY hold_seq, leg";
        for row in snapshot.query(sql, range).await? {
            let leg = HoldLegRow { account: row.int(1)?, opened: row.int(2)?, amount: row.int(3)? };
            let hold = HoldRow { leg, state: HoldState::of(row.int(4)?) };
            self.holds.entry(row.int(0)?).or_default().push(hold);
        }
        Ok(())
    }

    async fn read_audited(
        &mut self,
        snapshot: &mut Snapshot,
        table: &Table,
        range: &[Value],
    ) -> Result<()> {
        let columns = table.columns.join(", ");
        let sql = format!("SELECT {columns} FROM {} WHERE op_seq >= ? AND op_seq <= ?", table.name);
        for row in snapshot.query(&sql, range).await? {
            self.audited.entry(row.int(0)?).or_default().push(row_hash(table.name, row.values()));
        }
        Ok(())
    }
}

fn read_operation(row: &Row) -> Result<OperationRow> {
    Ok(OperationRow {
        seq: row.int(0)?,
        op_id: row.text(1)?.into(),
        kind: row.int(2)?,
        content: sized(row.bytes(3)?),
        memo: row.opt_text(4)?.map(Into::into),
        outcome: row.int(5)?,
        ref_seq: row.opt_int(6)?,
        leg: row.opt_int(7)?,
        amount: row.int(8)?,
        debt: row.int(9)?,
        written_off: row.int(10)?,
        available: row.int(11)?,
        late: row.flag(12)?,
        at: row.int(13)?,
        rows_hash: row.opt_bytes(14)?.map(sized),
        hash: sized(row.bytes(15)?),
    })
}

/// A hash of another length fits nothing.
fn sized<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

/// A hold that has not been resolved yet, as the operations so far say.
struct OpenHold {
    rows: Vec<HoldRow>,
    expected: Vec<i64>,
    expired: bool,
}

/// What the operations read so far add up to.
struct Books {
    accounts: HashMap<i64, (Account, Option<i64>)>,
    created: HashMap<i64, Vec<i64>>,
    folded: HashMap<i64, Balance>,
    open: HashMap<i64, OpenHold>,
    previous: [u8; 32],
    seen: i64,
    last_seq: i64,
    last_hash: [u8; 32],
    head_next_account: i64,
    head_at: i64,
    last_at: i64,
    lots: lots::Fold,
    findings: Vec<Finding>,
}

impl Books {
    async fn read(snapshot: &mut Snapshot) -> Result<Self> {
        let heads = snapshot
            .query("SELECT seq, hash, next_account, at FROM ledger_head WHERE id = 1", &[])
            .await?;
        let mut books = Self {
            accounts: HashMap::new(),
            created: HashMap::new(),
            folded: HashMap::new(),
            open: HashMap::new(),
            previous: [0; 32],
            seen: 0,
            last_seq: 0,
            last_hash: [0; 32],
            head_next_account: 0,
            head_at: 0,
            last_at: 0,
            lots: lots::Fold::default(),
            findings: Vec::new(),
        };
        match heads.first() {
            None => books.find("head", "ledger_head 1", "is missing"),
            Some(row) => {
                books.last_seq = row.int(0)?;
                books.last_hash = sized(row.bytes(1)?);
                books.head_next_account = row.int(2)?;
                books.head_at = row.int(3)?;
            }
        }
        let sql = "SELECT id, owner, kind, asset, created_seq, floor, posted, held FROM ledger_accounts ORDER BY id";
        for row in snapshot.query(sql, &[]).await? {
            books.read_account(&row)?;
        }
        Ok(books)
    }

    fn read_account(&mut self, row: &Row) -> Result<()> {
        let id = row.int(0)?;
        let Ok(key) = account_key(row.text(1)?, row.text(2)?, row.text(3)?) else {
            self.find("accounts", format!("ledger_accounts {id}"), "has an unknown kind or asset");
            return Ok(());
        };
        let floor = row.opt_int(5)?;
        if floor != key.kind.floor().map(Amount::nanos) {
            self.find("floors", format!("ledger_accounts {id}"), "has another floor than its kind");
        }
        let balance = Balance {
            posted: Amount::from_nanos(row.int(6)?),
            held: Amount::from_nanos(row.int(7)?),
        };
        let account = Account { id, key, created_seq: row.int(4)?, balance };
        self.created.entry(account.created_seq).or_default().push(id);
        self.accounts.insert(id, (account, floor));
        Ok(())
    }

    fn find(&mut self, check: &'static str, row: impl Into<String>, detail: impl Into<String>) {
        if self.findings.iter().all(|finding| finding.check != check) {
            self.findings.push(Finding { check, row: row.into(), detail: detail.into() });
        }
    }

    fn check_portion(&mut self, portion: &Portion) {
        for row in &portion.operations {
            self.check_operation(row, portion);
        }
        let known = |seq: &i64| portion.operations.binary_search_by_key(seq, |row| row.seq).is_ok();
        let strays = [
            ("transfers", "ledger_transfers", portion.transfers.keys().find(|seq| !known(seq))),
            ("holds", "ledger_holds", portion.holds.keys().find(|seq| !known(seq))),
            ("lots", "ledger_lots", portion.lots.operations().find(|seq| !known(seq))),
            ("records", "audited row", portion.audited.keys().find(|seq| !known(seq))),
        ];
        for (check, table, seq) in strays {
            if let Some(seq) = seq {
                self.find(check, format!("{table} {seq}"), "belongs to no operation");
            }
        }
    }

    fn check_operation(&mut self, row: &OperationRow, portion: &Portion) {
        let name = format!("ledger_operations {}", row.seq);
        self.seen += 1;
        if row.seq != self.seen {
            self.find("sequence", &name, format!("stands where {} should", self.seen));
            self.seen = row.seq;
        }
        if row.at < self.last_at {
            self.find("time", &name, "is earlier than the one before");
        }
        self.last_at = row.at;
        let transfers = portion.transfers.get(&row.seq).map_or(&[][..], Vec::as_slice);
        let holds = portion.holds.get(&row.seq).map_or(&[][..], Vec::as_slice);
        let opened: Vec<HoldLegRow> = holds.iter().map(|hold| hold.leg).collect();
        self.check_chain(row, portion, &opened, &name);
        self.fold_lots(row.seq, &portion.lots);
        let audited = rows_hash(portion.audited.get(&row.seq).cloned().unwrap_or_default());
        if audited != row.rows_hash {
            self.find("records", &name, "its records are not those that were written with it");
        }
        for transfer in transfers {
            self.fold_transfer(*transfer, row.seq);
        }
        self.follow_hold(row, holds, &name);
    }

    fn check_chain(
        &mut self,
        row: &OperationRow,
        portion: &Portion,
        opened: &[HoldLegRow],
        name: &str,
    ) {
        let ids = self.created.get(&row.seq).cloned().unwrap_or_default();
        let accounts: Vec<&Account> =
            ids.iter().filter_map(|id| self.accounts.get(id)).map(|(account, _)| account).collect();
        let written = Written {
            accounts: &accounts,
            opened,
            transfers: portion.transfers.get(&row.seq).map_or(&[][..], Vec::as_slice),
            lots: portion.lots.lots(row.seq),
            burns: portion.lots.burns(row.seq),
        };
        let hash = row.chained(&self.previous, &written);
        if hash != row.hash {
            self.find("chain", name, "it, or a row written with it, is not what was written");
        }
        self.previous = row.hash;
    }

    fn fold_transfer(&mut self, transfer: TransferRow, seq: i64) {
        let asset = |id: i64| self.accounts.get(&id).map(|(account, _)| account.key.asset);
        let (from, to) = (asset(transfer.debit), asset(transfer.credit));
        if from.is_none() || from != to || transfer.amount <= 0 {
            self.find(
                "transfers",
                format!("ledger_transfers {seq}"),
                "is not between two accounts of one asset",
            );
        }
        let amount = Amount::from_nanos(transfer.amount);
        let debit = self.folded.entry(transfer.debit).or_default();
        debit.posted = debit.posted.saturating_sub(amount);
        let credit = self.folded.entry(transfer.credit).or_default();
        credit.posted = credit.posted.saturating_add(amount);
    }

    fn follow_hold(&mut self, row: &OperationRow, holds: &[HoldRow], name: &str) {
        if row.kind == HOLD && row.outcome == APPLIED {
            if holds.first().is_none_or(|hold| hold.leg.opened != row.amount) {
                self.find("holds", format!("ledger_holds {}", row.seq), "is not what was held");
            }
            let expected = holds.iter().map(|hold| hold.leg.opened).collect();
            self.open.insert(row.seq, OpenHold { rows: holds.to_vec(), expected, expired: false });
            return;
        }
        if !holds.is_empty() {
            self.find("holds", format!("ledger_holds {}", row.seq), "belongs to no hold");
        }
        if row.outcome != APPLIED || !matches!(row.kind, EXTEND | SETTLE | VOID | EXPIRE) {
            return;
        }
        let hold = row.ref_seq.unwrap_or_default();
        let Some(open) = self.open.get_mut(&hold) else {
            self.find("holds", name, format!("resolves hold {hold}, which was resolved before"));
            return;
        };
        if row.kind == EXTEND {
            let leg = row.leg.and_then(|leg| usize::try_from(leg).ok()).unwrap_or(usize::MAX);
            if let Some(expected) = open.expected.get_mut(leg) {
                *expected = expected.saturating_add(row.amount);
            }
            return;
        }
        self.resolve(row, hold, name);
    }

    fn resolve(&mut self, row: &OperationRow, hold: i64, name: &str) {
        let Some(mut open) = self.open.remove(&hold) else {
            return;
        };
        let becomes = match row.kind {
            SETTLE => HoldState::Settled,
            VOID => HoldState::Voided,
            _ => HoldState::Expired,
        };
        if open.expired != row.late || (open.expired && row.kind != SETTLE) {
            self.find("holds", name, format!("resolves hold {hold}, which had run out"));
        }
        self.check_legs(hold, &open);
        let stored = open.rows.first().map(|row| row.state);
        // A hold that ran out may be settled later.
        if becomes == HoldState::Expired && stored == Some(HoldState::Settled) {
            open.expired = true;
            self.open.insert(hold, open);
        } else if open.rows.iter().any(|row| row.state != becomes) {
            self.find(
                "holds",
                format!("ledger_holds {hold}"),
                "is not in the state it was left in",
            );
        }
    }

    fn check_legs(&mut self, hold: i64, open: &OpenHold) {
        if open.rows.iter().zip(&open.expected).any(|(row, expected)| row.leg.amount != *expected) {
            self.find("holds", format!("ledger_holds {hold}"), "is not as large as was held");
        }
    }

    fn report(mut self) -> Report {
        self.check_head();
        self.check_open_holds();
        self.check_balances();
        self.check_lots();
        let hash = blake3::Hash::from_bytes(self.last_hash).to_hex().to_string();
        Report {
            ok: self.findings.is_empty(),
            operations: self.seen,
            accounts: self.accounts.len(),
            open_holds: self.open.len(),
            head_seq: self.last_seq,
            head_hash: hash,
            findings: self.findings,
        }
    }

    fn check_head(&mut self) {
        if self.last_seq != self.seen
            || self.last_hash != self.previous
            || self.head_at != self.last_at
        {
            self.find(
                "head",
                "ledger_head 1",
                format!("does not follow the last operation ({})", self.seen),
            );
        }
        let next = self.accounts.keys().max().map_or(1, |last| last + 1);
        if self.head_next_account != next {
            self.find(
                "head",
                "ledger_head 1",
                format!("numbers the next account other than {next}"),
            );
        }
        if let Some(seq) = self.created.keys().copied().find(|seq| *seq < 1 || *seq > self.seen) {
            self.find(
                "accounts",
                format!("ledger_accounts of {seq}"),
                "were created by no operation",
            );
        }
    }

    fn check_open_holds(&mut self) {
        let open = std::mem::take(&mut self.open);
        for (hold, open) in &open {
            self.check_legs(*hold, open);
            if open.expired || open.rows.iter().any(|row| row.state != HoldState::Open) {
                self.find(
                    "holds",
                    format!("ledger_holds {hold}"),
                    "is closed, and nothing closed it",
                );
            }
            for row in &open.rows {
                let balance = self.folded.entry(row.leg.account).or_default();
                balance.held = balance.held.saturating_add(Amount::from_nanos(row.leg.amount));
            }
        }
        self.open = open;
    }

    fn check_balances(&mut self) {
        let mut sums: HashMap<Asset, i128> = HashMap::new();
        let mut wrong = Vec::new();
        let mut ids: Vec<i64> = self.accounts.keys().copied().collect();
        ids.sort_unstable();
        for (account, floor) in ids.iter().filter_map(|id| self.accounts.get(id)) {
            let folded = self.folded.get(&account.id).copied().unwrap_or_default();
            *sums.entry(account.key.asset).or_default() +=
                i128::from(account.balance.posted.nanos());
            let name = format!("ledger_accounts {} ({})", account.id, account.key);
            if folded != account.balance {
                let detail = format!(
                    "has posted {} and held {}; its movements give {} and {}",
                    account.balance.posted, account.balance.held, folded.posted, folded.held
                );
                wrong.push(("balances", name.clone(), detail));
            }
            if floor.is_some_and(|floor| account.balance.available().nanos() < floor) {
                wrong.push(("floors", name, "is below its floor".to_owned()));
            }
        }
        for (asset, sum) in sums {
            if sum != 0 {
                wrong.push((
                    "conservation",
                    format!("asset {asset}"),
                    format!("sums to {sum} billionths, not 0"),
                ));
            }
        }
        for (check, row, detail) in wrong {
            self.find(check, row, detail);
        }
    }
}
