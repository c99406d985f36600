//! Signed requests: taken once, in time, unchanged, from the application whose secret it is.

use std::time::Duration;

use aes::cipher::{Array, BlockCipherEncrypt as _, KeyInit as _};
use axum::Router;
use axum::body::Body;
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use identity::{Authenticated, Change, Identity, NewKey, OrgKind, ReadSigned, Rule, sign};
use kernel::{AppId, Clock as _, OrgId, Timestamp};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::{Test, everywhere, new_key, open, routes};

/// An application with a secret and a key.
struct Signer {
    org_id: OrgId,
    app_id: AppId,
    secret: String,
    api_key: String,
}

async fn signer(identity: &Identity) -> Signer {
    let org_id = identity.create_org("org", OrgKind::Customer).await.unwrap().id;
    let app_id = identity.create_app(&org_id, "app").await.unwrap().id;
    let secret = identity.create_app_secret(&app_id, None).await.unwrap().secret;
    let new = NewKey { app_id: Some(app_id.clone()), ..new_key(&org_id) };
    let api_key = identity.create_key(new).await.unwrap().api_key.expose().to_owned();
    Signer { org_id, app_id, secret: secret.expose().to_owned(), api_key }
}

/// What a client of Sage sends.
fn deerer(app_id: &str, secret: &str, time: &str, api_key: &str) -> String {
    let mut key = [b'*'; 32];
    key.iter_mut().zip(secret.bytes()).for_each(|(slot, byte)| *slot = byte);
    let cipher = aes::Aes256::new(&key.into());
    let mut text = format!("{time}:{api_key}").into_bytes();
    let padding = 16 - text.len() % 16;
    text.extend(std::iter::repeat_n(u8::try_from(padding).unwrap(), padding));
    for block in text.chunks_exact_mut(16) {
        cipher.encrypt_block(<&mut Array<_, _>>::try_from(block).unwrap());
    }
    format!("Deerer {app_id}-:-{}", STANDARD.encode(text))
}

fn seconds(at: Timestamp) -> String {
    format!("{}.{:06}", at.seconds(), at.micros().rem_euclid(1_000_000))
}

impl Signer {
    fn deerer(&self, at: Timestamp) -> String {
        deerer(self.app_id.as_str(), &self.secret, &seconds(at), &self.api_key)
    }

    fn uapi(&self, (method, target): (&Method, &str), body: &str, at: Timestamp) -> String {
        let nonce = kernel::id::new();
        let app = (self.app_id.as_str(), self.secret.as_str());
        sign(app, (method, target), body.as_bytes(), (at, &nonce)).unwrap()
    }
}

/// Who calls, and with what body; under a path that its handlers do not see whole.
fn surface(identity: &Identity) -> Router {
    let rule = Rule { method: "*", path: "/api/path", roles: &["logined"], scope: "" };
    let all = ["GET", "POST", "PUT"].map(|method| (method, "/api/path"));
    identity.govern(routes(&all), &[rule]);
    let handler = |Authenticated(caller): Authenticated, body: String| async move {
        format!("{} {} {body}", caller.org_id, caller.app_id.as_ref().unwrap())
    };
    let inner = Router::new().route("/path", any(handler)).with_state(identity.clone());
    Router::new().nest("/api", inner).layer(ReadSigned::new(identity.clone(), 1000))
}

/// The answer, or a refusal's code.
async fn ask(
    identity: &Identity,
    (method, target): (&Method, &str),
    authorization: &str,
    body: &str,
) -> String {
    let request = Request::builder().method(method).uri(target);
    let request = request.header("authorization", authorization).body(Body::from(body.to_owned()));
    let response = surface(identity).oneshot(request.unwrap()).await.unwrap();
    let refused = !response.status().is_success();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    if !refused {
        return text;
    }
    let refusal: Value = serde_json::from_str(&text).unwrap();
    refusal["code"].as_str().unwrap().to_owned()
}

impl Test {
    async fn get(&self, authorization: &str) -> String {
        ask(&self.identity, (&Method::GET, "/api/path"), authorization, "").await
    }
}

