//! What is let neither in nor out.

use gateway::{Guard, GuardAction, GuardConfig, GuardOn, Options};
use kernel::Amount;
use metering::UsageStatus;
use serde_json::{Value, json};

use crate::upstream::Upstream;
use crate::{Test, everywhere_with, model, provider, quick, route};

async fn tests(upstream: &Upstream, config: GuardConfig) -> Vec<Test> {
    let options = Options { guard: Guard::new(&config).unwrap(), ..Options::default() };
    let all = [model("m", vec![route("a", 0)])];
    everywhere_with(&[provider(upstream)], &all, &quick(), options).await
}

fn words(words: &[&str]) -> GuardConfig {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    GuardConfig { words, ..GuardConfig::default() }
}

#[tokio::test]
async fn a_refused_request_reaches_no_upstream_costs_nothing_and_is_recorded() {
    let a = Upstream::start("a").await;
    for test in tests(&a, words(&["ONE TWO"])).await {
        for stream in [false, true] {
            let answer = test.chat("m", json!({"stream": stream})).await;
            assert_eq!(answer.refusal(), (400, "content_refused".to_owned()));
        }
        let records = test.records().await;
        let codes: Vec<_> =
            records.iter().map(|record| record.usage.error_code.as_deref()).collect();
        assert_eq!(codes, [Some("content_refused"); 2]);
        assert_eq!((a.asked().len(), test.spent().await), (0, Amount::ZERO));
    }
}

#[tokio::test]
async fn a_refused_answer_is_not_charged_and_a_stream_ends_before_it() {
    let a = Upstream::start("a").await;
    let say = |stream: bool| {
        let text = "[[say:all is well and then some secr et secret plan]]";
        json!({"stream": stream, "messages": [{"role": "user", "content": text}]})
    };
    // The request holds the word as well.
    let config = GuardConfig { on: GuardOn::Output, ..words(&["secret"]) };
    for test in tests(&a, config).await {
        let whole = test.chat("m", say(false)).await;
        assert_eq!(whole.refusal(), (400, "content_refused".to_owned()));
        assert_eq!(test.spent().await, Amount::ZERO);
        let stream = test.chat("m", say(true)).await;
        assert_eq!(stream.status, 200);
        assert!(stream.text.contains("content_refused") && !stream.text.contains("secret"));
        assert!(stream.text.contains("well ") && !stream.text.contains("[DONE]"), "{stream:?}");
        let records = test.records().await;
        assert_eq!(records[0].usage.status, UsageStatus::Released);
        assert_eq!(records[1].usage.error_code.as_deref(), Some("content_refused"));
        assert!(test.spent().await > Amount::ZERO, "what a stream has passed on is charged");
    }
}

#[tokio::test]
async fn masked_words_reach_neither_side() {
    let a = Upstream::start("a").await;
    // The simulation's own words, in some order.
    let config = GuardConfig {
        action: GuardAction::Mask,
        patterns: vec!["led[a-z]+ bal[a-z]+".to_owned()],
        ..words(&["two"])
    };
    for test in tests(&a, config).await {
        a.reset();
        let whole = test.chat("m", json!({})).await;
        let whole = whole.json();
        let content = whole["choices"][0]["message"]["content"].as_str().unwrap();
        assert_eq!(a.asked()[0]["messages"][0]["content"], "one ***");
        assert!(content.contains("**************") && !content.contains("ledger balance"));
        let stream = test.chat("m", json!({"stream": true})).await;
        let chunks = stream.text.lines().filter_map(|line| line.strip_prefix("data: "));
        let chunks = chunks.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        let told: String = chunks
            .filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()))
            .collect();
        assert_eq!(told, content);
        assert!(stream.text.ends_with("data: [DONE]\n\n"));
    }
}
