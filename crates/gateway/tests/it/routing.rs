//! What becomes of a call whose upstream fails.

use std::time::Duration;

use http_body_util::BodyExt as _;
use kernel::Amount;
use metering::{OperatorRecord, UsageStatus};
use models::{ModelConfig, ProviderState, RouteConfig, RoutingConfig};
use serde_json::json;
use tower::ServiceExt as _;

use crate::upstream::{Does, Upstream};
use crate::{Test, everywhere, model, price, provider, quick, route};

/// Two upstreams, the second asked when the first has failed.
struct Two {
    a: Upstream,
    b: Upstream,
}

impl Two {
    async fn start() -> Self {
        Self { a: Upstream::start("a").await, b: Upstream::start("b").await }
    }

    async fn tests(&self, routing: &RoutingConfig) -> Vec<Test> {
        let providers = [provider(&self.a), provider(&self.b)];
        everywhere(&providers, &[model("m", vec![route("a", 0), route("b", 1)])], routing).await
    }

    /// Forgets what happened on the database before.
    fn fresh(&self, a: &[Does]) {
        self.a.reset();
        self.b.reset();
        self.a.tell(a);
    }
}

/// Who was asked, and how it ended.
fn attempts(record: &OperatorRecord) -> Vec<(&str, &str)> {
    let all = record.attempts.iter();
    all.map(|attempt| (attempt.provider.as_str(), attempt.error_code.as_deref().unwrap_or("")))
        .collect()
}

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_failure_before_the_first_byte_is_made_good_by_another_route_at_one_charge() {
    let two = Two::start().await;
    let failures = [
        (Does::Refuse(500), "upstream_error"),
        (Does::Refuse(408), "upstream_error"),
        (Does::Refuse(429), "upstream_rate_limited"),
        (Does::Cut, "upstream_broken"),
        (Does::Pretend, "upstream_broken"),
    ];
    for test in two.tests(&quick()).await {
        for (failure, _) in failures {
            for stream in [false, true] {
                two.fresh(&[failure]);
                let answer = test.chat("m", json!({"stream": stream})).await;
                assert_eq!(answer.status, 200, "{failure:?}: {answer:?}");
                assert_eq!((two.a.asked().len(), two.b.asked().len()), (1, 1), "{failure:?}");
                assert!(!stream || answer.text.ends_with("data: [DONE]\n\n"));
            }
        }
        let records = test.records().await;
        let expected: Vec<_> = failures.iter().flat_map(|(_, code)| [*code; 2]).collect();
        for (record, code) in records.iter().zip(&expected) {
            assert_eq!(attempts(record), [("a", *code), ("b", "")]);
            assert_eq!(record.usage.provider.as_deref(), Some("b"));
            assert_eq!(record.usage.status, UsageStatus::Settled);
            assert_eq!(record.usage.cost, amount("0.0098"));
        }
        assert_eq!((records.len(), test.spent().await), (10, amount("0.098")));
    }
}

