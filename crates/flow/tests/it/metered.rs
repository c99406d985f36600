//! Calls of models within runs: priced, held, settled, recorded, within a budget.

use flow::{Config, Status};
use kernel::{Amount, ChargeId};
use metering::UsageStatus;
use serde_json::{Value, json};

use super::bed::{Bed, assert_gap_free, migrations, org};

const TALK: &str = r#"
name: talk
description: Two calls, one after the other.
nodes:
  first: {type: llm, config: {model: sim-small, prompt: "Say {{ word }}", max_tokens: 50, output: one}}
  second: {type: llm, config: {model: sim-large, prompt: "Again: {{ one }}", max_tokens: 50, output: two}}
edges: [{from: first, to: second}]
output: "= two"
"#;

fn sum(log: &[flow::Logged]) -> Amount {
    log.iter().filter_map(|logged| logged.cost).fold(Amount::ZERO, Amount::saturating_add)
}

#[tokio::test]
async fn every_call_is_charged_and_the_sums_agree() {
    for test in testkit::databases(&migrations()).await {
        let bed = Bed::on(&test, Config::default()).await;
        bed.grant("10").await;
        let run = bed.carry_out(TALK, json!({"word": "hello"})).await;
        assert_eq!(run.status, Status::Succeeded, "{:?}", run.error);
        assert!(run.output.as_ref().and_then(Value::as_str).is_some_and(|text| !text.is_empty()));
        let log = bed.log(&run.id).await;
        assert_gap_free(&log);
        let (posted, held) = bed.wallet().await;
        let ten: Amount = "10".parse().unwrap();
        assert!(run.spent.is_positive());
        assert_eq!((ten.saturating_sub(posted), held), (run.spent, Amount::ZERO));
        assert_eq!(sum(&log), run.spent);
        let calls = bed.calls.lock().clone();
        assert_eq!(calls.len(), 2);
        let mut recorded = Amount::ZERO;
        for call in &calls {
            let id = ChargeId::from(call.as_str());
            let usage = bed.metering.usage(&id, Some(&org())).await.unwrap().unwrap();
            assert_eq!(usage.status, UsageStatus::Settled);
            assert!(call.starts_with(run.id.as_ref()), "the run and step are in the charge's id");
            recorded = recorded.saturating_add(usage.cost);
        }
        assert_eq!(recorded, run.spent);
        let report = ledger::verify(
            &test.database,
            &[&metering::USAGE, &metering::STEPS, &metering::PLACES],
        )
        .await
        .unwrap();
        assert!(report.ok, "{:?}", report.findings);
        bed.close().await;
    }
}

/// Calls of the flow itself, and of one that it uses.
const DIGEST: &str = r#"
name: digest
nodes:
  first: {type: llm, config: {model: sim-small, prompt: "Say", max_tokens: 5, output: one}}
  each: {type: map, config: {items: "= [1, 2]", flow: part, output: all}}
edges: [{from: first, to: each}]
flows:
  part:
    nodes: {inner: {type: llm, config: {model: sim-small, prompt: "Say", max_tokens: 5, output: said}}}
    output: "= said"
output: "= all"
"#;
const BY_CALL: &str = "currency: CNY\nrules:\n\
    - {model: sim-small, prices: [{class: [input, output], price: '0'}], per_call: '1'}\n\
    - {model: sim-small, pipeline: digest, percent: '50'}\n\
    - {model: sim-small, pipeline: digest, step: inner, percent: '20'}\n";

