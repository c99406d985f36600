//! Memory does not grow with the number of keys that call. A process of its own, since it is the
//! process that is measured.
#![cfg(test)]

use std::sync::Arc;
use std::time::Instant;

use identity::{Caller, OrgKind, Role};
use kernel::{Amount, ChargeId, KeyId, SharedClock};
use ledger::{AccountKey, AccountKind, Command, Journal, Leg, Operation};
use metering::{Bill, Call, Metering, PriceBook, Surface, Usage, UsageSource};
use pricing::{PriceVersion, Tokens};
use store::{Database, Statement, Value};
use testkit::{FakeClock, sqlite};

const KEYS: i64 = 100_000;
/// By then all that is kept in memory has been full once: each key has four counters.
const WARM: i64 = 30_000;
const AT_ONCE: usize = 500;
/// What each key is limited by.
const LIMITS: [(&str, &str); 4] =
    [("requests", "day"), ("requests", "month"), ("tokens", "day"), ("tokens", "month")];
/// A hundred bytes that stay of each counter would be more.
const MOST_GROWTH: usize = 20 << 20;
const FILE: &str = "{currency: CNY, rules: [{model: m, rates: {input_per_million: '1', output_per_million: '1'}}]}";

/// The memory that this process has, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

async fn limit_all(database: &Database) {
    let limit = |(measure, span): (&str, &str)| {
        let sql = "INSERT INTO metering_limits (org_id, scope, subject, measure, span, currency, most, updated_at) \
                   WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?) \
                   SELECT 'org', 'key', 'key-' || i, ?, ?, '', 1000, 0 FROM n";
        Statement::new(sql, vec![Value::from(KEYS - 1), measure.into(), span.into()])
    };
    database.transaction(LIMITS.map(limit).into()).await.unwrap();
}

async fn fund(journal: &Journal) {
    let asset = "CNY".parse().unwrap();
    let leg = Leg {
        from: AccountKey::new("platform", AccountKind::Grant, asset),
        to: AccountKey::new("org", AccountKind::Wallet, asset),
        amount: Amount::from_units(1_000_000).unwrap(),
    };
    journal.submit(Operation::new("fund", Command::Transfer { legs: vec![leg] })).await.unwrap();
}

/// A call with this key, from its admission to its settlement.
async fn call(metering: Metering, key: i64) {
    let mut caller = Caller::new("org".into(), OrgKind::Customer, Role::Member);
    caller.key_id = Some(KeyId::from(format!("key-{key}")));
    let call = Call {
        id: ChargeId::generate(),
        fresh: true,
        caller: Arc::new(caller),
        surface: Surface::Chat,
        model: "m".into(),
        stream: false,
        input_bound: 10,
        output_bound: 10,
        fingerprint: None,
        request_id: "request".into(),
        step: None,
    };
    let admission = metering.admit(call).await.unwrap();
    assert_eq!(admission.pace().len(), 2, "its limits are counted");
    let tokens = Tokens { input: 1, output: 1, ..Tokens::default() };
    let usage = Usage { tokens, source: UsageSource::Reported, ..Usage::default() };
    metering.settle(admission, Bill { usage, ..Bill::default() }, Vec::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_have_called_are_forgotten() {
    let migrations = [ledger::MIGRATIONS, metering::MIGRATIONS].concat();
    // What is measured is this side's memory: one database is enough.
    let on = sqlite(&migrations).await;
    let shared: SharedClock = Arc::new(FakeClock::default());
    let config = ledger::Config::default();
    let journal = Journal::start(on.database.clone(), Arc::clone(&shared), &config).unwrap();
    let version = PriceVersion::read(FILE).unwrap();
    let book = PriceBook::publish(&on.database, vec![version], shared.now()).await.unwrap();
    let config = metering::Config::default();
    let metering = Metering::new(journal.clone(), on.database.clone(), book, shared, config);
    limit_all(&on.database).await;
    fund(&journal).await;
    let (begun, mut warm) = (Instant::now(), 0);
    for first in (0..KEYS).step_by(AT_ONCE) {
        let keys = (first..KEYS).take(AT_ONCE);
        let calls = keys.map(|key| tokio::spawn(call(metering.clone(), key)));
        let calls: Vec<_> = calls.collect();
        for done in calls {
            done.await.unwrap();
        }
        if first == WARM {
            warm = resident();
        }
    }
    let (end, took) = (resident(), begun.elapsed());
    println!("{} MB after {WARM} keys, {} MB after {KEYS}, in {took:?}", warm >> 20, end >> 20);
    assert!(end < warm + MOST_GROWTH, "from {warm} to {end} bytes");
    let calls = on.database.query("SELECT COUNT(*) FROM metering_usage", &[]).await.unwrap();
    assert_eq!(calls[0].int(0).unwrap(), KEYS);
}
