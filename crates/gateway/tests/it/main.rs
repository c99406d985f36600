//! `/v1` as a customer's client sees it, with upstreams that do as they are told.
#![cfg(test)]

mod account;
mod ahead;
mod bodies;
mod cache;
mod guard;
mod routing;
mod upstream;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use gateway::{Gateway, Options};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use identity::{Identity, NewKey, OrgKind, Role, ServerSecret};
use kernel::{Amount, Clock as _, OrgId, PageRequest, Secret};
use ledger::{AccountKey, AccountKind, Command, Journal, Leg, Operation};
use metering::{Metering, OperatorRecord, PriceBook, UsageFilter};
use models::{
    ModelConfig, Models, PriceConfig, ProviderConfig, ProviderKind, RouteConfig, RoutingConfig,
};
use pricing::PriceVersion;
use serde_json::{Value, json};
use testkit::{FakeClock, TestDatabase, databases};
use tower::ServiceExt as _;
use upstream::Upstream;

/// What the customer has at the start.
const START: &str = "10";

/// The surface over one fresh database, with a customer who has money.
struct Test {
    router: Router,
    gateway: Gateway,
    models: Arc<Models>,
    metering: Metering,
    identity: Identity,
    org: OrgId,
    api_key: String,
    on: TestDatabase,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

fn price(input: &str, output: &str) -> PriceConfig {
    PriceConfig {
        currency: "CNY".parse().unwrap(),
        input_per_million: input.parse().unwrap(),
        cached_input_per_million: None,
        cache_write_per_million: None,
        output_per_million: output.parse().unwrap(),
        reasoning_per_million: None,
        per_call: None,
    }
}

/// A provider of the upstream's name and address.
fn provider(upstream: &Upstream) -> ProviderConfig {
    let mut provider = ProviderConfig::new(upstream.name, ProviderKind::OpenAi, &upstream.url);
    provider.first_token_timeout_ms = 300;
    provider
}

fn route(provider: &str, priority: u32) -> RouteConfig {
    RouteConfig { provider: provider.to_owned(), model: None, weight: 1, priority, cost: None }
}

/// A model that costs 100 CNY per million tokens in and 400 out.
fn model(name: &str, routes: Vec<RouteConfig>) -> ModelConfig {
    ModelConfig { routes, ..ModelConfig::new(name, "", Some(price("100", "400"))) }
}

fn quick() -> RoutingConfig {
    RoutingConfig { backoff_ms: 1, breaker_failures: 0, breaker_percent: 0, ..Default::default() }
}

/// The surface over a fresh database of each kind.
async fn everywhere(
    providers: &[ProviderConfig],
    all: &[ModelConfig],
    routing: &RoutingConfig,
) -> Vec<Test> {
    everywhere_with(providers, all, routing, Options::default()).await
}

async fn everywhere_with(
    providers: &[ProviderConfig],
    all: &[ModelConfig],
    routing: &RoutingConfig,
    options: Options,
) -> Vec<Test> {
    let migrations = [identity::MIGRATIONS, ledger::MIGRATIONS, metering::MIGRATIONS];
    let migrations = [&migrations.concat(), gateway::MIGRATIONS].concat();
    let mut tests = Vec::new();
    for on in databases(&migrations).await {
        let models = Models::new(providers, all, routing).unwrap();
        tests.push(start(on, models, all, options.clone()).await);
    }
    tests
}

async fn start(on: TestDatabase, models: Models, all: &[ModelConfig], options: Options) -> Test {
    let clock = FakeClock::default();
    let shared: kernel::SharedClock = Arc::new(clock.clone());
    let config = identity::Config { secret: Secret::from("a".repeat(32)) };
    let secret = ServerSecret::load(&config, Path::new("unused")).unwrap();
    let database = on.database.clone();
    let identity = Identity::open(database.clone(), secret, Arc::clone(&shared)).await.unwrap();
    let config = ledger::Config::default();
    let journal = Journal::start(database.clone(), Arc::clone(&shared), &config).unwrap();
    let versions = all.iter().filter_map(|model| {
        let price = model.price.as_ref()?;
        Some(PriceVersion::new(&model.name, price.currency, price.rates()).unwrap())
    });
    let book = PriceBook::publish(&database, versions.collect(), clock.now()).await.unwrap();
    let config = metering::Config::default();
    let metering = Metering::new(journal.clone(), database.clone(), book, shared, config);
    let org = identity.create_org("Customer", OrgKind::Customer).await.unwrap().id;
    let leg = Leg {
        from: AccountKey::new("platform", AccountKind::Grant, "CNY".parse().unwrap()),
        to: AccountKey::new(org.shared(), AccountKind::Wallet, "CNY".parse().unwrap()),
        amount: START.parse().unwrap(),
    };
    let grant = Operation::new("grant:start".to_owned(), Command::Transfer { legs: vec![leg] });
    journal.submit(grant).await.unwrap();
    let new = NewKey::new(org.clone(), "test", Role::Member);
    let api_key = identity.create_key(new).await.unwrap().api_key.expose().to_owned();
    let models = Arc::new(models);
    let gateway =
        Gateway::new(identity.clone(), metering.clone(), Arc::clone(&models), database, options);
    let router = Router::new().nest("/v1", gateway::router(gateway.clone()));
    Test { router, gateway, models, metering, identity, org, api_key, on }
}

impl Test {
    fn request(&self, method: &str, path: &str, body: String) -> Request<Body> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1{path}"))
            .header("x-api-key", &self.api_key);
        request.body(Body::from(body)).unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    fn chat_request(&self, model: &str, more: &Value) -> Request<Body> {
        let mut body =
            json!({"model": model, "messages": [{"role": "user", "content": "one two"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.request("POST", "/chat/completions", body.to_string())
    }

    /// A conversation of two words that is answered with three.
    async fn chat(&self, model: &str, more: Value) -> Answer {
        self.send(self.chat_request(model, &more)).await
    }

    /// Waits until all calls are in the books, and returns their records, oldest first.
    async fn records(&self) -> Vec<OperatorRecord> {
        self.gateway.drain().await;
        let filter = UsageFilter { org_id: Some(self.org.clone()), ..UsageFilter::default() };
        let page = PageRequest { limit: Some(1000), cursor: None };
        let mut rows = self.metering.list_calls(&filter, &page).await.unwrap().rows;
        rows.reverse();
        rows
    }

    /// What the wallet has free.
    async fn available(&self) -> Amount {
        self.metering.available(&self.org, "CNY".parse().unwrap()).await.unwrap()
    }

    /// What the customer has paid in all; nothing may still be held.
    async fn spent(&self) -> Amount {
        let start: Amount = START.parse().unwrap();
        start.checked_sub(self.available().await).unwrap()
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Status and code of a refusal.
    fn refusal(&self) -> (u16, String) {
        let code = self.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), code)
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}
