//! Writes that are repeated, that race, and that were meant for another version.

use std::time::Duration;

use serde_json::json;

use crate::{Answer, Test, everywhere};

async fn create(test: &Test, path: &str, body: &str, key: &str) -> Answer {
    test.ask_with("POST", path, body, &[("idempotency-key", key)]).await
}

#[tokio::test]
async fn a_repeated_request_creates_once_and_is_answered_the_same() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let org = test.customer().await;
        let rule = r#"{"role":"any","method":"GET","path":"/v1/models"}"#;
        let role = r#"{"id":"customer.viewer","name":"Viewer"}"#;
        let file = r#"{"currency":"CNY","rules":[{"model":"m","rates":{"input_per_million":"1","output_per_million":"4"}}]}"#;
        let requests = [
            ("/orgs".to_owned(), r#"{"name":"o","kind":"customer"}"#),
            (format!("/orgs/{org}/users"), r#"{"name":"u"}"#),
            (format!("/orgs/{org}/apps"), r#"{"name":"a"}"#),
            (format!("/orgs/{org}/keys"), r#"{"name":"k"}"#),
            ("/roles".to_owned(), role),
            ("/rules".to_owned(), rule),
            ("/prices".to_owned(), file),
            ("/prices/activations".to_owned(), r#"{"version_id":null}"#),
        ];
        for (number, (path, body)) in requests.iter().enumerate() {
            let key = format!("key {number}");
            let first = create(&test, path, body, &key).await;
            let again = create(&test, path, body, &key).await;
            assert_eq!(
                (first.status.as_u16(), again.status.as_u16()),
                (201, 201),
                "{kind} {first:?}"
            );
            assert_eq!(first.body, again.body, "{kind} {path}");
            assert!(first.headers.get("idempotency-replayed").is_none());
            assert_eq!(again.headers["idempotency-replayed"], "true", "{path}");
            let other = create(&test, path, &format!("{body} "), &key).await;
            assert_eq!(other.refusal(), (409, "idempotency_conflict"), "{path}");
        }
        let made = test.get("/audit?limit=1000").await.body["rows"].as_array().unwrap().len();
        assert_eq!(made, requests.len() + 1, "{kind}");
        test.clock.advance(Duration::from_hours(25));
        assert_eq!(test.admin.purge_outcomes().await.unwrap(), 8, "{kind}");
        assert_eq!(test.admin.purge_outcomes().await.unwrap(), 0, "{kind}");
    }
}

#[tokio::test]
async fn a_repeated_request_for_a_key_gives_the_same_secret_which_is_stored_nowhere() {
    for test in everywhere().await {
        let org = test.customer().await;
        let path = format!("/orgs/{org}/keys");
        let first = create(&test, &path, r#"{"name":"k"}"#, "once").await;
        let again = create(&test, &path, r#"{"name":"k"}"#, "once").await;
        assert_eq!(first.text("api_key"), again.text("api_key"));
        assert_eq!(test.who(&first.text("api_key")).await, org);
        for table in ["admin_outcomes", "admin_audit", "identity_keys"] {
            let rows =
                test.on.database.query(&format!("SELECT * FROM {table}"), &[]).await.unwrap();
            assert!(
                !rows.is_empty() && !format!("{rows:?}").contains(&first.text("api_key")),
                "{table}"
            );
        }
        let rotate = format!("/keys/{}/rotate", first.text("id"));
        let at_once = json!({"old_until": "2020-01-01T00:00:00Z"}).to_string();
        let new = create(&test, &rotate, &at_once, "turn").await;
        let again = create(&test, &rotate, &at_once, "turn").await;
        assert_eq!((new.status.as_u16(), &new.body), (201, &again.body), "{}", test.on.kind);
        assert_eq!(test.who(&again.text("api_key")).await, org);
        assert_eq!(test.get(&path).await.ids().len(), 2, "{}", test.on.kind);
        let bad = create(&test, &path, r#"{"name":"k"}"#, &"x".repeat(256)).await;
        assert_eq!(bad.refusal(), (400, "invalid_idempotency_key"));
    }
}

#[tokio::test]
async fn a_repeated_request_for_an_applications_secret_gives_the_same_one() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let org = test.customer().await;
        let app = test.post(&format!("/orgs/{org}/apps"), json!({"name": "a"})).await.text("id");
        let path = format!("/apps/{app}/signing/secret");
        let first = create(&test, &path, "{}", "once").await;
        assert_eq!((first.status.as_u16(), first.text("app_id")), (201, app.clone()), "{kind}");
        assert_eq!(first.text("app_secret").len(), 32, "{kind}");
        test.clock.advance(Duration::from_secs(1));
        let signing = test.get(&format!("/apps/{app}/signing")).await.body;
        let again = create(&test, &path, "{}", "once").await;
        assert_eq!((again.status.as_u16(), &again.body), (201, &first.body), "{kind}");
        assert_eq!(again.headers["idempotency-replayed"], "true", "{kind}");
        let after = test.get(&format!("/apps/{app}/signing")).await.body;
        assert_eq!(after, signing, "{kind}: nothing was made");
        let conflict = create(&test, &path, r#"{"old_until":null}"#, "once").await;
        assert_eq!(conflict.refusal(), (409, "idempotency_conflict"), "{kind}");

        let flood = (0..8).map(|_| create(&test, &path, "{}", "many"));
        let answers = futures_util::future::join_all(flood).await;
        assert!(answers.iter().all(|answer| answer.body == answers[0].body), "{kind} {answers:?}");
        let other = test.post(&path, json!({})).await.text("app_secret");
        let secrets = [&first, &answers[0]].map(|answer| answer.text("app_secret"));
        assert!(secrets[0] != secrets[1] && !secrets.contains(&other), "{kind}");
        let rows = test.get("/audit?action=signing.renew").await.body["rows"].clone();
        assert_eq!(rows.as_array().unwrap().len(), 3, "{kind}");
        let kept = test.on.database.query("SELECT * FROM admin_outcomes", &[]).await.unwrap();
        assert!(!kept.is_empty() && !format!("{kept:?}").contains(&secrets[0]), "{kind}");
        // The key may be used again once its outcome is forgotten: for another secret.
        test.clock.advance(Duration::from_hours(25));
        test.admin.purge_outcomes().await.unwrap();
        let later = create(&test, &path, "{}", "once").await;
        assert_ne!(later.text("app_secret"), secrets[0], "{kind}");
    }
}

#[tokio::test]
async fn the_same_request_many_times_at_once_creates_once() {
    for test in everywhere().await {
        let org = test.customer().await;
        let path = format!("/orgs/{org}/keys");
        let flood = (0..16).map(|_| create(&test, &path, r#"{"name":"k"}"#, "once"));
        let answers = futures_util::future::join_all(flood).await;
        for answer in &answers {
            assert_eq!(answer.status.as_u16(), 201, "{} {answer:?}", test.on.kind);
            assert_eq!(answer.body, answers[0].body);
        }
        assert_eq!(test.get(&path).await.ids(), [answers[0].text("id")], "{}", test.on.kind);
        assert_eq!(
            test.get("/audit?action=key.create").await.body["rows"].as_array().unwrap().len(),
            1
        );
    }
}

#[tokio::test]
async fn a_change_meant_for_another_version_is_refused() {
    for test in everywhere().await {
        let path = format!("/orgs/{}", test.customer().await);
        let seen = test.get(&path).await;
        assert_eq!(
            (seen.headers["etag"].to_str().unwrap(), &seen.body["version"]),
            ("\"1\"", &json!(1))
        );
        let change = |name: &str| json!({ "name": name }).to_string();
        let body = change("one");
        let changed = test.ask_with("PATCH", &path, &body, &[("if-match", "\"1\"")]).await;
        assert_eq!(
            (changed.status.as_u16(), changed.headers["etag"].to_str().unwrap()),
            (200, "\"2\"")
        );
        let late = test.ask_with("PATCH", &path, &change("two"), &[("if-match", "\"1\"")]).await;
        assert_eq!(late.refusal(), (412, "version_mismatch"), "{}", test.on.kind);
        let bad = test.ask_with("PATCH", &path, &change("two"), &[("if-match", "one")]).await;
        assert_eq!(bad.refusal(), (400, "invalid_if_match"));
        assert_eq!(test.get(&path).await.text("name"), "one");
        let any = test.ask_with("PATCH", &path, &change("two"), &[("if-match", "*")]).await;
        assert_eq!((any.status.as_u16(), any.text("name").as_str()), (200, "two"));

        let racing = (0..12).map(async |number| {
            let body = change(&number.to_string());
            test.ask_with("PATCH", &path, &body, &[("if-match", "\"3\"")]).await.status.as_u16()
        });
        let mut outcomes = futures_util::future::join_all(racing).await;
        outcomes.sort_unstable();
        assert_eq!((outcomes[0], &outcomes[1..]), (200, &[412; 11][..]), "{}", test.on.kind);
    }
}

#[tokio::test]
async fn lists_are_narrowed_and_paged() {
    for test in everywhere().await {
        let (one, two) = (test.customer().await, test.customer().await);
        let mut keys = Vec::new();
        for number in 0..5 {
            let org = if number < 3 { &one } else { &two };
            keys.push(
                test.post(&format!("/orgs/{org}/keys"), json!({"name": format!("k{number}")}))
                    .await
                    .text("id"),
            );
        }
        test.patch(&format!("/keys/{}", keys[1]), json!({"disabled": true})).await;
        test.ask("DELETE", &format!("/keys/{}", keys[2]), "").await;
        let ids = async |path: String| -> Vec<String> {
            let list = test.get(&path).await;
            assert_eq!(list.status.as_u16(), 200, "{path} {list:?}");
            list.ids().into_iter().map(str::to_owned).collect()
        };
        assert_eq!(ids(format!("/orgs/{one}/keys")).await, keys[..2], "{}", test.on.kind);
        assert_eq!(ids(format!("/keys?org_id={two}")).await, keys[3..]);
        assert_eq!(ids(format!("/keys?org_id={one}&disabled=true")).await, keys[1..2]);
        assert_eq!(ids("/keys?deleted=true".into()).await, keys[2..3]);
        assert_eq!(ids("/keys?name=k4".into()).await, keys[4..]);
        let page = test.get("/keys?name=k&limit=2").await;
        let next = page.text("next");
        assert_eq!(page.ids(), keys[..2]);
        assert_eq!(ids(format!("/keys?name=k&limit=2&cursor={next}")).await, keys[3..]);
        assert_eq!(ids("/orgs?kind=platform".into()).await, ["platform"]);
        assert_eq!(test.get("/orgs?kind=none").await.refusal(), (400, "invalid_query"));
        assert_eq!(test.get(&format!("/keys/{}", keys[2])).await.refusal(), (404, "not_found"));
        for list in ["/users", "/apps", "/roles", "/rules"] {
            assert!(ids(list.into()).await.is_empty(), "{list}");
        }
        let other = test.get(&format!("/orgs/{one}/keys?org_id={two}")).await;
        assert_eq!(other.ids(), keys[..2], "the path counts");
    }
}
