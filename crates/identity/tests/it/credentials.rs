//! What a request must carry to reach a handler.

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use identity::{Admin, Authenticated, Change, Identity, NewKey, OrgKind, PLATFORM, Role, Rule};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::{everywhere, new_key, routes};

type Headers<'a> = &'a [(&'a str, &'a str)];

const RULES: &[Rule] = &[
    Rule { method: "GET", path: "/mine", roles: &["logined"], scope: "" },
    Rule { method: "GET", path: "/all", roles: &["platform.admin", "customer.*"], scope: "" },
];

fn surface(identity: &Identity) -> Router {
    identity.govern(routes(&[("GET", "/mine"), ("GET", "/all")]), RULES);
    Router::new()
        .route(
            "/mine",
            get(|Authenticated(caller): Authenticated| async move { caller.org_id.to_string() }),
        )
        .route("/all", get(|Admin(caller): Admin| async move { caller.org_id.to_string() }))
        .with_state(identity.clone())
}

async fn ask(surface: &Router, path: &str, headers: Headers<'_>) -> Response<Body> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    surface.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Status and code of a refusal.
async fn refusal(response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    let authenticate = response.headers().get("www-authenticate").cloned();
    assert_eq!(authenticate.is_some_and(|value| value == "Bearer"), status == 401);
    let body: Value = serde_json::from_str(&text(response).await).unwrap();
    (status, body["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn either_header_lets_its_caller_in() {
    for test in everywhere().await {
        let org = test.identity.create_org("org", OrgKind::Customer).await.unwrap();
        let key = test.identity.create_key(new_key(&org.id)).await.unwrap();
        let (api_key, surface) = (key.api_key.expose(), surface(&test.identity));
        let bearer = format!("Bearer {api_key}");
        let lower = format!("bearer  {api_key}");
        let ways: [Headers<'_>; 4] = [
            &[("authorization", &bearer)],
            &[("authorization", &lower)],
            &[("x-api-key", api_key)],
            &[("authorization", &bearer), ("x-api-key", api_key)],
        ];
        for headers in ways {
            let answer = ask(&surface, "/mine", headers).await;
            assert_eq!(answer.status().as_u16(), 200, "{}", test.on.kind);
            assert_eq!(text(answer).await, org.id.as_str());
        }
        assert_eq!(refusal(ask(&surface, "/all", ways[0]).await).await, (403, "admin_only".into()));
    }
}

#[tokio::test]
async fn only_an_administrators_key_is_one() {
    for test in everywhere().await {
        let admin = NewKey { role: Role::Admin, ..new_key(&PLATFORM.into()) };
        let key = test.identity.create_key(admin).await.unwrap();
        let surface = surface(&test.identity);
        let answer = ask(&surface, "/all", &[("x-api-key", key.api_key.expose())]).await;
        assert_eq!(text(answer).await, PLATFORM);
        let nobody = ask(&surface, "/all", &[]).await;
        assert_eq!(refusal(nobody).await, (401, "missing_credential".into()));
    }
}

#[tokio::test]
async fn every_other_credential_is_refused_by_name() {
    for test in everywhere().await {
        let (identity, org) = (&test.identity, PLATFORM.into());
        let surface = surface(identity);
        let good = identity.create_key(new_key(&org)).await.unwrap();
        let past = NewKey { expires_at: Some(kernel::Timestamp::default()), ..new_key(&org) };
        let expired = identity.create_key(past).await.unwrap();
        let disabled = identity.create_key(new_key(&org)).await.unwrap();
        let disable = Change { name: None, disabled: Some(true) };
        identity.change_key(&disabled.id, disable).await.unwrap();
        let bearer = format!("Bearer {}", good.api_key.expose());
        let near = format!("llk_abcdefgh_{}", "A".repeat(43));
        let cases: [(Headers<'_>, u16, &str); 9] = [
            (&[], 401, "missing_credential"),
            (&[("authorization", "Bearer ")], 401, "missing_credential"),
            (&[("authorization", "Basic abc")], 401, "missing_credential"),
            (&[("x-api-key", "")], 401, "missing_credential"),
            (&[("x-api-key", "sk-123")], 401, "invalid_api_key"),
            (&[("x-api-key", &near)], 401, "invalid_api_key"),
            (&[("x-api-key", expired.api_key.expose())], 401, "api_key_expired"),
            (&[("x-api-key", disabled.api_key.expose())], 401, "api_key_disabled"),
            (&[("authorization", &bearer), ("x-api-key", &near)], 400, "two_credentials"),
        ];
        for (headers, status, code) in cases {
            let refused = refusal(ask(&surface, "/mine", headers).await).await;
            assert_eq!(refused, (status, code.to_owned()), "{}", test.on.kind);
        }
    }
}
