//! Charges: pinned at admission, counted over periods, explained line by line.

use std::time::Duration;

use kernel::{Amount, Clock as _, OrgId, Timestamp};
use metering::{Bill, Explanation, Terms, Usage, UsageSource};
use pricing::{CachedResponse, Step, Tokens};

use crate::{Test, at, everywhere, read};

const GRADUATED: &str = "currency: CNY\ntime_zone: Asia/Shanghai\nrules:\n- model: m\n  prices:\n\
    \x20 - {class: input, per: 1, graduated: [{up_to: 100, price: '3'}, {price: '1'}], free: 10, period: month}\n\
    \x20 - {class: output, price: '0'}\n";

impl Test {
    async fn explain(&self, id: &kernel::ChargeId) -> Explanation {
        let explained = self.metering.explain(id, None).await.unwrap().unwrap();
        assert_eq!(explained.charge.amount, explained.charged, "{}: {explained:#?}", self.on.kind);
        explained
    }
}

#[tokio::test]
async fn a_price_is_fixed_at_admission() {
    for test in everywhere().await {
        test.fund("a").await;
        let admission = test.admit("a", 1000).await.unwrap();
        test.activate("currency: CNY\nrules: [{model: m, rates: {input_per_million: '9000000', output_per_million: '0'}}]").await;
        let running = test.settle(admission, read(10)).await;
        assert_eq!(test.record(&running).await.cost.to_string(), "10", "{}", test.on.kind);
        assert_eq!(test.cost("a", read(10)).await, "90");
        let explained = test.explain(&running).await;
        assert_eq!(explained.charge.amount.to_string(), "10", "it is explained by what it pinned");
        test.verify().await;
    }
}

#[tokio::test]
async fn units_add_up_over_a_month_of_the_business_time_zone() {
    for test in everywhere().await {
        test.activate(GRADUATED).await;
        for (time, org, units, cost) in [
            ("2026-01-31T15:00:00Z", "a", 60, "150"),
            ("2026-01-31T15:30:00Z", "a", 60, "160"),
            ("2026-01-31T15:59:59Z", "b", 10, "0"),
            ("2026-01-31T16:00:00Z", "a", 60, "150"),
            // The clock steps back over the end of the month: the month of the call counts.
            ("2026-01-31T15:59:59Z", "a", 5, "5"),
        ] {
            test.clock.set(at(time));
            assert_eq!(test.cost(org, read(units)).await, cost, "{}: {time} {org}", test.on.kind);
        }
        test.verify().await;
    }
}

#[tokio::test]
async fn a_new_version_goes_on_counting() {
    for test in everywhere().await {
        test.activate(GRADUATED).await;
        assert_eq!(test.cost("a", read(60)).await, "150");
        test.activate(&GRADUATED.replace("'1'", "'2'")).await;
        assert_eq!(test.cost("a", read(60)).await, "170", "{}", test.on.kind);
    }
}

#[tokio::test]
async fn calls_that_run_together_do_not_see_each_others_units() {
    for test in everywhere().await {
        test.activate(GRADUATED).await;
        test.fund("a").await;
        let one = test.admit("a", 1000).await.unwrap();
        let two = test.admit("a", 1000).await.unwrap();
        for admission in [one, two] {
            let id = test.settle(admission, read(60)).await;
            assert_eq!(test.record(&id).await.cost.to_string(), "150", "{}", test.on.kind);
        }
        assert_eq!(test.cost("a", read(1)).await, "1", "all units count for the next call");
    }
}

#[tokio::test]
async fn a_released_call_counts_nothing_and_costs_nothing() {
    for test in everywhere().await {
        test.activate(GRADUATED).await;
        test.fund("a").await;
        let admission = test.admit("a", 1000).await.unwrap();
        let id = admission.id().clone();
        test.metering.release(admission, Bill::default()).await.unwrap();
        let explained = test.explain(&id).await;
        assert!(explained.charge.lines.is_empty() && explained.charged == Amount::ZERO);
        assert_eq!(test.cost("a", read(10)).await, "0", "{}: all is still free", test.on.kind);
        test.verify().await;
    }
}

#[tokio::test]
async fn every_charge_is_explained_from_what_was_pinned() {
    let text = format!(
        "{GRADUATED}- {{model: m, plan: gold, percent: '33.3333'}}\n- {{model: m, customer: c, percent: '50'}}\n"
    );
    for test in everywhere().await {
        let version = test.activate(&text).await;
        let org = OrgId::from("a");
        let terms = Terms { plan: Some("gold".to_owned()), distributor_id: None };
        let prices = test.metering.prices();
        prices.set_terms(&org, &terms, None, test.clock.now(), vec![]).await.unwrap();
        test.call("a", read(60)).await;
        let id = test.call("a", Tokens { input: 55, cached_input: 5, ..Tokens::default() }).await;
        // What changes later changes nothing.
        prices.set_terms(&org, &Terms::default(), None, test.clock.now(), vec![]).await.unwrap();
        test.activate("currency: CNY\nrules: [{model: m, rates: {input_per_million: '1', output_per_million: '1'}}]").await;
        test.clock.advance(Duration::from_hours(1000));
        let explained = test.explain(&id).await;
        assert_eq!(explained.price_id, version);
        assert_eq!(explained.charged.to_string(), "53.33328", "160 x 33.3333 %");
        assert_eq!(explained.terms, terms);
        assert_eq!(explained.used_before[0].units, 60);
        let steps: Vec<Step> = explained.charge.lines.iter().map(|line| line.what).collect();
        assert_eq!(steps, [Step::Units, Step::Units, Step::Percent], "{explained:#?}");
        let rules: Vec<usize> = explained.rules.iter().map(|rule| rule.position).collect();
        assert_eq!(rules, [0, 1]);
        let theirs = test.metering.explain(&id, Some(&"b".into())).await.unwrap();
        assert!(theirs.is_none(), "{}: another organization's", test.on.kind);
    }
}

