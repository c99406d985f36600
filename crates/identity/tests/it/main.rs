//! Who is who, on every database there is.
#![cfg(test)]

mod access;
mod credentials;
mod edits;
mod instances;
mod keys;
mod organizations;
mod signing;

use std::path::Path;
use std::sync::Arc;

use identity::{Config, CreatedKey, Error, Identity, MIGRATIONS, NewKey, Role, ServerSecret};
use kernel::{OrgId, PageRequest, Secret};
use serde_json::json;
use testkit::{FakeClock, TestDatabase, databases};
use utoipa::openapi::OpenApi;

/// The service on one fresh database.
struct Test {
    identity: Identity,
    clock: FakeClock,
    on: TestDatabase,
}

/// The service on a fresh database of each kind.
async fn everywhere() -> Vec<Test> {
    let mut all = Vec::new();
    for on in databases(MIGRATIONS).await {
        let clock = FakeClock::default();
        let identity = open(&on, &clock, 'a').await.unwrap();
        all.push(Test { identity, clock, on });
    }
    all
}

/// One more instance, whose secret is made of this letter.
async fn open(on: &TestDatabase, clock: &FakeClock, letter: char) -> identity::Result<Identity> {
    let config = Config { secret: Secret::from(letter.to_string().repeat(32)) };
    let secret = ServerSecret::load(&config, Path::new("unused"))?;
    Identity::open(on.database.clone(), secret, Arc::new(clock.clone())).await
}

fn new_key(org_id: &OrgId) -> NewKey {
    NewKey::new(org_id.clone(), "key", Role::Member)
}

/// A description of these routes, as a surface has one.
fn described(routes: &[(&str, &str)]) -> OpenApi {
    let mut paths = json!({});
    for (method, path) in routes {
        paths[path][method.to_lowercase()] = json!({"responses": {}});
    }
    let info = json!({"title": "test", "version": "1"});
    serde_json::from_value(json!({"openapi": "3.1.0", "info": info, "paths": paths})).unwrap()
}

fn page(limit: u32) -> PageRequest {
    PageRequest { limit: Some(limit), cursor: None }
}

/// What presenting the key gives: `ok`, or the error in a word.
async fn present(identity: &Identity, key: &CreatedKey) -> &'static str {
    match identity.authenticate(key.api_key.expose()).await {
        Ok(_) => "ok",
        Err(Error::UnknownKey) => "unknown",
        Err(Error::DisabledKey) => "disabled",
        Err(Error::ExpiredKey) => "expired",
        Err(other) => panic!("{other}"),
    }
}
