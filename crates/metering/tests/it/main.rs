//! The price book and what calls are charged by it, on every database there is.
#![cfg(test)]

mod ahead;
mod book;
mod charges;
mod clocks;
mod limits;
mod places;
mod simulations;
mod usage;

use std::sync::Arc;

use identity::{Caller, OrgKind, Role};
use kernel::{Amount, ChargeId, Clock as _, OrgId, SharedClock, Timestamp};
use ledger::{AccountKey, AccountKind, Command, Journal, Leg, Operation};
use metering::{Admission, Bill, Call, Metering, PriceBook, RunStep, Surface, Usage, UsageSource};
use pricing::{PriceVersion, Tokens};
use testkit::{FakeClock, TestDatabase, databases};

const RATES: &str = "rates: {input_per_million: '1000000', output_per_million: '2000000'}";

/// All that the hash chain covers.
const TABLES: [&ledger::Table; 5] = [
    &metering::USAGE,
    &metering::ATTEMPTS,
    &metering::CHARGES,
    &metering::STEPS,
    &metering::PLACES,
];

/// The service over one fresh database.
struct Test {
    metering: Metering,
    journal: Journal,
    clock: FakeClock,
    on: TestDatabase,
}

fn version(text: &str) -> PriceVersion {
    PriceVersion::read(text).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes:#?}"))
}

fn at(text: &str) -> Timestamp {
    serde_json::from_value(serde_json::Value::from(text)).unwrap()
}

fn read(input: u64) -> Tokens {
    Tokens { input, ..Tokens::default() }
}

/// The service over a fresh database of each kind; the configuration prices `m` at 1 and 2 a token.
async fn everywhere() -> Vec<Test> {
    let migrations = [ledger::MIGRATIONS, metering::MIGRATIONS].concat();
    let mut all = Vec::new();
    for on in databases(&migrations).await {
        let clock = FakeClock::default();
        let shared: SharedClock = Arc::new(clock.clone());
        let config = ledger::Config::default();
        let journal = Journal::start(on.database.clone(), Arc::clone(&shared), &config).unwrap();
        let metering = metering(&on, journal.clone(), shared).await;
        all.push(Test { metering, journal, clock, on });
    }
    all
}

/// A service as another instance would have it.
async fn metering(on: &TestDatabase, journal: Journal, clock: SharedClock) -> Metering {
    let configured = version(&format!("currency: CNY\nrules: [{{model: m, {RATES}}}]"));
    let book = PriceBook::publish(&on.database, vec![configured], clock.now()).await.unwrap();
    Metering::new(journal, on.database.clone(), book, clock, metering::Config::default())
}

impl Test {
    /// The file becomes a version that counts at once.
    async fn activate(&self, text: &str) -> String {
        let (prices, now) = (self.metering.prices(), self.clock.now());
        let (record, _) =
            prices.create_version(&version(text), Some("key"), now, vec![]).await.unwrap();
        let id = record.version.id().to_string();
        prices.activate(Some(&id), None, Some("key"), now, |_| vec![]).await.unwrap();
        id
    }

    async fn fund(&self, org: &str) {
        let asset = "CNY".parse().unwrap();
        let leg = Leg {
            from: AccountKey::new("platform", AccountKind::Grant, asset),
            to: AccountKey::new(org, AccountKind::Wallet, asset),
            amount: Amount::from_units(1_000_000).unwrap(),
        };
        let command = Command::Transfer { legs: vec![leg] };
        self.journal.submit(Operation::new(format!("fund:{org}"), command)).await.unwrap();
    }

    async fn admit(&self, org: &str, bound: u64) -> metering::Result<Admission> {
        self.admit_step(org, bound, None).await
    }

    async fn admit_step(
        &self,
        org: &str,
        bound: u64,
        step: Option<RunStep>,
    ) -> metering::Result<Admission> {
        self.metering.admit(Self::ask(org, bound, step)).await
    }

    /// A call of so many tokens in and out at most.
    fn ask(org: &str, bound: u64, step: Option<RunStep>) -> Call {
        let caller = Caller::new(org.into(), OrgKind::Customer, Role::Member);
        Call {
            id: ChargeId::generate(),
            fresh: true,
            caller: Arc::new(caller),
            surface: Surface::Chat,
            model: "m".into(),
            stream: false,
            input_bound: bound,
            output_bound: bound,
            fingerprint: None,
            request_id: "request".into(),
            step,
        }
    }

    async fn settle(&self, admission: Admission, tokens: Tokens) -> ChargeId {
        let usage = Usage { tokens, source: UsageSource::Reported, ..Usage::default() };
        let bill = Bill { usage, ..Bill::default() };
        self.metering.settle(admission, bill, Vec::new()).await.unwrap().id
    }

    /// A call of an organization that has money: its charge id.
    async fn call(&self, org: &str, tokens: Tokens) -> ChargeId {
        self.fund(org).await;
        let admission = self.admit(org, 1000).await.unwrap();
        self.settle(admission, tokens).await
    }

    /// What such a call costs.
    async fn cost(&self, org: &str, tokens: Tokens) -> String {
        let id = self.call(org, tokens).await;
        self.record(&id).await.cost.to_string()
    }

    async fn record(&self, id: &ChargeId) -> metering::UsageRecord {
        self.metering.usage(id, None).await.unwrap().unwrap()
    }

    /// What a call of anybody would cost now, for each token read.
    fn quoted(&self) -> String {
        let org = OrgId::from("anybody");
        let (quote, _) = self.metering.prices().quote("m", &org, None, self.clock.now()).unwrap();
        quote.charge(&read(1)).unwrap().to_string()
    }

    /// Everything in the books fits.
    async fn verify(&self) {
        let report = ledger::verify(&self.on.database, &TABLES).await.unwrap();
        assert!(report.ok && report.open_holds == 0, "{}: {report:#?}", self.on.kind);
    }
}
