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

use http::Method;
use identity::{Config, CreatedKey, Error, Identity, MIGRATIONS, NewKey, Role, ServerSecret};
use kernel::{OrgId, PageRequest, Secret};
use testkit::{FakeClock, TestDatabase, databases};

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

/// These routes, as a surface names them.
fn routes(routes: &[(&str, &str)]) -> Vec<(Method, String)> {
    let route = |(method, path): &(&str, &str)| (method.parse().unwrap(), (*path).to_owned());
    routes.iter().map(route).collect()
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
