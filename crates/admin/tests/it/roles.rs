//! Roles and rules in use, and what keys may be limited to.

use axum::body::Body;
use http::Request;
use identity::Role;
use serde_json::json;

use crate::{Answer, Test, everywhere, key};

async fn knock(test: &Test, method: &str, path: &str, api_key: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header("x-api-key", api_key);
    test.send(request.body(Body::from("{}")).unwrap()).await
}

#[tokio::test]
async fn an_auditor_reads_the_log_and_nothing_else() {
    for test in everywhere().await {
        test.post("/roles", json!({"id": "platform.auditor", "name": "Auditor"})).await;
        let rule = json!({"role": "platform.auditor", "method": "GET", "path": "/admin/audit"});
        let rule = test.post("/rules", rule).await;
        assert_eq!(rule.status.as_u16(), 201, "{rule:?}");
        let user = test.post("/orgs/platform/users", json!({"name": "u"})).await.text("id");
        let made = test.post("/orgs/platform/keys", json!({"name": "k", "user_id": user})).await;
        let auditor = made.text("api_key");
        assert_eq!(knock(&test, "GET", "/audit", &auditor).await.refusal(), (403, "admin_only"));
        let given =
            test.patch(&format!("/users/{user}"), json!({"roles": ["platform.auditor"]})).await;
        assert_eq!(given.body["roles"], json!(["platform.auditor"]), "{given:?}");
        assert_eq!(knock(&test, "GET", "/audit", &auditor).await.status.as_u16(), 200);
        assert_eq!(knock(&test, "GET", "/orgs", &auditor).await.refusal(), (403, "admin_only"));
        assert_eq!(knock(&test, "POST", "/orgs", &auditor).await.refusal(), (403, "admin_only"));
        let routes = test.get("/routes").await;
        let audit = routes.body["rows"].as_array().unwrap().iter();
        let audit: Vec<_> = audit.filter(|route| route["path"] == "/admin/audit").collect();
        assert_eq!(audit[0]["roles"], json!(["platform.admin", "platform.auditor"]));
        assert_eq!((audit.len(), &audit[0]["scope"]), (1, &json!("admin:read")));
        test.ask("DELETE", &format!("/rules/{}", rule.text("id")), "").await;
        assert_eq!(knock(&test, "GET", "/audit", &auditor).await.refusal(), (403, "admin_only"));
    }
}

#[tokio::test]
async fn no_rule_lets_a_customer_administer() {
    for test in everywhere().await {
        let everything = json!({"role": "any", "method": "*", "path": "/**"});
        assert_eq!(test.post("/rules", everything).await.status.as_u16(), 201);
        let org = test.customer().await;
        let owner = key(&test.identity, org.as_str().into(), Role::Admin).await;
        for (method, path) in [("GET", "/orgs"), ("POST", "/orgs"), ("GET", "/audit")] {
            let refused = knock(&test, method, path, &owner).await;
            assert_eq!(refused.refusal(), (403, "admin_only"), "{method} {path}");
        }
        let member = key(&test.identity, "platform".into(), Role::Member).await;
        assert_eq!(knock(&test, "GET", "/orgs", &member).await.status.as_u16(), 200);
        let nobody = Request::get("/orgs").body(Body::empty()).unwrap();
        assert_eq!(test.send(nobody).await.refusal(), (401, "missing_credential"));
    }
}

#[tokio::test]
async fn an_administrators_key_may_be_limited_to_reading() {
    for test in everywhere().await {
        let body = json!({"name": "k", "role": "admin", "scopes": ["admin:read"], "models": ["gpt-*"],
            "allowed_ips": ["192.0.2.0/24", "2001:db8::1"]});
        let made = test.post("/orgs/platform/keys", body).await;
        let shown = test.get(&format!("/keys/{}", made.text("id"))).await;
        assert_eq!(
            shown.body["allowed_ips"],
            json!(["192.0.2.0/24", "2001:db8::1"]),
            "{}",
            test.on.kind
        );
        assert_eq!(
            (&shown.body["scopes"], &shown.body["models"]),
            (&json!(["admin:read"]), &json!(["gpt-*"]))
        );
        let limited = Test { api_key: made.text("api_key"), ..test };
        assert_eq!(limited.get("/orgs").await.status.as_u16(), 200);
        let refused = limited.post("/orgs", json!({"name": "x", "kind": "customer"})).await;
        assert_eq!(refused.refusal(), (403, "scope_missing"));
        // Without an address that is known.
        let lost = knock(&limited, "GET", "/orgs", &limited.api_key).await;
        assert_eq!(lost.refusal(), (403, "ip_not_allowed"));
    }
}

