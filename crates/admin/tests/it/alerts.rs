//! Low-balance alerts as an administrator sets them.

use serde_json::{Value, json};

use crate::everywhere;

fn body(amount: &str) -> Value {
    json!({"currency": "CNY", "amount": amount, "url": "https://example.com/hook"})
}

#[tokio::test]
async fn an_alert_is_made_shown_changed_and_deleted_and_all_of_it_is_told() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let org = test.customer().await;
        let path = format!("/orgs/{org}/alerts");
        let made = test.post(&path, body("10")).await;
        assert_eq!(made.status.as_u16(), 201, "{kind} {made:?}");
        let (id, secret) = (made.text("id"), made.text("secret"));
        assert!(secret.starts_with("whsec_"), "{secret}");
        let other = test.post(&path, body("20.5")).await.text("id");

        let first = test.get(&format!("{path}?limit=1")).await;
        assert_eq!(first.ids(), [&id], "{kind}");
        assert!(first.body["rows"][0].get("secret").is_none());
        let next = first.text("next");
        assert_eq!(test.get(&format!("{path}?cursor={next}")).await.ids(), [&other]);

        let one = format!("{path}/{id}");
        let shown = test.get(&one).await;
        assert_eq!(
            (&shown.headers["etag"], &shown.body["amount"]),
            (&"\"1\"".parse().unwrap(), &json!("10"))
        );
        let stale =
            test.ask_with("PATCH", &one, r#"{"amount":"5"}"#, &[("if-match", "\"7\"")]).await;
        assert_eq!(stale.refusal(), (412, "version_mismatch"), "{kind}");
        let changed = test.patch(&one, json!({"amount": "5"})).await;
        assert_eq!((&changed.body["amount"], &changed.body["version"]), (&json!("5"), &json!(2)));
        let gone = test.ask_with("DELETE", &one, "", &[("if-match", "\"2\"")]).await;
        assert_eq!(gone.status.as_u16(), 200, "{kind} {gone:?}");
        assert_eq!(test.get(&one).await.refusal(), (404, "not_found"), "{kind}");

        let told = test.get(&format!("/audit?target_id={id}")).await;
        let told = told.body["rows"].as_array().unwrap().clone();
        let mut actions: Vec<&str> =
            told.iter().map(|row| row["action"].as_str().unwrap()).collect();
        actions.sort_unstable();
        assert_eq!(actions, ["alert.change", "alert.create", "alert.delete"], "{kind}");
        assert!(told.iter().all(|row| row["target_org_id"] == json!(org)));
        assert!(!json!(told).to_string().contains(&secret), "{kind}");
    }
}

#[tokio::test]
async fn a_repeated_request_makes_one_alert_and_gives_its_secret_again() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let org = test.customer().await;
        let path = format!("/orgs/{org}/alerts");
        let (text, once) = (body("10").to_string(), [("idempotency-key", "once")]);
        let first = test.ask_with("POST", &path, &text, &once).await;
        let again = test.ask_with("POST", &path, &text, &once).await;
        assert_eq!((first.status.as_u16(), &first.body), (201, &again.body), "{kind}");
        assert_eq!(again.headers["idempotency-replayed"], "true");
        assert_eq!(test.get(&path).await.ids().len(), 1, "{kind}");
        for table in ["alerts_thresholds", "admin_outcomes", "admin_audit"] {
            let rows =
                test.on.database.query(&format!("SELECT * FROM {table}"), &[]).await.unwrap();
            let secret = first.text("secret");
            let shown = format!("{rows:?}");
            assert!(
                !rows.is_empty() && !shown.contains(secret.trim_start_matches("whsec_")),
                "{table}"
            );
        }
    }
}

#[tokio::test]
async fn what_makes_no_sense_or_is_anothers_is_refused() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let (org, other) = (test.customer().await, test.customer().await);
        let path = format!("/orgs/{org}/alerts");
        for (amount, url, param) in [
            ("-1", "https://example.com/", "amount"),
            ("1", "http://127.0.0.1/", "url"),
            ("1", "file:///etc/passwd", "url"),
        ] {
            let bad = json!({"currency": "CNY", "amount": amount, "url": url});
            let refused = test.post(&path, bad).await;
            assert_eq!(refused.refusal(), (400, "invalid_alert"), "{kind} {url}");
            assert_eq!(refused.body["param"], param);
        }
        let unknown = test.post(&path, json!({"currency": "CNY", "amount": "1", "uri": "x"})).await;
        assert_eq!(unknown.refusal(), (400, "invalid_field"));
        assert_eq!(test.post("/orgs/nobody/alerts", body("1")).await.refusal(), (404, "not_found"));
        let id = test.post(&path, body("1")).await.text("id");
        let elsewhere = format!("/orgs/{other}/alerts/{id}");
        assert_eq!(test.get(&elsewhere).await.refusal(), (404, "not_found"), "{kind}");
        assert_eq!(
            test.patch(&elsewhere, json!({"amount": "2"})).await.refusal(),
            (404, "not_found")
        );
        assert_eq!(test.ask("DELETE", &elsewhere, "").await.refusal(), (404, "not_found"));
        let missing = format!("{path}/deliveries/none/redeliver");
        assert_eq!(test.post(&missing, json!({})).await.refusal(), (404, "not_found"), "{kind}");
        for _ in 1..20 {
            test.post(&path, body("1")).await;
        }
        assert_eq!(test.post(&path, body("1")).await.refusal(), (409, "too_many_alerts"), "{kind}");
    }
}

#[tokio::test]
async fn what_was_told_is_listed_for_its_organization_alone() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let (org, other) = (test.customer().await, test.customer().await);
        let grant = json!({"amount": "5", "currency": "CNY", "reason": "r"}).to_string();
        test.ask_with("POST", &format!("/orgs/{org}/grants"), &grant, &[("idempotency-key", "g")])
            .await;
        let path = format!("/orgs/{org}/alerts");
        let alert = test.post(&path, body("10")).await.text("id");
        let told = test.get(&format!("{path}/deliveries?state=waiting&alert_id={alert}")).await;
        let row = told.body["rows"][0].clone();
        assert_eq!(
            (&row["state"], &row["event"]["type"]),
            (&json!("waiting"), &json!("wallet.low"))
        );
        assert_eq!(row["event"]["data"]["posted"], "5", "{kind}");
        let id = row["id"].as_str().unwrap();
        let none = test.get(&format!("{path}/deliveries?state=failed")).await;
        assert!(none.ids().is_empty(), "{kind}");
        let elsewhere = test.get(&format!("/orgs/{other}/alerts/deliveries")).await;
        assert!(elsewhere.ids().is_empty(), "{kind}");
        let bad = test.get(&format!("{path}/deliveries?state=lost")).await;
        assert_eq!(bad.refusal(), (400, "invalid_query"));
        let foreign = format!("/orgs/{other}/alerts/deliveries/{id}/redeliver");
        assert_eq!(test.post(&foreign, json!({})).await.refusal(), (404, "not_found"), "{kind}");
        let again = test.post(&format!("{path}/deliveries/{id}/redeliver"), json!({})).await;
        assert_eq!((again.status.as_u16(), &again.body["id"]), (200, &json!(id)), "{kind}");
        let told = test.get("/audit?action=alert_delivery.redeliver").await;
        assert_eq!(told.body["rows"][0]["target_id"], id, "{kind}");
    }
}
