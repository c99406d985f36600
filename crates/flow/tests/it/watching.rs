//! Watching runs: events without gaps, texts as they come, how runs stand, and cuts in the middle.

use std::time::Duration;

use flow::{Config, Event, News, Status, Watch};
use kernel::{Amount, PageRequest};
use metering::{UsageFilter, UsageRecord, UsageStatus};
use serde_json::{Value, json};

use super::bed::{Bed, assert_gap_free, migrations, org};
use super::upstream::Upstream;

const SAY: &str = r#"
name: say
description: One call.
nodes:
  say: {type: llm, config: {model: sim-small, prompt: "Say it", max_tokens: 50, output: said}}
output: "= said"
"#;

async fn next(watch: &mut Watch) -> Option<News> {
    let waited = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
    waited.expect("something comes").unwrap()
}

/// The next piece of a text: where it begins, and what it is.
async fn piece(watch: &mut Watch) -> (usize, String) {
    loop {
        match next(watch).await.expect("the run goes on") {
            News::Said(said) => return (said.offset, said.text),
            News::Happened(_) => {}
        }
    }
}

/// Everything to the end: the events, and the text with each piece where it belongs.
async fn rest(watch: &mut Watch) -> (Vec<flow::Logged>, String) {
    let (mut events, mut text) = (Vec::new(), String::new());
    while let Some(news) = next(watch).await {
        match news {
            News::Happened(logged) => {
                if matches!(logged.event, Event::StepRetried { .. }) {
                    text.clear();
                }
                events.push(logged.as_ref().clone());
            }
            News::Said(said) => {
                assert!(said.offset <= text.len(), "a gap before {said:?}");
                text.truncate(said.offset);
                text.push_str(&said.text);
            }
        }
    }
    assert!(watch.next().await.unwrap().is_none());
    (events, text)
}

async fn usage_of(bed: &Bed, run: &str) -> Vec<UsageRecord> {
    let filter =
        UsageFilter { org_id: Some(org()), run_id: Some(run.to_owned()), ..UsageFilter::default() };
    bed.metering.list_usage(&filter, &PageRequest::default()).await.unwrap().rows
}

