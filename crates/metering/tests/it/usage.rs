//! Records of calls, found and added up.

mod rollups;
mod search;
mod summary;

use std::sync::Arc;

use identity::{Caller, OrgKind, Role};
use kernel::{Amount, ChargeId, OrgId};
use ledger::{AccountKey, AccountKind, Command, Journal, Leg, Operation};
use metering::{
    Admission, Bill, Call, Config, Metering, PriceBook, Route, RunStep, Surface, Usage, UsageSource,
};
use pricing::Tokens;
use testkit::{FakeClock, TestDatabase, databases};

/// A metering service over a fresh database, with a clock that tests turn.
struct Rig {
    test: TestDatabase,
    journal: Journal,
    metering: Metering,
    clock: FakeClock,
}

/// What tells one call from another in these tests.
#[derive(Clone, Copy)]
struct Made {
    org: &'static str,
    key: &'static str,
    model: &'static str,
    provider: &'static str,
    request: &'static str,
    output: u64,
    /// The error's code, and that nothing was received.
    failed: Option<&'static str>,
    /// The run that makes it, as its fourth step.
    run: Option<&'static str>,
}

const CALL: Made = Made {
    org: "acme",
    key: "k1",
    model: "small",
    provider: "up",
    request: "r",
    output: 10,
    failed: None,
    run: None,
};

async fn rigs() -> Vec<Rig> {
    let migrations = [ledger::MIGRATIONS, metering::MIGRATIONS].concat();
    let mut all = Vec::new();
    for test in databases(&migrations).await {
        let clock = FakeClock::default();
        let shared = Arc::new(clock.clone());
        let config = ledger::Config::default();
        let journal = Journal::start(test.database.clone(), shared.clone(), &config).unwrap();
        let metering = Metering::new(
            journal.clone(),
            test.database.clone(),
            book(&test).await,
            shared,
            Config::default(),
        );
        let rig = Rig { test, journal, metering, clock };
        for org in ["acme", "other"] {
            rig.grant(org).await;
        }
        all.push(rig);
    }
    all
}

/// Two models at a billionth for each token.
async fn book(test: &TestDatabase) -> PriceBook {
    let rates = "rates: {input_per_million: '0.001', output_per_million: '0.001'}";
    let text =
        format!("currency: CNY\nrules: [{{model: small, {rates}}}, {{model: large, {rates}}}]");
    PriceBook::publish(&test.database, vec![super::version(&text)], kernel::Timestamp::default())
        .await
        .unwrap()
}

impl Rig {
    async fn grant(&self, org: &str) {
        let leg = Leg {
            from: AccountKey::new("platform", AccountKind::Grant, "CNY".parse().unwrap()),
            to: AccountKey::new(org, AccountKind::Wallet, "CNY".parse().unwrap()),
            amount: Amount::from_nanos(1_000_000_000),
        };
        let grant = Operation::new(format!("grant:{org}"), Command::Transfer { legs: vec![leg] });
        self.journal.submit(grant).await.unwrap();
    }

    async fn admit(&self, made: Made) -> Admission {
        let mut caller = Caller::new(made.org.into(), OrgKind::Customer, Role::Member);
        caller.app_id = Some("app".into());
        caller.key_id = Some(made.key.into());
        let call = Call {
            id: ChargeId::generate(),
            fresh: true,
            caller: Arc::new(caller),
            surface: Surface::Chat,
            model: made.model.into(),
            stream: false,
            input_bound: 100,
            output_bound: 100,
            fingerprint: None,
            request_id: made.request.into(),
            step: made.run.map(|run| RunStep {
                run_id: run.into(),
                step: 4,
                pipeline: "digest".into(),
                node: "sum up".into(),
            }),
        };
        self.metering.admit(call).await.unwrap()
    }

    /// A call from its beginning to its end.
    async fn call(&self, made: Made) -> ChargeId {
        let admission = self.admit(made).await;
        let id = admission.id().clone();
        let tokens = Tokens { input: 5, output: made.output, ..Tokens::default() };
        let mut bill = Bill {
            usage: Usage { tokens, source: UsageSource::Reported, anomalies: None, raw: None },
            route: Some(Route { provider: made.provider.into(), upstream_model: "x".into() }),
            ..Bill::default()
        };
        if made.failed.is_some() {
            bill.usage = Usage::default();
            bill.error_code = made.failed;
            self.metering.release(admission, bill).await.unwrap();
        } else {
            self.metering.settle(admission, bill, Vec::new()).await.unwrap();
        }
        id
    }

    async fn findings(&self) -> Vec<String> {
        let findings = metering::verify_rollups(&self.test.database).await.unwrap();
        findings.into_iter().map(|finding| finding.row).collect()
    }
}

fn acme() -> OrgId {
    "acme".into()
}
