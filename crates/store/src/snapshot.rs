//! Many reads of one moment.

use rusqlite::Connection;
use sqlx::pool::PoolConnection;
use sqlx::{Executor as _, MySql};

use crate::{Database, Error, Result, Row, Value, mysql, sqlite};

/// The database as it was when this was taken, whatever is written meanwhile.
#[derive(Debug)]
pub struct Snapshot(Source);

#[derive(Debug)]
enum Source {
    Sqlite(Option<Box<Connection>>),
    MySql(Box<PoolConnection<MySql>>),
}

impl Database {
    /// Begins a read of one moment.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        match self {
            Self::Sqlite(database) => {
                let connection = sqlite::connect_reader(database.path())?;
                // A deferred transaction begins with its first read.
                connection.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema")?;
                Ok(Snapshot(Source::Sqlite(Some(Box::new(connection)))))
            }
            Self::MySql(database) => {
                let mut connection = database.pool().acquire().await?;
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
                connection.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
                Ok(Snapshot(Source::MySql(Box::new(connection))))
            }
        }
    }
}

impl Snapshot {
    /// Reads rows as of that moment.
    pub async fn query(&mut self, sql: &str, args: &[Value]) -> Result<Vec<Row>> {
        match &mut self.0 {
            Source::MySql(connection) => mysql::query_on(connection, sql, args).await,
            Source::Sqlite(slot) => {
                let connection = slot.take().ok_or(Error::TaskLost)?;
                let (sql, args) = (sql.to_owned(), args.to_vec());
                let reading = move || {
                    let rows = sqlite::query(&connection, &sql, &args);
                    (connection, rows)
                };
                let (connection, rows) = tokio::task::spawn_blocking(reading)
                    .await
                    .map_err(|_panicked| Error::TaskLost)?;
                *slot = Some(connection);
                rows
            }
        }
    }

    /// Ends the read.
    pub async fn end(self) -> Result<()> {
        if let Source::MySql(mut connection) = self.0 {
            connection.execute("ROLLBACK").await?;
        }
        Ok(())
    }
}
