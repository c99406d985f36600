//! Complete answers go upstream while their hold is on its way to the disk.

use store::Database;

use crate::upstream::{Does, Upstream};
use crate::{Test, everywhere, model, provider, quick, route};

/// A disk that can be read only, or written again.
fn refuse_writes(test: &Test, refuse: bool) {
    let Database::Sqlite(sqlite) = &test.on.database else { panic!("another database") };
    sqlite.writer().pragma_update(None, "query_only", refuse).unwrap();
}

/// The surface on SQLite, and its upstream.
async fn start() -> (Upstream, Test) {
    let upstream = Upstream::start("a").await;
    let models = [model("m", vec![route("a", 0)])];
    let mut tests = everywhere(&[provider(&upstream)], &models, &quick()).await;
    (upstream, tests.swap_remove(0))
}

#[tokio::test]
async fn while_the_disk_refuses_at_most_one_call_goes_upstream_and_none_is_charged() {
    let (upstream, test) = start().await;
    refuse_writes(&test, true);
    // It would be asked for ever: the call ends when its hold is lost.
    upstream.tell(&[Does::Hang]);
    for _ in 0..3 {
        let answer = test.chat("m", serde_json::json!({})).await;
        assert_eq!(answer.refusal(), (503, "storage_unavailable".to_owned()));
    }
    // A stream waits for the disk first, whatever was before.
    let answer = test.chat("m", serde_json::json!({"stream": true})).await;
    assert_eq!(answer.refusal(), (503, "storage_unavailable".to_owned()));
    assert!(upstream.asked().len() <= 1, "{:?}", upstream.asked());
    upstream.reset();
    refuse_writes(&test, false);
    let answer = test.chat("m", serde_json::json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let records = test.records().await;
    assert_eq!((records.len(), test.spent().await), (1, records[0].usage.cost));
}

#[tokio::test]
async fn an_answer_whose_hold_was_lost_is_not_given() {
    let (_upstream, test) = start().await;
    for _ in 0..20 {
        refuse_writes(&test, true);
        let answer = test.chat("m", serde_json::json!({})).await;
        assert_eq!(answer.refusal(), (503, "storage_unavailable".to_owned()));
        refuse_writes(&test, false);
        // From here on the next call goes ahead again.
        assert_eq!(test.chat("m", serde_json::json!({})).await.status, 200);
    }
    let records = test.records().await;
    let all: Option<kernel::Amount> = records
        .iter()
        .try_fold(kernel::Amount::ZERO, |sum, record| sum.checked_add(record.usage.cost));
    assert_eq!((records.len(), all), (20, Some(test.spent().await)));
}
