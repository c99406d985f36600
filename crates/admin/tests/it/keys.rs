//! API keys.

use std::time::Duration;

use kernel::Clock as _;
use serde_json::json;

use crate::everywhere;

#[tokio::test]
async fn a_key_works_until_it_is_disabled() {
    for test in everywhere().await {
        let org = test.customer().await;
        let path = format!("/orgs/{org}/keys");
        let made = test.post(&path, json!({"name": "first"})).await;
        assert_eq!(made.status.as_u16(), 201, "{made:?}");
        let (api_key, id) = (made.text("api_key"), made.text("id"));
        assert_eq!(test.who(&api_key).await, org, "{}", test.on.kind);

        let listed = test.get(&path).await;
        let row = &listed.body["rows"][0];
        assert_eq!((row["name"].as_str(), row["role"].as_str()), (Some("first"), Some("member")));
        assert!(api_key.starts_with(row["prefix"].as_str().unwrap()));
        assert!(!listed.body.to_string().contains(&api_key));

        let change = format!("/keys/{id}");
        let changed = test.patch(&change, json!({"disabled": true})).await;
        assert_eq!((changed.status.as_u16(), &changed.body["disabled"]), (200, &json!(true)));
        assert_eq!(test.who(&api_key).await, "api_key_disabled", "{}", test.on.kind);
        test.patch(&change, json!({"disabled": false, "name": "second"})).await;
        assert_eq!(test.who(&api_key).await, org, "{}", test.on.kind);
        test.patch(&format!("/orgs/{org}"), json!({"disabled": true})).await;
        assert_eq!(test.who(&api_key).await, "api_key_disabled", "{}", test.on.kind);
        assert_eq!(test.get(&path).await.body["rows"][0]["name"], json!("second"));
    }
}

#[tokio::test]
async fn a_key_says_when_it_ends_what_it_may_and_whose_it_is() {
    for test in everywhere().await {
        let org = test.customer().await;
        let app = test.post(&format!("/orgs/{org}/apps"), json!({"name": "a"})).await.text("id");
        let user = test.post(&format!("/orgs/{org}/users"), json!({"name": "u"})).await.text("id");
        let path = format!("/orgs/{org}/keys");
        let body = json!({"name": "k", "role": "admin", "app_id": app, "user_id": user,
            "expires_at": "2026-01-01T09:00:00+08:00"});
        let made = test.post(&path, body).await;
        let row = test.get(&path).await.body["rows"][0].clone();
        assert_eq!(row["expires_at"], json!("2026-01-01T01:00:00.000000Z"), "{}", test.on.kind);
        assert_eq!((&row["app_id"], &row["user_id"]), (&json!(app), &json!(user)));
        assert_eq!((&row["role"], &row["last_used_at"]), (&json!("admin"), &json!(null)));
        test.clock.advance(Duration::from_hours(1));
        assert_eq!(test.who(&made.text("api_key")).await, "api_key_expired");

        let other = test.customer().await;
        let stolen =
            test.post(&format!("/orgs/{other}/keys"), json!({"name": "k", "app_id": app})).await;
        assert_eq!(stolen.refusal(), (404, "not_found"), "{}", test.on.kind);
        let bad = test.post(&path, json!({"name": "k", "expires_at": "tomorrow"})).await;
        assert_eq!(bad.refusal(), (400, "invalid_field"));
        let bad = test.post(&path, json!({"name": "k", "role": "owner"})).await;
        assert_eq!(bad.refusal(), (400, "invalid_field"));
    }
}

#[tokio::test]
async fn a_key_hands_over_to_its_successor() {
    for test in everywhere().await {
        let org = test.customer().await;
        let old = test.post(&format!("/orgs/{org}/keys"), json!({"name": "k"})).await;
        let path = format!("/keys/{}/rotate", old.text("id"));
        let until = test.clock.now().after(Duration::from_mins(5));
        let new = test.post(&path, json!({"old_until": until})).await;
        assert_eq!(new.status.as_u16(), 201, "{new:?}");
        assert_eq!(test.who(&old.text("api_key")).await, org);
        assert_eq!(test.who(&new.text("api_key")).await, org);
        test.clock.set(until);
        assert_eq!(test.who(&old.text("api_key")).await, "api_key_expired", "{}", test.on.kind);
        assert_eq!(test.who(&new.text("api_key")).await, org, "{}", test.on.kind);
        assert_eq!(test.post(&path, json!({})).await.refusal(), (409, "key_not_active"));
        let unknown = test.post(&path, json!({"overlap": 1})).await;
        assert_eq!(unknown.refusal(), (400, "invalid_field"));
    }
}
