//! Providers as an administrator sees and switches them.

use std::sync::Arc;

use models::{ModelConfig, Models, ProviderConfig, ProviderKind, ProviderState, RoutingConfig};
use serde_json::json;

use crate::{Answer, Test, everywhere};

/// Two providers; the second is configured as draining. A model with a route to each.
pub(crate) fn models() -> Models {
    let one =
        ProviderConfig { max_concurrency: 7, ..ProviderConfig::new("one", ProviderKind::Sim, "") };
    let two = ProviderConfig {
        state: ProviderState::Draining,
        ..ProviderConfig::new("two", ProviderKind::Sim, "")
    };
    let all = [ModelConfig::new("m", "one", None), ModelConfig::new("n", "two", None)];
    Models::new(&[one, two], &all, &RoutingConfig::default()).unwrap()
}

async fn states(test: &Test) -> Vec<(String, String)> {
    let listed = test.get("/providers").await;
    let rows = listed.body["rows"].as_array().unwrap().iter();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    rows.map(|row| (text(&row["name"]), text(&row["state"]))).collect()
}

async fn put(test: &Test, name: &str, state: &str) -> Answer {
    test.ask("PUT", &format!("/providers/{name}/state"), &json!({"state": state}).to_string()).await
}

fn pair(name: &str, state: &str) -> (String, String) {
    (name.to_owned(), state.to_owned())
}

#[tokio::test]
async fn providers_are_listed_with_how_they_fare() {
    for test in everywhere().await {
        let listed = test.get("/providers").await;
        assert_eq!(
            listed.body["rows"][0],
            json!({"name": "one", "state": "active", "configured_state": "active", "running": 0,
                "max_concurrency": 7, "trouble": null, "routes": [{"model": "m", "upstream_model": "m",
                    "breaker": "closed", "rests_ms": 0, "first_byte_ms": null}]})
        );
        assert_eq!(listed.body["rows"][1]["max_concurrency"], json!(null));
        assert_eq!(states(&test).await, [pair("one", "active"), pair("two", "draining")]);
    }
}

#[tokio::test]
async fn a_decision_is_kept_and_other_instances_follow() {
    for test in everywhere().await {
        let other = Arc::new(models());
        let follow = tokio::spawn(Arc::clone(&other).keep_states(test.on.database.clone()));
        for (name, state) in [("one", "disabled"), ("two", "active"), ("one", "draining")] {
            let answer = put(&test, name, state).await;
            assert_eq!((answer.status.as_u16(), answer.text("state")), (200, state.to_owned()));
        }
        assert_eq!(states(&test).await, [pair("one", "draining"), pair("two", "active")]);
        let follows = || {
            let states = other.providers().iter().map(|provider| provider.state());
            states.eq([ProviderState::Draining, ProviderState::Active])
        };
        let within = std::time::Duration::from_secs(10);
        let followed = tokio::time::timeout(within, async {
            while !follows() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        });
        followed.await.unwrap();
        follow.abort();
        let audit = test.get("/audit").await;
        let last = &audit.body["rows"][0];
        assert_eq!(
            json!([last["action"], last["target_id"], last["before"], last["after"]]),
            json!(["provider.change", "one", {"state": "disabled"}, {"state": "draining"}])
        );
        let restarted = models();
        restarted.load_states(&test.on.database).await.unwrap();
        assert_eq!(restarted.provider("one").unwrap().state(), ProviderState::Draining);
    }
}

#[tokio::test]
async fn mistakes_are_told() {
    for test in everywhere().await {
        assert_eq!(put(&test, "nobody", "active").await.refusal(), (404, "provider_not_found"));
        assert_eq!(put(&test, "one", "asleep").await.refusal(), (400, "invalid_field"));
        assert_eq!(states(&test).await[0], pair("one", "active"));
    }
}
