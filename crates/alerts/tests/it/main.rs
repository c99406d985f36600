//! Alerts as their receivers see them, on every database there is.
#![cfg(test)]

mod crossings;
mod deliveries;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alerts::{Alert, Alerts, Config, Delivery, DeliveryFilter, NewAlert, SigningKey, Watcher};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, Uri};
use identity::{Identity, OrgKind, ServerSecret};
use kernel::{Amount, OrgId, PageRequest, Secret, SharedClock};
use ledger::{AccountKey, AccountKind, Command, HoldLeg, Journal, Leg, Operation};
use parking_lot::Mutex;
use testkit::{FakeClock, TestDatabase, databases};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// An instance over one fresh database, and a receiver of its webhooks.
struct Test {
    alerts: Alerts,
    identity: Identity,
    journal: Journal,
    org: OrgId,
    clock: FakeClock,
    receiver: Receiver,
    on: TestDatabase,
}

/// What a receiver got.
#[derive(Clone, Debug)]
struct Received {
    path: String,
    headers: HeaderMap,
    body: String,
}

/// A receiver that answers as a test says.
#[derive(Clone)]
struct Receiver {
    script: Arc<Mutex<Script>>,
    /// A request has come.
    came: Arc<Notify>,
    url: String,
}

struct Script {
    received: Vec<Received>,
    status: u16,
    /// Takes the request and never answers.
    silent: bool,
}

async fn receive(
    State(receiver): State<Receiver>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = String::from_utf8(body.to_vec()).unwrap();
    let (status, silent) = {
        let mut script = receiver.script.lock();
        script.received.push(Received { path: uri.path().to_owned(), headers, body });
        (StatusCode::from_u16(script.status).unwrap(), script.silent)
    };
    receiver.came.notify_one();
    if silent {
        std::future::pending::<()>().await;
    }
    // Only a redirection makes anything of it.
    (status, [("location", "/elsewhere")]).into_response()
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let script = Script { received: Vec::new(), status: 204, silent: false };
        let receiver = Self { script: Arc::new(Mutex::new(script)), came: Arc::default(), url };
        let router = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        receiver
    }

    fn answer(&self, status: u16) {
        self.script.lock().status = status;
    }

    fn received(&self) -> Vec<Received> {
        self.script.lock().received.clone()
    }
}

impl Received {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// The signature fits, as a receiver finds out.
    fn verifies(&self, secret: &str) -> bool {
        let seconds = self.header("webhook-timestamp").parse().unwrap();
        let (id, signature) = (self.header("webhook-id"), self.header("webhook-signature"));
        SigningKey::read(secret).unwrap().verify(signature, id, seconds, &self.body)
    }

    fn event(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An instance over a fresh database of each kind, with an organization that has 100 CNY.
async fn everywhere() -> Vec<Test> {
    let migrations = [identity::MIGRATIONS, ledger::MIGRATIONS, alerts::MIGRATIONS].concat();
    let mut all = Vec::new();
    for on in databases(&migrations).await {
        let clock = FakeClock::default();
        let shared: SharedClock = Arc::new(clock.clone());
        let config = identity::Config { secret: Secret::from("a".repeat(32)) };
        let secret = ServerSecret::load(&config, Path::new("unused")).unwrap();
        let identity =
            Identity::open(on.database.clone(), secret, Arc::clone(&shared)).await.unwrap();
        let config = ledger::Config::default();
        let journal = Journal::start(on.database.clone(), Arc::clone(&shared), &config).unwrap();
        let alerts = instance(&on, &identity, shared, config_for_tests());
        let org = identity.create_org("Customer", OrgKind::Customer).await.unwrap().id;
        let receiver = Receiver::start().await;
        let test = Test { alerts, identity, journal, org, clock, receiver, on };
        test.move_money(AccountKind::Grant, 100).await;
        all.push(test);
    }
    all
}

fn config_for_tests() -> Config {
    Config { allowed_hosts: vec!["127.0.0.1".to_owned()], timeout_seconds: 1, ..Config::default() }
}

fn instance(on: &TestDatabase, identity: &Identity, clock: SharedClock, config: Config) -> Alerts {
    Alerts::new(on.database.clone(), identity.clone(), clock, config).unwrap()
}

fn cny(units: i64) -> Amount {
    Amount::from_units(units).unwrap()
}

impl Test {
    /// Another instance on the same database.
    fn another(&self) -> Alerts {
        self.another_with(config_for_tests())
    }

    fn another_with(&self, config: Config) -> Alerts {
        instance(&self.on, &self.identity, Arc::new(self.clock.clone()), config)
    }

    fn account(&self, kind: AccountKind) -> AccountKey {
        let owner: Arc<str> = match kind {
            AccountKind::Wallet => self.org.shared(),
            _ => "platform".into(),
        };
        AccountKey::new(owner, kind, "CNY".parse().unwrap())
    }

    /// Into the wallet from a grant, or out of it to the revenue.
    async fn move_money(&self, other: AccountKind, units: i64) {
        let (wallet, other) = (self.account(AccountKind::Wallet), self.account(other));
        let (from, to) = match other.kind {
            AccountKind::Grant => (other, wallet),
            _ => (wallet, other),
        };
        let legs = vec![Leg { from, to, amount: cny(units) }];
        let operation = Operation::new(kernel::id::new(), Command::Transfer { legs });
        let receipt = self.journal.submit(operation).await.unwrap();
        assert!(matches!(receipt.outcome, ledger::Outcome::Applied(_)), "{receipt:?}");
    }

    async fn spend(&self, units: i64) {
        self.move_money(AccountKind::Revenue, units).await;
    }

    async fn top_up(&self, units: i64) {
        self.move_money(AccountKind::Grant, units).await;
    }

    async fn hold(&self, units: i64) {
        let leg = HoldLeg { account: self.account(AccountKind::Wallet), amount: cny(units) };
        let lease_until = kernel::Clock::now(&self.clock).after(Duration::from_mins(1));
        let command = Command::Hold { legs: vec![leg], claims: vec![], lease_until };
        self.journal.submit(Operation::new(kernel::id::new(), command)).await.unwrap();
    }

    /// An alert at so many CNY, and its secret.
    async fn alert(&self, units: i64) -> (Alert, String) {
        let new = NewAlert {
            currency: "CNY".parse().unwrap(),
            amount: cny(units),
            url: self.receiver.url.clone(),
        };
        let created = self.alerts.create(&self.identity, &self.org, new).await.unwrap();
        (created.alert, created.secret.expose().to_owned())
    }

    async fn deliveries(&self) -> Vec<Delivery> {
        let all = PageRequest { limit: Some(1000), cursor: None };
        self.alerts.deliveries(&self.org, &DeliveryFilter::default(), &all).await.unwrap().rows
    }

    fn watcher(&self) -> Watcher {
        Watcher::new(self.alerts.clone())
    }
}
