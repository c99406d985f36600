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
