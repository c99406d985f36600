//! Reports add up what the records say.

use std::time::Duration;

use metering::{Error, Summary, SummaryQuery, SummaryRow};

use super::{CALL, Made, Rig, acme, rigs};

fn by(group_by: &str) -> SummaryQuery {
    SummaryQuery { group_by: Some(group_by.to_owned()), ..SummaryQuery::default() }
}

/// One call an hour for two days, every third of `large`, every fourth by `k2`, and one failed.
async fn fill(rig: &Rig) {
    for hour in 0..48_u64 {
        let model = if hour % 3 == 0 { "large" } else { "small" };
        let key = if hour % 4 == 0 { "k2" } else { "k1" };
        let failed = (hour == 7).then_some("upstream_error");
        rig.call(Made { key, model, failed, ..CALL }).await;
        rig.call(Made { org: "other", provider: "second", ..CALL }).await;
        rig.clock.advance(Duration::from_hours(1));
    }
}

fn counts(summary: &Summary, name: impl Fn(&SummaryRow) -> String) -> Vec<(String, i64)> {
    summary.rows.iter().map(|row| (name(row), row.calls)).collect()
}

fn named(pairs: &[(&str, i64)]) -> Vec<(String, i64)> {
    pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_tell_apart_what_they_are_asked_to() {
    for rig in rigs().await {
        fill(&rig).await;
        let ask = async |query, org| rig.metering.summarize(query, org).await.unwrap();
        let whole = ask(SummaryQuery::default(), Some(acme())).await;
        assert_eq!((whole.rows.len(), whole.totals.len()), (1, 1));
        let total = &whole.totals[0];
        assert_eq!((total.calls, total.failed, total.released), (48, 1, 1));
        assert_eq!((total.input_tokens, total.output_tokens), (47 * 5, 47 * 10));
        assert_eq!(total.cost.nanos(), 47 * 15);
        let models = ask(by("model"), Some(acme())).await;
        let model = |row: &SummaryRow| row.model.clone().unwrap();
        assert_eq!(counts(&models, model), named(&[("large", 16), ("small", 32)]));
        let keys = ask(by("key"), Some(acme())).await;
        let key = |row: &SummaryRow| row.key_id.clone().unwrap();
        assert_eq!(counts(&keys, key), named(&[("k1", 36), ("k2", 12)]));
        let one = SummaryQuery { key_id: Some("k2".to_owned()), ..by("model") };
        assert_eq!(
            counts(&ask(one, Some(acme())).await, model),
            named(&[("large", 4), ("small", 8)])
        );
        assert_eq!(ask(by("hour"), Some(acme())).await.rows.len(), 48);
        let day = |row: &SummaryRow| row.day.clone().unwrap();
        let days = named(&[("2026-01-01", 24), ("2026-01-02", 24)]);
        assert_eq!(counts(&ask(by("day"), Some(acme())).await, day), days);
        let everybody = ask(by("day"), None).await;
        assert_eq!(everybody.totals[0].calls, 96);
        let orgs = ask(by("org"), None).await;
        let org = |row: &SummaryRow| row.org_id.clone().unwrap();
        assert_eq!(counts(&orgs, org), named(&[("acme", 48), ("other", 48)]));
        let providers = ask(by("provider"), None).await;
        let provider = |row: &SummaryRow| row.provider.clone().unwrap();
        assert_eq!(counts(&providers, provider), named(&[("second", 48), ("up", 48)]));
        assert_eq!(
            counts(&ask(by("provider"), Some(acme())).await, provider),
            named(&[("up", 48)])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn days_are_those_of_the_time_zone() {
    for rig in rigs().await {
        fill(&rig).await;
        let ask = async |zone: &str| {
            let query = SummaryQuery { time_zone: Some(zone.to_owned()), ..by("day") };
            rig.metering.summarize(query, Some(acme())).await.unwrap()
        };
        let day = |row: &SummaryRow| row.day.clone().unwrap();
        let shanghai = ask("Asia/Shanghai").await;
        let expected = named(&[("2026-01-01", 16), ("2026-01-02", 24), ("2026-01-03", 8)]);
        assert_eq!(counts(&shanghai, day), expected);
        let second = shanghai.rows[1].starts_at.unwrap().to_string();
        assert_eq!(second, "2026-01-01T16:00:00.000000Z");
        // Midnight in Kolkata is 18:30 UTC: the hour from 18:00 counts to the day before.
        let expected = named(&[("2026-01-01", 19), ("2026-01-02", 24), ("2026-01-03", 5)]);
        assert_eq!(counts(&ask("Asia/Kolkata").await, day), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_widened_to_whole_hours_and_said() {
    for rig in rigs().await {
        fill(&rig).await;
        let at = |text: &str| serde_json::from_value(text.into()).ok();
        let query = SummaryQuery {
            from: at("2026-01-01T03:20:00Z"),
            to: at("2026-01-01T05:00:00Z"),
            ..by("hour")
        };
        let summary = rig.metering.summarize(query, Some(acme())).await.unwrap();
        assert_eq!(summary.from.to_string(), "2026-01-01T03:00:00.000000Z");
        assert_eq!(summary.to.to_string(), "2026-01-01T05:00:00.000000Z");
        assert_eq!(summary.rows.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_sums_can_tell_is_refused() {
    let rig = rigs().await.remove(0);
    let refused = async |query, org| rig.metering.summarize(query, org).await.unwrap_err();
    assert!(matches!(refused(by("weather"), None).await, Error::GroupBy(_)));
    assert!(matches!(refused(by("hour,day"), None).await, Error::GroupBy(_)));
    assert!(matches!(refused(by("key"), None).await, Error::NeedsOrganization));
    assert!(matches!(refused(by("hour,org"), None).await, Error::GroupBy(_)));
    assert!(matches!(refused(by("key,provider"), Some(acme())).await, Error::GroupBy(_)));
    let zone = SummaryQuery { time_zone: Some("Mars/Base".to_owned()), ..by("day") };
    assert!(matches!(refused(zone, None).await, Error::TimeZone(_)));
    let zone = SummaryQuery { time_zone: Some("Asia/Shanghai".to_owned()), ..by("day,org") };
    assert!(matches!(refused(zone, None).await, Error::GroupBy(_)));
    let now = Some(rig.metering.now());
    let empty = SummaryQuery { from: now, to: now, ..by("day") };
    assert!(matches!(refused(empty, None).await, Error::Times));
}
