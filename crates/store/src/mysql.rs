//! A MySQL-compatible server (MySQL, MariaDB, Galera, TiDB).

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlRow};
use sqlx::{
    AssertSqlSafe, Column as _, Executor as _, MySqlPool, Row as _, TypeInfo as _, ValueRef as _,
};

use crate::{Error, Expect, Result, Row, Statement, Value};

const POOL_SIZE: u32 = 16;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// A deadlock is answered by running the transaction again, this often.
const ATTEMPTS: usize = 5;

/// A pool of connections to one server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MySql {
    pool: MySqlPool,
}

impl MySql {
    /// Connects; every session reads committed data only and keeps time in UTC.
    pub async fn connect(url: &str) -> Result<Self> {
        let options = MySqlConnectOptions::from_str(url)?;
        Ok(Self { pool: pool().connect_with(options).await? })
    }

    /// The same, and connects when it is first asked.
    pub(crate) fn connect_lazily(url: &str) -> Result<Self> {
        Ok(Self { pool: pool().connect_lazy_with(MySqlConnectOptions::from_str(url)?) })
    }

    /// The connections, for work that needs a transaction of its own.
    pub const fn pool(&self) -> &MySqlPool {
        &self.pool
    }

    pub(crate) async fn query(&self, sql: &str, args: &[Value]) -> Result<Vec<Row>> {
        query_on(&mut *self.pool.acquire().await?, sql, args).await
    }

    pub(crate) async fn transaction(&self, statements: &[Statement]) -> Result<Vec<u64>> {
        let mut attempt = 1;
        loop {
            match self.run_all(statements).await {
                Err(error) if error.is_retryable() && attempt < ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    /// Runs schema changes, which this server makes one by one: one that an instance made before it
    /// died is passed over.
    pub(crate) async fn change_schema(&self, statements: &[Statement]) -> Result<()> {
        for statement in statements {
            match self.transaction(std::slice::from_ref(statement)).await {
                Err(error) if error.is_already_there() => {}
                outcome => drop(outcome?),
            }
        }
        Ok(())
    }

    async fn run_all(&self, statements: &[Statement]) -> Result<Vec<u64>> {
        let mut transaction = self.pool.begin().await?;
        let mut changed = Vec::with_capacity(statements.len());
        for statement in statements {
            let done = bind(&statement.sql, &statement.args).execute(&mut *transaction).await?;
            if statement.expect == Expect::One && done.rows_affected() != 1 {
                return Err(Error::Unexpected { statement: statement.sql.clone().into_owned() });
            }
            changed.push(done.rows_affected());
        }
        transaction.commit().await?;
        Ok(changed)
    }
}

fn pool() -> MySqlPoolOptions {
    let options = MySqlPoolOptions::new().max_connections(POOL_SIZE);
    options.acquire_timeout(ACQUIRE_TIMEOUT).after_connect(|connection, _| {
        Box::pin(async move {
            connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
            connection.execute("SET SESSION innodb_lock_wait_timeout = 10").await?;
            Ok(())
        })
    })
}

pub(crate) async fn query_on(
    connection: &mut sqlx::MySqlConnection,
    sql: &str,
    args: &[Value],
) -> Result<Vec<Row>> {
    let rows = bind(sql, args).fetch_all(connection).await?;
    rows.iter().map(read_row).collect()
}

type Query<'q> = sqlx::query::Query<'q, sqlx::MySql, sqlx::mysql::MySqlArguments>;

/// The statement with its values bound. Its text is always the program's own.
fn bind<'q>(sql: &str, args: &'q [Value]) -> Query<'q> {
    args.iter().fold(sqlx::query(AssertSqlSafe(sql.to_owned())), |query, arg| match arg {
        Value::Null => query.bind(None::<i64>),
        Value::Int(number) => query.bind(*number),
        Value::Text(text) => query.bind(text.as_ref()),
        Value::Bytes(bytes) => query.bind(bytes.as_slice()),
    })
}

/// A server's row as values; decimals (`SUM`) must be cast to `SIGNED` in the statement.
pub(crate) fn read_row(row: &MySqlRow) -> Result<Row> {
    let values = row.columns().iter().map(|column| {
        let at = column.ordinal();
        if row.try_get_raw(at)?.is_null() {
            return Ok(Value::Null);
        }
        Ok(match column.type_info().name() {
            "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => {
                Value::Int(row.try_get_unchecked(at)?)
            }
            "BIGINT UNSIGNED" | "INT UNSIGNED" => {
                let number: u64 = row.try_get_unchecked(at)?;
                Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
            }
            "BINARY" | "VARBINARY" | "BLOB" | "TINYBLOB" | "MEDIUMBLOB" | "LONGBLOB" => {
                Value::Bytes(row.try_get_unchecked(at)?)
            }
            // Text is compared byte by byte here (utf8mb4_bin), which the server calls binary; see
            // `Row::opt_text`.
            "CHAR" | "VARCHAR" | "TEXT" | "TINYTEXT" | "MEDIUMTEXT" | "LONGTEXT" => {
                Value::from(row.try_get_unchecked::<String, _>(at)?)
            }
            _ => {
                return Err(Error::Shape {
                    column: at,
                    wanted: "integer, text or bytes",
                    found: "another type",
                });
            }
        })
    });
    Ok(Row::new(values.collect::<Result<_>>()?))
}
