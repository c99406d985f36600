//! Every route there is × every kind of caller, compared with what was reviewed.

use std::fmt::Write as _;
use std::path::Path;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use identity::{Identity, Limits, NewKey, OrgKind, PLATFORM, Role, Route};
use kernel::Timestamp;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::app::{App, document};
use crate::config::Config;

const FILE: &str = "docs/access-matrix.md";
const HEAD: &str = "# Who may use which route

Kept by a test, which asks every route as every kind of caller: 401 and 403 are refusals, everything else
is `yes`. After a change of routes or rules, run
`UPDATE_ACCESS_MATRIX=1 cargo test -p ledgerline every_route`, look at what changed, and commit it.
`other address` and `other scope` are administrators' keys, used from elsewhere and limited to another scope.
A caller's roles are its organization's kind and its key's role.

";
/// Documented, and open by its contract.
const OPEN: [&str; 4] = ["/api/v1/health", "/ok", "/info", "/.well-known/agent-card.json"];
/// Not in the API's description: what everybody may ask.
const PUBLIC: [&str; 7] = ["/", "/livez", "/readyz", "/health", "/openapi.json", "/docs", "/redoc"];

/// A kind of caller and a key of one.
struct Kind {
    name: String,
    key: Option<String>,
}

/// Every kind of caller that could be told apart.
async fn kinds(identity: &Identity) -> Vec<Kind> {
    let admin = || NewKey::new(PLATFORM.into(), "key", Role::Admin);
    let elsewhere = Limits { allowed_ips: vec!["192.0.2.7".parse().unwrap()], ..Limits::NONE };
    let expired = NewKey { expires_at: Some(Timestamp::default()), ..admin() };
    let mut all = vec![("expired key".to_owned(), expired)];
    all.push(("other address".to_owned(), NewKey { limits: elsewhere, ..admin() }));
    let embeddings = Limits { scopes: vec!["embeddings".to_owned()], ..Limits::NONE };
    all.push(("other scope".to_owned(), NewKey { limits: embeddings, ..admin() }));
    for kind in [OrgKind::Customer, OrgKind::Distributor, OrgKind::Provider, OrgKind::Platform] {
        let org = identity.create_org("org", kind).await.unwrap();
        for role in [Role::Member, Role::Admin] {
            let name = format!("{kind:?}.{role:?}").to_lowercase();
            all.push((name, NewKey::new(org.id.clone(), "key", role)));
        }
    }
    let mut kinds = vec![
        Kind { name: "nobody".to_owned(), key: None },
        Kind { name: "unknown key".to_owned(), key: Some("unknown".to_owned()) },
    ];
    for (name, new) in all {
        let created = identity.create_key(new).await.unwrap();
        kinds.push(Kind { name, key: Some(created.api_key.expose().to_owned()) });
    }
    kinds
}

/// The methods and paths of the API's description and beside it.
fn routes() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&document().to_json().unwrap()).unwrap();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let known = ["get", "post", "put", "patch", "delete"];
        let methods = methods.as_object().unwrap().keys();
        let methods = methods.filter(|method| known.contains(&method.as_str()));
        routes.extend(methods.map(|method| (method.to_uppercase(), path.clone())));
    }
    routes.extend(PUBLIC.map(|path| ("GET".to_owned(), path.to_owned())));
    routes
}

async fn outcome(router: &Router, (method, path): &(String, String), kind: &Kind) -> &'static str {
    let path = path.replace(['{', '}'], "");
    let mut request = Request::builder().method(method.as_str()).uri(path);
    if let Some(key) = &kind.key {
        request = request.header("x-api-key", key);
    }
    let request = request.body(Body::from("not JSON")).unwrap();
    match router.clone().oneshot(request).await.unwrap().status() {
        StatusCode::UNAUTHORIZED => "401",
        StatusCode::FORBIDDEN => "403",
        StatusCode::METHOD_NOT_ALLOWED => "405",
        _ => "yes",
    }
}

async fn table(app: &App) -> String {
    let kinds = kinds(&app.engines.identity).await;
    let ruled = app.engines.identity.routes();
    let scope = |(method, path): &(String, String)| {
        let same = |route: &&Route| route.method == *method && route.path == *path;
        ruled.iter().find(same).map_or("", |route| route.scope)
    };
    let mut text = HEAD.to_owned();
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name.as_str()).collect();
    writeln!(text, "| route | scope | {} |", names.join(" | ")).unwrap();
    writeln!(text, "|---|---{}|", "|---".repeat(names.len())).unwrap();
    for route in routes() {
        let mut row = format!("| `{} {}` | {} |", route.0, route.1, scope(&route));
        for kind in &kinds {
            let outcome = outcome(&app.router, &route, kind).await;
            let public = PUBLIC.contains(&route.1.as_str()) || OPEN.contains(&route.1.as_str());
            assert!(
                kind.key.is_some() || public || outcome == "401",
                "{route:?} asks nobody who it is"
            );
            write!(row, " {outcome} |").unwrap();
        }
        writeln!(text, "{row}").unwrap();
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says so by the environment")]
fn update() -> bool {
    std::env::var("UPDATE_ACCESS_MATRIX").is_ok()
}

#[tokio::test]
async fn every_route_lets_in_whom_the_reviewed_table_says() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { data: folder.path().to_owned(), ..Config::default() };
    let app = App::open(&config).await.unwrap();
    let found = table(&app).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(FILE);
    if update() {
        std::fs::write(&file, &found).unwrap();
    }
    let reviewed = std::fs::read_to_string(&file).unwrap_or_default();
    for (found, reviewed) in found.lines().zip(reviewed.lines()) {
        assert_eq!(found, reviewed, "{FILE} says how to go on");
    }
    assert_eq!(found.lines().count(), reviewed.lines().count(), "{FILE} says how to go on");
}

#[tokio::test]
async fn the_description_that_is_served_is_the_reviewed_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { data: folder.path().to_owned(), ..Config::default() };
    let app = App::open(&config).await.unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let reviewed: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    for _ in ["made", "kept"] {
        let request = Request::get("/openapi.json").body(Body::empty()).unwrap();
        let response = app.router.clone().oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let served: Value = serde_json::from_slice(&body).unwrap();
        assert!(served == reviewed, "`cargo xtask openapi` writes what is served");
    }
}

#[tokio::test]
async fn every_route_of_the_description_has_a_rule() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { data: folder.path().to_owned(), ..Config::default() };
    let app = App::open(&config).await.unwrap();
    let ruled = app.engines.identity.routes();
    for (method, path) in routes() {
        if PUBLIC.contains(&path.as_str()) {
            continue;
        }
        let route = ruled.iter().find(|route| route.method == method && route.path == path);
        let route = route.unwrap_or_else(|| panic!("{method} {path}: its surface governs nothing"));
        assert!(!route.roles.is_empty(), "{method} {path}: no rule of its surface lets anybody in");
    }
}
