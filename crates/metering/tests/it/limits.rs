//! Limits over the calendar's windows, the clock turned by the test.

use std::time::Duration;

use kernel::{Amount, Zone};
use metering::{Error, Limit, LimitMeasure, LimitScope, LimitSpan, Reached};
use store::Statement;

use crate::{Test, at, everywhere, read};

const ORG: &str = "org";

impl Test {
    async fn limit(&self, measure: LimitMeasure, span: LimitSpan, most: i64) {
        let currency = (measure == LimitMeasure::Spend).then(|| "CNY".parse().unwrap());
        let (scope, subject) = (LimitScope::Org, ORG.to_owned());
        let limit = Limit { scope, subject, measure, span, currency, most };
        self.metering.set_limit(&ORG.into(), &limit, note()).await.unwrap();
    }

    async fn zone(&self, name: &str) {
        let zone: Zone = name.parse().unwrap();
        self.metering.set_zone(&ORG.into(), &zone, note()).await.unwrap();
    }

    /// A call that is made whole, at this time.
    async fn try_at(&self, time: &str) -> Result<(), Reached> {
        self.clock.set(at(time));
        match self.admit(ORG, 1).await {
            Ok(admission) => {
                self.settle(admission, read(1)).await;
                Ok(())
            }
            Err(Error::LimitReached(reached)) => Err(*reached),
            Err(other) => panic!("{}: {other}", self.on.kind),
        }
    }

    /// Used of the only limit, and when its window ends.
    async fn used(&self) -> (i64, String) {
        let page = kernel::PageRequest::default();
        let states = self.metering.limits(&ORG.into(), &page).await.unwrap().rows;
        let [state] = states.as_slice() else { panic!("{states:?}") };
        (state.used, state.resets_at.unwrap().to_string())
    }
}

/// What would tell of the change.
fn note() -> Statement {
    Statement::new("DELETE FROM metering_zones WHERE org_id = ?", vec!["nobody".into()])
}

/// Two calls fit in the window that begins at the first time and ends at the second; before it and
/// after it another counts.
async fn two_in_a_window(test: &Test, span: LimitSpan, [before, start, last, end]: [&str; 4]) {
    let kind = test.on.kind;
    test.fund(ORG).await;
    test.limit(LimitMeasure::Requests, span, 2).await;
    for time in [before, before, start, last] {
        assert_eq!(test.try_at(time).await, Ok(()), "{kind} {time}");
    }
    test.clock.set(at(start));
    assert_eq!(test.used().await, (2, at(end).to_string()), "{kind}");
    let refused = test.try_at(last).await.unwrap_err();
    assert_eq!((refused.most, refused.used, refused.wanted), (2, 2, 1), "{kind}");
    assert_eq!(refused.retry_after, at(end).since(at(last)), "{kind}");
    assert!(!refused.too_large, "{kind}");
    assert_eq!(test.try_at(end).await, Ok(()), "{kind}");
    assert_eq!(test.used().await.0, 1, "{kind}");
    test.verify().await;
}

#[tokio::test]
async fn a_day_is_the_organizations_also_when_its_clocks_change() {
    // 23 and 25 hours in Berlin; a day in Shanghai, and one at UTC.
    let days = [
        (
            "Europe/Berlin",
            [
                "2026-03-28T22:59:59Z",
                "2026-03-28T23:00:00Z",
                "2026-03-29T21:59:58Z",
                "2026-03-29T22:00:00Z",
            ],
        ),
        (
            "Europe/Berlin",
            [
                "2026-10-24T21:59:59Z",
                "2026-10-24T22:00:00Z",
                "2026-10-25T22:59:58Z",
                "2026-10-25T23:00:00Z",
            ],
        ),
        (
            "Asia/Shanghai",
            [
                "2026-11-20T15:59:59Z",
                "2026-11-20T16:00:00Z",
                "2026-11-21T15:59:58Z",
                "2026-11-21T16:00:00Z",
            ],
        ),
        (
            "UTC",
            [
                "2026-11-20T23:59:59Z",
                "2026-11-21T00:00:00Z",
                "2026-11-21T23:59:58Z",
                "2026-11-22T00:00:00Z",
            ],
        ),
    ];
    for (zone, times) in days {
        for test in everywhere().await {
            test.clock.set(at(times[0]));
            test.zone(zone).await;
            two_in_a_window(&test, LimitSpan::Day, times).await;
        }
    }
}