#[tokio::test]
async fn deerer_lets_its_application_in_once() {
    for test in everywhere().await {
        let app = signer(&test.identity).await;
        let header = app.deerer(test.clock.now());
        assert_eq!(
            test.get(&header).await,
            format!("{} {} ", app.org_id, app.app_id),
            "{}",
            test.on.kind
        );
        assert_eq!(test.get(&header).await, "signature_replayed", "{}", test.on.kind);
        test.clock.advance(Duration::from_micros(1));
        assert!(test.get(&app.deerer(test.clock.now())).await.starts_with(app.org_id.as_str()));
        let whole = test.clock.now().seconds().to_string();
        let whole = deerer(app.app_id.as_str(), &app.secret, &whole, &app.api_key);
        assert!(test.get(&whole).await.starts_with(app.org_id.as_str()), "whole seconds");
    }
}

#[tokio::test]
async fn deerer_refuses_the_wrong_clock_secret_application_and_key() {
    for test in everywhere().await {
        let (app, other) = (signer(&test.identity).await, signer(&test.identity).await);
        let now = test.clock.now();
        let at =
            |seconds: i64| app.deerer(Timestamp::from_micros(now.micros() + seconds * 1_000_000));
        for (off, expected) in [(-301, "signature_expired"), (301, "signature_expired")] {
            assert_eq!(test.get(&at(off)).await, expected, "{} {off}", test.on.kind);
        }
        for off in [-299, 299] {
            assert!(test.get(&at(off)).await.starts_with(app.org_id.as_str()), "{off}");
        }
        let (id, time) = (app.app_id.as_str(), seconds(now));
        let unbound = test.identity.create_key(new_key(&app.org_id)).await.unwrap();
        let cases = [
            (deerer(id, &other.secret, &time, &app.api_key), "invalid_signature"),
            (deerer(other.app_id.as_str(), &app.secret, &time, &app.api_key), "invalid_signature"),
            (deerer("nobody", &app.secret, &time, &app.api_key), "invalid_signature"),
            (deerer(id, &app.secret, &time, &other.api_key), "invalid_signature"),
            (deerer(id, &app.secret, &time, unbound.api_key.expose()), "invalid_signature"),
            (deerer(id, &app.secret, &time, "unknown"), "invalid_api_key"),
            (deerer(id, &app.secret, "now", &app.api_key), "invalid_signature"),
            (format!("Deerer {id}"), "invalid_signature"),
            (format!("Deerer {id}-:-%%%"), "invalid_signature"),
            (format!("Deerer {id}-:-{}", "A".repeat(4000)), "invalid_signature"),
            ("Deerer".to_owned(), "missing_credential"),
        ];
        for (header, code) in cases {
            assert_eq!(test.get(&header).await, code, "{} {header}", test.on.kind);
        }
    }
}

#[tokio::test]
async fn deerer_can_be_switched_off_and_applications_too() {
    for test in everywhere().await {
        let app = signer(&test.identity).await;
        let off = test.identity.set_deerer(&app.app_id, false).await.unwrap();
        assert!(!off.deerer && off.created_at.is_some());
        assert_eq!(test.get(&app.deerer(test.clock.now())).await, "deerer_disabled");
        let way = (&Method::GET, "/api/path");
        let signed = app.uapi(way, "", test.clock.now());
        assert!(test.get(&signed).await.starts_with(app.org_id.as_str()), "{}", test.on.kind);
        test.identity.set_deerer(&app.app_id, true).await.unwrap();
        assert!(test.get(&app.deerer(test.clock.now())).await.starts_with(app.org_id.as_str()));
        let disable = Change { disabled: Some(true), ..Change::default() };
        test.identity.change_app(&app.app_id, disable).await.unwrap();
        test.clock.advance(Duration::from_secs(1));
        for header in [app.deerer(test.clock.now()), app.uapi(way, "", test.clock.now())] {
            assert_eq!(test.get(&header).await, "api_key_disabled", "{}", test.on.kind);
        }
    }
}

