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
async fn a_grant_expires_in_the_time_to_come_and_a_repeat_says_so_for_ever() {
    for test in everywhere().await {
        let org = test.customer().await;
        let grants = format!("/orgs/{org}/grants");
        let now = kernel::Clock::now(&test.clock);
        let lot = |end: kernel::Timestamp| json!({"amount": "5", "currency": "CNY", "reason": "x", "expires_at": end});
        let soon = now.after(std::time::Duration::from_mins(1));
        for end in [now, kernel::Timestamp::from_micros(now.micros() - 1)] {
            let refused = test.move_money(&grants, "late", lot(end)).await;
            assert_eq!(refused.refusal(), (400, "expires_in_the_past"), "{}", test.on.kind);
            assert_eq!(refused.body["param"], "expires_at", "{refused:?}");
        }
        assert_eq!(test.wallet(&org, "").await, cny("0"), "{}", test.on.kind);
        let given = test.move_money(&grants, "lot", lot(soon)).await;
        assert_eq!(given.status.as_u16(), 201, "{given:?}");
        test.clock.advance(std::time::Duration::from_secs(61));
        let again = test.move_money(&grants, "lot", lot(soon)).await;
        assert_eq!((again.status, &again.body), (given.status, &given.body), "{}", test.on.kind);
        let other = test.move_money(&grants, "other", lot(soon)).await;
        assert_eq!(other.refusal(), (400, "expires_in_the_past"), "{}", test.on.kind);
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
            assert_eq!(refused.refusal(), (409, "movement_refused"), "{}", test.on.kind);
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

impl Test {
    /// A call for the organization, admitted and running.
    async fn admit(&self, org: &str) -> metering::Admission {
        let rates = json!({"input_per_million": "1", "output_per_million": "1"});
        let file = json!({"currency": "CNY", "rules": [{"model": "m", "rates": rates}]});
        let version = self.post("/prices", file).await.text("id");
        self.post("/prices/activations", json!({"version_id": version})).await;
        self.grant(org, "g", "10", "x").await;
        let (kind, role) = (identity::OrgKind::Customer, identity::Role::Member);
        let call = metering::Call {
            id: kernel::ChargeId::generate(),
            fresh: true,
            caller: std::sync::Arc::new(identity::Caller::new(org.into(), kind, role)),
            surface: metering::Surface::Chat,
            model: "m".into(),
            stream: false,
            input_bound: 100,
            output_bound: 100,
            fingerprint: None,
            request_id: "r".into(),
            step: None,
        };
        self.admin.metering.admit(call).await.unwrap()
    }
}

#[tokio::test]
async fn a_call_is_shown_while_it_runs_and_when_it_has_ended() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let org = test.customer().await;
        let admission = test.admit(&org).await;
        let path = format!("/usage/{}", admission.id());
        let running = test.get(&path).await.body;
        assert_eq!((&running["status"], &running["model"]), (&json!("running"), &json!("m")));
        assert_eq!((&running["org_id"], &running["attempts"]), (&json!(org), &json!([])), "{kind}");
        let bill = metering::Bill::default();
        test.admin.metering.settle(admission, bill, Vec::new()).await.unwrap();
        let ended = test.get(&path).await.body;
        assert_eq!(ended["status"], "settled", "{kind}");
        assert_eq!(test.get("/usage").await.body["rows"], json!([ended]), "{kind}");
        assert_eq!(test.get("/usage/nothing").await.refusal(), (404, "usage_not_found"), "{kind}");
    }
}

impl Test {
    async fn move_money(&self, path: &str, key: &str, body: Value) -> Answer {
        let request =
            Request::post(path).header("x-api-key", &self.api_key).header("idempotency-key", key);
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }
}

#[tokio::test]
async fn lots_adjustments_and_reversals_show_in_wallet_and_statement() {
    for test in everywhere().await {
        let org = test.customer().await;
        test.grant(&org, "g", "10", "top-up").await;
        let grants = format!("/orgs/{org}/grants");
        let lot = json!({"amount": "5", "currency": "CNY", "reason": "welcome", "kind": "promotional",
            "expires_at": "2100-01-01T00:00:00Z"});
        let given = test.move_money(&grants, "lot", lot).await;
        assert_eq!(given.status.as_u16(), 201, "{given:?}");
        let lots = test.get(&format!("/orgs/{org}/lots")).await.body;
        let expected = json!([{"seq": lots[0]["seq"], "kind": "promotional", "priority": 100,
            "expires_at": "2100-01-01T00:00:00.000000Z", "granted": "5", "remaining": "5"}]);
        assert_eq!(lots, expected, "{}", test.on.kind);

        let adjustments = format!("/orgs/{org}/adjustments");
        let down = json!({"amount": "-7", "currency": "CNY", "reason": "wrong, \"quoted\""});
        let taken = test.move_money(&adjustments, "a", down).await;
        assert_eq!((taken.status.as_u16(), taken.text("available")), (201, "8".to_owned()));
        assert_eq!(
            test.get(&format!("/orgs/{org}/lots")).await.body,
            json!([]),
            "the lot went first"
        );
        let more = json!({"amount": "-8.1", "currency": "CNY", "reason": "too much"});
        let refused = test.move_money(&adjustments, "b", more).await;
        assert_eq!(refused.refusal(), (409, "movement_refused"));
        let nothing = json!({"amount": "0", "currency": "CNY", "reason": "nothing"});
        let refused = test.move_money(&adjustments, "c", nothing).await;
        assert_eq!(refused.refusal(), (400, "invalid_amount"));

        let back = json!({"operation": taken.text("id"), "reason": "it was right"});
        let reversed = test.post("/reversals", back.clone()).await;
        assert_eq!(reversed.status.as_u16(), 201, "{reversed:?}");
        let again = test.post("/reversals", back).await;
        assert_eq!(again.headers["idempotency-replayed"], "true");
        assert_eq!(test.wallet(&org, "").await, cny("15"), "{}", test.on.kind);
        assert_eq!(test.get(&format!("/orgs/{org}/lots")).await.body[0]["remaining"], "5");
        let unknown = json!({"operation": "settle:unknown", "reason": "x"});
        assert_eq!(test.post("/reversals", unknown).await.refusal(), (409, "movement_refused"));

        test.check_statement(&org).await;
    }
}

