//! The price book.

use serde_json::{Value, json};

use crate::{Answer, Test, everywhere};

fn file(price: &str) -> Value {
    let rates = json!({"input_per_million": price, "output_per_million": "0"});
    json!({"name": "spring", "currency": "CNY", "rules": [{"model": "m", "rates": rates}]})
}

impl Test {
    async fn record(&self, price: &str) -> String {
        let made = self.post("/prices", file(price)).await;
        assert_eq!(made.status.as_u16(), 201, "{made:?}");
        made.text("id")
    }

    async fn activate(&self, body: Value) -> Answer {
        self.post("/prices/activations", body).await
    }

    async fn state(&self, id: &str) -> String {
        self.get(&format!("/prices/{id}")).await.text("state")
    }
}

#[tokio::test]
async fn a_version_is_recorded_once_shown_and_activated() {
    for test in everywhere().await {
        let id = test.record("1").await;
        let again = test.post("/prices", file("1")).await;
        assert_eq!((again.status.as_u16(), again.text("id")), (200, id.clone()));
        let other = test.record("2").await;
        assert_eq!(test.get("/prices").await.body["rows"].as_array().unwrap().len(), 2);
        let shown = test.get(&format!("/prices/{id}")).await;
        assert_eq!(shown.body["file"]["rules"], file("1")["rules"], "{}", test.on.kind);
        assert_eq!(
            (shown.text("name"), shown.text("state")),
            ("spring".to_owned(), "draft".to_owned())
        );
        assert!(shown.body["created_by"].is_string() && shown.body["models"] == json!(["m"]));
        let made = test.activate(json!({"version_id": id})).await;
        assert_eq!((made.status.as_u16(), &made.body["revision"]), (201, &json!(1)));
        let later = "2040-01-01T00:00:00+08:00";
        let waiting = test.activate(json!({"version_id": other, "starts_at": later})).await;
        assert_eq!(waiting.text("starts_at"), "2039-12-31T16:00:00.000000Z");
        assert_eq!(test.state(&id).await, "in_force");
        assert_eq!(test.state(&other).await, "scheduled");
        let cancelled = test.ask("DELETE", "/prices/activations/2", "").await;
        assert!(cancelled.body["cancelled_at"].is_string(), "{}: {cancelled:?}", test.on.kind);
        assert_eq!(test.state(&other).await, "draft");
        test.activate(json!({"version_id": null})).await;
        assert_eq!(test.state(&id).await, "past");
        let listed = test.get("/prices/activations").await;
        let revisions: Vec<i64> = listed.body["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["revision"].as_i64().unwrap())
            .collect();
        assert_eq!(revisions, [4, 2, 1], "{}: cancelling moved it on too", test.on.kind);
        let audit = test.get("/audit").await;
        let actions: Vec<&str> = audit.body["rows"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|row| row["action"].as_str().filter(|action| action.starts_with("price_")))
            .collect();
        let mut expected = vec!["price_version.create"; 2];
        expected.extend(["price_activation.create", "price_activation.create"]);
        expected.extend(["price_activation.cancel", "price_activation.create"]);
        expected.reverse();
        assert_eq!(actions, expected, "{}: written with each change, and no repeat", test.on.kind);
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    for test in everywhere().await {
        let id = test.record("1").await;
        let past = json!({"version_id": id, "starts_at": "2020-01-01T00:00:00Z"});
        assert_eq!(test.activate(past).await.refusal(), (400, "starts_in_the_past"));
        let unknown = json!({"version_id": "0".repeat(32)});
        assert_eq!(test.activate(unknown).await.refusal(), (404, "price_version_not_found"));
        assert_eq!(test.get("/prices/nothing").await.refusal(), (404, "price_version_not_found"));
        let cancel = test.ask("DELETE", "/prices/activations/9", "").await;
        assert_eq!(cancel.refusal(), (409, "activation_not_waiting"));
        let bad =
            test.post("/prices", json!({"currency": "CNY", "rules": [{"model": "m"}, {}]})).await;
        assert_eq!(bad.refusal(), (400, "invalid_price_file"));
        let paths: Vec<&str> = bad.body["mistakes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|mistake| mistake["path"].as_str().unwrap())
            .collect();
        assert_eq!(paths, ["rules[0]", "rules[1].model", "rules[1]"], "{bad:?}");
        let period = json!({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"});
        let empty = test.post(&format!("/prices/{id}/simulate"), period).await;
        assert_eq!(empty.refusal(), (400, "invalid_period"));
        assert_eq!(test.get("/usage/nothing/explain").await.refusal(), (404, "usage_not_found"));
    }
}

#[tokio::test]
async fn an_organizations_terms_are_kept_and_replaced() {
    for test in everywhere().await {
        let org = test.customer().await;
        let path = format!("/orgs/{org}/price-terms");
        assert_eq!(test.get(&path).await.body, json!({}), "{}", test.on.kind);
        for terms in
            [json!({"plan": "gold", "distributor_id": "d"}), json!({"plan": "silver"}), json!({})]
        {
            assert_eq!(test.ask("PUT", &path, &terms.to_string()).await.body, terms);
            assert_eq!(test.get(&path).await.body, terms, "{}", test.on.kind);
        }
        let long = json!({"plan": "p".repeat(65)}).to_string();
        assert_eq!(test.ask("PUT", &path, &long).await.refusal(), (400, "invalid_price_terms"));
        assert_eq!(
            test.ask("PUT", "/orgs/nobody/price-terms", "{}").await.refusal(),
            (404, "not_found")
        );
    }
}
