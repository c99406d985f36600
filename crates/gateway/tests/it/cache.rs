//! Answers that are given again.

use std::time::Duration;

use gateway::{CacheConfig, Options};
use http::HeaderValue;
use kernel::Amount;
use models::ModelConfig;
use pricing::CachedResponse;
use serde_json::{Value, json};

use crate::upstream::{Does, Upstream};
use crate::{Answer, Test, everywhere_with, model, provider, quick, route};

/// A model whose cached answers cost a tenth, and one that has none.
async fn tests(upstream: &Upstream, cache: CacheConfig) -> Vec<Test> {
    let tenth = CachedResponse { percent: 10, per_call: Amount::ZERO };
    let all = [
        ModelConfig { cached_response: Some(tenth), ..model("m", vec![route("a", 0)]) },
        model("never", vec![route("a", 0)]),
    ];
    let options = Options { cache, ..Options::default() };
    everywhere_with(&[provider(upstream)], &all, &quick(), options).await
}

fn for_all() -> CacheConfig {
    CacheConfig { allowed: vec!["*".to_owned()], ..CacheConfig::default() }
}

async fn ask(test: &Test, model: &str, more: Value, headers: &[(&'static str, &str)]) -> Answer {
    let mut request = test.chat_request(model, &more);
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    test.send(request).await
}

const ON: (&str, &str) = ("x-ledgerline-cache", "on");

#[tokio::test]
async fn the_same_request_is_answered_the_same_at_a_tenth_and_without_an_upstream() {
    let a = Upstream::start("a").await;
    for test in tests(&a, for_all()).await {
        for stream in [false, true] {
            a.reset();
            let first = ask(&test, "m", json!({"stream": stream, "x": 1.5}), &[ON]).await;
            assert_eq!((first.status.as_u16(), first.header("x-ledgerline-cache")), (200, "miss"));
            let again = ask(&test, "m", json!({"x": 1.5, "stream": stream}), &[ON]).await;
            assert_eq!((again.status.as_u16(), again.header("x-ledgerline-cache")), (200, "hit"));
            assert_eq!(again.header("x-ledgerline-cost"), "0.00098");
            assert_eq!(again.header("content-type"), first.header("content-type"));
            let own: String = first.text.lines().filter(|line| !line.starts_with(':')).collect();
            assert_eq!(again.text.lines().collect::<String>(), own);
            assert_eq!(a.asked().len(), 1);
        }
        let other = ask(&test, "m", json!({"x": 2}), &[ON]).await;
        assert_eq!(other.header("x-ledgerline-cache"), "miss");
        let records = test.records().await;
        let hit = &records[1];
        assert_eq!(
            (hit.usage.usage_source.as_str(), hit.usage.provider.as_deref()),
            ("cache", None)
        );
        assert_eq!(hit.usage.output_tokens, records[0].usage.output_tokens);
        assert!(hit.usage.raw_usage.as_ref().unwrap().contains(records[0].usage.id.as_str()));
        assert_eq!((hit.purchase_cost, hit.margin), (Some(Amount::ZERO), Some(hit.usage.cost)));
        assert_eq!(test.spent().await, "0.03136".parse().unwrap());
    }
}

#[tokio::test]
async fn both_the_operator_and_the_client_must_want_it() {
    let a = Upstream::start("a").await;
    for test in tests(&a, for_all()).await {
        a.reset();
        for _ in 0..2 {
            let unasked = ask(&test, "m", json!({}), &[]).await;
            assert_eq!(unasked.header("x-ledgerline-cache"), "");
            let unpriced = ask(&test, "never", json!({}), &[ON]).await;
            assert_eq!(unpriced.header("x-ledgerline-cache"), "off");
        }
        assert_eq!(a.asked().len(), 4);
    }
    let others = CacheConfig { allowed: vec!["somebody".to_owned()], ..CacheConfig::default() };
    for test in tests(&a, others).await {
        let off = ask(&test, "m", json!({}), &[ON]).await;
        assert_eq!(off.header("x-ledgerline-cache"), "off");
    }
}

#[tokio::test]
async fn what_is_not_whole_is_not_kept() {
    let a = Upstream::start("a").await;
    for test in tests(&a, for_all()).await {
        a.reset();
        a.tell(&[Does::CutLate, Does::Refuse(400)]);
        let cut = ask(&test, "m", json!({"stream": true}), &[ON]).await;
        assert!(cut.text.contains("upstream_broken"));
        assert_eq!(ask(&test, "m", json!({"stream": true}), &[ON]).await.status, 400);
        let third = ask(&test, "m", json!({"stream": true}), &[ON]).await;
        assert_eq!((third.status.as_u16(), third.header("x-ledgerline-cache")), (200, "miss"));
    }
    let small = CacheConfig { max_answer_bytes: 10, ..for_all() };
    for test in tests(&a, small).await {
        for _ in 0..2 {
            let answer = ask(&test, "m", json!({}), &[ON]).await;
            assert_eq!(answer.header("x-ledgerline-cache"), "miss");
        }
    }
}

#[tokio::test]
async fn an_answer_gets_too_old() {
    let a = Upstream::start("a").await;
    for test in tests(&a, CacheConfig { ttl_seconds: 1, ..for_all() }).await {
        ask(&test, "m", json!({}), &[ON]).await;
        assert_eq!(ask(&test, "m", json!({}), &[ON]).await.header("x-ledgerline-cache"), "hit");
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert_eq!(ask(&test, "m", json!({}), &[ON]).await.header("x-ledgerline-cache"), "miss");
    }
}

#[tokio::test]
async fn a_repeated_request_with_a_key_is_still_charged_once() {
    let a = Upstream::start("a").await;
    for test in tests(&a, for_all()).await {
        ask(&test, "m", json!({}), &[ON]).await;
        let spent = test.spent().await;
        let repeat = [ON, ("idempotency-key", "k")];
        let first = ask(&test, "m", json!({}), &repeat).await;
        let second = ask(&test, "m", json!({}), &repeat).await;
        assert_eq!((first.text.as_str(), second.status.as_u16()), (second.text.as_str(), 200));
        assert_eq!(second.header("idempotency-replayed"), "true");
        let once = test.spent().await.checked_sub(spent).unwrap();
        assert_eq!(once, "0.00098".parse().unwrap());
    }
}
