//! Records are found by everything they can be looked for by, in order and completely.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use kernel::{PageRequest, Timestamp};
use metering::{Error, UsageFilter, UsageStatus};

use super::{CALL, Made, Rig, acme, rigs};

/// Requests of all pages of two records.
async fn found(rig: &Rig, filter: UsageFilter) -> Vec<String> {
    let mut all = Vec::new();
    let mut page = PageRequest { limit: Some(2), cursor: None };
    loop {
        let got = rig.metering.list_usage(&filter, &page).await.unwrap();
        assert!(got.rows.len() <= 2);
        all.extend(got.rows.into_iter().map(|row| row.request_id));
        let Some(next) = got.next else { return all };
        page.cursor = Some(next);
    }
}

/// Calls over four hours; the last is the newest.
async fn fill(rig: &Rig) -> Timestamp {
    let begun = rig.metering.now();
    for (request, made) in [
        ("r0", CALL),
        ("r1", Made { key: "k2", run: Some("run"), ..CALL }),
        ("r2", Made { model: "large", provider: "second", ..CALL }),
        ("r3", Made { org: "other", run: Some("run"), ..CALL }),
        ("r4", Made { failed: Some("upstream_timeout"), ..CALL }),
        ("r5", Made { key: "k2", failed: Some("upstream_error"), ..CALL }),
        ("r6", Made { run: Some("run"), ..CALL }),
        ("r7", Made { org: "other", model: "large", ..CALL }),
    ] {
        rig.call(Made { request, ..made }).await;
        rig.clock.advance(Duration::from_mins(30));
    }
    begun
}

#[tokio::test(flavor = "multi_thread")]
async fn every_filter_gives_its_records_newest_first() {
    for rig in rigs().await {
        let begun = fill(&rig).await;
        let text = |text: &str| Some(text.to_owned());
        let at = |minutes: u64| Some(begun.after(Duration::from_mins(minutes)));
        let all = UsageFilter::default;
        let acme = || UsageFilter { org_id: Some(acme()), ..all() };
        let cases = [
            (all(), "r7 r6 r5 r4 r3 r2 r1 r0"),
            (acme(), "r6 r5 r4 r2 r1 r0"),
            (UsageFilter { key_id: text("k2"), ..acme() }, "r5 r1"),
            (UsageFilter { app_id: text("app"), ..acme() }, "r6 r5 r4 r2 r1 r0"),
            (UsageFilter { user_id: text("nobody"), ..acme() }, ""),
            (UsageFilter { model: text("large"), ..acme() }, "r2"),
            (UsageFilter { model: text("large"), ..all() }, "r7 r2"),
            (UsageFilter { provider: text("second"), ..all() }, "r2"),
            (UsageFilter { provider: text("second"), ..acme() }, "r2"),
            (UsageFilter { status: Some(UsageStatus::Released), ..all() }, "r5 r4"),
            (UsageFilter { status: Some(UsageStatus::Settled), ..acme() }, "r6 r2 r1 r0"),
            (UsageFilter { error_code: text("upstream_error"), ..all() }, "r5"),
            (UsageFilter { error_code: text("upstream_timeout"), ..acme() }, "r4"),
            (
                UsageFilter { error_code: text("upstream_timeout"), key_id: text("k2"), ..acme() },
                "",
            ),
            (UsageFilter { request_id: text("r3"), ..all() }, "r3"),
            (UsageFilter { request_id: text("r3"), ..acme() }, ""),
            (UsageFilter { run_id: text("run"), ..all() }, "r6 r3 r1"),
            (UsageFilter { run_id: text("run"), ..acme() }, "r6 r1"),
            (UsageFilter { run_id: text("run"), key_id: text("k2"), ..acme() }, "r1"),
            (UsageFilter { from: at(60), ..all() }, "r7 r6 r5 r4 r3 r2"),
            (UsageFilter { from: at(30), to: at(90), ..all() }, "r2 r1"),
            (UsageFilter { to: at(31), ..acme() }, "r1 r0"),
            (UsageFilter { from: at(300), ..all() }, ""),
            (UsageFilter { from: at(120), key_id: text("k1"), ..acme() }, "r6 r4"),
        ];
        for (filter, expected) in cases {
            let got = found(&rig, filter.clone()).await.join(" ");
            assert_eq!(got, expected, "{} {filter:?}", rig.test.kind);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_answered_is_said() {
    for rig in rigs().await {
        let filter = UsageFilter { key_id: Some("k1".to_owned()), ..UsageFilter::default() };
        let asked = rig.metering.list_usage(&filter, &PageRequest::default()).await;
        assert!(matches!(asked, Err(Error::NeedsOrganization)));
        let cursor = Some(kernel::Cursor::after("nonsense"));
        let page = PageRequest { limit: None, cursor };
        let asked = rig.metering.list_usage(&UsageFilter::default(), &page).await;
        assert!(matches!(asked, Err(Error::Cursor)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_call_is_shown_to_its_own_organization_only() {
    for rig in rigs().await {
        let admission = rig.admit(CALL).await;
        let id = admission.id().clone();
        let shown =
            async |org: &str| rig.metering.usage_or_running(&id, Some(&org.into())).await.unwrap();
        let running = shown("acme").await.unwrap();
        assert_eq!((running.status, running.model.as_str()), (UsageStatus::Running, "small"));
        assert_eq!((running.held.nanos(), running.cost.nanos()), (200, 0));
        assert_eq!((running.op_seq, running.ended_at), (None, None));
        assert!(shown("other").await.is_none());
        rig.metering.release(admission, metering::Bill::default()).await.unwrap();
        assert_eq!(shown("acme").await.unwrap().status, UsageStatus::Released);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_holds_every_record_once() {
    for rig in rigs().await {
        fill(&rig).await;
        let filter = UsageFilter { org_id: Some(acme()), ..UsageFilter::default() };
        let parts = rig.metering.export_usage(filter).await.unwrap();
        let parts: Vec<bytes::Bytes> = parts.try_collect().await.unwrap();
        let text = String::from_utf8(parts.concat()).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
        let cells = |name: &str| {
            let column = lines[0].iter().position(|known| *known == name).unwrap();
            lines[1..].iter().map(|line| line[column]).collect::<Vec<_>>()
        };
        assert_eq!(cells("request_id"), ["r6", "r5", "r4", "r2", "r1", "r0"]);
        assert_eq!(cells("run_id"), ["run", "", "", "", "run", ""]);
        assert_eq!(cells("step"), ["4", "", "", "", "4", ""]);
        assert_eq!(cells("pipeline"), ["digest", "", "", "", "digest", ""]);
        assert_eq!(cells("node"), ["sum up", "", "", "", "sum up", ""]);
    }
}
