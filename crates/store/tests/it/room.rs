//! The room in SQLite's write-ahead log.

use std::path::Path;

use store::{Database, Value};

use crate::{THINGS, insert};

async fn open(folder: &Path) -> Database {
    Database::open(&"".into(), folder).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_made_beside_a_writer_and_read_by_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path()).await;
    database.migrate(&[THINGS]).await.unwrap();
    let writing = database.clone();
    let written = tokio::spawn(async move {
        for number in 0..300 {
            writing.execute(insert(&number.to_string(), Some(number), None)).await.unwrap();
        }
    });
    database.make_room().await.unwrap();
    written.await.unwrap();
    let log = folder.path().join("ledgerline.db-wal");
    let length = std::fs::metadata(&log).unwrap().len();
    assert!(length >= 16_000 * 4096, "{length}");

    // What a crash would leave.
    let left = tempfile::tempdir().unwrap();
    for name in ["ledgerline.db", "ledgerline.db-wal"] {
        std::fs::copy(folder.path().join(name), left.path().join(name)).unwrap();
    }
    let found = open(left.path()).await;
    let count = found.query_one("SELECT COUNT(*), SUM(number) FROM things", &[]).await.unwrap();
    let count = count.unwrap();
    assert_eq!((count.int(0).unwrap(), count.int(1).unwrap()), (300, 300 * 299 / 2));
    let sound = found.query_one("PRAGMA integrity_check", &[]).await.unwrap().unwrap();
    assert_eq!(sound.text(0).unwrap(), "ok");
    found.execute(insert("after", None, Some(b"the crash"))).await.unwrap();
    let after = found.query("SELECT 1 FROM things WHERE id = ?", &[Value::from("after")]).await;
    assert_eq!(after.unwrap().len(), 1);

    database.make_room().await.unwrap();
    assert_eq!(std::fs::metadata(&log).unwrap().len(), length, "there is room already");
    database.close().await;
    assert_eq!(std::fs::metadata(&log).map_or(0, |log| log.len()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_closed_stays_empty() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path()).await;
    database.migrate(&[THINGS]).await.unwrap();
    let making = database.clone();
    let made = tokio::spawn(async move { making.make_room().await });
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    database.close().await;
    made.await.unwrap().unwrap();
    let log = std::fs::metadata(folder.path().join("ledgerline.db-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0);
}