#[tokio::test]
async fn calls_of_a_run_are_priced_and_recorded_by_its_flow_and_node() {
    for test in testkit::databases(&migrations()).await {
        let bed = Bed::on(&test, Config::default()).await;
        bed.grant("10").await;
        let (prices, now) = (bed.metering.prices(), kernel::Clock::now(&bed.clock));
        let version = pricing::PriceVersion::read(BY_CALL).unwrap();
        prices.create_version(&version, None, now, vec![]).await.unwrap();
        prices.activate(Some(version.id()), None, None, now, |_| vec![]).await.unwrap();
        // Enough at the flow's prices alone: half a unit, then twice a tenth.
        let definition = bed.publish(DIGEST).await;
        let mut start = Bed::start_of(&definition, json!({}));
        start.budget = Some("0.7".parse().unwrap());
        let started = bed.engine.start(start).await.unwrap();
        let run = bed.ended(&started.run_id).await;
        assert_eq!(run.status, Status::Succeeded, "{:?}", run.error);
        assert_eq!(run.spent, "0.7".parse().unwrap());
        let mut places = Vec::new();
        let calls = bed.calls.lock().clone();
        for call in calls {
            let id = ChargeId::from(call.as_str());
            let usage = bed.metering.usage(&id, None).await.unwrap().unwrap();
            places.push((usage.pipeline.unwrap(), usage.node.unwrap(), usage.cost.to_string()));
        }
        places.sort();
        let place =
            |node: &str, cost: &str| ("digest".to_owned(), node.to_owned(), cost.to_owned());
        let expected = [place("first", "0.5"), place("inner", "0.1"), place("inner", "0.1")];
        assert_eq!(places, expected, "{}", test.kind);
        // The same nodes in a flow of another name.
        let run = bed.carry_out(&DIGEST.replace("name: digest", "name: other"), json!({})).await;
        assert_eq!(run.spent, "3".parse().unwrap());
        bed.close().await;
    }
}

#[tokio::test]
async fn a_budget_stops_the_run_before_the_call_that_would_exceed_it() {
    let test = testkit::sqlite(&migrations()).await;
    let bed = Bed::on(&test, Config::default()).await;
    bed.grant("10").await;
    let definition = bed.publish(TALK).await;
    let mut start = Bed::start_of(&definition, json!({"word": "hello"}));
    start.budget = Some("0.00001".parse().unwrap());
    let none = bed.engine.start(start.clone()).await.unwrap();
    let none = bed.ended(&none.run_id).await;
    assert_eq!(none.error.unwrap()["code"], "budget_exceeded");
    assert_eq!(none.spent, Amount::ZERO);
    // Enough for the first call's hold, not for what both may cost.
    start.budget = Some("0.0009".parse().unwrap());
    let some = bed.engine.start(start).await.unwrap();
    let some = bed.ended(&some.run_id).await;
    assert_eq!(some.error.unwrap()["code"], "budget_exceeded");
    assert!(some.spent.is_positive() && some.spent <= "0.0009".parse().unwrap());
    assert_eq!(bed.wallet().await.1, Amount::ZERO);
    bed.close().await;
}

#[tokio::test]
async fn an_empty_wallet_fails_the_step_and_costs_nothing() {
    let test = testkit::sqlite(&migrations()).await;
    let bed = Bed::on(&test, Config::default()).await;
    let run = bed.carry_out(TALK, json!({"word": "hello"})).await;
    assert_eq!(run.error.unwrap()["code"], "insufficient_balance");
    assert_eq!(run.spent, Amount::ZERO);
    let unknown = TALK.replace("sim-small", "nobody");
    let run = bed.carry_out(&unknown, json!({"word": "x"})).await;
    assert_eq!(run.error.unwrap()["code"], "model_not_found");
    bed.close().await;
}

#[tokio::test]
async fn the_shipped_definitions_run_to_their_end() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/workflows");
    let read = |name: &str| std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
    let test = testkit::sqlite(&migrations()).await;
    let bed = Bed::on(&test, Config::default()).await;
    bed.grant("100").await;
    for (name, input) in [
        ("react", json!({"messages": [{"role": "user", "content": "What is 2 + 2?"}]})),
        ("plan_execute", json!({"goal": "tea"})),
        ("collaborative", json!({"question": "Is it late?"})),
    ] {
        let run = bed.begin(&read(name), input).await;
        let run = bed.ended_in_time(&run).await;
        assert_eq!(
            run.status,
            Status::Succeeded,
            "{name}: {:?}\n{:#?}",
            run.error,
            bed.log(&run.id).await
        );
        assert!(run.spent.is_positive() && run.output.is_some(), "{name}");
    }
    let run = bed.begin(&read("human_review"), json!({"request": "a note"})).await;
    for (step, decision) in [(2, "revise"), (4, "approve")] {
        bed.until(&run, |status| status == Status::Waiting).await;
        let answer = json!({"decision": decision, "remarks": "shorter"});
        bed.engine.answer(&org(), &run, step, answer).await.unwrap();
    }
    let run = bed.ended(&run).await;
    assert_eq!(run.output.unwrap()["outcome"], "approved");
    bed.close().await;
}
