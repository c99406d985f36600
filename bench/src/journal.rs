//! Hold and settle pairs through the journal itself.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kernel::{Amount, ChargeId, Secret, SystemClock, Timestamp};
use ledger::{
    AccountKey, AccountKind, Charge, Command, Config, HoldId, HoldLeg, Journal, JournalError, Leg,
    MIGRATIONS, Operation, Receipt, verify,
};
use serde_json::{Value, json};
use store::{Database, MySql, Sqlite, Statement};

/// Pairs per second for each number of callers, on one hot account, on SQLite.
pub(crate) async fn sqlite(folder: &Path, seconds: f64) -> anyhow::Result<Value> {
    let mut all = serde_json::Map::new();
    for callers in [1_usize, 64, 256] {
        let database = Database::Sqlite(Sqlite::open(&folder.join(format!("j{callers}.db")))?);
        let pairs = measure(&[database], (callers, as_calls_are), seconds).await?;
        all.insert(callers.to_string(), json!(pairs));
    }
    let database = Database::Sqlite(Sqlite::open(&folder.join("unordered.db"))?);
    let pairs = measure(&[database], (256, in_no_order), seconds).await?;
    all.insert("256, ids in no order".to_owned(), json!(pairs));
    Ok(Value::Object(all))
}

/// Pairs per second of two instances on one hot account of one server, if there is a server.
pub(crate) async fn mysql(server: &str, folder: &Path, seconds: f64) -> anyhow::Result<Value> {
    let name = format!("ledgerline_test_bench_{}", std::process::id());
    let admin = Database::MySql(MySql::connect(server).await?);
    let create = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
    admin.execute(Statement::new(create, vec![])).await?;
    let url = Secret::from(format!("{server}/{name}"));
    let databases = [Database::open(&url, folder).await?, Database::open(&url, folder).await?];
    let measured = measure(&databases, (256, as_calls_are), seconds).await;
    admin.execute(Statement::new(format!("DROP DATABASE {name}"), vec![])).await?;
    Ok(json!(measured?))
}

/// Names an operation.
type Name = fn() -> String;

/// As the gateway names calls: each id is later than all before it.
fn as_calls_are() -> String {
    ChargeId::generate().as_str().to_owned()
}

/// As callers may name theirs: each falls anywhere among those before it.
fn in_no_order() -> String {
    as_calls_are().chars().rev().collect()
}

async fn measure(
    databases: &[Database],
    (callers, name): (usize, Name),
    seconds: f64,
) -> anyhow::Result<f64> {
    let first = databases.first().context("one database at least")?;
    first.migrate(MIGRATIONS).await?;
    let journals = databases
        .iter()
        .map(|database| Journal::start(database.clone(), Arc::new(SystemClock), &Config::default()))
        .collect::<Result<Vec<_>, _>>()?;
    let leg = Leg {
        from: account("platform", AccountKind::Grant)?,
        to: account("customer", AccountKind::Wallet)?,
        amount: Amount::from_nanos(1_000_000_000_000_000),
    };
    let journal = journals.first().context("one journal at least")?;
    journal.submit(Operation::new("grant", Command::Transfer { legs: vec![leg] })).await?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(seconds);
    let tasks: Vec<_> = journals
        .iter()
        .cycle()
        .take(callers)
        .map(|journal| tokio::spawn(pairs(journal.clone(), name, end)))
        .collect();
    let mut done = 0_u32;
    for task in tasks {
        done += task.await??;
    }
    let elapsed = begun.elapsed().as_secs_f64();
    for journal in &journals {
        journal.close().await;
    }
    let report = verify(first, &[]).await?;
    anyhow::ensure!(report.ok, "the books do not fit: {:?}", report.findings);
    Ok(f64::from(done) / elapsed)
}

/// Movements of money in the books of a server that is stopped, so many.
pub(crate) async fn fill(data: &Path, entries: u64) -> anyhow::Result<()> {
    const CALLERS: u64 = 256;
    let database = Database::Sqlite(Sqlite::open(&data.join("ledgerline.db"))?);
    let journal = Journal::start(database.clone(), Arc::new(SystemClock), &Config::default())?;
    let leg = Leg {
        from: account("platform", AccountKind::Grant)?,
        to: account("bench", AccountKind::Wallet)?,
        amount: Amount::from_nanos(1),
    };
    let callers = (0..CALLERS).map(|caller| {
        let (journal, leg) = (journal.clone(), leg.clone());
        tokio::spawn(async move {
            for _ in (caller..entries).step_by(usize::try_from(CALLERS)?) {
                let movement = Command::Transfer { legs: vec![leg.clone()] };
                submit(&journal, Operation::new(as_calls_are(), movement)).await?;
            }
            anyhow::Ok(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    journal.close().await;
    database.close().await;
    Ok(())
}

fn account(owner: &str, kind: AccountKind) -> anyhow::Result<AccountKey> {
    Ok(AccountKey::new(owner, kind, "CNY".parse()?))
}

async fn pairs(journal: Journal, name: Name, end: Instant) -> anyhow::Result<u32> {
    let wallet = account("customer", AccountKind::Wallet)?;
    let revenue = account("platform", AccountKind::Revenue)?;
    let mut done = 0;
    while Instant::now() < end {
        let call = name();
        let hold = Command::Hold {
            legs: vec![HoldLeg { account: wallet.clone(), amount: Amount::from_nanos(1_000) }],
            claims: Vec::new(),
            lease_until: Timestamp::from_micros(i64::MAX),
        };
        let held = submit(&journal, Operation::new(format!("call:{call}"), hold)).await?;
        let charge = Charge { leg: 0, to: revenue.clone(), amount: Amount::from_nanos(600) };
        let settle = Command::Settle {
            hold: HoldId(held.seq),
            charges: vec![charge],
            max_debt: Amount::ZERO,
            tokens: 0,
        };
        submit(&journal, Operation::new(format!("settle:{call}"), settle)).await?;
        done += 1;
    }
    Ok(done)
}

async fn submit(journal: &Journal, operation: Operation) -> anyhow::Result<Receipt> {
    loop {
        match journal.submit(operation.clone()).await {
            Err(JournalError::Busy) => tokio::task::yield_now().await,
            outcome => return Ok(outcome?),
        }
    }
}
