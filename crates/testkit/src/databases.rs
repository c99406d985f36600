//! A fresh database for each test, on every kind there is.

use kernel::Secret;
use store::{DataFolder, Database, Migration, MySql, Statement};
use tempfile::TempDir;

/// Names the server that tests make databases on, such as `mysql://root@127.0.0.1:3306`.
const MYSQL_URL: &str = "LEDGERLINE_TEST_MYSQL_URL";

/// A migrated database that is removed with this value (its folder; a server's database is
/// removed by a later run's clean-up of `ledgerline_test_*`).
pub struct TestDatabase {
    /// `sqlite` or `mysql`, for messages.
    pub kind: &'static str,
    /// The database.
    pub database: Database,
    /// Its address, to open it a second time.
    pub url: Secret,
    /// The data folder.
    pub folder: DataFolder,
    /// Removes the folder in the end.
    pub directory: TempDir,
}

/// A fresh SQLite database, for what no other kind would do differently.
pub async fn sqlite(migrations: &[Migration]) -> TestDatabase {
    open("sqlite", Secret::default(), migrations).await
}

/// One fresh database of each kind: SQLite always, MySQL when `LEDGERLINE_TEST_MYSQL_URL` is set.
pub async fn databases(migrations: &[Migration]) -> Vec<TestDatabase> {
    let mut all = vec![sqlite(migrations).await];
    if let Some(server) = mysql_server() {
        let url = create_on_server(&server).await;
        all.push(open("mysql", url, migrations).await);
    }
    all
}

#[expect(clippy::disallowed_methods, reason = "tests are told the server by the environment")]
fn mysql_server() -> Option<String> {
    std::env::var(MYSQL_URL).ok().filter(|url| !url.is_empty())
}

async fn create_on_server(server: &str) -> Secret {
    let name = format!("ledgerline_test_{}", kernel::id::new().replace('-', "_"));
    let admin =
        Database::MySql(MySql::connect(server).await.expect("the test MySQL server answers"));
    let create = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
    admin.execute(Statement::new(create, vec![])).await.expect("a test database can be created");
    Secret::from(format!("{}/{name}", server.trim_end_matches('/')))
}

async fn open(kind: &'static str, url: Secret, migrations: &[Migration]) -> TestDatabase {
    let directory = tempfile::tempdir().expect("a temporary folder can be made");
    let folder = DataFolder::open(directory.path()).expect("a fresh folder is free");
    let database = Database::open(&url, folder.path()).await.expect("a fresh database opens");
    database.migrate(migrations).await.expect("a fresh database migrates");
    TestDatabase { kind, database, url, folder, directory }
}
