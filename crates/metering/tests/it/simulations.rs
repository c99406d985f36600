//! Past calls at other prices.

use std::time::Duration;

use kernel::{Clock as _, Timestamp};
use metering::{Simulated, Simulation};
use pricing::Tokens;

use crate::{Test, at, everywhere, read, version};

impl Test {
    async fn simulate(&self, text: &str, from: Timestamp, to: Timestamp) -> Simulated {
        let prices = self.metering.prices();
        let now = self.clock.now();
        let (record, _) = prices.create_version(&version(text), None, now, vec![]).await.unwrap();
        let asked = Simulation { from, to, org_id: None, model: None };
        self.metering.simulate(record.version.id(), &asked).await.unwrap()
    }
}

/// Organization, calls, calls without a price, cost before and after, difference.
fn figures(simulated: &Simulated) -> Vec<(String, u64, u64, String, String, String)> {
    let figures = |row: &metering::SimulatedRow| {
        let amounts = [row.cost_before, row.cost_after, row.difference].map(|one| one.to_string());
        let [before, after, difference] = amounts;
        (row.org_id.clone(), row.calls, row.unpriced, before, after, difference)
    };
    simulated.rows.iter().map(figures).collect()
}

fn row(
    org: &str,
    calls: u64,
    unpriced: u64,
    amounts: [&str; 3],
) -> (String, u64, u64, String, String, String) {
    let [before, after, difference] = amounts.map(str::to_owned);
    (org.to_owned(), calls, unpriced, before, after, difference)
}

#[tokio::test]
async fn the_difference_is_told_for_each_organization_and_nothing_changes() {
    for test in everywhere().await {
        let start = test.clock.now();
        for _ in 0..3 {
            test.clock.advance(Duration::from_mins(1));
            test.call("a", Tokens { input: 10, output: 5, ..Tokens::default() }).await;
        }
        test.call("b", read(7)).await;
        let end = test.clock.now().after(Duration::from_secs(1));
        let text = "currency: CNY\nrules:\n\
            - {model: m, rates: {input_per_million: '2000000', output_per_million: '1000000'}}\n\
            - {model: m, customer: b, percent: '50'}\n";
        let simulated = test.simulate(text, start, end).await;
        assert_eq!(simulated.calls, 4);
        assert_eq!(
            figures(&simulated),
            [row("a", 3, 0, ["60", "75", "15"]), row("b", 1, 0, ["7", "7", "0"])],
            "{}",
            test.on.kind
        );
        let elsewhere = test.simulate(&text.replace("model: m", "model: x"), start, end).await;
        assert_eq!(
            figures(&elsewhere)[0],
            row("a", 3, 3, ["60", "60", "0"]),
            "it has no price for them"
        );
        let half_open = test.simulate(text, start, start.after(Duration::from_mins(2))).await;
        assert_eq!(figures(&half_open), [row("a", 1, 0, ["20", "25", "5"])]);
        assert_eq!(test.quoted(), "1");
    }
}

#[tokio::test]
async fn the_present_version_costs_what_was_charged_also_where_units_add_up() {
    let text = "currency: CNY\nrules:\n- model: m\n  prices:\n\
        \x20 - {class: input, per: 1, graduated: [{up_to: 100, price: '3'}, {price: '1'}], period: day}\n\
        \x20 - {class: output, package: {size: 8, price: '5'}, period: month}\n";
    for test in everywhere().await {
        test.activate(text).await;
        test.clock.set(at("2026-01-30T20:00:00Z"));
        for step in 0..40 {
            test.clock.advance(Duration::from_hours(1));
            test.call("a", Tokens { input: step, output: 3, ..Tokens::default() }).await;
        }
        let (start, end) = (at("2026-01-31T12:30:00Z"), at("2026-02-01T06:00:00Z"));
        let simulated = test.simulate(text, start, end).await;
        let row = &simulated.rows[0];
        assert!(row.calls > 10 && row.cost_before.is_positive());
        assert_eq!(row.cost_before, row.cost_after, "{}: {simulated:#?}", test.on.kind);
    }
}
