//! The floor of every ledger: SQLite written as plainly as it can be.
//!
//! A pair is a conditional debit with an entry row, and later the settlement with an entry row:
//! two statements each, one thread, prepared, `synchronous=FULL`, so many pairs to a transaction.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior, params};
use serde_json::{Value, json};

use crate::machine::quantiles;

const SCHEMA: &str = "
    CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL) STRICT;
    CREATE TABLE entry (id INTEGER PRIMARY KEY, account INTEGER NOT NULL, amount INTEGER NOT NULL,
                        call BLOB NOT NULL UNIQUE) STRICT;
    INSERT INTO account VALUES (1, 9000000000000000);";

/// Pairs per second, and a commit's duration, for each batch size.
pub(crate) fn run(folder: &Path, seconds: f64) -> anyhow::Result<Value> {
    let mut all = serde_json::Map::new();
    for batch in [1_usize, 8, 64, 256] {
        let (pairs, p50, p99) = measure(&folder.join(format!("raw{batch}.db")), batch, seconds)?;
        all.insert(
            batch.to_string(),
            json!({"pairs_per_second": pairs, "commit_p50_us": p50, "commit_p99_us": p99}),
        );
    }
    // What a commit takes depends on what the disk and the processor did just before: latencies at a
    // pace are compared with commits at that pace.
    for (name, per_second) in PACES {
        let (p50, p99) = paced(&folder.join(format!("raw-{name}.db")), per_second, seconds)?;
        all.insert(name.to_owned(), json!({"commit_p50_us": p50, "commit_p99_us": p99}));
    }
    Ok(Value::Object(all))
}

/// The commits of so many calls per second, two to a call.
const PACES: [(&str, f64); 2] = [("at_200_per_second", 400.0), ("at_50_per_second", 100.0)];

/// How long one commit takes, begun at fixed times.
#[expect(clippy::disallowed_methods, reason = "a thread of its own that keeps time")]
fn paced(file: &Path, per_second: f64, seconds: f64) -> anyhow::Result<(u64, u64)> {
    let mut connection = open(file)?;
    let begun = Instant::now();
    let mut commits = Vec::new();
    for number in 0_u32.. {
        let due = begun + Duration::from_secs_f64(f64::from(number) / per_second);
        if due > begun + Duration::from_secs_f64(seconds) {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let at = Instant::now();
        write(&mut connection, u64::from(number / 2), 1, if number % 2 == 0 { -1 } else { 1 })?;
        commits.push(u64::try_from(at.elapsed().as_micros())?);
    }
    Ok(quantiles(&mut commits))
}

fn open(file: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

fn measure(file: &Path, batch: usize, seconds: f64) -> anyhow::Result<(f64, u64, u64)> {
    let mut connection = open(file)?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(seconds);
    let (mut next, mut commits) = (0_u64, Vec::new());
    while Instant::now() < end {
        for sign in [-1_i64, 1] {
            let at = Instant::now();
            write(&mut connection, next, batch, sign)?;
            commits.push(u64::try_from(at.elapsed().as_micros())?);
        }
        next += batch as u64;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of pairs")]
    let pairs = next as f64 / begun.elapsed().as_secs_f64();
    let (p50, p99) = quantiles(&mut commits);
    Ok((pairs, p50, p99))
}

fn write(connection: &mut Connection, first: u64, batch: usize, sign: i64) -> anyhow::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut debit = transaction.prepare_cached(
            "UPDATE account SET balance = balance - ?1 WHERE id = 1 AND balance >= ?1",
        )?;
        let mut entry = transaction
            .prepare_cached("INSERT INTO entry (account, amount, call) VALUES (1, ?, ?)")?;
        for call in first..first + batch as u64 {
            debit.execute([10 * sign])?;
            let id = [call.to_be_bytes(), sign.to_be_bytes()].concat();
            entry.execute(params![10 * sign, id])?;
        }
    }
    Ok(transaction.commit()?)
}
