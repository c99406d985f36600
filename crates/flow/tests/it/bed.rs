//! An engine over a database, with the simulated provider, and money to spend.

use std::sync::Arc;
use std::time::Duration;

use flow::{Config, Engine, Logged, ModelCall, ModelCaller, Start, Started, Status, Surroundings};
use identity::{Caller, OrgKind, Role};
use kernel::{Amount, OrgId, SharedClock};
use ledger::{AccountKey, AccountKind, Command, Journal, Leg, Operation};
use metering::{Metering, PriceBook};
use models::{ModelConfig, Models, PriceConfig, ProviderConfig, ProviderKind};
use parking_lot::Mutex;
use pricing::PriceVersion;
use serde_json::{Map, Value};
use store::{Database, Migration};
use testkit::{FakeClock, TestDatabase};

pub(crate) fn migrations() -> Vec<Migration> {
    [ledger::MIGRATIONS, metering::MIGRATIONS, flow::MIGRATIONS].concat()
}

/// An engine at work.
pub(crate) struct Bed {
    pub(crate) engine: Engine,
    pub(crate) metering: Metering,
    pub(crate) journal: Journal,
    pub(crate) clock: FakeClock,
    pub(crate) database: Database,
    /// The charges of model calls in the order they were asked for.
    pub(crate) calls: Arc<Mutex<Vec<String>>>,
    working: tokio::task::JoinHandle<()>,
}