#[tokio::test]
async fn a_signed_request_is_taken_once_and_unchanged() {
    for test in everywhere().await {
        let app = signer(&test.identity).await;
        let (now, body) = (test.clock.now(), "{\"amount\":\"1\"}");
        let way = (&Method::POST, "/api/path?b=2&a=1");
        let header = app.uapi(way, body, now);
        for changed in [
            (ask(&test.identity, way, &header, "{\"amount\":\"9\"}").await),
            (ask(&test.identity, (&Method::PUT, way.1), &header, body).await),
            (ask(&test.identity, (way.0, "/api/path?b=2&a=2"), &header, body).await),
            (ask(&test.identity, (way.0, "/api/path"), &header, body).await),
            (ask(&test.identity, way, &header.replace("nonce=0", "nonce=1"), body).await),
            (ask(&test.identity, way, &header.replace("key=", "key=x"), body).await),
        ] {
            assert_eq!(changed, "invalid_signature", "{}", test.on.kind);
        }
        let reordered = (way.0, "/api/path?a=1&b=2");
        let answer = ask(&test.identity, reordered, &header, body).await;
        assert_eq!(answer, format!("{} {} {body}", app.org_id, app.app_id), "{}", test.on.kind);
        assert_eq!(ask(&test.identity, way, &header, body).await, "signature_replayed");
        let large = "x".repeat(1001);
        let header = app.uapi(way, &large, now);
        assert_eq!(ask(&test.identity, way, &header, &large).await, "signed_body");
        for off in [-301, 301] {
            let at = Timestamp::from_micros(now.micros() + off * 1_000_000);
            let header = app.uapi(way, body, at);
            assert_eq!(ask(&test.identity, way, &header, body).await, "signature_expired", "{off}");
        }
    }
}

#[tokio::test]
async fn without_its_layer_a_signed_request_is_refused() {
    let test = everywhere().await.swap_remove(0);
    let app = signer(&test.identity).await;
    let handler = |Authenticated(_): Authenticated| async {};
    let bare = Router::new().route("/path", any(handler)).with_state(test.identity.clone());
    let header = app.uapi((&Method::GET, "/path"), "", test.clock.now());
    let request = Request::get("/path").header("authorization", header).body(Body::empty());
    assert_eq!(bare.oneshot(request.unwrap()).await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_new_secret_lets_the_old_one_work_for_a_while() {
    for test in everywhere().await {
        let app = signer(&test.identity).await;
        let until = test.clock.now().after(Duration::from_mins(1));
        let made = test.identity.create_app_secret(&app.app_id, Some(until)).await.unwrap();
        let new = Signer { secret: made.secret.expose().to_owned(), ..signer_of(&app) };
        assert_ne!(new.secret, app.secret);
        let way = (&Method::GET, "/api/path");
        for header in [app.uapi(way, "", test.clock.now()), app.deerer(test.clock.now())] {
            assert!(test.get(&header).await.starts_with(app.org_id.as_str()), "{}", test.on.kind);
        }
        test.clock.advance(Duration::from_secs(61));
        for header in [app.uapi(way, "", test.clock.now()), app.deerer(test.clock.now())] {
            assert_eq!(test.get(&header).await, "invalid_signature", "{}", test.on.kind);
        }
        for header in [new.uapi(way, "", test.clock.now()), new.deerer(test.clock.now())] {
            assert!(test.get(&header).await.starts_with(app.org_id.as_str()), "{}", test.on.kind);
        }
        let stored = stored(&test).await;
        assert!(!stored.is_empty());
        for secret in [&new.secret, &app.secret] {
            assert!(!stored.contains(secret.as_str()), "sealed at rest");
        }
    }
}

fn signer_of(app: &Signer) -> Signer {
    Signer {
        org_id: app.org_id.clone(),
        app_id: app.app_id.clone(),
        secret: app.secret.clone(),
        api_key: app.api_key.clone(),
    }
}

/// Everything that is kept of secrets.
async fn stored(test: &Test) -> String {
    let sql = "SELECT sealed, old_sealed FROM identity_app_secrets";
    let rows = test.on.database.query(sql, &[]).await.unwrap();
    let cells = rows.iter().flat_map(|row| [row.bytes(0).unwrap(), row.bytes(1).unwrap()]);
    cells.map(String::from_utf8_lossy).collect()
}

#[tokio::test]
async fn instances_share_the_memory_of_what_was_answered() {
    for test in everywhere().await {
        let app = signer(&test.identity).await;
        test.clock.advance(Duration::from_secs(1));
        let before = app.deerer(test.clock.now());
        assert!(test.get(&before).await.starts_with(app.org_id.as_str()));
        test.clock.advance(Duration::from_secs(1));
        let another = open(&test.on, &test.clock, 'a').await.unwrap();
        let way = (&Method::GET, "/api/path");
        // On SQLite the other instance is a process after this one, and takes nothing from before.
        let expected =
            if test.on.kind == "sqlite" { "signature_expired" } else { "signature_replayed" };
        assert_eq!(ask(&another, way, &before, "").await, expected, "{}", test.on.kind);
        let after = app.uapi(way, "", test.clock.now());
        assert!(ask(&another, way, &after, "").await.starts_with(app.org_id.as_str()));
    }
}
