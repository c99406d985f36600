//! Prices of pipelines and their steps: charged, pinned, explained, tried out, and under the hash chain.

use std::time::Duration;

use kernel::{Amount, ChargeId, Clock as _, OrgId, Timestamp};
use ledger::{Attachment, Cell, Command, Operation, Table, Unit};
use metering::{RunStep, Simulation, Terms};

use crate::{TABLES, Test, everywhere, read};

const PRICES: &str = "currency: CNY\nrules:\n\
    - {model: m, rates: {input_per_million: '1000000', output_per_million: '0'}}\n\
    - {model: m, pipeline: digest, percent: '50'}\n\
    - {model: m, pipeline: digest, step: sum up, rates: {input_per_million: '300000', output_per_million: '0'}}\n\
    - {model: m, plan: gold, pipeline: digest, percent: '10'}\n";

fn step(pipeline: &str, node: &str) -> RunStep {
    RunStep { run_id: "run".into(), step: 3, pipeline: pipeline.into(), node: node.into() }
}

impl Test {
    /// A call that reads 100 tokens, as a step of a run or outside of runs.
    async fn call_at(&self, org: &str, step: Option<RunStep>) -> ChargeId {
        self.fund(org).await;
        let admission = self.admit_step(org, 100, step).await.unwrap();
        self.settle(admission, read(100)).await
    }

    async fn holds(&self) -> bool {
        ledger::verify(&self.on.database, &TABLES).await.unwrap().ok
    }
}

#[tokio::test]
async fn a_step_pays_its_price_and_the_charge_is_explained_for_ever() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let gold = Terms { plan: Some("gold".to_owned()), distributor_id: None };
        let (prices, now) = (test.metering.prices().clone(), test.clock.now());
        prices.set_terms(&OrgId::from("vip"), &gold, None, now, vec![]).await.unwrap();
        test.activate(PRICES).await;
        let mut made = Vec::new();
        for (org, place, cost) in [
            ("a", None, "100"),
            ("a", Some(("digest", "plan")), "50"),
            ("a", Some(("digest", "sum up")), "30"),
            ("a", Some(("another", "sum up")), "100"),
            ("vip", None, "100"),
            ("vip", Some(("digest", "sum up")), "3"),
        ] {
            let step = place.map(|(pipeline, node)| step(pipeline, node));
            made.push((test.call_at(org, step).await, place, cost));
        }
        // Whatever counts from now on.
        test.activate(&PRICES.replace("digest", "another")).await;
        for (id, place, cost) in made {
            let record = test.record(&id).await;
            let place = place.unzip();
            assert_eq!((record.pipeline.as_deref(), record.node.as_deref()), place, "{kind}");
            assert_eq!(record.cost.to_string(), cost, "{kind}: {place:?}");
            assert_eq!(record.held, record.cost, "{kind}: the hold knows the place");
            let explained = test.metering.explain(&id, None).await.unwrap().unwrap();
            assert_eq!((explained.charge.amount, explained.charged), (record.cost, record.cost));
            assert_eq!((explained.pipeline.as_deref(), explained.node.as_deref()), place);
        }
        test.verify().await;
    }
}

#[tokio::test]
async fn a_simulation_knows_which_steps_the_calls_were() {
    for test in everywhere().await {
        let start = test.clock.now();
        for place in [None, Some(("digest", "plan")), Some(("digest", "sum up"))] {
            test.call_at("a", place.map(|(pipeline, node)| step(pipeline, node))).await;
        }
        let version = crate::version(PRICES);
        let (prices, now) = (test.metering.prices(), test.clock.now());
        prices.create_version(&version, None, now, vec![]).await.unwrap();
        let to = now.after(Duration::from_hours(1));
        let asked = Simulation { from: start, to, org_id: None, model: None };
        let simulated = test.metering.simulate(version.id(), &asked).await.unwrap();
        let row = &simulated.rows[0];
        let figures = (row.calls, row.cost_before.to_string(), row.cost_after.to_string());
        assert_eq!(figures, (3, "300".to_owned(), "180".to_owned()), "{}", test.on.kind);
    }
}

#[tokio::test]
async fn a_recorded_place_that_is_changed_added_or_removed_is_found() {
    for (at, change) in [
        "UPDATE metering_places SET pipeline = 'cheap'",
        "UPDATE metering_places SET node = 'cheap'",
        "UPDATE metering_places SET op_seq = op_seq + 1",
        "DELETE FROM metering_places",
        "INSERT INTO metering_places (op_seq, pipeline, node) SELECT op_seq, 'cheap', 'x' \
         FROM metering_usage WHERE op_seq NOT IN (SELECT op_seq FROM metering_steps)",
        "UPDATE metering_steps SET run_id = 'x'",
    ]
    .into_iter()
    .enumerate()
    {
        for test in everywhere().await {
            test.call_at("a", None).await;
            test.call_at("a", Some(step("digest", "sum up"))).await;
            assert!(test.holds().await, "{}", test.on.kind);
            test.on.database.execute(store::Statement::new(change, vec![])).await.unwrap();
            assert!(!test.holds().await, "{}: {at} {change}", test.on.kind);
        }
    }
}

/// The table of steps as it was when calls were recorded before prices knew of places.
static BEFORE: Table =
    Table { name: "metering_steps", columns: &["op_seq", "run_id", "step"], audited: true };

#[tokio::test]
async fn steps_recorded_before_there_were_places_still_fit_the_hash_chain() {
    for test in everywhere().await {
        let cells = vec![Cell::Seq, "run".into(), 7.into()];
        let attachments = vec![Attachment::Insert { table: &BEFORE, cells }];
        let operation = Operation::new("a call of then", Command::Note);
        test.journal.submit(Unit::new(operation, attachments)).await.unwrap();
        assert!(test.holds().await, "{}", test.on.kind);
    }
}

#[tokio::test]
async fn names_of_any_length_are_recorded() {
    for test in everywhere().await {
        let (name, node) = ("名".repeat(200), "n".repeat(100_000));
        let id = test.call_at("a", Some(step(&name, &node))).await;
        let record = test.record(&id).await;
        assert_eq!((record.pipeline, record.node), (Some(name), Some(node)), "{}", test.on.kind);
        assert!(record.cost > Amount::ZERO && record.started_at > Timestamp::default());
    }
}
