//! Organizations, users and applications.

use serde_json::json;

use crate::everywhere;

#[tokio::test]
async fn an_organization_is_created_shown_listed_and_changed() {
    for test in everywhere().await {
        for kind in ["platform", "customer", "distributor", "provider"] {
            let made = test.post("/orgs", json!({"name": "东方", "kind": kind})).await;
            assert_eq!(made.status.as_u16(), 201, "{}: {made:?}", test.on.kind);
            let id = made.text("id");
            let shown = test.get(&format!("/orgs/{id}")).await;
            let wanted = json!({"id": id, "name": "东方", "kind": kind, "disabled": false,
                "created_at": "2026-01-01T00:00:00.000000Z", "version": 1});
            assert_eq!(shown.body, wanted, "{}", test.on.kind);
            let path = format!("/orgs/{id}");
            let changed = test.patch(&path, json!({"name": "西方", "disabled": true})).await;
            assert_eq!((changed.status.as_u16(), changed.text("name")), (200, "西方".to_owned()));
            let again = test.patch(&path, json!({"name": "南方"})).await;
            assert_eq!(again.body["disabled"], json!(true), "what is absent stays");
        }
        assert_eq!(test.get("/orgs").await.ids().len(), 5, "with the platform's own");
    }
}

#[tokio::test]
async fn lists_come_in_pages() {
    for test in everywhere().await {
        let org = test.customer().await;
        for things in ["users", "apps", "keys"] {
            let path = format!("/orgs/{org}/{things}");
            let mut made = Vec::new();
            for n in 0..5 {
                made.push(test.post(&path, json!({"name": format!("n{n}")})).await.text("id"));
            }
            let (mut listed, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = test.get(&format!("{path}?limit=2{cursor}")).await;
                assert!(page.ids().len() <= 2, "{things}: {page:?}");
                listed.extend(page.ids().into_iter().map(str::to_owned));
                let Some(next) = page.body["next"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            assert_eq!(listed, made, "{things} on {}", test.on.kind);
        }
        for query in ["limit=x", "cursor=zz", "limit=-1"] {
            let refused = test.get(&format!("/orgs?{query}")).await;
            assert_eq!(refused.refusal(), (400, "invalid_query"), "{query}");
        }
    }
}

#[tokio::test]
async fn users_and_applications_are_changed() {
    for test in everywhere().await {
        let org = test.customer().await;
        for things in ["users", "apps"] {
            let made = test.post(&format!("/orgs/{org}/{things}"), json!({"name": "one"})).await;
            assert_eq!((made.status.as_u16(), made.text("org_id")), (201, org.clone()));
            let path = format!("/{things}/{}", made.text("id"));
            let changed = test.patch(&path, json!({"disabled": true})).await;
            assert_eq!(changed.body["disabled"], json!(true), "{things}: {changed:?}");
            assert_eq!(changed.text("name"), "one");
        }
    }
}

#[tokio::test]
async fn bad_input_is_refused_by_name() {
    for test in everywhere().await {
        let org = format!("/orgs/{}", test.customer().await);
        let cases = [
            ("POST", "/orgs", r#"{"name":"x","kind":"customer","more":1}"#, 400, "invalid_field"),
            ("POST", "/orgs", r#"{"name":"x","kind":"friend"}"#, 400, "invalid_field"),
            ("POST", "/orgs", r#"{"name":7,"kind":"customer"}"#, 400, "invalid_field"),
            ("POST", "/orgs", r#"{"name":" ","kind":"customer"}"#, 400, "invalid_name"),
            ("POST", "/orgs", r#"{"kind":"customer"}"#, 400, "invalid_field"),
            ("POST", "/orgs", r#"{"name":"#, 400, "malformed_json"),
            ("POST", "/orgs", "", 400, "malformed_json"),
            ("PATCH", &org, r#"{"kind":"provider"}"#, 400, "invalid_field"),
            ("PATCH", &org, r#"{"name":""}"#, 400, "invalid_name"),
            ("PATCH", "/orgs/platform", r#"{"disabled":true}"#, 409, "platform_required"),
            ("PATCH", "/orgs/nobody", "{}", 404, "not_found"),
            ("PATCH", "/users/nobody", "{}", 404, "not_found"),
            ("PATCH", "/apps/nobody", "{}", 404, "not_found"),
            ("PATCH", "/keys/nobody", "{}", 404, "not_found"),
            ("POST", "/keys/nobody/rotate", "{}", 404, "not_found"),
            ("GET", "/orgs/nobody", "", 404, "not_found"),
            ("GET", "/orgs/nobody/users", "", 404, "not_found"),
            ("GET", "/orgs/nobody/apps", "", 404, "not_found"),
            ("GET", "/orgs/nobody/keys", "", 404, "not_found"),
            ("GET", "/orgs/nobody/wallet", "", 404, "not_found"),
            ("POST", "/orgs/nobody/users", r#"{"name":"x"}"#, 404, "not_found"),
            ("POST", "/orgs/nobody/apps", r#"{"name":"x"}"#, 404, "not_found"),
            ("POST", "/orgs/nobody/keys", r#"{"name":"x"}"#, 404, "not_found"),
        ];
        for (method, path, body, status, code) in cases {
            let answer = test.ask(method, path, body).await;
            assert_eq!(answer.refusal(), (status, code), "{method} {path} {body}: {answer:?}");
        }
        let long = format!("/orgs/{}", "x".repeat(5000));
        let refused = test.get(&long).await;
        assert_eq!(refused.refusal(), (404, "not_found"));
        assert!(refused.text("detail").len() < 200, "{refused:?}");
    }
}
