//! The agent API as its callers see it, on every database there is.
#![cfg(test)]

mod history;
mod runs;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agents::{Agents, Owner, Parts};
use axum::Router;
use axum::body::Body;
use flow::{Engine, ModelCaller};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use identity::{Identity, NewKey, OrgKind, PLATFORM, Role, ServerSecret};
use kernel::{OrgId, Secret, SharedClock, SystemClock};
use ledger::{AccountKey, AccountKind, Command, Journal, Leg, Operation};
use metering::{Metering, PriceBook};
use models::{ModelConfig, Models, PriceConfig, ProviderConfig, ProviderKind};
use pricing::PriceVersion;
use serde_json::{Value, json};
use store::Migration;
use testkit::{TestDatabase, databases};
use tower::ServiceExt as _;

/// The surface over one fresh database, and a customer with 100 CNY.
struct Test {
    router: Router,
    agents: Agents,
    identity: Identity,
    org_id: OrgId,
    api_key: String,
    on: TestDatabase,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    body: Value,
}

fn migrations() -> Vec<Migration> {
    [
        identity::MIGRATIONS,
        ledger::MIGRATIONS,
        metering::MIGRATIONS,
        flow::MIGRATIONS,
        agents::MIGRATIONS,
    ]
    .concat()
}

async fn everywhere() -> Vec<Test> {
    let mut all = Vec::new();
    for on in databases(&migrations()).await {
        all.push(start(on).await);
    }
    all
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

async fn start(on: TestDatabase) -> Test {
    let clock: SharedClock = Arc::new(SystemClock);
    let database = on.database.clone();
    let config = identity::Config { secret: Secret::from("a".repeat(32)) };
    let secret = ServerSecret::load(&config, std::path::Path::new("unused")).unwrap();
    let identity = Identity::open(database.clone(), secret, Arc::clone(&clock)).await.unwrap();
    let config = ledger::Config::default();
    let journal = Journal::start(database.clone(), Arc::clone(&clock), &config).unwrap();
    let providers = [ProviderConfig::new("sim", ProviderKind::Sim, "")];
    let offered = ["sim-small", "sim-large"].map(|name| ModelConfig::new(name, "sim", None));
    let routing = models::RoutingConfig::default();
    let models = Arc::new(Models::new(&providers, &offered, &routing).unwrap());
    let prices = vec![price("sim-small"), price("sim-large")];
    let book = PriceBook::publish(&database, prices, clock.now()).await.unwrap();
    let metering = Metering::new(
        journal.clone(),
        database.clone(),
        book,
        Arc::clone(&clock),
        metering::Config::default(),
    );
    let caller = ModelCaller::metered(metering.clone(), models, None);
    let flow_config = flow::Config::default();
    let (parts_journal, parts_clock) = (journal.clone(), Arc::clone(&clock));
    let engine =
        Engine::new(parts_journal, database.clone(), parts_clock, flow_config, caller).unwrap();
    let worker = engine.clone();
    tokio::spawn(async move { worker.run().await });
    let offered = ["sim-small", "sim-large"].map(|name| (name.to_owned(), "sim".to_owned()));
    let agents = Agents::new(Parts {
        identity: identity.clone(),
        engine,
        metering,
        database,
        bus: events::Bus::new(),
        clock,
        config: agents::Config::default(),
        models: BTreeMap::from(offered),
        data: on.directory.path().to_owned(),
        origins: Vec::new(),
    });
    let sweeper = agents.clone();
    tokio::spawn(async move { sweeper.run().await });
    let router = agents::router(&agents);
    let org_id = identity.create_org("Customer", OrgKind::Customer).await.unwrap().id;
    let api_key = key(&identity, org_id.clone()).await;
    let test = Test { router, agents, identity, org_id, api_key, on };
    top_up(&journal, &test.org_id).await;
    test
}

async fn top_up(journal: &Journal, org_id: &OrgId) {
    let cny = "CNY".parse().unwrap();
    let leg = Leg {
        from: AccountKey::new(PLATFORM, AccountKind::Grant, cny),
        to: AccountKey::new(org_id.shared(), AccountKind::Wallet, cny),
        amount: "100".parse().unwrap(),
    };
    let grant = Operation::new(kernel::id::new(), Command::Transfer { legs: vec![leg] });
    journal.submit(grant).await.unwrap();
}

async fn key(identity: &Identity, org_id: OrgId) -> String {
    let new = NewKey::new(org_id, "test", Role::Member);
    identity.create_key(new).await.unwrap().api_key.expose().to_owned()
}

impl Test {
    async fn send(&self, api_key: &str, method: &str, path: &str, body: Value) -> Answer {
        let request = Request::builder().method(method).uri(path).header("x-api-key", api_key);
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, text, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(&self.api_key, "GET", path, Value::Null).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(&self.api_key, "POST", path, body).await
    }

    /// A session with the example of the original.
    async fn session(&self) -> String {
        let body = json!({"workflow_config_path": "configs/workflows/react.yaml"});
        let made = self.post("/sessions", body).await;
        made.good()["session_id"].as_str().unwrap().to_owned()
    }

    async fn workflow(&self, data: Value) -> String {
        let made = self.post("/workflows", json!({"name": "test", "config_data": data})).await;
        made.good()["workflow_id"].as_str().unwrap().to_owned()
    }

    /// An owner that is the organization.
    fn owner(&self) -> Owner {
        let caller = identity::Caller::new(self.org_id.clone(), OrgKind::Customer, Role::Member);
        Arc::new(caller).into()
    }
}

impl Answer {
    fn good(&self) -> &Value {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        &self.body
    }

    fn refusal(&self) -> (u16, &str) {
        assert_eq!(self.body["success"], false, "{self:?}");
        assert!(self.headers.contains_key("x-process-time"));
        (self.status.as_u16(), self.body["code"].as_str().unwrap_or_default())
    }
}

/// Waits until something holds.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never comes to that");
}
