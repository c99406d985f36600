//! What a caller may know of its own account, and of nobody else's.

use http::Request;
use identity::{NewKey, OrgKind, Role};
use metering::{Limit, LimitMeasure, LimitScope, LimitSpan};
use serde_json::{Value, json};
use store::Statement;

use crate::upstream::Upstream;
use crate::{Test, everywhere, model, provider, quick, route};

/// A customer whose calls of `m` are answered.
async fn all() -> Vec<Test> {
    let upstream = Upstream::start("up").await;
    everywhere(&[provider(&upstream)], &[model("m", vec![route("up", 0)])], &quick()).await
}

async fn limit(test: &Test, scope: LimitScope, subject: &str, measure: LimitMeasure, most: i64) {
    let spend = measure == LimitMeasure::Spend;
    let limit = Limit {
        scope,
        subject: subject.to_owned(),
        measure,
        span: LimitSpan::Day,
        currency: spend.then(|| "CNY".parse().unwrap()),
        most,
    };
    let note = Statement::new("DELETE FROM gateway_answers WHERE 1 = 0", vec![]);
    test.metering.set_limit(&test.org, &limit, note).await.unwrap();
}

impl Test {
    async fn show(&self, path: &str) -> Value {
        self.send(self.request("GET", path, String::new())).await.json()
    }
}

#[tokio::test]
async fn a_caller_sees_the_limits_it_is_under_and_what_is_left() {
    for test in all().await {
        let caller = test.identity.authenticate(&test.api_key).await.unwrap();
        let mine = caller.key_id.clone().unwrap();
        limit(&test, LimitScope::Org, test.org.as_str(), LimitMeasure::Requests, 10).await;
        limit(&test, LimitScope::Key, mine.as_str(), LimitMeasure::Spend, 5_000_000_000).await;
        limit(&test, LimitScope::Key, "another key", LimitMeasure::Requests, 3).await;
        assert_eq!(test.chat("m", json!({})).await.status, 200);
        test.records().await;
        let limits = test.show("/limits").await;
        assert_eq!(limits["time_zone"], "UTC");
        let rows = limits["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 2, "not the other key's: {limits}");
        let of = |scope: &str| rows.iter().find(|row| row["scope"] == scope).unwrap();
        let org = of("org");
        assert_eq!((&org["limit"], &org["used"], &org["left"]), (&json!(10), &json!(1), &json!(9)));
        assert_eq!(org["resets_at"], "2026-01-02T00:00:00.000000Z");
        let spent = test.spent().await;
        let left = spent.nanos();
        let key = of("key");
        assert_eq!((&key["limit"], &key["used"]), (&json!("5"), &json!(spent)));
        assert_eq!(key["left"], json!(kernel::Amount::from_nanos(5_000_000_000 - left)));
    }
}

#[tokio::test]
async fn a_caller_gets_its_own_statement_alone() {
    for test in all().await {
        assert_eq!(test.chat("m", json!({})).await.status, 200);
        test.records().await;
        let span = "/statement?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z";
        let statement = test.show(span).await;
        assert_eq!((&statement["org_id"], &statement["opening"]), (&json!(test.org), &json!("0")));
        let rows = statement["rows"].as_array().unwrap();
        let what: Vec<&str> = rows.iter().map(|row| row["what"].as_str().unwrap()).collect();
        assert_eq!(what, ["grant", "charge"]);
        assert_eq!(rows[1]["balance"], statement["closing"]);
        assert_eq!(statement["closing"], json!(test.available().await));
        let csv =
            test.send(test.request("GET", &format!("{span}&format=csv"), String::new())).await;
        assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
        let lines: Vec<&str> = csv.text.lines().collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[2].contains(rows[1]["usage_id"].as_str().unwrap()));

        let other = test.identity.create_org("Other", OrgKind::Customer).await.unwrap();
        let new = NewKey::new(other.id.clone(), "key", Role::Member);
        let key = test.identity.create_key(new).await.unwrap().api_key.expose().to_owned();
        let request = Request::builder().uri(format!("/v1{span}&org_id={}", test.org));
        let request = request.header("x-api-key", key).body(axum::body::Body::empty()).unwrap();
        let theirs = test.send(request).await.json();
        assert_eq!((&theirs["org_id"], &theirs["rows"]), (&json!(other.id), &json!([])));

        let backward = "/statement?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z";
        let refused = test.send(test.request("GET", backward, String::new())).await;
        assert_eq!(refused.refusal(), (400, "invalid_query".to_owned()));
        let nobody = Request::builder().uri(format!("/v1{span}")).body(axum::body::Body::empty());
        assert_eq!(test.send(nobody.unwrap()).await.status, 401);
    }
}
