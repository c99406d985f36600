//! `/admin` as an administrator's client sees it, on every database there is.
#![cfg(test)]

mod access;
mod alerts;
mod audit;
mod keys;
mod limits;
mod money;
mod orgs;
mod prices;
mod providers;
mod roles;
mod writes;

use std::path::Path;
use std::sync::Arc;

use ::alerts::Alerts;
use admin::Admin;
use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use identity::{Identity, NewKey, PLATFORM, Role, ServerSecret};
use kernel::{Clock as _, OrgId, Secret};
use ledger::Journal;
use metering::{Metering, PriceBook};
use serde_json::{Value, json};
use testkit::{FakeClock, TestDatabase, databases};
use tower::ServiceExt as _;
use web::ClientIp;

/// The surface over one fresh database.
struct Test {
    router: Router,
    admin: Admin,
    identity: Identity,
    api_key: String,
    clock: FakeClock,
    on: TestDatabase,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

/// The surface over a fresh database of each kind.
async fn everywhere() -> Vec<Test> {
    let migrations =
        [identity::MIGRATIONS, ledger::MIGRATIONS, metering::MIGRATIONS, admin::MIGRATIONS];
    let migrations = [&migrations.concat(), models::MIGRATIONS, ::alerts::MIGRATIONS].concat();
    let mut all = Vec::new();
    for on in databases(&migrations).await {
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
    let book = PriceBook::publish(&database, vec![], clock.now()).await.unwrap();
    let config = metering::Config::default();
    let metering =
        Metering::new(journal.clone(), database.clone(), book, Arc::clone(&shared), config);
    let models = Arc::new(providers::models());
    let config = ::alerts::Config::default();
    let alerts = Alerts::new(database.clone(), identity.clone(), shared, config).unwrap();
    let admin = Admin { identity: identity.clone(), journal, metering, models, alerts, database };
    let api_key = key(&identity, PLATFORM.into(), Role::Admin).await;
    let router = Router::new().nest("/admin", admin::router(admin.clone()));
    Test { router, admin, identity, api_key, clock, on }
}

/// A new key of the organization.
async fn key(identity: &Identity, org_id: OrgId, role: Role) -> String {
    let new = NewKey::new(org_id, "test", role);
    identity.create_key(new).await.unwrap().api_key.expose().to_owned()
}

impl Test {
    /// A request to the surface, whose paths are written without its own.
    async fn send(&self, mut request: Request<Body>) -> Answer {
        *request.uri_mut() = format!("/admin{}", request.uri()).parse().unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// The body of an answer that is not JSON.
    async fn text_of(&self, request: Request<Body>) -> String {
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert!(response.status().is_success(), "{response:?}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// The administrator asks.
    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask_with(method, path, body, &[]).await
    }

    async fn ask_with(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request =
            Request::builder().method(method).uri(path).header("x-api-key", &self.api_key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let address = ClientIp(Some([192, 0, 2, 7].into()));
        let request = request.extension(address);
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, &body.to_string()).await
    }

    async fn patch(&self, path: &str, body: Value) -> Answer {
        self.ask("PATCH", path, &body.to_string()).await
    }

    /// A new customer's id.
    async fn customer(&self) -> String {
        let made = self.post("/orgs", json!({"name": "Customer", "kind": "customer"})).await;
        made.text("id")
    }

    /// What the key opens: the id of its organization, or the code of its refusal.
    async fn who(&self, api_key: &str) -> String {
        match self.identity.authenticate(api_key).await {
            Ok(caller) => caller.org_id.to_string(),
            Err(error) => web::Error::from(error).code.to_owned(),
        }
    }
}

impl Answer {
    fn text(&self, member: &str) -> String {
        self.body[member].as_str().unwrap_or_else(|| panic!("{member} in {self:?}")).to_owned()
    }

    /// Status and code of a refusal.
    fn refusal(&self) -> (u16, &str) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        (self.status.as_u16(), self.body["code"].as_str().unwrap_or_default())
    }

    /// The ids of a list's rows.
    fn ids(&self) -> Vec<&str> {
        let rows = self.body["rows"].as_array().unwrap();
        rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
    }
}
