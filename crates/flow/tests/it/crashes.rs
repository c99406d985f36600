//! The process ends after every single write: what was finished is not done again, nothing is
//! charged twice or not at all, and the run goes on to the same end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use flow::{Config, Event, Logged, Status};
use kernel::{Amount, Clock, Timestamp};
use serde_json::json;
use store::Database;
use testkit::FakeClock;

use super::bed::{Bed, assert_gap_free, migrations, org};

/// A journal that looks at this clock comes to a halt for ever before its n-th batch: for everybody
/// else the process might as well be gone.
#[derive(Debug)]
struct Deadline {
    inner: FakeClock,
    left: Arc<AtomicI64>,
    /// The process is gone by now: so is its thread.
    gone: Arc<AtomicBool>,
}

impl Clock for Deadline {
    fn now(&self) -> Timestamp {
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            while !self.gone.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            std::panic::resume_unwind(Box::new("gone"));
        }
        self.inner.now()
    }
}

/// A flow that uses every kind of step: calls, tools side by side, rounds, a failure, a question.
const ALL: &str = r#"
name: all
description: Every kind of step.
nodes:
  think: {type: llm, config: {model: sim-small, prompt: "Say a", max_tokens: 20, output: a}}
  each: {type: map, config: {items: "= [1, 2, 3]", flow: square, max_parallel: 2, output: squares}}
  both: {type: parallel, config: {branches: {x: talk, y: talk}, output: talks}}
  bad: {type: tool, config: {tool: calculator, arguments: {expression: "1/0"}}, on_error: {value: {}}}
  ask: {type: wait, config: {message: "Go on?", output: answer}}
  last: {type: llm, config: {model: sim-large, prompt: "Say {{ answer }}", max_tokens: 20, output: b}}
edges: [{from: think, to: each}, {from: each, to: both}, {from: both, to: bad}, {from: bad, to: ask}, {from: ask, to: last}]
output: {squares: "= squares", answer: "= answer", talks: "= size(talks)"}
flows:
  square:
    nodes: {s: {type: tool, config: {tool: calculator, arguments: {expression: "{{ item }}^2"}, output: r}}}
    output: "= r"
  talk:
    nodes: {t: {type: llm, config: {model: sim-small, prompt: "Say {{ branch }}", max_tokens: 20, output: r}}}
    output: "= r"
"#;

