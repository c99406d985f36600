//! Calls that are admitted ahead of the disk.

use ledger::JournalError;
use metering::{Bill, Error};
use store::Database;

use crate::{Test, everywhere, read};

#[tokio::test]
async fn a_call_admitted_ahead_is_charged_like_any_other() {
    for test in everywhere().await {
        test.fund("a").await;
        let admission = test.metering.admit_ahead(Test::ask("a", 1000, None)).await.unwrap();
        let id = test.settle(admission, read(10)).await;
        assert_eq!(test.record(&id).await.cost.to_string(), "10", "{}", test.on.kind);
        let admission = test.metering.admit_ahead(Test::ask("a", 1000, None)).await.unwrap();
        test.metering.release(admission, Bill::default()).await.unwrap();
        test.verify().await;
    }
}

#[tokio::test]
async fn a_call_is_told_that_its_hold_was_lost() {
    let test = everywhere().await.swap_remove(0);
    let Database::Sqlite(sqlite) = &test.on.database else { panic!("the first is SQLite") };
    test.fund("a").await;
    sqlite.writer().pragma_update(None, "query_only", true).unwrap();
    let mut admission = test.metering.admit_ahead(Test::ask("a", 1000, None)).await.unwrap();
    let lost = admission.lost().await;
    assert!(matches!(lost, Error::Journal(JournalError::Storage(_))), "{lost:?}");
    sqlite.writer().pragma_update(None, "query_only", false).unwrap();
    let refused = test.metering.release(admission, Bill::default()).await;
    assert!(matches!(refused, Err(Error::Journal(JournalError::HoldLost))), "{refused:?}");
    test.verify().await;
}
