//! What can go wrong with a database.

use std::path::PathBuf;

/// A failed store operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process works on this data folder.
    #[error(
        "data folder {0} is in use by another process: stop it, or choose another folder with --data"
    )]
    FolderInUse(PathBuf),
    /// A file could not be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database's address is not one this build understands.
    #[error("database.url must start with sqlite: or mysql://, not {0:?}")]
    Url(String),
    /// A replica of what has none, or at no server.
    #[error(
        "database.replica_url must start with mysql://, and so must database.url, whose replica it is"
    )]
    ReplicaUrl,
    /// The address of the Redis server cannot be understood; it is not shown, since it may hold a
    /// password.
    #[error(
        "redis.url must be like redis://host:6379, with user:password@ before the host if needed"
    )]
    RedisUrl,
    /// The names on the Redis server cannot begin like this.
    #[error("redis.prefix may have up to 64 letters, digits and : _ - . and not {0:?}")]
    RedisPrefix(String),
    /// The linked SQLite has a known data-corrupting bug.
    #[error("SQLite {0} is too old: 3.51.3 or later is needed")]
    SqliteTooOld(String),
    /// SQLite refused.
    #[error("SQLite failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The MySQL-compatible server refused or could not be reached.
    #[error("MySQL failed")]
    MySql(#[from] sqlx::Error),
    /// A statement changed another number of rows than it had to; nothing was written.
    #[error("a write did not find the row it was to change ({statement})")]
    Unexpected {
        /// The statement's text.
        statement: String,
    },
    /// A table that only this process may write was written by another; nothing was written.
    #[error("{0} was changed by somebody else: only one process may write this database")]
    ChangedByOthers(&'static str),
    /// A value read has another type than expected.
    #[error("column {column} holds {found}, expected {wanted}")]
    Shape {
        /// Position of the column in the row.
        column: usize,
        /// The type wanted.
        wanted: &'static str,
        /// The type found.
        found: &'static str,
    },
    /// A migration that already ran has changed since.
    #[error("migration {0} was applied with other content: this binary does not fit the database")]
    MigrationChanged(String),
    /// The database was written by a later version.
    #[error("migration {0} is unknown to this binary: the database was written by a later version")]
    MigrationUnknown(String),
    /// Another instance is migrating, and does not end.
    #[error("another instance has been migrating the schema for a minute: wait until it has ended")]
    MigrationLocked,
    /// A task that held the connection died.
    #[error("a database task ended early")]
    TaskLost,
}

impl Error {
    /// A unique or primary key refused a second row with the same value.
    pub fn is_duplicate(&self) -> bool {
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) => {
                matches!(failure.extended_code, 1555 | 2067)
            }
            Self::MySql(sqlx::Error::Database(failure)) => failure.is_unique_violation(),
            _ => false,
        }
    }

    /// What was written does not fit its table (a constraint, a type, a length): the same write
    /// fails again, and others do not.
    pub fn is_data(&self) -> bool {
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) => matches!(
                failure.code,
                rusqlite::ErrorCode::ConstraintViolation
                    | rusqlite::ErrorCode::TypeMismatch
                    | rusqlite::ErrorCode::TooBig
                    | rusqlite::ErrorCode::Unknown
            ),
            Self::MySql(sqlx::Error::Database(_)) => !self.is_retryable() && !self.is_full(),
            Self::Unexpected { .. } => true,
            _ => false,
        }
    }

    /// A schema change adds a column or key that is there already.
    pub(crate) fn is_already_there(&self) -> bool {
        self.server_number().is_some_and(|number| matches!(number, 1060 | 1061))
    }

    /// The server has no room left, or may only be read.
    fn is_full(&self) -> bool {
        self.server_number()
            .is_some_and(|number| matches!(number, 1021 | 1114 | 1290 | 1836 | 3675))
    }

    fn server_number(&self) -> Option<u16> {
        match self {
            Self::MySql(sqlx::Error::Database(failure)) => {
                Some(failure.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()?.number())
            }
            _ => None,
        }
    }

    /// The same transaction may succeed when run again: a deadlock or lock wait on the server.
    pub fn is_retryable(&self) -> bool {
        self.server_number().is_some_and(|number| matches!(number, 1205 | 1213 | 9007))
    }
}