impl Test {
    async fn check_statement(&self, org: &str) {
        let from = "2000-01-01T00:00:00Z";
        let path = format!("/orgs/{org}/statement?from={from}&to=2200-01-01T00:00:00Z");
        let statement = self.get(&path).await.body;
        assert_eq!((&statement["opening"], &statement["closing"]), (&json!("0"), &json!("15")));
        let rows = statement["rows"].as_array().unwrap();
        let told: Vec<(&str, &str, &str)> = rows
            .iter()
            .map(|row| {
                let text = |member: &str| row[member].as_str().unwrap();
                (text("what"), text("amount"), text("balance"))
            })
            .collect();
        let expected = [
            ("grant", "10", "10"),
            ("grant", "5", "15"),
            ("adjustment", "-7", "8"),
            ("grant", "7", "15"),
        ];
        assert_eq!(told, expected, "{}", self.on.kind);
        let request =
            Request::get(format!("/admin{path}&format=csv")).header("x-api-key", &self.api_key);
        let csv = self.text_of(request.body(Body::empty()).unwrap()).await;
        assert!(csv.contains("\"wrong, \"\"quoted\"\"\""), "{csv}");
        assert_eq!(csv.lines().count(), 5);
        let empty = self.get(&format!("/orgs/{org}/statement?from={from}&to={from}")).await;
        assert_eq!(empty.refusal(), (400, "invalid_period"));
    }
}

#[tokio::test]
async fn limits_are_set_listed_and_taken_away() {
    for test in everywhere().await {
        let org = test.customer().await;
        let path = format!("/orgs/{org}/limits");
        let put = async |body: Value| test.ask("PUT", &path, &body.to_string()).await;
        put(json!({"scope": "org", "measure": "requests", "per": "minute", "limit": 60})).await;
        let key = test.post(&format!("/orgs/{org}/keys"), json!({"name": "k"})).await.text("id");
        put(json!({"scope": "key", "subject": key, "measure": "concurrency", "limit": 2})).await;
        let spend = json!({"scope": "org", "measure": "spend", "per": "month", "currency": "CNY", "limit": "12.5"});
        let all = put(spend).await;
        assert_eq!(all.status.as_u16(), 200, "{all:?}");
        assert_eq!(all.body["time_zone"], "UTC");
        let rows = all.body["rows"].as_array().unwrap();
        let told: Vec<(&str, &Value)> =
            rows.iter().map(|row| (row["measure"].as_str().unwrap(), &row["limit"])).collect();
        let (two, sixty, money) = (json!(2), json!(60), json!("12.5"));
        assert_eq!(told, [("concurrency", &two), ("requests", &sixty), ("spend", &money)]);
        let gone =
            put(json!({"scope": "org", "measure": "requests", "per": "minute", "limit": null}));
        assert_eq!(gone.await.body["rows"].as_array().unwrap().len(), 2);
        for bad in [
            json!({"scope": "org", "measure": "requests", "limit": 1}),
            json!({"scope": "org", "measure": "concurrency", "per": "day", "limit": 1}),
            json!({"scope": "org", "measure": "spend", "per": "month", "limit": "1"}),
            json!({"scope": "org", "measure": "spend", "per": "minute", "currency": "CNY", "limit": "1"}),
            json!({"scope": "org", "measure": "tokens", "per": "day", "limit": -1}),
            json!({"scope": "org", "subject": "x", "measure": "tokens", "per": "day", "limit": 1}),
            json!({"scope": "key", "measure": "tokens", "per": "day", "limit": 1}),
        ] {
            assert_eq!(put(bad.clone()).await.refusal(), (400, "invalid_limit"), "{bad}");
        }
        let zone = format!("/orgs/{org}/time_zone");
        let set = test.ask("PUT", &zone, r#"{"time_zone": "Asia/Shanghai"}"#).await;
        assert_eq!(set.status.as_u16(), 204, "{set:?}");
        assert_eq!(test.get(&path).await.body["time_zone"], "Asia/Shanghai");
        let unknown = test.ask("PUT", &zone, r#"{"time_zone": "Mars/Olympus"}"#).await;
        assert_eq!(unknown.status.as_u16(), 400);
    }
}