#[tokio::test]
async fn audio_and_images_are_charged_counted_and_explained_as_what_they_are() {
    let text = "currency: CNY\nrules: [{model: m, prices: [\
        {class: input, price: '1', per: 1, period: month}, {class: [input_audio, input_image], price: '10', per: 1, period: month}, \
        {class: output, price: '2', per: 1}, {class: output_audio, price: '20', per: 1}]}]";
    let tokens = Tokens {
        input: 3,
        cached_input: 1,
        input_audio: 5,
        input_image: 7,
        output: 2,
        output_audio: 4,
        output_image: 1,
        ..Tokens::default()
    };
    for test in everywhere().await {
        let kind = test.on.kind;
        let version = test.activate(text).await;
        let id = test.call("a", tokens).await;
        let record = test.record(&id).await;
        // 3 + 1 as text read, 12 of audio and images, 2 + 1 as text produced, 4 of audio.
        assert_eq!(record.cost.to_string(), "210", "{kind}: 4 + 120 + 6 + 80");
        let counted = (record.input_tokens, record.cached_input_tokens, record.output_tokens);
        assert_eq!(counted, (15, 1, 7), "{kind}: among what was read and produced");
        let explained = test.explain(&id).await;
        assert_eq!((explained.tokens, explained.charged), (tokens, record.cost), "{kind}");
        let lines: Vec<String> =
            explained.charge.lines.iter().map(|line| line.amount.to_string()).collect();
        assert_eq!(lines, ["4", "120", "6", "80"], "{kind}");
        let again = test.call("a", tokens).await;
        let used: Vec<u64> =
            test.explain(&again).await.used_before.iter().map(|used| used.units).collect();
        assert_eq!(used, [4, 12], "{kind}");
        let period = metering::Simulation {
            from: Timestamp::default(),
            to: test.clock.now().after(Duration::from_hours(1)),
            org_id: None,
            model: None,
        };
        let simulated = test.metering.simulate(&version, &period).await.unwrap();
        assert_eq!(simulated.rows[0].cost_after.to_string(), "420", "{kind}");
        test.verify().await;
    }
}

#[tokio::test]
async fn an_answer_from_the_cache_is_explained_down_to_its_share() {
    for test in everywhere().await {
        test.fund("a").await;
        let admission = test.admit("a", 1000).await.unwrap();
        let usage = Usage { tokens: read(10), source: UsageSource::Cache, ..Usage::default() };
        let cached = Some(CachedResponse { percent: 25, per_call: Amount::ZERO });
        let bill = Bill { usage, cached, ..Bill::default() };
        let id = test.metering.settle(admission, bill, Vec::new()).await.unwrap().id;
        let explained = test.explain(&id).await;
        let lines: Vec<(Step, String)> = explained
            .charge
            .lines
            .iter()
            .map(|line| (line.what, line.amount.to_string()))
            .collect();
        let expected = [(Step::Units, "10".to_owned()), (Step::Cached, "-7.5".to_owned())];
        assert_eq!((lines, explained.charged.to_string()), (expected.to_vec(), "2.5".to_owned()));
        test.verify().await;
    }
}

#[tokio::test]
async fn a_hold_covers_what_the_call_can_cost_and_grows_with_a_stream() {
    let text = "currency: CNY\nrules:\n\
        - {model: m, context: {up_to: 10}, rates: {input_per_million: '1000000', output_per_million: '1000000'}, minimum: '50', maximum: '500'}\n\
        - {model: m, context: {over: 10}, rates: {input_per_million: '2000000', output_per_million: '3000000'}, minimum: '50', maximum: '500'}\n";
    for test in everywhere().await {
        test.activate(text).await;
        test.fund("a").await;
        let mut admission = test.admit("a", 20).await.unwrap();
        test.metering.extend(&mut admission, 100).await.unwrap();
        assert_eq!(admission.output_bound(), 120);
        test.metering.extend(&mut admission, 1_000_000).await.unwrap();
        test.metering.extend(&mut admission, 1_000_000).await.unwrap();
        assert_eq!(admission.output_bound(), 2_000_120);
        let tokens = Tokens { input: 20, output: 1_500_000, ..Tokens::default() };
        let id = test.settle(admission, tokens).await;
        let record = test.record(&id).await;
        assert_eq!(
            (record.held.to_string(), record.cost.to_string()),
            ("500".to_owned(), "500".to_owned()),
            "{}",
            test.on.kind
        );
        test.verify().await;
    }
}

#[tokio::test]
async fn a_damaged_basis_is_found_by_verification() {
    for test in everywhere().await {
        test.activate(GRADUATED).await;
        test.call("a", read(60)).await;
        test.verify().await;
        let sql = "UPDATE metering_charges SET basis = '{}'";
        test.on.database.execute(store::Statement::new(sql, vec![])).await.unwrap();
        let tables = [&metering::USAGE, &metering::ATTEMPTS, &metering::CHARGES];
        let report = ledger::verify(&test.on.database, &tables).await.unwrap();
        assert!(!report.ok, "{}", test.on.kind);
    }
}
