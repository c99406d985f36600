//! Grants, wallets and usage.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::{Answer, Test, everywhere};

impl Test {
    async fn grant(&self, org: &str, key: &str, amount: &str, reason: &str) -> Answer {
        let body = json!({"amount": amount, "currency": "CNY", "reason": reason});
        let request = Request::post(format!("/orgs/{org}/grants"))
            .header("x-api-key", &self.api_key)
            .header("idempotency-key", key);
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    async fn wallet(&self, org: &str, query: &str) -> Value {
        let mut wallet = self.get(&format!("/orgs/{org}/wallet{query}")).await.body;
        wallet.as_object_mut().unwrap().remove("as_of_seq").unwrap();
        wallet
    }
}

fn cny(amount: &str) -> Value {
    json!({"currency": "CNY", "posted": amount, "held": "0", "available": amount})
}

#[tokio::test]
async fn a_grant_is_in_the_wallet_once_for_its_key() {
    for test in everywhere().await {
        let org = test.customer().await;
        assert_eq!(test.wallet(&org, "").await, cny("0"), "{}", test.on.kind);
        let first = test.grant(&org, "g1", "12.5", "welcome").await;
        assert_eq!((first.status.as_u16(), first.text("available")), (201, "12.5".to_owned()));
        assert_eq!(first.headers.get("idempotency-replayed"), None);
        test.grant(&org, "g2", "0.000000001", "welcome").await;
        let replay = test.grant(&org, "g1", "12.5", "welcome").await;
        assert_eq!((replay.status, &replay.body), (first.status, &first.body), "{}", test.on.kind);
        assert_eq!(replay.headers["idempotency-replayed"], "true");
        assert_eq!(test.wallet(&org, "").await, cny("12.500000001"), "{}", test.on.kind);
        for (amount, reason) in [("12.6", "welcome"), ("12.5", "another reason")] {
            let conflict = test.grant(&org, "g1", amount, reason).await;
            assert_eq!(conflict.refusal(), (409, "idempotency_conflict"), "{amount} {reason}");
        }
        let other = test.customer().await;
        let same_key = test.grant(&other, "g1", "1", "theirs").await;
        assert_eq!(same_key.headers.get("idempotency-replayed"), None, "keys are per organization");
        assert_eq!(test.wallet(&other, "").await, cny("1"), "{}", test.on.kind);
    }
}

#[tokio::test]
async fn a_bad_grant_moves_nothing() {
    for test in everywhere().await {
        let org = test.customer().await;
        let path = format!("/orgs/{org}/grants");
        let body = json!({"amount": "1", "currency": "CNY", "reason": "x"});
        let no_key = test.post(&path, body).await;
        assert_eq!(no_key.refusal(), (400, "idempotency_key_required"));
        let long = "k".repeat(65);
        let cases = [
            (test.grant(&org, "g", "0", "x").await, "invalid_amount"),
            (test.grant(&org, "g", "-1", "x").await, "invalid_amount"),
            (test.grant(&org, "g", "1e3", "x").await, "invalid_field"),
            (test.grant(&org, "g", "0.0000000001", "x").await, "invalid_field"),
            (test.grant(&org, "g", "99999999999999999999", "x").await, "invalid_field"),
            (test.grant(&org, "g", "1", " ").await, "invalid_reason"),
            (test.grant(&org, &long, "1", "x").await, "invalid_idempotency_key"),
            (test.grant(&org, "", "1", "x").await, "invalid_idempotency_key"),
        ];
        for (answer, code) in cases {
            assert_eq!(answer.refusal(), (400, code), "{}: {answer:?}", test.on.kind);
        }
        assert_eq!(test.grant("nobody", "g", "1", "x").await.refusal(), (404, "not_found"));
        assert_eq!(test.wallet(&org, "").await, cny("0"), "{}", test.on.kind);
    }
}

#[tokio::test]
async fn a_wallet_beyond_all_amounts_is_refused_for_ever() {
    for test in everywhere().await {
        let org = test.customer().await;
        let most = "9223372036";
        assert_eq!(test.grant(&org, "g1", most, "x").await.status.as_u16(), 201);
        for _ in 0..2 {
            let refused = test.grant(&org, "g2", most, "x").await;
            assert_eq!(refused.refusal(), (409, "grant_refused"), "{}", test.on.kind);
        }
        assert_eq!(test.wallet(&org, "").await, cny(most), "{}", test.on.kind);
    }
}

#[tokio::test]
async fn without_a_currency_the_only_wallet_is_meant() {
    for test in everywhere().await {
        let org = test.customer().await;
        let body = json!({"amount": "3", "currency": "USD", "reason": "x"}).to_string();
        let request = Request::post(format!("/orgs/{org}/grants"))
            .header("x-api-key", &test.api_key)
            .header("idempotency-key", "usd");
        test.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(test.wallet(&org, "").await["currency"], json!("USD"), "{}", test.on.kind);
        assert_eq!(test.wallet(&org, "?currency=CNY").await, cny("0"), "{}", test.on.kind);
        test.grant(&org, "cny", "4", "x").await;
        assert_eq!(test.wallet(&org, "").await, cny("4"), "{}", test.on.kind);
        let refused = test.get(&format!("/orgs/{org}/wallet?currency=no%20money")).await;
        assert_eq!(refused.refusal(), (400, "invalid_query"));
    }
}

#[tokio::test]
async fn usage_starts_empty_and_takes_its_filters() {
    for test in everywhere().await {
        let org = test.customer().await;
        for query in [String::new(), format!("?org_id={org}&limit=5")] {
            let answer = test.get(&format!("/usage{query}")).await;
            assert_eq!(answer.body, json!({"rows": [], "next": null}), "{}", test.on.kind);
        }
        assert_eq!(test.get("/usage?cursor=zz").await.refusal(), (400, "invalid_query"));
    }
}
