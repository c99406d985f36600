//! Who may use `/admin`: every documented route, every kind of caller.

use axum::body::Body;
use http::Request;
use identity::{OrgKind, Role};
use serde_json::Value;

use crate::{Answer, Test, everywhere, key};

/// Every method and path, its placeholders filled in.
fn routes() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&admin::document().to_json().unwrap()).unwrap();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.strip_prefix("/admin").unwrap().replace(['{', '}'], "");
        let methods = methods.as_object().unwrap().keys();
        let methods = methods
            .filter(|name| ["get", "post", "patch", "delete", "put"].contains(&name.as_str()));
        routes.extend(methods.map(|method| (method.to_uppercase(), path.clone())));
    }
    routes
}

async fn knock(test: &Test, (method, path): &(String, String), api_key: Option<&str>) -> Answer {
    let mut request = Request::builder().method(method.as_str()).uri(path);
    if let Some(api_key) = api_key {
        request = request.header("authorization", format!("Bearer {api_key}"));
    }
    test.send(request.body(Body::from("not JSON")).unwrap()).await
}

#[tokio::test]
async fn every_route_is_the_administrators_alone() {
    let routes = routes();
    assert!(routes.len() >= 15, "{routes:?}");
    for test in everywhere().await {
        let org = test.identity.create_org("org", OrgKind::Distributor).await.unwrap();
        let member = key(&test.identity, org.id.clone(), Role::Member).await;
        for route in &routes {
            let nobody = knock(&test, route, None).await;
            assert_eq!(nobody.refusal(), (401, "missing_credential"), "{route:?}");
            assert_eq!(nobody.headers["www-authenticate"], "Bearer");
            let unknown = knock(&test, route, Some("sk-unknown")).await;
            assert_eq!(unknown.refusal(), (401, "invalid_api_key"), "{route:?}");
            let member = knock(&test, route, Some(&member)).await;
            assert_eq!(member.refusal(), (403, "admin_only"), "{route:?}");
            let admin = knock(&test, route, Some(&test.api_key)).await;
            assert!(![401, 403, 405].contains(&admin.status.as_u16()), "{route:?} {admin:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    for test in everywhere().await {
        assert_eq!(test.get("/nothing").await.refusal(), (404, "unknown_route"));
        let answer = test.ask("DELETE", "/orgs", "").await;
        assert_eq!(answer.refusal(), (405, "method_not_allowed"));
    }
}
