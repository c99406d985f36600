//! What runs do, on every database: order, branches, loops, failures, waits, cancels, limits.

use std::time::Duration;

use flow::{Config, Error, Event, Started, Status};
use serde_json::json;

use super::bed::{Bed, assert_gap_free, migrations, object, org};

fn flow(body: &str) -> String {
    format!("name: test\ndescription: A test.\n{body}")
}

async fn beds() -> Vec<(testkit::TestDatabase, Bed)> {
    let mut all = Vec::new();
    for test in testkit::databases(&migrations()).await {
        let bed = Bed::on(&test, Config::default()).await;
        all.push((test, bed));
    }
    all
}

#[tokio::test]
async fn nodes_run_in_order_and_branches_follow_conditions() {
    let text = flow(
        r#"
state: {n: int, path: {type: list, reducer: extend}}
nodes:
  double: {type: tool, config: {tool: calculator, arguments: {expression: "{{ n }} * 2"}, output: n}}
  big: {type: transform, config: {set: {path: "= ['big']"}}}
  small: {type: transform, config: {set: {path: "= ['small']"}}}
  both: {type: transform, config: {set: {path: "= ['end']"}}}
edges:
  - {from: double, to: big, type: conditional, condition: "n >= 10"}
  - {from: double, to: small, type: conditional, condition: "n < 10"}
  - {from: big, to: both}
  - {from: small, to: both}
output: {n: "= n", path: "= path"}
"#,
    );
    for (test, bed) in beds().await {
        let run = bed.carry_out(&text, json!({"n": 7})).await;
        assert_eq!(run.status, Status::Succeeded, "{}: {:?}", test.kind, run.error);
        let log = bed.log(&run.id).await;
        let expected = json!({"n": 14.0, "path": ["big", "end"]});
        assert_eq!(run.output, Some(expected), "{log:#?}");
        assert_gap_free(&log);
        let later = bed.engine.events(&org(), &run.id, 3).await.unwrap();
        assert_eq!(later, log[3..]);
        bed.close().await;
    }
}

#[tokio::test]
async fn flows_within_flows_run_side_by_side_for_each_item_and_in_rounds() {
    let text = flow(
        r#"
nodes:
  each: {type: map, config: {items: "= numbers", flow: square, max_parallel: 3, output: squares}}
  sides: {type: parallel, config: {branches: {left: name_it, right: name_it}, output: sides}}
  count: {type: loop, config: {flow: add, until: "= last >= 3.0", input: {n: "= last == null ? 0.0 : last"}, output: rounds}}
  inner: {type: subflow, config: {flow: square, input: {item: 9}, output: nine}}
edges: [{from: each, to: sides}, {from: sides, to: count}, {from: count, to: inner}]
output: {squares: "= squares", sides: "= sides", rounds: "= rounds", nine: "= nine"}
flows:
  square:
    nodes: {s: {type: tool, config: {tool: calculator, arguments: {expression: "{{ item }}^2"}, output: r}}}
    output: "= r"
  name_it:
    nodes: {n: {type: transform, config: {set: {r: "{{ branch }} side"}}}}
    output: "= r"
  add:
    nodes: {a: {type: tool, config: {tool: calculator, arguments: {expression: "{{ n }} + 1"}, output: n}}}
    output: "= n"
"#,
    );
    for (_test, bed) in beds().await {
        let run = bed.carry_out(&text, json!({"numbers": [1, 2, 3, 4, 5]})).await;
        assert_eq!(
            run.output,
            Some(json!({"squares": [1.0, 4.0, 9.0, 16.0, 25.0],
                "sides": {"left": "left side", "right": "right side"}, "rounds": 3.0, "nine": 81.0})),
            "{:?} {:#?}",
            run.error,
            bed.log(&run.id).await
        );
        assert_gap_free(&bed.log(&run.id).await);
        bed.close().await;
    }
}

fn failed_steps(log: &[flow::Logged]) -> usize {
    log.iter().filter(|it| matches!(it.event, Event::StepFailed { .. })).count()
}

