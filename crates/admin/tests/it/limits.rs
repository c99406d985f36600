//! Limits, as administrators set them.

use serde_json::{Value, json};

use crate::everywhere;

#[tokio::test]
async fn a_limit_is_set_changed_and_taken_away_and_the_log_says_what_it_was() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let path = format!("/orgs/{}/limits", test.customer().await);
        let set = |limit: Value| {
            json!({"scope": "org", "measure": "spend", "per": "day", "currency": "CNY", "limit": limit})
                .to_string()
        };
        let other = json!({"scope": "org", "measure": "requests", "per": "day", "limit": 7});
        test.ask("PUT", &path, &other.to_string()).await;
        for limit in [json!("1.5"), json!("2"), Value::Null] {
            let answer = test.ask("PUT", &path, &set(limit.clone())).await;
            assert_eq!(answer.status.as_u16(), 200, "{kind} {answer:?}");
            let rows = answer.body["rows"].as_array().unwrap().iter();
            let shown: Vec<&Value> =
                rows.filter(|row| row["measure"] == "spend").map(|row| &row["limit"]).collect();
            let expected: Vec<&Value> =
                [&limit].into_iter().filter(|limit| !limit.is_null()).collect();
            assert_eq!(shown, expected, "{kind}");
        }
        let nobody = test.ask("PUT", "/orgs/nobody/limits", &other.to_string()).await;
        assert_eq!(nobody.status.as_u16(), 404, "{kind}");
        let log = test.get("/audit").await;
        let told: Vec<(&Value, &Value, &Value)> = log.body["rows"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["action"].as_str().unwrap().starts_with("limit."))
            .map(|row| (&row["action"], &row["before"]["limit"], &row["after"]["limit"]))
            .collect();
        let null = Value::Null;
        let (set, gone, seven) = (json!("limit.set"), json!("limit.delete"), json!(7));
        let (first, second) = (json!("1.5"), json!("2"));
        let expected = [
            (&gone, &second, &null),
            (&set, &first, &second),
            (&set, &null, &first),
            (&set, &null, &seven),
        ];
        assert_eq!(told, expected, "{kind}");
    }
}

#[tokio::test]
async fn a_limit_is_set_for_those_who_are_there_and_taken_away_from_those_who_were() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let (org, other) = (test.customer().await, test.customer().await);
        let path = format!("/orgs/{org}/limits");
        let put = async |scope: &str, subject: &str, limit: Value| {
            let body = json!({"scope": scope, "subject": subject, "measure": "requests", "per": "day", "limit": limit});
            test.ask("PUT", &path, &body.to_string()).await
        };
        let theirs = test.post(&format!("/orgs/{other}/users"), json!({"name": "u"})).await;
        let user = test.post(&format!("/orgs/{org}/users"), json!({"name": "u"})).await.text("id");
        let key = test.post(&format!("/orgs/{org}/keys"), json!({"name": "k"})).await.text("id");
        for (scope, subject) in [
            ("key", "nobody"),
            ("user", "nobody"),
            ("key", &user),
            ("user", &key),
            ("user", &theirs.text("id")),
        ] {
            let refused = put(scope, subject, json!(1)).await;
            assert_eq!(refused.refusal(), (404, "not_found"), "{kind} {scope} {subject}");
        }
        assert_eq!(test.get(&path).await.body["rows"], json!([]), "{kind}");
        for (scope, subject) in [("user", &user), ("key", &key)] {
            assert_eq!(put(scope, subject, json!(1)).await.status.as_u16(), 200, "{kind} {scope}");
        }
        test.ask("DELETE", &format!("/keys/{key}"), "").await;
        assert_eq!(put("key", &key, json!(2)).await.refusal(), (404, "not_found"), "{kind}");
        let left = put("key", &key, Value::Null).await;
        assert_eq!(left.body["rows"].as_array().unwrap().len(), 1, "{kind} {left:?}");
    }
}

#[tokio::test]
async fn limits_are_listed_page_by_page() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let org = test.customer().await;
        let path = format!("/orgs/{org}/limits");
        let mut subjects = vec![("org", Value::Null)];
        for name in ["a", "b"] {
            let key = test.post(&format!("/orgs/{org}/keys"), json!({"name": name})).await;
            subjects.push(("key", json!(key.text("id"))));
        }
        for (scope, subject) in &subjects {
            for (measure, per, currency, limit) in [
                ("requests", "day", Value::Null, json!(1)),
                ("requests", "month", Value::Null, json!(1)),
                ("spend", "day", json!("CNY"), json!("1")),
                ("spend", "day", json!("USD"), json!("1")),
            ] {
                let body = json!({"scope": scope, "subject": subject, "measure": measure, "per": per,
                    "currency": currency, "limit": limit});
                let set = test.ask("PUT", &path, &body.to_string()).await;
                assert_eq!(set.status.as_u16(), 200, "{kind} {set:?}");
            }
        }
        let whole = test.get(&path).await.body;
        assert_eq!((whole["rows"].as_array().unwrap().len(), &whole["next"]), (12, &Value::Null));
        for size in [1, 2, 5, 12] {
            let (mut rows, mut at) = (Vec::new(), format!("{path}?limit={size}"));
            loop {
                let page = test.get(&at).await.body;
                assert_eq!(page["time_zone"], "UTC", "{kind} {page}");
                let part = page["rows"].as_array().unwrap();
                assert!(!part.is_empty() && part.len() <= size, "{kind} {size}: {page}");
                rows.extend(part.iter().cloned());
                let Some(next) = page["next"].as_str() else { break };
                at = format!("{path}?limit={size}&cursor={next}");
            }
            assert_eq!(json!(rows), whole["rows"], "{kind} {size}");
        }
        let foreign = test.get(&format!("{path}?cursor=3031")).await;
        assert_eq!(foreign.refusal(), (400, "invalid_query"), "{kind}");
    }
}
