//! What is read at a replica, and what is not.

use std::sync::Arc;
use std::time::Duration;

use kernel::SystemClock;
use store::{Cache, Database, Error, Reader, Statement};
use testkit::sqlite;

const LONGEST: Duration = Duration::from_secs(1);

/// A reader of two databases, each of which knows its own name.
async fn reader() -> (Reader, [testkit::TestDatabase; 2]) {
    let both = [sqlite(&[]).await, sqlite(&[]).await];
    for (on, name) in both.iter().zip(["primary", "replica"]) {
        for sql in ["CREATE TABLE names (name TEXT) STRICT", "INSERT INTO names VALUES (?)"] {
            let args = sql.contains('?').then(|| name.into()).into_iter().collect();
            on.database.execute(Statement::new(sql, args)).await.unwrap();
        }
    }
    let cache = Cache::new(None, [0; 32], Arc::new(SystemClock));
    let replica = Some((both[1].database.clone(), LONGEST));
    (Reader::new(both[0].database.clone(), replica, cache), both)
}

async fn name(reader: &Reader, min_seq: i64) -> String {
    let ask = |database: Database| async move {
        let row = database.query_one("SELECT name FROM names", &[]).await?.unwrap();
        row.text(0).map(str::to_owned)
    };
    reader.read(min_seq, ask).await.unwrap()
}

#[tokio::test]
async fn a_replica_is_read_while_it_is_near_and_has_what_is_asked_for() {
    let (reader, both) = reader().await;
    assert_eq!(name(&reader, 0).await, "primary");
    assert!(reader.failure().is_some());
    reader.measured(Ok((10, Duration::from_millis(300))));
    assert_eq!((name(&reader, 0).await, reader.failure()), ("replica".to_owned(), None));
    assert_eq!(name(&reader, 10).await, "replica");
    assert_eq!(name(&reader, 11).await, "primary");
    assert_eq!(reader.figures(), [300, 2, 2]);
    // Ten seconds behind.
    reader.measured(Ok((10, Duration::from_secs(10))));
    assert_eq!(name(&reader, 0).await, "primary");
    assert!(reader.failure().unwrap().contains("10.0 s behind"));
    reader.measured(Ok((20, Duration::ZERO)));
    assert_eq!(name(&reader, 20).await, "replica");
    // What it cannot answer, the primary does.
    both[1].database.execute(Statement::new("DROP TABLE names", vec![])).await.unwrap();
    assert_eq!(name(&reader, 0).await, "primary");
    reader.measured(Err(Error::TaskLost));
    assert!(reader.failure().is_some());
    assert_eq!(Reader::from(both[0].database.clone()).failure(), None);
}

/// Asks for the name; the replica never answers.
fn ask(
    database: Database,
    replica: &Database,
) -> impl Future<Output = store::Result<store::Row>> + use<> {
    let stalled = matches!((&database, replica), (Database::Sqlite(one), Database::Sqlite(other))
        if one.path() == other.path());
    async move {
        if stalled {
            std::future::pending::<()>().await;
        }
        database.query_one("SELECT name FROM names", &[]).await.map(Option::unwrap)
    }
}

#[tokio::test]
async fn nobody_waits_for_a_replica_that_has_stalled() {
    let (reader, _both) = reader().await;
    reader.measured(Ok((10, Duration::ZERO)));
    let replica = reader.replica().unwrap().clone();
    let asked = reader.clone();
    let slow =
        tokio::spawn(
            async move { asked.read(0, |database| ask(database, &replica)).await.unwrap() },
        );
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!slow.is_finished());
    reader.measured(Err(Error::TaskLost));
    let row = tokio::time::timeout(Duration::from_secs(5), slow).await.unwrap().unwrap();
    assert_eq!(row.text(0).unwrap(), "primary");
}
