//! Every column of every table, changed behind the ledger's back, is found.

use std::sync::Arc;

use ledger::{
    AccountKind, Attachment, Cell, Claim, Command, Config, Journal, Leg, LotKind, LotTerms,
    Measure, Operation, Table, Unit, Window, verify,
};
use store::{Database, Statement};
use testkit::{FakeClock, TestDatabase};

use super::{grant, hold, migrations, nanos, platform, settle, wallet};

static NOTES: Table = Table { name: "notes", columns: &["op_seq", "text", "cost"], audited: true };

/// A small set of books in which every table has rows.
async fn books() -> TestDatabase {
    let test = testkit::sqlite(&migrations()).await;
    let clock = Arc::new(FakeClock::default());
    let journal = Journal::start(test.database.clone(), clock, &Config::default()).unwrap();
    journal.submit(grant("g", "org", 100)).await.unwrap();
    let held = journal.submit(hold("h", "org", 60)).await.unwrap();
    let cells = vec![Cell::Seq, "note".into(), Cell::Amount];
    let operation = settle("s", held.seq, 25);
    let unit = Unit::new(operation, vec![Attachment::Insert { table: &NOTES, cells }]);
    journal.submit(unit).await.unwrap();
    let terms = LotTerms { kind: LotKind::Promotional, priority: 1, expires_at: None };
    let leg = Leg { from: platform(AccountKind::Grant), to: wallet("org"), amount: nanos(10) };
    journal.submit(Operation::new("lot", Command::Grant { leg, terms })).await.unwrap();
    let held = journal.submit(hold("h2", "org", 5)).await.unwrap();
    journal.submit(settle("s2", held.seq, 4)).await.unwrap();
    let claim = Claim {
        counter: "slots".into(),
        window: Window::Standing,
        measure: Measure::Slots,
        amount: 1,
        limit: Some(2),
    };
    let mut open = hold("open", "org", 5);
    if let Command::Hold { claims, .. } = &mut open.command {
        claims.push(claim);
    }
    journal.submit(open).await.unwrap();
    journal.submit(hold("refused", "org", 5_000)).await.unwrap();
    journal.close().await;
    test
}

/// What each column of a table is changed to; a lease's end and the operations' own ids' order are
/// covered by the rows they belong to.
const CHANGES: [(&str, &[&str]); 10] = [
    ("ledger_head", &["seq = seq + 1", "at = at + 1", "hash = zeroblob(32)", "next_account = 99"]),
    (
        "ledger_accounts",
        &[
            "owner = owner || 'x'",
            "kind = 'cost'",
            "asset = 'USD'",
            "created_seq = 4",
            "floor = -7",
            "posted = posted + 1",
            "held = held + 1",
        ],
    ),
    (
        "ledger_operations",
        &[
            "seq = seq + 100",
            "op_id = 'other'",
            "kind = 1 + kind % 8",
            "content = zeroblob(16)",
            "memo = 'x'",
            "outcome = outcome + 1",
            "ref_seq = 77",
            "leg = 3",
            "amount = amount + 1",
            "debt = debt + 1",
            "written_off = written_off + 1",
            "available = available + 1",
            "late = 1 - late",
            "at = at + 1",
            "rows_hash = zeroblob(16)",
            "hash = zeroblob(32)",
        ],
    ),
    (
        "ledger_transfers",
        &[
            "op_seq = op_seq + 1",
            "debit_account = credit_account",
            "credit_account = 77",
            "amount = amount + 1",
        ],
    ),
    (
        "ledger_holds",
        &[
            "hold_seq = hold_seq + 1",
            "account_id = 1",
            "opened = opened + 1",
            "amount = amount + 1",
            "state = 2",
        ],
    ),
    (
        "ledger_lots",
        &[
            "op_seq = op_seq + 1",
            "leg = 1",
            "account_id = 1",
            "kind = 'paid'",
            "priority = 2",
            "expires_at = 0",
            "granted = granted + 1",
            "remaining = remaining - 1",
        ],
    ),
    ("ledger_burns", &["op_seq = op_seq - 1", "lot_seq = 1", "lot_leg = 1", "amount = amount + 1"]),
    ("ledger_counters", &["counter = 'x'", "starts_at = 1", "held = held + 1"]),
    ("ledger_claims", &["hold_seq = 1", "claims = '0 5 slots 2 2 slots'"]),
    ("notes", &["op_seq = op_seq + 1", "text = 'x'", "cost = cost - 1"]),
];