pub(crate) fn org() -> OrgId {
    "org".into()
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

fn price(model: &str) -> PriceVersion {
    let rates = PriceConfig {
        currency: "CNY".parse().unwrap(),
        input_per_million: "2".parse().unwrap(),
        cached_input_per_million: None,
        cache_write_per_million: None,
        output_per_million: "8".parse().unwrap(),
        reasoning_per_million: None,
        per_call: None,
    };
    PriceVersion::new(model, rates.currency, rates.rates()).unwrap()
}

impl Bed {
    pub(crate) async fn on(test: &TestDatabase, config: Config) -> Self {
        Self::over(test.database.clone(), FakeClock::default(), None, config).await
    }

    /// With an upstream at this address instead of the simulation.
    pub(crate) async fn asking(test: &TestDatabase, url: &str) -> Self {
        let upstream = ProviderConfig::new("sim", ProviderKind::OpenAi, url);
        let (database, clock) = (test.database.clone(), FakeClock::default());
        Self::built(database, clock, None, Config::default(), upstream).await
    }

    /// Over a database that may have been used before; the journal may have a clock of its own.
    pub(crate) async fn over(
        database: Database,
        clock: FakeClock,
        journal_clock: Option<SharedClock>,
        config: Config,
    ) -> Self {
        let simulation = ProviderConfig::new("sim", ProviderKind::Sim, "");
        Self::built(database, clock, journal_clock, config, simulation).await
    }

    async fn built(
        database: Database,
        clock: FakeClock,
        journal_clock: Option<SharedClock>,
        config: Config,
        provider: ProviderConfig,
    ) -> Self {
        let shared: SharedClock = Arc::new(clock.clone());
        let journal_clock = journal_clock.unwrap_or_else(|| shared.clone());
        let journal =
            Journal::start(database.clone(), journal_clock, &ledger::Config::default()).unwrap();
        let providers = [provider];
        let offered = ["sim-small", "sim-large"].map(|name| ModelConfig::new(name, "sim", None));
        let models =
            Arc::new(Models::new(&providers, &offered, &models::RoutingConfig::default()).unwrap());
        let prices = vec![price("sim-small"), price("sim-large")];
        let prices =
            PriceBook::publish(&database, prices, kernel::Clock::now(&clock)).await.unwrap();
        let metering = Metering::new(
            journal.clone(),
            database.clone(),
            prices,
            shared.clone(),
            metering::Config::default(),
        );
        let calls = Arc::new(Mutex::new(Vec::new()));
        let caller = ModelCaller::metered(metering.clone(), models, None);
        let noted = Arc::clone(&calls);
        let caller = ModelCaller::new(move |call: ModelCall| {
            noted.lock().push(call.charge.to_string());
            caller.call(call)
        });
        let engine =
            Engine::new(journal.clone(), database.clone(), shared, config, caller).unwrap();
        let worker = engine.clone();
        let working = tokio::spawn(async move { worker.run().await });
        Self { engine, metering, journal, clock, database, calls, working }
    }

    pub(crate) async fn grant(&self, amount: &str) {
        let cny = "CNY".parse().unwrap();
        let leg = Leg {
            from: AccountKey::new("platform", AccountKind::Grant, cny),
            to: AccountKey::new("org", AccountKind::Wallet, cny),
            amount: amount.parse().unwrap(),
        };
        let grant = Operation::new(kernel::id::new(), Command::Transfer { legs: vec![leg] });
        self.journal.submit(grant).await.unwrap();
    }

    pub(crate) async fn wallet(&self) -> (Amount, Amount) {
        let wallet = AccountKey::new("org", AccountKind::Wallet, "CNY".parse().unwrap());
        let (balance, _) = ledger::balance(&self.database, &wallet).await.unwrap();
        (balance.posted, balance.held)
    }

    pub(crate) async fn publish(&self, text: &str) -> Arc<str> {
        let program = self.engine.publish(&org(), text, Surroundings::default()).await;
        Arc::clone(program.unwrap_or_else(|error| panic!("{error:?}")).id())
    }

    pub(crate) fn start_of(definition_id: &Arc<str>, input: Value) -> Start {
        let payer = Caller::new(org(), OrgKind::Customer, Role::Member);
        let caller = Caller { key_id: Some("key".into()), ..payer };
        Start {
            caller: Arc::new(caller),
            definition_id: Arc::clone(definition_id),
            input: object(input),
            budget: None,
            key: None,
            with: Vec::new(),
        }
    }

    /// Publishes and starts.
    pub(crate) async fn begin(&self, text: &str, input: Value) -> Arc<str> {
        let definition = self.publish(text).await;
        let Started { run_id, .. } =
            self.engine.start(Self::start_of(&definition, input)).await.unwrap();
        run_id
    }

    /// Waits until the run stands like this.
    pub(crate) async fn until(
        &self,
        run: &str,
        wanted: impl Fn(Status) -> bool,
    ) -> flow::RunRecord {
        for _ in 0..2000 {
            let record = self.engine.find(&org(), run).await.unwrap();
            if wanted(record.status) {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let record = self.engine.find(&org(), run).await.unwrap();
        panic!("the run stays {:?}: {:#?}", record.status, self.log(run).await);
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self, run: &str) -> flow::RunRecord {
        self.until(run, Status::is_final).await
    }

    /// Waits for the end, and lets time pass while the run waits for it.
    pub(crate) async fn ended_in_time(&self, run: &str) -> flow::RunRecord {
        loop {
            let record =
                self.until(run, |status| status.is_final() || status == Status::Waiting).await;
            if record.status.is_final() {
                return record;
            }
            self.clock.advance(Duration::from_secs(1));
            self.engine.wake_due().await.unwrap();
        }
    }

    /// Publishes, starts, and waits for the end.
    pub(crate) async fn carry_out(&self, text: &str, input: Value) -> flow::RunRecord {
        let run = self.begin(text, input).await;
        self.ended(&run).await
    }

    pub(crate) async fn log(&self, run: &str) -> Vec<Logged> {
        self.engine.events(&org(), run, 0).await.unwrap()
    }

    /// The engine ends as at a stop.
    pub(crate) async fn close(self) {
        self.engine.close().await;
        self.working.await.unwrap();
        self.journal.close().await;
    }
}

/// The log as it is promised to be: numbered without gaps.
pub(crate) fn assert_gap_free(log: &[Logged]) {
    for (at, logged) in (1..).zip(log) {
        assert_eq!(logged.seq, at, "{log:#?}");
    }
}