#[tokio::test]
async fn an_upstream_that_is_silent_or_down_is_passed_over() {
    let (a, b) = (Upstream::down("a").await, Upstream::start("b").await);
    let slow = Upstream::start("c").await;
    let providers = [provider(&a), provider(&b), provider(&slow)];
    let routes = vec![route("a", 0), route("c", 1), route("b", 2)];
    for test in everywhere(&providers, &[model("m", routes)], &quick()).await {
        slow.tell(&[Does::Hang]);
        let answer = test.chat("m", json!({"stream": true})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let records = test.records().await;
        assert_eq!(
            attempts(&records[0]),
            [("a", "upstream_unreachable"), ("c", "upstream_timeout"), ("b", "")]
        );
    }
}

#[tokio::test]
async fn what_the_upstream_does_not_take_is_not_sent_again() {
    let two = Two::start().await;
    for test in two.tests(&quick()).await {
        let refusals = [(400, 400, "upstream_invalid_request"), (401, 502, "upstream_denied")];
        for (status, told, code) in refusals {
            two.fresh(&[Does::Refuse(status)]);
            let answer = test.chat("m", json!({})).await;
            assert_eq!(answer.refusal(), (told, code.to_owned()));
            assert_eq!(two.b.asked().len(), 0);
        }
        assert_eq!(test.spent().await, Amount::ZERO);
    }
}

#[tokio::test]
async fn after_the_first_byte_nothing_is_sent_again() {
    let two = Two::start().await;
    for test in two.tests(&quick()).await {
        two.fresh(&[Does::CutLate]);
        let answer = test.chat("m", json!({"stream": true})).await;
        assert!(answer.text.contains("upstream_broken"), "{answer:?}");
        assert_eq!(two.b.asked().len(), 0);
        let records = test.records().await;
        assert_eq!(records[0].usage.error_code.as_deref(), Some("upstream_broken"));
        assert_eq!(records[0].usage.usage_source, "estimated");
        assert!(records[0].usage.output_tokens > 0 && test.spent().await > Amount::ZERO);
    }
}

#[tokio::test]
async fn a_model_with_one_route_is_asked_again_so_often_and_then_costs_nothing() {
    let a = Upstream::start("a").await;
    let all = [model("m", vec![route("a", 0)])];
    for test in everywhere(&[provider(&a)], &all, &quick()).await {
        a.reset();
        a.tell(&[Does::Refuse(503), Does::Refuse(500)]);
        assert_eq!(test.chat("m", json!({})).await.status, 200);
        a.tell(&[Does::Refuse(503); 3]);
        let answer = test.chat("m", json!({})).await;
        assert_eq!(answer.refusal(), (502, "upstream_error".to_owned()));
        assert_eq!(a.asked().len(), 6);
        let records = test.records().await;
        assert_eq!((records[0].attempts.len(), records[1].attempts.len()), (3, 3));
        assert_eq!(records[1].usage.status, UsageStatus::Released);
        assert_eq!(records[1].attempts[2].status, Some(503));
        assert_eq!(test.spent().await, records[0].usage.cost);
    }
}

#[tokio::test]
async fn no_attempt_begins_after_the_time_for_retries() {
    let two = Two::start().await;
    let routing = RoutingConfig { retry_for_ms: 0, ..quick() };
    for test in two.tests(&routing).await {
        two.fresh(&[Does::Refuse(500)]);
        assert_eq!(test.chat("m", json!({})).await.status, 502);
        assert_eq!(two.b.asked().len(), 0);
    }
}

#[tokio::test]
async fn a_fallback_answers_at_the_price_of_the_model_asked_and_margins_are_exact() {
    let two = Two::start().await;
    let cost = |provider: &str, input: &str, output: &str| RouteConfig {
        cost: Some(price(input, output)),
        ..route(provider, 0)
    };
    let all = [
        ModelConfig {
            fallbacks: vec!["other".to_owned()],
            ..model("m", vec![cost("a", "50", "200")])
        },
        ModelConfig {
            price: Some(price("7", "7")),
            routes: vec![RouteConfig { model: Some("up".to_owned()), ..cost("b", "300", "300") }],
            ..model("other", vec![])
        },
    ];
    let providers = [provider(&two.a), provider(&two.b)];
    for test in everywhere(&providers, &all, &quick()).await {
        for stream in [false, true] {
            two.fresh(&[Does::Refuse(500)]);
            let answer = test.chat("m", json!({"stream": stream})).await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("x-ledgerline-model")),
                (200, "other")
            );
            assert_eq!(two.b.asked()[0]["model"], "up");
        }
        two.fresh(&[]);
        let answer = test.chat("m", json!({})).await;
        assert_eq!(answer.header("x-ledgerline-model"), "");
        let seen = test.send(test.request("GET", "/usage", String::new())).await;
        for hidden in ["attempts", "purchase", "margin"] {
            assert!(!seen.text.contains(hidden), "{}", seen.text);
        }
        let records = test.records().await;
        for record in &records[..2] {
            assert_eq!(record.usage.model, "m");
            assert_eq!(record.usage.cost, amount("0.0098"));
            assert_eq!(record.attempts[1].model.as_deref(), Some("other"));
            // 2 tokens in and 24 out at 300 each.
            assert_eq!(record.purchase_cost, Some(amount("0.0078")));
            assert_eq!(record.margin, Some(amount("0.002")));
        }
        let own = &records[2];
        assert_eq!((own.attempts.len(), own.purchase_cost), (0, Some(amount("0.0049"))));
    }
}

#[tokio::test]
async fn a_full_provider_refuses_with_the_time_to_come_back_and_holds_nothing() {
    let a = Upstream::start("a").await;
    let mut narrow = provider(&a);
    narrow.max_concurrency = 1;
    for test in everywhere(&[narrow], &[model("m", vec![route("a", 0)])], &quick()).await {
        a.reset();
        a.tell(&[Does::Wait]);
        let running = test.chat_request("m", &json!({"stream": true}));
        let running = test.router.clone().oneshot(running).await.unwrap();
        let answer = test.chat("m", json!({})).await;
        assert_eq!(answer.refusal(), (503, "provider_busy".to_owned()));
        assert_eq!(answer.header("retry-after"), "1");
        (0..40).for_each(|_| a.go_on());
        running.into_body().collect().await.unwrap();
        assert_eq!(test.chat("m", json!({})).await.status, 200);
        let records = test.records().await;
        assert_eq!(records[0].usage.error_code.as_deref(), Some("provider_busy"));
        assert_eq!(records[0].usage.provider, None);
        assert_eq!(test.spent().await, amount("0.0196"));
    }
}