#[tokio::test]
async fn what_is_no_role_rule_or_limit_is_refused_by_name() {
    for test in everywhere().await {
        let org = test.customer().await;
        let keys = format!("/orgs/{org}/keys");
        let long: Vec<String> = (0..101).map(|number| number.to_string()).collect();
        for (path, body, status, code) in [
            (keys.as_str(), json!({"name": "k", "scopes": ["all"]}), 400, "unknown_scope"),
            (&keys, json!({"name": "k", "roles": ["platform.admin"]}), 400, "invalid_role"),
            (&keys, json!({"name": "k", "roles": ["customer.nobody"]}), 400, "invalid_role"),
            (&keys, json!({"name": "k", "models": long}), 400, "invalid_limits"),
            (&keys, json!({"name": "k", "allowed_ips": ["10.0.0.0/99"]}), 400, "invalid_field"),
            ("/roles", json!({"id": "viewer", "name": "v"}), 400, "invalid_role"),
            ("/roles", json!({"id": "customer.admin", "name": "v"}), 409, "role_exists"),
            ("/rules", json!({"role": "any", "method": "GET", "path": "v1"}), 400, "invalid_rule"),
            ("/rules", json!({"role": "all", "method": "GET", "path": "/v1"}), 400, "invalid_role"),
        ] {
            let refused = test.post(path, body.clone()).await;
            assert_eq!(refused.refusal(), (status, code), "{path} {body}");
        }
        assert_eq!(test.get(&format!("/roles/{}", "x".repeat(9999))).await.refusal().0, 404);
    }
}

#[tokio::test]
async fn whoever_looks_after_customers_cannot_make_an_administrator() {
    for test in everywhere().await {
        test.post("/roles", json!({"id": "platform.support", "name": "Support"})).await;
        let rule = json!({"role": "platform.support", "method": "*", "path": "/admin/**"});
        let rule = test.post("/rules", rule).await.text("id");
        let user = test.post("/orgs/platform/users", json!({"name": "u"})).await.text("id");
        let body = json!({"name": "k", "roles": ["platform.support"]});
        let support = test.post("/orgs/platform/keys", body).await;
        let admins = test.post("/orgs/platform/keys", json!({"name": "a", "role": "admin"})).await;
        let org = test.customer().await;
        let admins = format!("/keys/{}", admins.text("id"));
        let app = test.post("/orgs/platform/apps", json!({"name": "a"})).await.text("id");
        let support = Test { api_key: support.text("api_key"), ..test };

        let made = support.post(&format!("/orgs/{org}/keys"), json!({"name": "k"})).await;
        assert_eq!(made.status.as_u16(), 201, "{made:?}");
        let keys = format!("/keys/{}", made.text("id"));
        assert_eq!(support.patch(&keys, json!({"disabled": true})).await.status.as_u16(), 200);
        let person = support.post(&format!("/orgs/{org}/users"), json!({"name": "p"})).await;
        assert_eq!(person.status.as_u16(), 201, "{person:?}");

        let signing = format!("/apps/{app}/signing");
        let secret = format!("{signing}/secret");
        let user = format!("/users/{user}");
        let rotate = format!("{admins}/rotate");
        let rules = format!("/rules/{rule}");
        for (method, path, body) in [
            ("POST", "/orgs/platform/keys", json!({"name": "k", "role": "admin"})),
            ("POST", "/orgs/platform/users", json!({"name": "u"})),
            ("POST", "/orgs/platform/apps", json!({"name": "a"})),
            ("POST", &secret, json!({})),
            ("PATCH", &signing, json!({"deerer": false})),
            ("POST", "/orgs", json!({"name": "o", "kind": "platform"})),
            ("PATCH", "/orgs/platform", json!({"name": "mine"})),
            ("PATCH", &user, json!({"roles": ["platform.admin"]})),
            ("DELETE", &user, json!({})),
            ("POST", &rotate, json!({})),
            ("PATCH", &admins, json!({"disabled": true})),
            ("DELETE", &admins, json!({})),
            ("POST", "/rules", json!({"role": "any", "method": "*", "path": "/**"})),
            ("DELETE", &rules, json!({})),
            ("POST", "/roles", json!({"id": "platform.other", "name": "o"})),
            ("PATCH", "/roles/platform.support", json!({"name": "o"})),
            ("DELETE", "/roles/platform.support", json!({})),
        ] {
            let refused = support.ask(method, path, &body.to_string()).await;
            assert_eq!(refused.refusal(), (403, "admin_only"), "{method} {path} {body}");
        }
    }
}
