//! The database, whichever it is.

use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use kernel::Secret;

use crate::{Config, Error, MySql, Result, Row, Sqlite, Statement, Value};

/// What the database will answer. In a box, so that the code of the drivers is compiled here, once, and not
/// again with every future of every crate that waits for it.
pub type Pending<'a, T> = BoxFuture<'a, Result<T>>;

/// The database this process works on. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Database {
    /// Embedded.
    Sqlite(Sqlite),
    /// A server.
    MySql(MySql),
}

impl Database {
    /// Opens the database at `url`; an empty one means `ledgerline.db` in the data folder.
    pub fn open<'a>(url: &'a Secret, folder: &'a Path) -> Pending<'a, Self> {
        Box::pin(Self::open_at(url, folder))
    }

    async fn open_at(url: &Secret, folder: &Path) -> Result<Self> {
        let url = url.expose();
        if url.is_empty() {
            return Sqlite::open(&folder.join("ledgerline.db")).map(Self::Sqlite);
        }
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Sqlite::open(path.as_ref()).map(Self::Sqlite);
        }
        if url.starts_with("mysql://") {
            return MySql::connect(url).await.map(Self::MySql);
        }
        Err(Error::Url(url.split(':').next().unwrap_or_default().to_owned()))
    }

    /// The read replica that is configured, if one is; nothing is changed there, and it need not
    /// answer yet.
    pub fn replica(config: &Config) -> Result<Option<(Self, Duration)>> {
        let url = config.replica_url.expose();
        if url.is_empty() {
            return Ok(None);
        }
        if !url.starts_with("mysql://") || !config.url.expose().starts_with("mysql://") {
            return Err(Error::ReplicaUrl);
        }
        let replica = Self::MySql(MySql::connect_lazily(url)?);
        Ok(Some((replica, Duration::from_millis(config.replica_max_lag_ms))))
    }

    /// Reads rows. Sees every write acknowledged before.
    pub fn query<'a>(&'a self, sql: &'a str, args: &'a [Value]) -> Pending<'a, Vec<Row>> {
        match self {
            Self::Sqlite(sqlite) => Box::pin(sqlite.query(sql.to_owned(), args.to_vec())),
            Self::MySql(mysql) => Box::pin(mysql.query(sql, args)),
        }
    }

    /// Reads the first row, if there is one.
    pub async fn query_one(&self, sql: &str, args: &[Value]) -> Result<Option<Row>> {
        Ok(self.query(sql, args).await?.into_iter().next())
    }

    /// Runs all statements, or none: returns the rows each changed (on MySQL: matched).
    pub fn transaction(&self, statements: Vec<Statement>) -> Pending<'_, Vec<u64>> {
        match self {
            Self::Sqlite(sqlite) => Box::pin(sqlite.transaction(statements)),
            Self::MySql(mysql) => Box::pin(async move { mysql.transaction(&statements).await }),
        }
    }

    /// Runs one statement; returns the rows changed (on MySQL: matched).
    pub async fn execute(&self, statement: Statement) -> Result<u64> {
        Ok(self.transaction(vec![statement]).await?.into_iter().sum())
    }

    /// Takes the disk space that quick commits want, beside the writer.
    pub async fn make_room(&self) -> Result<()> {
        match self {
            Self::Sqlite(sqlite) => sqlite.make_room().await,
            Self::MySql(_) => Ok(()),
        }
    }

    /// Leaves everything in order: the write-ahead log is folded in, connections are closed.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.checkpoint().await,
            Self::MySql(mysql) => mysql.pool().close().await,
        }
    }

    /// The database answers.
    pub async fn ping(&self) -> Result<()> {
        self.query("SELECT 1", &[]).await.map(drop)
    }
}
