//! Balances.

use serde_json::json;

use crate::everywhere;

#[tokio::test]
async fn a_balance_is_a_number_and_beside_it_exact() {
    for test in everywhere().await {
        test.top_up(&test.org_id, "0.000000001").await;
        let answer = test.get("/balance").await;
        let data = answer.data();
        assert_eq!(data["available"], "100.000000001", "{}", test.on.kind);
        assert_eq!((&data["posted"], &data["held"]), (&json!("100.000000001"), &json!("0")));
        assert_eq!((&data["currency"], &data["org_id"]), (&json!("CNY"), &json!(test.org_id)));
        assert!(answer.text.contains(r#""balance":100.000000001,"#), "{}", answer.text);
        assert!(answer.body.get("balance").is_none(), "only the accounting centre's form");
        let other = test.get("/balance?currency=USD").await;
        assert_eq!(
            (&other.data()["available"], &other.data()["currency"]),
            (&json!("0"), &json!("USD"))
        );
        assert_eq!(test.get("/balance?currency=money").await.refusal(), (400, "invalid_query"));
    }
}

#[tokio::test]
async fn with_a_user_the_balance_is_at_the_top() {
    for test in everywhere().await {
        let user = test.identity.create_user(&test.org_id, "Ann").await.unwrap();
        for id in [user.id.as_str(), "the customer's own name for somebody"] {
            let query = id.replace(' ', "%20").replace('\'', "%27");
            let answer = test.get(&format!("/balance?userid={query}")).await;
            assert_eq!(
                (&answer.body["status"], &answer.body["balance"]),
                (&json!("ok"), &json!(100))
            );
            assert_eq!(answer.data()["available"], "100");
        }
    }
}

#[tokio::test]
async fn a_user_of_another_organization_is_nobody_to_a_customer_and_known_to_an_administrator() {
    for test in everywhere().await {
        let (stranger, key) = test.stranger().await;
        let user = test.identity.create_user(&test.org_id, "Ann").await.unwrap();
        let path = format!("/balance?userid={}", user.id);
        assert_eq!(test.get_as(&key, &path).await.refusal(), (404, "not_found"), "{stranger}");
        let admin = test.administrator().await;
        let answer = test.get_as(&admin, &path).await;
        assert_eq!(
            (&answer.body["balance"], &answer.data()["org_id"]),
            (&json!(100), &json!(test.org_id))
        );
        assert_eq!(
            test.get_as(&admin, "/balance?userid=nobody").await.refusal(),
            (404, "not_found")
        );
        assert_eq!(test.get_as(&key, "/balance").await.data()["available"], "0");
    }
}

#[tokio::test]
async fn balances_asked_for_at_once_are_each_as_new_as_their_question() {
    for test in everywhere().await {
        let (stranger, key) = test.stranger().await;
        for paid in 1..=20 {
            test.top_up(&stranger, "1").await;
            let asked = (0..32).map(|at| {
                let key = if at % 2 == 0 { &key } else { &test.api_key };
                test.get_as(key, "/balance")
            });
            let answers = futures_util::future::join_all(asked).await;
            for (at, answer) in answers.iter().enumerate() {
                let expected = if at % 2 == 0 { paid.to_string() } else { "100".to_owned() };
                assert_eq!(answer.data()["available"], expected, "{}", test.on.kind);
            }
        }
    }
}