#[tokio::test]
async fn a_month_is_the_organizations_also_when_its_clocks_change() {
    // March begins in winter time and ends in summer time in New York.
    let months = [
        (
            "America/New_York",
            [
                "2026-03-01T04:59:59Z",
                "2026-03-01T05:00:00Z",
                "2026-04-01T03:59:58Z",
                "2026-04-01T04:00:00Z",
            ],
        ),
        (
            "Asia/Shanghai",
            [
                "2028-01-31T15:59:59Z",
                "2028-01-31T16:00:00Z",
                "2028-02-29T15:59:58Z",
                "2028-02-29T16:00:00Z",
            ],
        ),
    ];
    for (zone, times) in months {
        for test in everywhere().await {
            test.clock.set(at(times[0]));
            test.zone(zone).await;
            two_in_a_window(&test, LimitSpan::Month, times).await;
        }
    }
}

#[tokio::test]
async fn a_call_over_midnight_counts_in_the_day_in_which_it_was_admitted() {
    for test in everywhere().await {
        let kind = test.on.kind;
        test.fund(ORG).await;
        test.clock.set(at("2026-11-20T23:59:59Z"));
        let units = |count| Amount::from_units(count).unwrap().nanos();
        test.limit(LimitMeasure::Spend, LimitSpan::Day, units(10)).await;
        // Sets 3 aside: a token in and one out.
        let running = test.admit(ORG, 1).await.unwrap();
        assert_eq!(test.used().await.0, units(3), "{kind}");
        test.clock.set(at("2026-11-21T00:00:01Z"));
        assert_eq!(test.used().await.0, 0, "{kind}");
        test.settle(running, read(1)).await;
        assert_eq!(test.used().await.0, 0, "{kind}");
        // What is over is not shown any more, but counted.
        let sql = "SELECT used, held FROM ledger_counters WHERE starts_at = ?";
        let day = [at("2026-11-20T00:00:00Z").micros().into()];
        let rows = test.on.database.query(sql, &day).await.unwrap();
        let counted: Vec<_> =
            rows.iter().map(|row| (row.int(0).unwrap(), row.int(1).unwrap())).collect();
        assert_eq!(counted, [(units(1), 0)], "{kind}");
        test.verify().await;
    }
}

#[tokio::test]
async fn a_quota_of_nothing_lets_nothing_through_and_costs_nothing() {
    let quotas = [
        (LimitMeasure::Requests, LimitSpan::Minute),
        (LimitMeasure::Requests, LimitSpan::Month),
        (LimitMeasure::Tokens, LimitSpan::Day),
        (LimitMeasure::Spend, LimitSpan::Day),
        (LimitMeasure::Concurrency, LimitSpan::Now),
    ];
    for (measure, span) in quotas {
        for test in everywhere().await {
            let kind = test.on.kind;
            test.fund(ORG).await;
            test.limit(measure, span, 0).await;
            for _ in 0..3 {
                let Err(Error::LimitReached(reached)) = test.admit(ORG, 1).await else {
                    panic!("{kind} {measure:?} lets a call through")
                };
                assert!(reached.too_large && reached.used == 0, "{kind} {reached:?}");
            }
            test.verify().await;
        }
    }
}

#[tokio::test]
async fn a_limit_that_changes_counts_what_was_used_before() {
    for test in everywhere().await {
        let kind = test.on.kind;
        test.fund(ORG).await;
        test.clock.set(at("2026-11-21T08:00:00Z"));
        for (most, fits) in [(2, 2), (5, 3), (4, 0), (6, 1)] {
            test.limit(LimitMeasure::Requests, LimitSpan::Day, most).await;
            for _ in 0..fits {
                assert_eq!(test.try_at("2026-11-21T09:00:00Z").await, Ok(()), "{kind} of {most}");
            }
            let refused = test.try_at("2026-11-21T09:00:00Z").await.unwrap_err();
            assert_eq!(refused.retry_after, Duration::from_hours(15), "{kind} of {most}");
        }
        test.verify().await;
    }
}