/// Drives the run to its end, answering its question, unless the journal has come to a halt.
async fn drive(bed: &Bed, run: &str, halted: impl Fn() -> bool) -> Option<flow::RunRecord> {
    for _ in 0..4000 {
        if halted() {
            return None;
        }
        let Ok(record) = bed.engine.find(&org(), run).await else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        if record.status.is_final() {
            return Some(record);
        }
        if record.status == Status::Waiting {
            let log = bed.log(run).await;
            let asked = log.iter().rev().find_map(|logged| match &logged.event {
                Event::StepWaiting { step, .. } => Some(*step),
                _ => None,
            });
            let engine = bed.engine.clone();
            let (run, step) = (run.to_owned(), asked.unwrap());
            // In a task of its own: with a journal at a halt it never ends.
            tokio::spawn(
                async move { drop(engine.answer(&org(), &run, step, json!("yes")).await) },
            );
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the run does not end: {:#?}", bed.log(run).await);
}

/// What must hold of a finished run, however often its process ended.
async fn assert_whole(bed: &Bed, record: &flow::RunRecord, calls: &[Vec<String>]) {
    assert_eq!(record.status, Status::Succeeded, "{:?}", record.error);
    let expected = json!({"squares": [1.0, 4.0, 9.0], "answer": "yes", "talks": 2});
    assert_eq!(record.output, Some(expected));
    let log = bed.log(&record.id).await;
    assert_gap_free(&log);
    let mut finished: HashMap<u64, u32> = HashMap::new();
    for Logged { event, .. } in &log {
        if let Event::StepFinished { step, .. } = event {
            *finished.entry(*step).or_default() += 1;
        }
    }
    assert!(finished.values().all(|times| *times == 1), "{log:#?}");
    let (posted, held) = bed.wallet().await;
    let ten: Amount = "10".parse().unwrap();
    assert_eq!((ten.saturating_sub(posted), held), (record.spent, Amount::ZERO));
    let costs = log.iter().filter_map(|logged| logged.cost);
    assert_eq!(costs.fold(Amount::ZERO, Amount::saturating_add), record.spent);
    // A call whose step had finished was not made again.
    let mut done: Vec<String> = Vec::new();
    for life in calls {
        for call in life {
            let step = call.rsplit_once('.').unwrap().0;
            assert!(!done.iter().any(|known| known == step), "{call} was made again: {calls:?}");
        }
        let settled = log.iter().filter_map(|logged| match &logged.event {
            Event::StepFinished { charge: Some(charge), .. } => Some(charge.clone()),
            _ => None,
        });
        let of_this_life: Vec<String> = settled.filter(|charge| life.contains(charge)).collect();
        done.extend(
            of_this_life.iter().map(|charge| charge.rsplit_once('.').unwrap().0.to_owned()),
        );
    }
    let report =
        ledger::verify(&bed.database, &[&metering::USAGE, &metering::STEPS, &metering::PLACES])
            .await
            .unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

/// One life of a process over this database: begins the run or goes on with it.
fn live(
    database: &Database,
    run: Option<String>,
    batches: i64,
) -> (Option<String>, Option<bool>, Vec<String>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let left = Arc::new(AtomicI64::new(batches));
    let gone = Arc::new(AtomicBool::new(false));
    let outcome = runtime.block_on(async {
        let clock = FakeClock::default();
        let deadline =
            Deadline { inner: clock.clone(), left: Arc::clone(&left), gone: Arc::clone(&gone) };
        let config = Config::default();
        let bed = Bed::over(database.clone(), clock, Some(Arc::new(deadline)), config).await;
        let halted = || left.load(Ordering::SeqCst) < 0;
        let run = if let Some(run) = run {
            run
        } else {
            {
                let definition = bed.publish(ALL).await;
                let mut start = Bed::start_of(&definition, json!({}));
                start.key = Some("the run".to_owned());
                let engine = bed.engine.clone();
                let begun = tokio::spawn(async move { engine.start(start).await });
                loop {
                    if begun.is_finished() {
                        break begun.await.unwrap().unwrap().run_id.to_string();
                    }
                    if halted() {
                        return (None, None, Vec::new());
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        let ended = drive(&bed, &run, halted).await;
        let calls = bed.calls.lock().clone();
        (Some(run), ended.map(|_| true), calls)
    });
    runtime.shutdown_background();
    gone.store(true, Ordering::SeqCst);
    outcome
}

#[test]
fn a_run_goes_on_after_its_process_ends_after_any_write() {
    let setup = tokio::runtime::Runtime::new().unwrap();
    for batches in 1..200_i64 {
        let test = setup.block_on(testkit::sqlite(&migrations()));
        setup.block_on(async {
            let bed = Bed::on(&test, Config::default()).await;
            bed.grant("10").await;
            bed.close().await;
        });
        let (run, ended, calls) = live(&test.database, None, batches);
        let survived = ended.is_some();
        let mut lives = vec![calls];
        setup.block_on(async {
            let journal_clock = Arc::new(FakeClock::default());
            // As at a start: holds of the process that is gone are released.
            let journal = ledger::Journal::start(
                test.database.clone(),
                journal_clock,
                &ledger::Config::default(),
            )
            .unwrap();
            ledger::recover(&journal, &test.database).await.unwrap();
            journal.close().await;
            let began = std::time::Instant::now();
            let bed = Bed::on(&test, Config::default()).await;
            let run = if let Some(run) = run {
                run
            } else {
                // The start was not acknowledged: the caller repeats it.
                {
                    let definition = bed.publish(ALL).await;
                    let mut start = Bed::start_of(&definition, json!({}));
                    start.key = Some("the run".to_owned());
                    bed.engine.start(start).await.unwrap().run_id.to_string()
                }
            };
            let record = drive(&bed, &run, || false).await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(20));
            lives.push(bed.calls.lock().clone());
            assert_whole(&bed, &record, &lives).await;
            bed.close().await;
        });
        if survived {
            assert!(batches > 10, "the flow takes more writes than {batches}");
            return;
        }
    }
    panic!("the flow takes more writes than expected");
}
