//! `/api/v1` as a customer's server sees it, on every database there is.
#![cfg(test)]

mod accounting;
mod balance;
mod lists;
mod routes;
mod sync;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use customers::{Catalogue, Customers, Parts, Sync, UpstreamConfig};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use identity::{Identity, NewKey, OrgKind, PLATFORM, Role, ServerSecret};
use kernel::{Clock as _, OrgId, Secret};
use ledger::{AccountKey, AccountKind, Command, Journal, Leg, Operation};
use metering::{Metering, PriceBook};
use pricing::{PriceVersion, Rates};
use serde_json::Value;
use testkit::{FakeClock, TestDatabase, databases};
use tower::ServiceExt as _;

/// The surface over one fresh database, and a customer with 100 CNY.
struct Test {
    router: Router,
    identity: Identity,
    journal: Journal,
    customers: Customers,
    clock: FakeClock,
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

/// The surface over a fresh database of each kind.
async fn everywhere() -> Vec<Test> {
    let migrations =
        [identity::MIGRATIONS, ledger::MIGRATIONS, metering::MIGRATIONS, customers::MIGRATIONS];
    let mut all = Vec::new();
    for on in databases(&migrations.concat()).await {
        all.push(start(on).await);
    }
    all
}

async fn start(on: TestDatabase) -> Test {
    let clock = FakeClock::default();
    let shared: kernel::SharedClock = Arc::new(clock.clone());
    let config = identity::Config { secret: Secret::from("a".repeat(32)) };
    let secret = ServerSecret::load(&config, Path::new("unused")).unwrap();
    let database = on.database.clone();
    let identity = Identity::open(database.clone(), secret, Arc::clone(&shared)).await.unwrap();
    let config = ledger::Config::default();
    let journal = Journal::start(database.clone(), Arc::clone(&shared), &config).unwrap();
    let book = PriceBook::publish(&database, prices(), clock.now()).await.unwrap();
    let config = metering::Config::default();
    let metering = Metering::new(journal.clone(), database.clone(), book, shared, config);
    let config = customers::Config { feed_interval_ms: 0, ..customers::Config::default() };
    let catalogue = Catalogue::default();
    let (identity_, journal_) = (identity.clone(), journal.clone());
    let parts =
        Parts { identity: identity_, journal: journal_, metering, database, catalogue, config };
    let customers = Customers::new(parts);
    let shared: kernel::SharedClock = Arc::new(clock.clone());
    let sync = Sync::new(customers.clone(), UpstreamConfig::default(), shared).unwrap();
    let router = Router::new().nest("/api/v1", customers::router(&sync, vec![]));
    let org_id = identity.create_org("Customer", OrgKind::Customer).await.unwrap().id;
    let api_key = key(&identity, org_id.clone(), Role::Member).await;
    let test = Test { router, identity, journal, customers, clock, org_id, api_key, on };
    test.top_up(&test.org_id, "100").await;
    test
}

fn prices() -> Vec<PriceVersion> {
    let version = |model: &str| {
        let rates = Rates {
            input_per_million: "1".parse().unwrap(),
            cached_input_per_million: None,
            cache_write_per_million: None,
            output_per_million: "4".parse().unwrap(),
            reasoning_per_million: None,
            per_call: Some("0.1".parse().unwrap()),
        };
        PriceVersion::new(model, "CNY".parse().unwrap(), rates).unwrap()
    };
    ["small", "large", "embed"].map(version).to_vec()
}

/// A new key of the organization.
async fn key(identity: &Identity, org_id: OrgId, role: Role) -> String {
    identity
        .create_key(NewKey::new(org_id, "test", role))
        .await
        .unwrap()
        .api_key
        .expose()
        .to_owned()
}

impl Test {
    async fn top_up(&self, org_id: &OrgId, amount: &str) {
        let currency = "CNY".parse().unwrap();
        let leg = Leg {
            from: AccountKey::new(PLATFORM, AccountKind::Grant, currency),
            to: AccountKey::new(org_id.shared(), AccountKind::Wallet, currency),
            amount: amount.parse().unwrap(),
        };
        let id = format!("top-up:{}", kernel::id::new());
        self.journal
            .submit(Operation::new(id, Command::Transfer { legs: vec![leg] }))
            .await
            .unwrap();
    }

    /// Another customer's id and key.
    async fn stranger(&self) -> (OrgId, String) {
        let org = self.identity.create_org("Stranger", OrgKind::Customer).await.unwrap();
        let api_key = key(&self.identity, org.id.clone(), Role::Member).await;
        (org.id, api_key)
    }

    async fn administrator(&self) -> String {
        key(&self.identity, PLATFORM.into(), Role::Admin).await
    }

    async fn send(&self, mut request: Request<Body>) -> Answer {
        *request.uri_mut() = format!("/api/v1{}", request.uri()).parse().unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, text, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.get_as(&self.api_key, path).await
    }

    async fn get_as(&self, api_key: &str, path: &str) -> Answer {
        let request = Request::get(path).header("x-api-key", api_key);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn post_as(&self, api_key: &str, key: Option<&str>, body: Value) -> Answer {
        let mut request = Request::post("/accounting").header("x-api-key", api_key);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    async fn post(&self, key: Option<&str>, body: Value) -> Answer {
        self.post_as(&self.api_key, key, body).await
    }

    /// What the customer has, exactly.
    async fn available(&self) -> String {
        self.get("/balance").await.body["data"]["available"].as_str().unwrap().to_owned()
    }
}

impl Answer {
    /// What is in a good answer.
    fn data(&self) -> &Value {
        assert_eq!((self.status, &self.body["status"]), (StatusCode::OK, &"ok".into()), "{self:?}");
        &self.body["data"]
    }

    /// Status and code of a refusal.
    fn refusal(&self) -> (u16, &str) {
        assert_eq!(self.headers["content-type"], "application/json", "{self:?}");
        assert_eq!(self.body["status"], "error", "{self:?}");
        assert!(self.body["data"]["message"].as_str().is_some_and(|text| !text.is_empty()));
        (self.status.as_u16(), self.body["data"]["code"].as_str().unwrap_or_default())
    }

    /// One member of each row of a list.
    fn column(&self, name: &str) -> Vec<&str> {
        let rows = self.data()["rows"].as_array().unwrap();
        rows.iter().map(|row| row[name].as_str().unwrap()).collect()
    }
}