async fn run(database: &Database, sql: String) {
    database.execute(Statement::new(sql, vec![])).await.unwrap();
}

/// Takes the guards off that the schema itself has.
async fn unguard(test: &TestDatabase) {
    let triggers = ["operations_fixed", "operations_kept", "transfers_fixed", "transfers_kept"];
    for trigger in triggers.into_iter().chain(["burns_fixed", "burns_kept"]) {
        run(&test.database, format!("DROP TRIGGER ledger_{trigger}")).await;
    }
    let Database::Sqlite(sqlite) = &test.database else { panic!("SQLite") };
    sqlite.writer().pragma_update(None, "ignore_check_constraints", "ON").unwrap();
}

#[tokio::test]
async fn every_changed_column_is_found_and_its_row_named() {
    for (table, columns) in CHANGES {
        for change in columns {
            let test = books().await;
            assert!(verify(&test.database, &[&NOTES]).await.unwrap().ok);
            unguard(&test).await;
            let sql = format!("UPDATE {table} SET {change} WHERE rowid_of = rowid_of");
            let last = match table {
                "ledger_transfers" => "op_seq = (SELECT MAX(op_seq) FROM ledger_transfers)",
                "ledger_holds" => "hold_seq = (SELECT MAX(hold_seq) FROM ledger_holds)",
                "ledger_operations" => "seq = 3",
                "ledger_accounts" => "kind = 'wallet'",
                _ => "1 = 1",
            };
            run(&test.database, sql.replace("rowid_of = rowid_of", last)).await;
            let report = verify(&test.database, &[&NOTES]).await.unwrap();
            assert!(!report.ok, "{table}: {change} was not found");
            assert!(report.findings.iter().all(|finding| !finding.row.is_empty()));
        }
    }
}

#[tokio::test]
async fn every_deleted_row_is_found() {
    for (table, _) in CHANGES {
        let test = books().await;
        unguard(&test).await;
        run(&test.database, format!("DELETE FROM {table}")).await;
        let report = verify(&test.database, &[&NOTES]).await.unwrap();
        assert!(!report.ok, "{table} was emptied and nobody noticed");
    }
}

#[tokio::test]
async fn an_added_row_is_found() {
    let added = [
        "INSERT INTO ledger_transfers VALUES (2, 9, 1, 2, 5)",
        "INSERT INTO ledger_transfers VALUES (99, 0, 1, 2, 5)",
        "INSERT INTO ledger_holds VALUES (1, 0, 2, 5, 5, 0, 0)",
        "INSERT INTO ledger_holds VALUES (99, 0, 2, 5, 5, 0, 1)",
        "INSERT INTO ledger_lots VALUES (1, 0, 2, 'paid', 1, NULL, 5, 5)",
        "INSERT INTO ledger_burns VALUES (1, 0, 4, 0, 1)",
        "INSERT INTO notes VALUES (1, 'x', 0)",
        "INSERT INTO notes VALUES (99, 'x', 0)",
        "INSERT INTO ledger_accounts VALUES (99, 'x', 'wallet', 'CNY', 2, 0, 0, 0)",
    ];
    for sql in added {
        let test = books().await;
        run(&test.database, sql.to_owned()).await;
        let report = verify(&test.database, &[&NOTES]).await.unwrap();
        assert!(!report.ok, "{sql} was not found");
    }
}