#[tokio::test]
async fn an_upstream_that_wants_a_rest_gets_it_and_the_caller_is_told_how_long() {
    let a = Upstream::start("a").await;
    for test in everywhere(&[provider(&a)], &[model("m", vec![route("a", 0)])], &quick()).await {
        a.reset();
        a.tell(&[Does::Rest(20)]);
        let answer = test.chat("m", json!({})).await;
        assert_eq!(answer.refusal(), (429, "upstream_rate_limited".to_owned()));
        assert_eq!(answer.header("retry-after"), "20");
        let answer = test.chat("m", json!({})).await;
        assert_eq!(answer.refusal(), (503, "provider_unavailable".to_owned()));
        assert!(["19", "20"].contains(&answer.header("retry-after")), "{answer:?}");
        assert_eq!((a.asked().len(), test.spent().await), (1, Amount::ZERO));
    }
}

#[tokio::test]
async fn a_disabled_provider_gets_no_calls_and_its_streams_are_cut_off() {
    let two = Two::start().await;
    for test in two.tests(&quick()).await {
        two.fresh(&[Does::Wait]);
        let request = test.chat_request("m", &json!({"stream": true}));
        let mut body = test.router.clone().oneshot(request).await.unwrap().into_body();
        let mut text = String::new();
        while !text.contains("\"content\":\"") || text.matches("data:").count() < 2 {
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            text.push_str(std::str::from_utf8(&frame).unwrap());
        }
        let provider = test.models.provider("a").unwrap();
        provider.set_state(ProviderState::Draining);
        assert_eq!(test.chat("m", json!({})).await.status, 200);
        assert_eq!((two.a.asked().len(), provider.running()), (1, 1));
        provider.set_state(ProviderState::Disabled);
        two.a.go_on();
        let rest = body.collect().await.unwrap().to_bytes();
        assert!(std::str::from_utf8(&rest).unwrap().contains("provider_unavailable"), "{rest:?}");
        let records = test.records().await;
        assert_eq!(records[1].usage.error_code.as_deref(), Some("provider_unavailable"));
        assert!(records[1].usage.cost > Amount::ZERO);
        assert_eq!(provider.running(), 0);
    }
}

#[tokio::test]
async fn a_flapping_provider_makes_no_call_free_or_paid_twice() {
    let two = Two::start().await;
    let routing = RoutingConfig {
        breaker_failures: 3,
        breaker_cooldown_ms: 5,
        backoff_ms: 1,
        ..RoutingConfig::default()
    };
    let moods = [Does::Refuse(500), Does::Cut, Does::Rest(0), Does::Refuse(503), Does::CutLate];
    for test in two.tests(&routing).await {
        two.fresh(&[]);
        for round in 0..12 {
            two.a.tell(&[moods[round % moods.len()]; 4]);
            two.a.tell(&[Does::Answer; 3]);
            two.b.tell(&[moods[(round + 2) % moods.len()], Does::Answer]);
        }
        let calls = (0..60).map(|call| {
            let stream = call % 3 == 0;
            test.chat("m", json!({"stream": stream, "max_tokens": 30}))
        });
        let answers = futures_util::future::join_all(calls).await;
        let records = test.records().await;
        assert_eq!(records.len(), 60);
        let paid = records
            .iter()
            .fold(Amount::ZERO, |sum, record| sum.checked_add(record.usage.cost).unwrap());
        assert_eq!(test.spent().await, paid);
        for answer in &answers {
            let whole = answer.status == 200 && !answer.text.contains("upstream_broken");
            assert!(whole || answer.text.contains("\"code\":"), "{answer:?}");
        }
        let answered = answers.iter().filter(|answer| answer.status == 200).count();
        let settled =
            records.iter().filter(|record| record.usage.status == UsageStatus::Settled).count();
        assert_eq!(answered, settled);
        assert!(answered > 30, "{answered}");
        for provider in test.models.providers() {
            assert_eq!(provider.running(), 0);
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_between_attempts_pays_nothing_and_its_attempts_are_recorded() {
    let two = Two::start().await;
    for test in two.tests(&quick()).await {
        two.fresh(&[Does::Refuse(500)]);
        two.b.tell(&[Does::Hang]);
        let left = tokio::time::timeout(Duration::from_millis(150), test.chat("m", json!({})));
        assert!(left.await.is_err());
        let records = test.records().await;
        assert_eq!(attempts(&records[0]), [("a", "upstream_error"), ("b", "client_gone")]);
        assert_eq!(records[0].usage.status, UsageStatus::Released);
        assert_eq!(test.spent().await, Amount::ZERO);
        assert_eq!(test.models.provider("b").unwrap().running(), 0);
    }
}
