//! Values, transactions and readers.

use store::{DataFolder, Database, Error, Statement, Value};
use testkit::databases;

use super::{THINGS, insert};

/// An id, a number and bytes.
type Case = (&'static str, Option<i64>, Option<&'static [u8]>);

#[tokio::test]
async fn values_come_back_as_they_were() {
    for test in databases(&[THINGS]).await {
        let cases: [Case; 5] = [
            ("", Some(i64::MIN), Some(b"")),
            ("null", None, None),
            (
                "\u{4f60}\u{597d} \u{1f600} 'quoted' \\ ; --",
                Some(i64::MAX),
                Some(&[0, 255, 39, 92]),
            ),
            ("A", Some(0), Some(b"x")),
            ("a", Some(-1), Some(b"y")),
        ];
        for (id, number, bytes) in cases {
            test.database.execute(insert(id, number, bytes)).await.unwrap();
            let sql = "SELECT id, number, bytes FROM things WHERE id = ?";
            let row = test.database.query_one(sql, &[id.into()]).await.unwrap().unwrap();
            assert_eq!(row.text(0).unwrap(), id, "{}", test.kind);
            assert_eq!(row.opt_int(1).unwrap(), number);
            assert_eq!(row.opt_bytes(2).unwrap(), bytes);
        }
        let row = test
            .database
            .query_one("SELECT number FROM things WHERE id = 'null'", &[])
            .await
            .unwrap()
            .unwrap();
        assert!(matches!(row.int(0), Err(Error::Shape { column: 0, .. })));
        assert!(matches!(row.text(7), Err(Error::Shape { column: 7, .. })));
    }
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing() {
    for test in databases(&[THINGS]).await {
        test.database.execute(insert("there", Some(1), None)).await.unwrap();
        let twice = vec![insert("new", Some(1), None), insert("there", Some(2), None)];
        let refused = test.database.transaction(twice).await.unwrap_err();
        assert!(refused.is_duplicate() && refused.is_data(), "{}: {refused:?}", test.kind);
        let guarded = vec![
            insert("new", Some(1), None),
            Statement::one(
                "UPDATE things SET number = 5 WHERE id = ? AND number = 9",
                vec!["there".into()],
            ),
        ];
        assert!(matches!(test.database.transaction(guarded).await, Err(Error::Unexpected { .. })));
        let rows = test.database.query("SELECT id FROM things", &[]).await.unwrap();
        assert_eq!(rows.len(), 1, "{}", test.kind);
        let fits = Statement::one(
            "UPDATE things SET number = 5 WHERE id = ? AND number = 1",
            vec!["there".into()],
        );
        assert_eq!(test.database.transaction(vec![fits]).await.unwrap(), [1]);
    }
}

#[tokio::test]
async fn a_snapshot_does_not_see_later_writes() {
    for test in databases(&[THINGS]).await {
        test.database.execute(insert("before", None, None)).await.unwrap();
        let mut snapshot = test.database.snapshot().await.unwrap();
        test.database.execute(insert("after", None, None)).await.unwrap();
        let count = "SELECT COUNT(*) FROM things";
        assert_eq!(
            snapshot.query(count, &[]).await.unwrap()[0].int(0).unwrap(),
            1,
            "{}",
            test.kind
        );
        assert_eq!(test.database.query(count, &[]).await.unwrap()[0].int(0).unwrap(), 2);
        snapshot.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_readers_do_not_wait_for_ever() {
    for test in databases(&[THINGS]).await {
        let write = |number: i64| {
            let database = test.database.clone();
            tokio::spawn(async move {
                database.execute(insert(&format!("w{number}"), Some(number), None)).await
            })
        };
        let read = || {
            let database = test.database.clone();
            tokio::spawn(async move {
                database.query("SELECT SUM(1) + 0 FROM things WHERE number >= ?", &[0.into()]).await
            })
        };
        let writes: Vec<_> = (0..200).map(write).collect();
        let reads: Vec<_> = (0..50).map(|_| read()).collect();
        for write in writes {
            write.await.unwrap().unwrap();
        }
        for read in reads {
            drop(read.await.unwrap());
        }
        let rows = test.database.query("SELECT id FROM things", &[]).await.unwrap();
        assert_eq!(rows.len(), 200, "{}", test.kind);
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    for test in databases(&[THINGS]).await {
        test.database.execute(insert("kept", Some(7), None)).await.unwrap();
        test.database.close().await;
        drop(test.database);
        let again = Database::open(&test.url, test.folder.path()).await.unwrap();
        let row = again
            .query_one("SELECT number FROM things WHERE id = 'kept'", &[])
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.int(0).unwrap(), 7, "{}", test.kind);
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_no_more() {
    let test = testkit::sqlite(&[THINGS]).await;
    let Database::Sqlite(sqlite) = &test.database else { panic!("SQLite") };
    let pages: i64 = sqlite.writer().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    sqlite.writer().pragma_update(None, "max_page_count", pages).unwrap();
    let large = vec![7_u8; 100_000];
    let full = test.database.execute(insert("large", None, Some(&large))).await.unwrap_err();
    assert!(!full.is_data() && !full.is_duplicate(), "{full:?}");
    sqlite.writer().pragma_update(None, "max_page_count", pages + 100).unwrap();
    test.database.execute(insert("large", None, Some(&large))).await.unwrap();
}

#[tokio::test]
async fn addresses_that_mean_nothing_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(directory.path()).unwrap();
    let refused = Database::open(&"postgres://x".into(), folder.path()).await.unwrap_err();
    assert!(refused.to_string().contains("mysql://"), "{refused}");
    let value = Value::from("text");
    assert_eq!(value.kind(), "text");
}
