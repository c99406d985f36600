//! What is written down of what administrators do.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{Test, everywhere};

async fn actions(test: &Test, query: &str) -> Vec<String> {
    let list = test.get(&format!("/audit?limit=1000{query}")).await;
    assert_eq!(list.status.as_u16(), 200, "{list:?}");
    let rows = list.body["rows"].as_array().unwrap();
    rows.iter().map(|row| row["action"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_change_is_told_with_who_from_where_what_and_how_it_was() {
    for test in everywhere().await {
        let org = test.customer().await;
        test.patch(&format!("/orgs/{org}"), json!({"name": "Renamed"})).await;
        let user = test.post(&format!("/orgs/{org}/users"), json!({"name": "u"})).await.text("id");
        test.ask("DELETE", &format!("/users/{user}"), "").await;
        let made = test.post(&format!("/orgs/{org}/keys"), json!({"name": "k"})).await;
        let key = made.text("id");
        test.post(&format!("/keys/{key}/rotate"), json!({})).await;
        let grant = json!({"amount": "5", "currency": "CNY", "reason": "r"}).to_string();
        let once = [("idempotency-key", "g")];
        for _ in 0..2 {
            test.ask_with("POST", &format!("/orgs/{org}/grants"), &grant, &once).await;
        }
        // Refused, or nothing to do: nothing to tell.
        test.patch(&format!("/orgs/{org}"), json!({"name": ""})).await;
        test.patch(&format!("/orgs/{org}"), json!({"name": "Renamed"})).await;
        test.patch("/orgs/nobody", json!({"name": "x"})).await;

        let told = actions(&test, "").await;
        let expected = [
            "grant.create",
            "key.create",
            "key.rotate",
            "key.create",
            "user.delete",
            "user.create",
            "org.change",
            "org.create",
        ];
        let mut sorted = (told.clone(), expected.map(str::to_owned).to_vec());
        sorted.0.sort();
        sorted.1.sort();
        assert_eq!(sorted.0, sorted.1, "{}", test.on.kind);
        assert_eq!(told[0], "grant.create");

        let row = test.get("/audit?action=org.change").await.body["rows"][0].clone();
        assert_eq!(
            (&row["before"]["name"], &row["after"]["name"]),
            (&json!("Customer"), &json!("Renamed"))
        );
        assert_eq!((&row["target_id"], &row["target_org_id"]), (&json!(org), &json!(org)));
        assert_eq!((&row["ip"], &row["org_id"]), (&json!("192.0.2.7"), &json!("platform")));
        assert!(row["key_id"].is_string() && row["request_id"].is_string(), "{row}");
        let row = test.get("/audit?action=grant.create").await.body["rows"][0].clone();
        assert_eq!((&row["before"], &row["after"]["amount"]), (&Value::Null, &json!("5")));

        let all = test.get("/audit?limit=1000").await.body.to_string();
        assert!(!all.contains(&made.text("api_key")) && !all.contains("hash"), "{all}");
        assert_eq!(
            actions(&test, &format!("&target_id={user}")).await,
            ["user.delete", "user.create"]
        );
        assert_eq!(actions(&test, &format!("&org_id={org}")).await.len(), told.len());
        assert!(actions(&test, "&key_id=nobody").await.is_empty());
    }
}

#[tokio::test]
async fn the_log_is_read_in_pages_and_by_time() {
    for test in everywhere().await {
        let mut made = Vec::new();
        for _ in 0..5 {
            made.push(test.customer().await);
            test.clock.advance(Duration::from_secs(1));
        }
        let (mut seen, mut path) = (Vec::new(), "/audit?limit=2".to_owned());
        loop {
            let page = test.get(&path).await;
            let rows = page.body["rows"].as_array().unwrap();
            seen.extend(rows.iter().map(|row| row["target_id"].as_str().unwrap().to_owned()));
            let Some(next) = page.body["next"].as_str() else { break };
            path = format!("/audit?limit=2&cursor={next}");
        }
        made.reverse();
        assert_eq!(seen, made, "{}", test.on.kind);
        let some = "&since=2026-01-01T00:00:01Z&until=2026-01-01T00:00:03Z";
        assert_eq!(actions(&test, some).await.len(), 2, "{}", test.on.kind);
        assert_eq!(test.get("/audit?cursor=00").await.refusal(), (400, "invalid_query"));
        assert_eq!(test.get("/audit?since=soon").await.refusal(), (400, "invalid_query"));
        // Nothing takes a row back.
        for method in ["DELETE", "PATCH", "POST", "PUT"] {
            assert_eq!(test.ask(method, "/audit", "{}").await.refusal().0, 405);
        }
    }
}

#[tokio::test]
async fn what_an_application_signs_with_is_told_without_the_secret() {
    for test in everywhere().await {
        let org = test.customer().await;
        let app = test.post(&format!("/orgs/{org}/apps"), json!({"name": "a"})).await.text("id");
        let signing = format!("/apps/{app}/signing");
        let made = test.post(&format!("{signing}/secret"), json!({})).await;
        let secret = made.text("app_secret");
        test.patch(&signing, json!({"deerer": false})).await;
        let log = test.get(&format!("/audit?target_id={app}")).await;
        let rows = log.body["rows"].as_array().unwrap();
        let actions: Vec<_> = rows.iter().map(|row| row["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["signing.change", "signing.renew", "app.create"], "{}", test.on.kind);
        assert_eq!(rows[0]["before"]["deerer"], true);
        assert_eq!(rows[0]["after"]["deerer"], false);
        assert_eq!(rows[1]["before"]["created_at"], json!(null));
        assert!(!log.body.to_string().contains(&secret));
    }
}