#[tokio::test]
async fn failures_are_retried_replaced_led_elsewhere_or_fatal() {
    let bad = |policy: &str| {
        flow(&format!(
            "nodes:\n  bad: {{type: tool, config: {{tool: calculator, arguments: {{expression: '1/0'}}, output: r}}{policy}}}\n  \
             other: {{type: transform, config: {{set: {{r: 'led here, {{{{ errors[0].code }}}}'}}}}}}\nedges: []\noutput: '= r'\n"
        ))
    };
    for (_test, bed) in beds().await {
        let run = bed.carry_out(&bad(""), json!({})).await;
        assert_eq!(run.status, Status::Failed);
        let error = run.error.unwrap();
        assert_eq!((&error["code"], &error["node"]), (&json!("bad_arguments"), &json!("bad")));
        let run = bed.carry_out(&bad(", on_error: {value: 5}"), json!({})).await;
        assert_eq!(run.output, Some(json!(5)));
        let run = bed.carry_out(&bad(", on_error: {goto: other}"), json!({})).await;
        assert_eq!(run.output, Some(json!("led here, bad_arguments")));
        let retried = bad(", retry: {attempts: 3, delay_ms: 1000, max_delay_ms: 1000}");
        let run = bed.begin(&retried, json!({})).await;
        for failures in 1..=2 {
            // That it waits may still be of the time before it was woken; the log is not.
            while failed_steps(&bed.log(&run).await) < failures {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            bed.until(&run, |status| status == Status::Waiting).await;
            bed.clock.advance(Duration::from_secs(2));
            bed.engine.wake_due().await.unwrap();
        }
        assert_eq!(bed.ended(&run).await.status, Status::Failed);
        let log = bed.log(&run).await;
        assert_eq!(failed_steps(&log), 3, "{log:#?}");
        assert_gap_free(&log);
        bed.close().await;
    }
}

const ASK: &str = r#"
nodes:
  ask:
    type: wait
    config:
      message: "Is {{ what }} right?"
      schema: {type: object, required: [ok], properties: {ok: {type: boolean}}}
      expires_seconds: 60
      on_expiry: {value: {ok: false}}
      output: answer
output: "= answer"
"#;

#[tokio::test]
async fn a_question_waits_is_answered_once_and_expires() {
    for (_test, bed) in beds().await {
        let run = bed.begin(&flow(ASK), json!({"what": "this"})).await;
        bed.until(&run, |status| status == Status::Waiting).await;
        let log = bed.log(&run).await;
        let asked = log.iter().find_map(|logged| match &logged.event {
            Event::StepWaiting { step, message, .. } => Some((*step, message.clone())),
            _ => None,
        });
        assert_eq!(asked, Some((1, "Is this right?".to_owned())));
        let org = org();
        let answer = |answer| bed.engine.answer(&org, &run, 1, answer);
        assert!(matches!(answer(json!({"ok": "maybe"})).await, Err(Error::Mismatch(_))));
        let (one, two) = tokio::join!(answer(json!({"ok": true})), answer(json!({"ok": false})));
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        let first = if one.is_ok() { json!({"ok": true}) } else { json!({"ok": false}) };
        assert_eq!(bed.ended(&run).await.output, Some(first.clone()));
        assert!(!answer(first).await.unwrap(), "the same again is fine and does nothing");
        assert!(matches!(answer(json!({"ok": 1})).await, Err(Error::Answered)));
        let another = bed.engine.answer(&org, &run, 2, json!({"ok": true})).await;
        assert!(matches!(another, Err(Error::NotWaiting)));
        assert_gap_free(&bed.log(&run).await);
        let other: kernel::OrgId = "other".into();
        let foreign = bed.engine.answer(&other, &run, 1, json!({})).await;
        assert!(matches!(foreign, Err(Error::UnknownRun(_))));

        let late = bed.begin(&flow(ASK), json!({"what": "that"})).await;
        bed.until(&late, |status| status == Status::Waiting).await;
        bed.clock.advance(Duration::from_secs(61));
        bed.engine.wake_due().await.unwrap();
        assert_eq!(bed.ended(&late).await.output, Some(json!({"ok": false})));
        bed.close().await;
    }
}

#[tokio::test]
async fn a_start_with_a_key_happens_once() {
    for (_test, bed) in beds().await {
        let definition = bed.publish(&flow(ASK)).await;
        let start =
            flow::Start { key: Some("k".into()), ..Bed::start_of(&definition, json!({"what": 1})) };
        let all: Vec<_> = (0..20).map(|_| bed.engine.start(start.clone())).collect();
        let mut ids = Vec::new();
        let mut first = 0;
        for started in all {
            let Started { run_id, replayed } = started.await.unwrap();
            first += usize::from(!replayed);
            ids.push(run_id);
        }
        ids.dedup();
        assert_eq!((ids.len(), first), (1, 1));
        let other = flow::Start { input: object(json!({"what": 2})), ..start };
        assert!(matches!(bed.engine.start(other).await, Err(Error::Conflict)));
        bed.close().await;
    }
}

#[tokio::test]
async fn a_cancelled_run_ends_and_a_hanging_tool_is_cut_off() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Takes connections and never answers.
    let hanging = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            kept.push(socket);
        }
    });
    let text = |timeout: &str| {
        flow(&format!(
            "nodes: {{get: {{type: http, config: {{url: 'http://{address}/'}}{timeout}}}}}"
        ))
    };
    let test = testkit::sqlite(&migrations()).await;
    let config = Config { allowed_hosts: vec![address.to_string()], ..Config::default() };
    let bed = Bed::on(&test, config).await;
    let run = bed.carry_out(&text(", timeout_seconds: 0.2"), json!({})).await;
    assert_eq!(run.error.unwrap()["code"], "step_timeout");
    let run = bed.begin(&text(""), json!({})).await;
    bed.until(&run, |status| status == Status::Running).await;
    let started = std::time::Instant::now();
    bed.engine.cancel(&org(), &run).await.unwrap();
    let ended = bed.ended(&run).await;
    assert_eq!(ended.status, Status::Cancelled);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    bed.engine.cancel(&org(), &run).await.unwrap();
    assert_gap_free(&bed.log(&run).await);
    hanging.abort();
    bed.close().await;
}

