//! Who may use `/api/v1`: every documented route, every kind of caller.

use axum::body::Body;
use http::Request;
use identity::Change;
use serde_json::Value;

use crate::everywhere;

/// Every method and path, and whether it wants a credential.
fn routes() -> Vec<(String, String, bool)> {
    let document: Value = serde_json::from_str(&customers::document().to_json().unwrap()).unwrap();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.strip_prefix("/api/v1").unwrap();
        for (method, operation) in methods.as_object().unwrap() {
            let closed = operation["security"].is_array();
            routes.push((method.to_uppercase(), path.to_owned(), closed));
        }
    }
    routes
}

#[tokio::test]
async fn only_health_is_open() {
    let open: Vec<_> = routes().into_iter().filter(|(_, _, closed)| !closed).collect();
    assert_eq!(open, [("GET".to_owned(), "/health".to_owned(), false)]);
    for test in everywhere().await {
        for (method, path, closed) in routes() {
            let knock = |api_key: Option<&str>| {
                let mut request = Request::builder().method(method.as_str()).uri(&path);
                if let Some(api_key) = api_key {
                    request = request.header("authorization", format!("Bearer {api_key}"));
                }
                test.send(request.body(Body::from("not JSON")).unwrap())
            };
            let (nobody, unknown) = (knock(None).await, knock(Some("sk-unknown")).await);
            let known = knock(Some(&test.api_key)).await;
            assert!(![401, 403, 404, 405].contains(&known.status.as_u16()), "{path} {known:?}");
            if closed {
                assert_eq!(nobody.refusal(), (401, "missing_credential"), "{method} {path}");
                assert_eq!(unknown.refusal(), (401, "invalid_api_key"), "{method} {path}");
            } else {
                assert_eq!(nobody.data()["status"], "healthy");
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_there_and_what_is_switched_off_are_told_in_the_envelope() {
    for test in everywhere().await {
        assert_eq!(test.get("/nothing").await.refusal(), (404, "unknown_route"));
        let request = Request::delete("/balance").body(Body::empty()).unwrap();
        assert_eq!(test.send(request).await.refusal(), (405, "method_not_allowed"));
        let off = Change { disabled: Some(true), ..Change::default() };
        test.identity.change_org(&test.org_id, off).await.unwrap();
        assert_eq!(test.get("/balance").await.refusal(), (401, "api_key_disabled"));
    }
}
