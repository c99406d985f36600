//! Durable steps of flows through the engine itself: many runs at once, one alone, and starts.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::flow::{Config, Engine, Event, ModelCaller, News, Start, Status, Surroundings};
use identity::{Caller, OrgKind, Role};
use kernel::{Clock as _, OrgId, SystemClock};
use ledger::Journal;
use serde_json::{Map, Value, json};
use store::{Database, Sqlite};

/// One tool call a step, each durable before the next begins.
const STEPS: u64 = 400;
const RUNS: usize = 64;
const STARTS: usize = 200;
const WATCHERS: usize = 1000;

/// Steps per second with many runs, and the times of single steps and of starts, on SQLite.
pub(crate) async fn sqlite(folder: &Path) -> anyhow::Result<Value> {
    let database = Database::Sqlite(Sqlite::open(&folder.join("flow.db"))?);
    database.migrate(&[ledger::MIGRATIONS, ::flow::MIGRATIONS].concat()).await?;
    let clock = Arc::new(SystemClock);
    let journal = Journal::start(database.clone(), clock.clone(), &ledger::Config::default())?;
    // No model is called here.
    let caller = ModelCaller::new(|_call| Box::pin(async {}));
    let config = Config { max_running_per_org: 256, ..Config::default() };
    let engine = Engine::new(journal.clone(), database.clone(), clock, config, caller)?;
    let worker = engine.clone();
    let working = tokio::spawn(async move { worker.run().await });
    let chain = publish(&engine, &chain()).await?;
    let wait = publish(&engine, WAIT).await?;

    let begun = Instant::now();
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(engine.start(start(&chain)).await?.run_id);
    }
    for run in &runs {
        ended(&engine, run).await?;
    }
    let steps = u32::try_from(RUNS)? * u32::try_from(STEPS)?;
    let steps_per_second = f64::from(steps) / begun.elapsed().as_secs_f64();

    let alone = engine.start(start(&chain)).await?.run_id;
    ended(&engine, &alone).await?;
    let single = step_times(&engine, &alone).await?;

    let mut starts = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let begun = Instant::now();
        engine.start(start(&wait)).await?;
        starts.push(begun.elapsed());
    }
    let told = told(&engine, &chain).await?;
    engine.close().await;
    working.await?;
    journal.close().await;
    Ok(json!({
        "runs": RUNS, "steps_per_run": STEPS, "steps_per_second": steps_per_second.round(),
        "single_step_ms": percentiles(single), "start_ms": percentiles(starts),
        "watchers": WATCHERS, "event_to_watcher_ms": percentiles(told),
    }))
}

/// From the writing of an event to each of many watchers having it.
async fn told(engine: &Engine, chain: &Arc<str>) -> anyhow::Result<Vec<Duration>> {
    let run = engine.start(start(chain)).await?.run_id;
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        let mut watch = engine.watch(&org(), &run, 0).await?;
        watchers.push(tokio::spawn(async move {
            let (clock, mut times) = (SystemClock, Vec::new());
            while let Ok(Some(News::Happened(logged))) = watch.next().await {
                times.push(clock.now().since(logged.at));
            }
            // What had happened before it came is not counted.
            times.split_off(times.len() / 2)
        }));
    }
    let mut all = Vec::new();
    for watcher in watchers {
        all.extend(watcher.await?);
    }
    Ok(all)
}

const WAIT: &str =
    "name: wait\ndescription: Waits.\nnodes: {ask: {type: wait, config: {message: x}}}\n";

fn chain() -> String {
    format!(
        "name: chain\ndescription: One step after the other.\nnodes: {{a: {{type: tool, config: {{tool: time, output: t}}}}}}\n\
         edges: [{{from: a, to: a, condition: 'iteration_count < {STEPS}'}}]\n"
    )
}

async fn publish(engine: &Engine, text: &str) -> anyhow::Result<Arc<str>> {
    let program = engine.publish(&org(), text, Surroundings::default()).await?;
    Ok(Arc::clone(program.id()))
}

fn org() -> OrgId {
    "bench".into()
}

fn start(definition_id: &Arc<str>) -> Start {
    let caller = Caller::new(org(), OrgKind::Customer, Role::Member);
    Start {
        caller: Arc::new(caller),
        definition_id: Arc::clone(definition_id),
        input: Map::new(),
        budget: None,
        key: None,
        with: Vec::new(),
    }
}

async fn ended(engine: &Engine, run: &str) -> anyhow::Result<()> {
    // What the steps have to tell is not asked for: only the end is waited for.
    let mut news = engine.watch(&org(), run, 2 * i64::try_from(STEPS)?).await?;
    while news.next().await?.is_some() {}
    let record = engine.find(&org(), run).await?;
    anyhow::ensure!(!matches!(record.status, Status::Failed), "{:?}", record.error);
    Ok(())
}

/// From one step's end to the next one's.
async fn step_times(engine: &Engine, run: &str) -> anyhow::Result<Vec<Duration>> {
    let events = engine.events(&org(), run, 0).await?;
    let ends: Vec<_> = events
        .iter()
        .filter(|logged| matches!(logged.event, Event::StepFinished { .. }))
        .map(|logged| logged.at)
        .collect();
    let times = ends.iter().zip(ends.iter().skip(1)).map(|(one, two)| two.since(*one));
    Ok(times.collect())
}

fn percentiles(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    let at = |share: usize| {
        let place = (times.len() * share / 100).min(times.len().saturating_sub(1));
        times.get(place).map(|time| (time.as_secs_f64() * 100_000.0).round() / 100.0)
    };
    json!({"p50": at(50), "p95": at(95), "p99": at(99)})
}
