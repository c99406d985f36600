//! Limits where the clock itself is odd: it steps back, a day lacks an hour, or its midnight.

use std::time::Duration;

use kernel::{Clock as _, OrgId, Timestamp, Zone};
use metering::{Error, Limit, LimitMeasure, LimitScope, LimitSpan};
use store::Statement;

use crate::{Test, at, everywhere, read};

fn nothing() -> Statement {
    Statement::new("DELETE FROM metering_limits WHERE 1 = 0", vec![])
}

async fn limit(test: &Test, span: LimitSpan, most: i64) {
    let org = OrgId::from("a");
    let limit = Limit {
        scope: LimitScope::Org,
        subject: org.to_string(),
        measure: LimitMeasure::Requests,
        span,
        currency: None,
        most,
    };
    test.metering.set_limit(&org, &limit, nothing()).await.unwrap();
}

async fn zone(test: &Test, name: &str) {
    let zone: Zone = name.parse().unwrap();
    test.metering.set_zone(&OrgId::from("a"), &zone, nothing()).await.unwrap();
}

/// Whether a call is let through; one that is, ends.
async fn passes(test: &Test) -> bool {
    match test.admit("a", 10).await {
        Ok(admission) => {
            test.settle(admission, read(1)).await;
            true
        }
        Err(Error::LimitReached(_)) => false,
        Err(other) => panic!("{other:?}"),
    }
}

/// When the only limit's window ends.
async fn resets_at(test: &Test) -> Timestamp {
    let page = kernel::PageRequest::default();
    test.metering.limits(&"a".into(), &page).await.unwrap().rows[0].resets_at.unwrap()
}

#[tokio::test]
async fn a_clock_that_steps_back_frees_nothing() {
    for test in everywhere().await {
        let kind = test.on.kind;
        test.fund("a").await;
        limit(&test, LimitSpan::Day, 3).await;
        let first = test.clock.now();
        assert!(passes(&test).await, "{kind}");
        test.clock.advance(Duration::from_hours(24));
        for _ in 0..3 {
            assert!(passes(&test).await, "{kind}");
        }
        assert!(!passes(&test).await, "{kind}");
        test.clock.set(first);
        assert!(!passes(&test).await, "{kind}: the ledger's time does not go back");
        test.clock.advance(Duration::from_hours(48));
        assert!(passes(&test).await, "{kind}: a day later there is room");
        test.verify().await;
    }
}

#[tokio::test]
async fn days_of_23_and_25_hours_and_without_a_midnight_are_one_window_each() {
    for test in everywhere().await {
        let kind = test.on.kind;
        test.fund("a").await;
        zone(&test, "Europe/Berlin").await;
        limit(&test, LimitSpan::Day, 1).await;
        for (begins, ends) in [
            // 02:00 becomes 03:00, then 03:00 becomes 02:00.
            ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
        ] {
            let (begins, ends) = (at(begins), at(ends));
            test.clock.set(begins);
            assert!(passes(&test).await, "{kind}: the first instant of the day");
            assert_eq!(resets_at(&test).await, ends, "{kind}");
            test.clock.set(Timestamp::from_micros(ends.micros() - 1));
            assert!(!passes(&test).await, "{kind}: the last instant of the day");
            test.clock.set(ends);
            assert!(passes(&test).await, "{kind}: the next day");
        }
        // Midnight is left out: the day begins at 01:00.
        zone(&test, "Africa/Cairo").await;
        test.clock.set(at("2027-04-29T21:59:59.999999Z"));
        assert!(passes(&test).await, "{kind}: the last instant before the day without a midnight");
        test.clock.set(at("2027-04-29T22:00:00Z"));
        assert!(passes(&test).await, "{kind}: its first");
        assert!(!passes(&test).await, "{kind}");
        assert_eq!(resets_at(&test).await, at("2027-04-30T21:00:00Z"), "{kind}: 23 hours");
    }
}