async fn assert_books(bed: &Bed, run: &flow::RunRecord) {
    let (posted, held) = bed.wallet().await;
    let ten: Amount = "10".parse().unwrap();
    assert_eq!((ten.saturating_sub(posted), held), (run.spent, Amount::ZERO));
    let costs = usage_of(bed, &run.id).await;
    let sum = costs.iter().fold(Amount::ZERO, |sum, record| sum.saturating_add(record.cost));
    assert_eq!(sum, run.spent);
    let tables = [&metering::USAGE, &metering::STEPS, &metering::PLACES];
    let report = ledger::verify(&bed.database, &tables).await.unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

#[tokio::test]
async fn texts_come_as_they_are_said_and_late_watchers_miss_nothing() {
    for test in testkit::databases(&migrations()).await {
        let upstream = Upstream::start(&["one ", "two ", "zw\u{f6}lf ", "end"]).await;
        let bed = Bed::asking(&test, &upstream.url).await;
        bed.grant("10").await;
        let run = bed.begin(SAY, json!({})).await;
        let mut early = bed.engine.watch(&org(), &run, 0).await.unwrap();
        upstream.go_on(1);
        assert_eq!(piece(&mut early).await, (0, "one ".to_owned()));
        upstream.go_on(1);
        assert_eq!(piece(&mut early).await, (4, "two ".to_owned()));
        let seen = early.seq();
        let mut late = bed.engine.watch(&org(), &run, seen).await.unwrap();
        assert_eq!(piece(&mut late).await, (0, "one two ".to_owned()));
        upstream.go_on(2);
        let ended = bed.ended(&run).await;
        assert_eq!(ended.output, Some(json!("one two zw\u{f6}lf end")));
        let log = bed.log(&run).await;
        // Both were slow: the rest comes in one piece, before the end of its step.
        for watch in [&mut early, &mut late] {
            let (offset, text) = piece(watch).await;
            assert_eq!((offset, text.as_str()), (8, "zw\u{f6}lf end"));
            let (events, _) = rest(watch).await;
            assert_eq!(events, log[usize::try_from(seen).unwrap()..]);
        }
        let mut after = bed.engine.watch(&org(), &run, 0).await.unwrap();
        assert_eq!(rest(&mut after).await.0, log);
        let last = log.last().unwrap().seq;
        let mut done = bed.engine.watch(&org(), &run, last).await.unwrap();
        assert!(next(&mut done).await.is_none());
        assert!(bed.engine.watch(&"other".into(), &run, 0).await.is_err());
        assert_books(&bed, &ended).await;
        bed.close().await;
    }
}

#[tokio::test]
async fn a_watcher_that_lags_gets_every_event_and_does_not_slow_the_run() {
    let text = r#"
name: rounds
description: Many events.
nodes:
  again: {type: loop, config: {flow: add, until: "= last >= 60.0", input: {n: "= last == null ? 0.0 : last"}, output: n}}
flows:
  add:
    nodes: {a: {type: tool, config: {tool: calculator, arguments: {expression: "{{ n }} + 1"}, output: n}}}
    output: "= n"
"#;
    for test in testkit::databases(&migrations()).await {
        let bed = Bed::on(&test, Config::default()).await;
        let run = bed.begin(text, json!({})).await;
        let mut watch = bed.engine.watch(&org(), &run, 0).await.unwrap();
        next(&mut watch).await;
        bed.ended(&run).await;
        let log = bed.log(&run).await;
        assert!(log.len() > 200);
        let (events, _) = rest(&mut watch).await;
        assert_eq!(events, log[1..]);
        // Cut at every event and taken up again, it is the same sequence.
        for logged in &log {
            let mut watch = bed.engine.watch(&org(), &run, logged.seq - 1).await.unwrap();
            let Some(News::Happened(first)) = next(&mut watch).await else { panic!() };
            assert_eq!(first.as_ref(), logged);
        }
        bed.close().await;
    }
}

#[tokio::test]
async fn a_run_of_another_instance_can_be_watched() {
    for test in testkit::databases(&migrations()).await {
        if test.kind != "mysql" {
            continue;
        }
        let upstream = Upstream::start(&["a ", "b"]).await;
        let (here, there) =
            (Bed::asking(&test, &upstream.url).await, Bed::asking(&test, &upstream.url).await);
        here.grant("10").await;
        let run = here.begin(SAY, json!({})).await;
        let mut watch = there.engine.watch(&org(), &run, 0).await.unwrap();
        next(&mut watch).await;
        upstream.go_on(2);
        let (events, _) = rest(&mut watch).await;
        assert_eq!(events, here.log(&run).await[1..]);
        here.close().await;
        there.close().await;
    }
}

#[tokio::test]
async fn a_cancelled_call_is_cut_off_upstream_and_costs_what_had_come() {
    for test in testkit::databases(&migrations()).await {
        let upstream = Upstream::start(&["one ", "two ", "three ", "four "]).await;
        let bed = Bed::asking(&test, &upstream.url).await;
        bed.grant("10").await;
        let run = bed.begin(SAY, json!({})).await;
        let mut watch = bed.engine.watch(&org(), &run, 0).await.unwrap();
        upstream.go_on(2);
        // The two words may come as one piece.
        while !piece(&mut watch).await.1.ends_with("two ") {}
        let begun = std::time::Instant::now();
        bed.engine.cancel(&org(), &run).await.unwrap();
        upstream.left().await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        let ended = bed.ended(&run).await;
        assert_eq!(ended.status, Status::Cancelled);
        let usage = usage_of(&bed, &run).await;
        let [record] = usage.as_slice() else { panic!("{usage:?}") };
        assert_eq!((record.status, record.client_gone), (UsageStatus::Settled, true));
        assert_eq!((record.usage_source.as_str(), record.output_tokens), ("estimated", 2));
        assert_eq!((record.step, record.error_code.as_deref()), (Some(1), Some("client_gone")));
        assert!(ended.spent.is_positive());
        assert_books(&bed, &ended).await;
        assert_gap_free(&bed.log(&run).await);
        bed.close().await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_charged_and_tried_again_as_a_call_of_its_own() {
    let text = SAY.replace("output: said}", "output: said}, retry: {attempts: 2, delay_ms: 1}");
    for test in testkit::databases(&migrations()).await {
        let upstream = Upstream::start(&["a ", "b ", "c"]).await;
        upstream.break_off(1);
        upstream.go_on(10);
        let bed = Bed::asking(&test, &upstream.url).await;
        bed.grant("10").await;
        let run = bed.begin(&text, json!({})).await;
        let mut watch = bed.engine.watch(&org(), &run, 0).await.unwrap();
        let ended = bed.ended_in_time(&run).await;
        assert_eq!(ended.output, Some(json!("a b c")), "{:?}", ended.error);
        rest(&mut watch).await;
        let usage = usage_of(&bed, &run).await;
        let sources: Vec<_> = usage
            .iter()
            .map(|record| {
                (record.id.to_string(), record.usage_source.as_str(), record.output_tokens)
            })
            .collect();
        assert_eq!(
            sources,
            [(format!("{run}.1.2"), "reported", 3), (format!("{run}.1.1"), "estimated", 2)]
        );
        assert_books(&bed, &ended).await;
        bed.close().await;
    }
}

#[tokio::test]
async fn a_key_limited_to_models_calls_no_others_from_a_run() {
    let test = testkit::sqlite(&migrations()).await;
    let bed = Bed::on(&test, Config::default()).await;
    bed.grant("10").await;
    let definition = bed.publish(SAY).await;
    let mut start = Bed::start_of(&definition, json!({}));
    let mut caller = start.caller.as_ref().clone();
    for (models, code) in [(["other-*"], Some("model_not_allowed")), (["sim-*"], None)] {
        caller.limits.models = models.map(str::to_owned).to_vec();
        start.caller = std::sync::Arc::new(caller.clone());
        let run = bed.engine.start(start.clone()).await.unwrap().run_id;
        let error = bed.ended(&run).await.error;
        assert_eq!(error.as_ref().and_then(|error| error["code"].as_str()), code);
        // Who takes the run over knows it too.
        assert_eq!(bed.engine.find(&org(), &run).await.unwrap().caller.limits, caller.limits);
    }
    bed.close().await;
}

#[tokio::test]
async fn a_run_can_be_looked_at_as_it_stands_and_as_it_stood() {
    let text = r#"
name: stand
description: Steps, and a question.
state: {n: {type: int, default: 1}}
nodes:
  first: {type: transform, config: {set: {n: "= n + 1"}}}
  ask: {type: wait, config: {message: "n is {{ n }}?", schema: {type: boolean}, output: sure}}
  last: {type: transform, config: {set: {n: "= n * 10"}}}
edges: [{from: first, to: ask}, {from: ask, to: last}]
output: "= n"
"#;
    for test in testkit::databases(&migrations()).await {
        let bed = Bed::on(&test, Config::default()).await;
        let run = bed.begin(text, json!({"note": "x"})).await;
        bed.until(&run, |status| status == Status::Waiting).await;
        let stands = bed.engine.snapshot(&org(), &run).await.unwrap();
        assert_eq!((stands.status, &stands.fields["n"]), (Status::Waiting, &json!(2)));
        assert_eq!(stands.seq, bed.log(&run).await.last().unwrap().seq);
        let [question] = stands.questions.as_slice() else { panic!("{stands:?}") };
        assert_eq!((question.step, question.message.as_str()), (1, "n is 2?"));
        assert_eq!(question.schema, Some(json!({"type": "boolean"})));
        assert_eq!(stands.next, [std::sync::Arc::<str>::from("ask")]);
        bed.engine.answer(&org(), &run, 1, json!(true)).await.unwrap();
        bed.ended(&run).await;
        let ended = bed.engine.snapshot(&org(), &run).await.unwrap();
        assert_eq!((ended.status, &ended.fields["n"]), (Status::Succeeded, &json!(20)));
        assert_eq!(
            (ended.fields["sure"].clone(), ended.fields["note"].clone()),
            (json!(true), json!("x"))
        );
        assert!(ended.next.is_empty() && ended.questions.is_empty());
        let all = bed.engine.snapshots(&org(), &run, None, 100).await.unwrap();
        assert_eq!(all.first(), Some(&ended));
        let before: Vec<Value> =
            all.iter().rev().map(|one| one.fields.get("n").cloned().unwrap_or_default()).collect();
        assert_eq!(before.last(), Some(&json!(20)));
        assert!(before.windows(2).all(|pair| pair[0].as_i64() <= pair[1].as_i64()), "{before:?}");
        let [newest] = &bed.engine.snapshots(&org(), &run, Some(ended.seq), 1).await.unwrap()[..]
        else {
            panic!()
        };
        assert_eq!(newest, &all[1]);
        assert!(bed.engine.snapshot(&"other".into(), &run).await.is_err());
        bed.close().await;
    }
}

const COUNT: &str = r#"
name: count
description: More events than watchers are kept for, where `most` is high.
nodes: {up: {type: transform, config: {set: {n: "= n + 1"}}}}
state: {n: {type: int, default: 0}, most: {type: int, default: 1}}
edges: [{from: up, to: up, condition: "n < most"}]
output: "= n"
"#;

#[tokio::test]
async fn a_run_watched_from_before_its_start_is_told_as_its_log_has_it() {
    for test in testkit::databases(&migrations()).await {
        let bed = Bed::on(&test, Config::default()).await;
        let definition = bed.publish(COUNT).await;
        for most in [1, 2, 60] {
            let key = format!("once {most}");
            let run = flow::RunRecord::id_of(&org(), &key);
            let key = Some(key);
            let start = flow::Start { key, ..Bed::start_of(&definition, json!({"most": most})) };
            let (mut replay, mut watch) = bed.engine.start_watched(start.clone()).await.unwrap();
            let (events, _) = rest(&mut watch).await;
            for logged in &events {
                replay.apply(logged);
            }
            assert_eq!(replay.status(), Status::Succeeded);
            assert_eq!(replay.snapshot().fields["n"], json!(most));
            assert_eq!(bed.log(&run).await, events);
            // One that was started before is told from its log.
            let (_, mut again) = bed.engine.start_watched(start).await.unwrap();
            assert_eq!(rest(&mut again).await.0, events);
        }
        bed.close().await;
    }
}
