//! Schema changes, in order, once.

use std::collections::HashMap;

use crate::{Database, Error, Result, Statement, Value};

/// One schema change: a name that sorts after all before it, and its text for each database.
///
/// Statements are separated by `;` at the end of a line. On MySQL, where schema changes are not
/// transactional, each must be safe to run again: `IF NOT EXISTS`, or an `ALTER TABLE` that only adds
/// columns and keys, all at once.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Such as `0002_ledger`.
    pub name: &'static str,
    /// The text for SQLite.
    pub sqlite: &'static str,
    /// The text for MySQL-compatible servers.
    pub mysql: &'static str,
}

/// How long an instance waits for another that migrates, in seconds.
const LOCK_WAIT: i64 = 60;

impl Database {
    /// Brings the schema up to date; returns the names of the changes made.
    ///
    /// Several instances may start at once: one migrates, the others wait.
    pub async fn migrate(&self, migrations: &[Migration]) -> Result<Vec<&'static str>> {
        match self {
            Self::Sqlite(_) => self.apply(migrations).await,
            Self::MySql(mysql) => {
                // The lock belongs to its connection and goes with it.
                let mut guard = mysql.pool().acquire().await?;
                let lock = "SELECT COALESCE(GET_LOCK(CONCAT('ledgerline:', DATABASE()), ?), 0)";
                let got: i64 =
                    sqlx::query_scalar(lock).bind(LOCK_WAIT).fetch_one(&mut *guard).await?;
                if got != 1 {
                    return Err(Error::MigrationLocked);
                }
                let outcome = self.apply(migrations).await;
                sqlx::query("SELECT RELEASE_LOCK(CONCAT('ledgerline:', DATABASE()))")
                    .execute(&mut *guard)
                    .await?;
                outcome
            }
        }
    }

    async fn apply(&self, migrations: &[Migration]) -> Result<Vec<&'static str>> {
        self.execute(Statement::new(
            "CREATE TABLE IF NOT EXISTS schema_migrations \
             (name VARCHAR(64) NOT NULL PRIMARY KEY, checksum BIGINT NOT NULL)",
            vec![],
        ))
        .await?;
        let rows = self.query("SELECT name, checksum FROM schema_migrations", &[]).await?;
        let mut done = HashMap::new();
        for row in &rows {
            done.insert(row.text(0)?.to_owned(), row.int(1)?);
        }
        let mut ordered: Vec<&Migration> = migrations.iter().collect();
        ordered.sort_by_key(|migration| migration.name);
        let mut made = Vec::new();
        for migration in ordered {
            match done.remove(migration.name) {
                Some(checksum) if checksum == self.checksum(migration) => {}
                Some(_) => return Err(Error::MigrationChanged(migration.name.to_owned())),
                None => {
                    self.apply_one(migration).await?;
                    made.push(migration.name);
                }
            }
        }
        match done.into_keys().next() {
            Some(unknown) => Err(Error::MigrationUnknown(unknown)),
            None => Ok(made),
        }
    }

    async fn apply_one(&self, migration: &Migration) -> Result<()> {
        let mut statements: Vec<Statement> = self
            .text(migration)
            .split(";\n")
            .map(str::trim)
            .filter(|sql| !sql.is_empty())
            .map(|sql| Statement::new(sql.trim_end_matches(';'), vec![]))
            .collect();
        statements.push(Statement::new(
            "INSERT INTO schema_migrations (name, checksum) VALUES (?, ?)",
            vec![Value::from(migration.name), Value::from(self.checksum(migration))],
        ));
        match self {
            Self::Sqlite(_) => self.transaction(statements).await.map(drop),
            Self::MySql(mysql) => mysql.change_schema(&statements).await,
        }
    }

    const fn text(&self, migration: &Migration) -> &'static str {
        match self {
            Self::Sqlite(_) => migration.sqlite,
            Self::MySql(_) => migration.mysql,
        }
    }

    /// FNV-1a over the text: enough to notice an edit, and stable for ever.
    fn checksum(&self, migration: &Migration) -> i64 {
        let hash = self.text(migration).bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        hash.cast_signed()
    }
}
