//! Sums are those of the records, always.

use std::time::Duration;

use futures_util::future::join_all;
use store::Statement;

use super::{CALL, Made, rigs};

async fn mixed(rig: &super::Rig) {
    let makes = [
        CALL,
        Made { model: "large", ..CALL },
        Made { org: "other", key: "k2", ..CALL },
        Made { failed: Some("upstream_error"), ..CALL },
        Made { provider: "second", output: 7, ..CALL },
        Made { key: "k3", output: 0, ..CALL },
    ];
    for _ in 0..3 {
        // Many at once share a commit: some of the same key, some not.
        join_all(makes.iter().cycle().take(24).map(|made| rig.call(*made))).await;
        rig.clock.advance(Duration::from_mins(35));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_equal_the_records_on_every_database() {
    for rig in rigs().await {
        mixed(&rig).await;
        assert_eq!(rig.findings().await, [""; 0], "{}", rig.test.kind);
        let sql =
            "SELECT CAST(SUM(calls) AS SIGNED), CAST(SUM(cost) AS SIGNED), MAX(last_seq) FROM ";
        let mut seen = Vec::new();
        for table in ["metering_hours", "metering_days", "metering_totals"] {
            let sum = rig.test.database.query_one(&format!("{sql}{table}"), &[]).await.unwrap();
            seen.push(sum.unwrap().values().to_vec());
        }
        assert!(seen[0] == seen[1] && seen[1] == seen[2], "{seen:?}");
        assert_eq!(seen[0][0], 72.into());
        // Two hours, of which the second has one of three rounds' calls.
        let hours = rig.test.database.query("SELECT DISTINCT hour FROM metering_totals", &[]).await;
        assert_eq!(hours.unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sum_that_was_changed_is_found_and_made_anew() {
    for rig in rigs().await {
        mixed(&rig).await;
        for (change, named) in [
            (
                "UPDATE metering_hours SET cost = cost + 1 WHERE key_id = 'k3'",
                "metering_hours acme",
            ),
            ("DELETE FROM metering_days WHERE org_id = 'other'", "metering_days"),
            (
                "UPDATE metering_totals SET last_seq = 1 WHERE provider = 'second'",
                "metering_totals",
            ),
            ("UPDATE metering_hours SET user_id = 'x' WHERE key_id = 'k2'", "metering_hours other"),
        ] {
            rig.test.database.execute(Statement::new(change, vec![])).await.unwrap();
            let found = rig.findings().await;
            assert!(found.len() == 1 && found[0].starts_with(named), "{change}: {found:?}");
            rig.metering.rebuild_rollups().await.unwrap();
            assert_eq!(rig.findings().await, [""; 0]);
        }
        rig.call(CALL).await;
        assert_eq!(rig.findings().await, [""; 0], "what comes after is added");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_when_its_end_is_committed_even_if_the_clock_goes_back() {
    for rig in rigs().await {
        let first = rig.call(CALL).await;
        rig.clock.set(kernel::Timestamp::from_micros(1_000_000));
        let second = rig.call(CALL).await;
        let ended =
            async |id| rig.metering.usage(id, None).await.unwrap().unwrap().ended_at.unwrap();
        assert!(ended(&second).await >= ended(&first).await);
        assert_eq!(rig.findings().await, [""; 0]);
    }
}
