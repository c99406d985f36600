//! Posts: once for their key, never more than there is, recorded with their money.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::everywhere;

fn form(amount: &str) -> Value {
    json!({"userid": "u1", "llmid": "small", "amount": amount, "usage": {"tokens": 3, "cached": 1}})
}

#[tokio::test]
async fn a_post_is_made_once_for_its_key_and_answered_the_same() {
    for test in everywhere().await {
        let first = test.post(Some("k1"), form("0.5")).await;
        assert_eq!(first.data()["amount"], "0.5", "{}", test.on.kind);
        assert_eq!(first.headers.get("idempotency-replayed"), None);
        for same in [
            form("0.5"),
            form("0.50"),
            json!({"transno": "k1", "amount": 0.5, "userid": "u1",
            "llmid": "small", "usage": {"cached": 1, "tokens": 3}, "currency": "CNY"}),
        ] {
            let again = test.post(Some("k1"), same).await;
            assert_eq!(again.text, first.text, "{}", test.on.kind);
            assert_eq!(again.headers["idempotency-replayed"], "true");
        }
        assert_eq!(test.available().await, "99.5");
        let mut other_usage = form("0.5");
        other_usage["usage"]["tokens"] = json!(4);
        for other in [form("0.6"), other_usage, json!({"amount": "0.5"})] {
            assert_eq!(test.post(Some("k1"), other).await.refusal(), (409, "idempotency_conflict"));
        }
        let (stranger, key) = test.stranger().await;
        test.top_up(&stranger, "1").await;
        let theirs = test.post_as(&key, Some("k1"), form("0.25")).await;
        assert_eq!(theirs.data()["org_id"], json!(stranger), "keys are an organization's own");
        assert_eq!(test.available().await, "99.5");
        let report = ledger::verify(&test.on.database, &[&customers::RECORDS]).await.unwrap();
        assert!(report.ok, "{report:?}");
    }
}

#[tokio::test]
async fn a_hundred_posts_at_once_under_one_key_are_one() {
    for test in everywhere().await {
        let posts = (0..100).map(|_| test.post(Some("same"), form("1")));
        let answers = futures_util::future::join_all(posts).await;
        assert!(answers.iter().all(|answer| answer.text == answers[0].text), "{}", test.on.kind);
        assert_eq!(test.available().await, "99");
        assert_eq!(test.get("/accounting").await.data()["total"], 1);
    }
}

#[tokio::test]
async fn a_wallet_is_never_overdrawn_and_a_refusal_stays() {
    for test in everywhere().await {
        let keys: Vec<String> = (0..15).map(|at| format!("k{at}")).collect();
        let posts = keys.iter().map(|key| test.post(Some(key), form("10")));
        let answers = futures_util::future::join_all(posts).await;
        let refused: Vec<_> =
            answers.iter().zip(&keys).filter(|(answer, _)| answer.status != 200).collect();
        assert_eq!((refused.len(), test.available().await.as_str()), (5, "0"), "{}", test.on.kind);
        let (answer, key) = refused[0];
        assert_eq!(answer.refusal(), (402, "insufficient_balance"));
        assert_eq!(answer.body["data"]["required"], "10");
        test.top_up(&test.org_id, "50").await;
        let again = test.post(Some(key), form("10")).await;
        assert_eq!(again.text, answer.text, "a refusal stays under its key");
        assert_eq!(test.post(Some("fresh"), form("10")).await.status, 200);
        assert_eq!(test.get("/accounting").await.data()["total"], 11);
    }
}

#[tokio::test]
async fn the_accounting_centres_form_needs_no_key_and_comes_as_a_form_too() {
    for test in everywhere().await {
        for _ in 0..2 {
            let answer = test.post(None, form("1")).await;
            assert!(!answer.data()["transno"].as_str().unwrap().is_empty());
        }
        let text = "userid=u2&llmid=small&amount=0.000000001&usage=%7B%22tokens%22%3A7%7D";
        let request = Request::post("/accounting")
            .header("x-api-key", &test.api_key)
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        let answer = test.send(request.body(Body::from(text)).unwrap()).await;
        assert_eq!(answer.data()["amount"], "0.000000001", "{}", test.on.kind);
        assert_eq!(test.available().await, "97.999999999");
        let mine = test.get("/accounting?userid=u2").await;
        assert_eq!(
            (&mine.data()["total"], &mine.data()["rows"][0]["usage"]),
            (&json!(1), &json!({"tokens": 7}))
        );
        assert_eq!(
            test.post(None, json!({"amount": "1"})).await.refusal(),
            (400, "idempotency_key_required")
        );
    }
}

#[tokio::test]
async fn a_bad_post_moves_nothing() {
    for test in everywhere().await {
        let long = "k".repeat(65);
        let cases = [
            (Some("a"), form("-1"), "invalid_amount"),
            (Some("b"), form("1e3"), "invalid_field"),
            (Some("c"), form("0.0000000001"), "invalid_field"),
            (Some("d"), json!({"userid": "u"}), "invalid_field"),
            (Some("e"), json!({"amount": "1", "ammount": "2"}), "invalid_field"),
            (Some("f"), json!({"amount": "1", "currency": "cny"}), "invalid_field"),
            (Some("g"), json!({"amount": "1", "llmid": ""}), "invalid_field"),
            (Some("h"), json!({"amount": "1", "usage": "x".repeat(70_000)}), "invalid_field"),
            (Some("i"), json!({"amount": "1", "transno": "other"}), "two_keys"),
            (Some(""), form("1"), "invalid_idempotency_key"),
            (Some(&long), form("1"), "invalid_idempotency_key"),
        ];
        for (key, body, code) in cases {
            assert_eq!(test.post(key, body).await.refusal(), (400, code), "{}", test.on.kind);
        }
        assert_eq!(test.available().await, "100");
        assert_eq!(test.get("/accounting").await.data()["total"], 0);
    }
}

#[tokio::test]
async fn a_post_of_nothing_is_recorded_and_uses_its_key_up() {
    for test in everywhere().await {
        let first = test.post(Some("zero"), form("0")).await;
        assert_eq!(first.data()["amount"], "0", "{}", test.on.kind);
        assert_eq!(test.post(Some("zero"), form("0")).await.text, first.text);
        assert_eq!(
            test.post(Some("zero"), form("1")).await.refusal(),
            (409, "idempotency_conflict")
        );
        assert_eq!(test.get("/accounting").await.data()["total"], 1);
        let report = ledger::verify(&test.on.database, &[&customers::RECORDS]).await.unwrap();
        assert!(report.ok, "{report:?}");
    }
}

#[tokio::test]
async fn an_administrator_posts_for_a_users_organization() {
    for test in everywhere().await {
        let user = test.identity.create_user(&test.org_id, "Ann").await.unwrap();
        let (_, stranger) = test.stranger().await;
        let body = json!({"userid": user.id, "llmid": "small", "amount": "2", "usage": {}});
        let refused = test.post_as(&stranger, Some("k"), body.clone()).await;
        assert_eq!(refused.refusal(), (404, "not_found"), "{}", test.on.kind);
        let admin = test.administrator().await;
        let posted = test.post_as(&admin, Some("k"), body).await;
        assert_eq!(posted.data()["org_id"], json!(test.org_id));
        assert_eq!(test.available().await, "98");
        let seen = test.get("/accounting").await;
        assert_eq!(seen.data()["rows"][0]["posted_by"], "platform");
    }
}