#[tokio::test]
async fn http_nodes_reach_no_private_address_unless_allowed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let test = testkit::sqlite(&migrations()).await;
    let bed = Bed::on(&test, Config::default()).await;
    for host in [address.to_string(), format!("localhost:{}", address.port())] {
        let text =
            flow(&format!("nodes: {{get: {{type: http, config: {{url: 'http://{host}/'}}}}}}"));
        let run = bed.carry_out(&text, json!({})).await;
        assert_eq!(run.error.unwrap()["code"], "address_not_allowed", "{host}");
    }
    let reached = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(reached.is_err(), "somebody connected");
    bed.close().await;
}

#[tokio::test]
async fn limits_end_a_run_with_a_clear_error() {
    let endless = flow(
        "nodes: {a: {type: transform, config: {set: {n: '= n + 1'}}}, b: {type: pass}}\nstate: {n: int}\n\
         edges: [{from: a, to: b}, {from: b, to: a, type: conditional, condition: 'n >= 0'}]\nlimits: {steps: 50}",
    );
    let wide = flow(
        "nodes: {m: {type: map, config: {items: '= items', flow: f}}}\nflows: {f: {nodes: {x: {type: pass}}}}",
    );
    let growing = flow(
        "state: {text: {type: str, default: xxxxxxxxxx}}\n\
         nodes: {a: {type: transform, config: {set: {text: '{{ text }}{{ text }}'}}}, b: {type: pass}}\n\
         edges: [{from: a, to: b}, {from: b, to: a, type: conditional, condition: 'size(text) >= 0'}]",
    );
    let test = testkit::sqlite(&migrations()).await;
    let config = Config { max_state_bytes: 20_000, max_value_bytes: 16_000, ..Config::default() };
    let bed = Bed::on(&test, config).await;
    let code = |run: flow::RunRecord| run.error.unwrap()["code"].as_str().unwrap().to_owned();
    assert_eq!(code(bed.carry_out(&endless, json!({"n": 0})).await), "too_many_steps");
    let many: Vec<u32> = (0..1500).collect();
    assert_eq!(code(bed.carry_out(&wide, json!({"items": many})).await), "fan_out_too_large");
    assert_eq!(code(bed.carry_out(&growing, json!({})).await), "state_too_large");
    let definition = bed.publish(&endless).await;
    let large = Bed::start_of(&definition, json!({"x": "y".repeat(20_000)}));
    assert!(matches!(bed.engine.start(large).await, Err(Error::TooLarge { .. })));
    let slow =
        flow("nodes: {d: {type: delay, config: {seconds: 100}}}\nlimits: {timeout_seconds: 10}");
    let run = bed.begin(&slow, json!({})).await;
    bed.until(&run, |status| status == Status::Waiting).await;
    bed.clock.advance(Duration::from_secs(11));
    bed.engine.wake_due().await.unwrap();
    assert_eq!(bed.ended(&run).await.status, Status::TimedOut);
    bed.close().await;
}

#[tokio::test]
async fn a_stopped_engine_is_continued_by_the_next_and_two_share_a_database() {
    for test in testkit::databases(&migrations()).await {
        let bed = Bed::on(&test, Config::default()).await;
        let run = bed.begin(&flow(ASK), json!({"what": "it"})).await;
        bed.until(&run, |status| status == Status::Waiting).await;
        bed.close().await;
        let next = Bed::on(&test, Config::default()).await;
        assert!(next.engine.answer(&org(), &run, 1, json!({"ok": true})).await.unwrap());
        assert_eq!(next.ended(&run).await.output, Some(json!({"ok": true})));
        if test.kind == "mysql" {
            let other = Bed::on(&test, Config::default()).await;
            let org = org();
            for round in 0..10 {
                let run = next.begin(&flow(ASK), json!({"what": round})).await;
                next.until(&run, |status| status == Status::Waiting).await;
                let (one, two) = tokio::join!(
                    next.engine.answer(&org, &run, 1, json!({"ok": true})),
                    other.engine.answer(&org, &run, 1, json!({"ok": false})),
                );
                assert!(!(one.is_ok() && two.is_ok()), "{one:?} {two:?}");
                let ended = other.ended(&run).await;
                assert_eq!(ended.status, Status::Succeeded, "{one:?} {two:?}");
                assert_gap_free(&other.log(&run).await);
            }
            other.close().await;
        }
        next.close().await;
    }
}
