//! Schema changes, in order, once.

use store::{Database, Error, Migration, Statement};
use testkit::databases;

use super::THINGS;

const SECOND: Migration = Migration {
    name: "0002_more",
    sqlite: "ALTER TABLE things ADD COLUMN more INTEGER;\nCREATE INDEX things_more ON things (more);",
    mysql: "ALTER TABLE things ADD COLUMN IF NOT EXISTS more BIGINT;\nCREATE INDEX IF NOT EXISTS things_more ON things (more);",
};

#[tokio::test]
async fn each_runs_once_in_the_order_of_names() {
    for test in databases(&[]).await {
        let made = test.database.migrate(&[SECOND, THINGS]).await.unwrap();
        assert_eq!(made, ["0001_things", "0002_more"], "{}", test.kind);
        assert!(test.database.migrate(&[THINGS, SECOND]).await.unwrap().is_empty());
        test.database.query("SELECT more FROM things", &[]).await.unwrap();
    }
}

#[tokio::test]
async fn one_that_changed_or_is_unknown_is_refused() {
    for test in databases(&[THINGS]).await {
        let edited = Migration { sqlite: "SELECT 1;", mysql: "SELECT 1;", ..THINGS };
        let refused = test.database.migrate(&[edited]).await.unwrap_err();
        assert!(
            matches!(refused, Error::MigrationChanged(name) if name == "0001_things"),
            "{}",
            test.kind
        );
        let refused = test.database.migrate(&[]).await.unwrap_err();
        assert!(matches!(refused, Error::MigrationUnknown(name) if name == "0001_things"));
    }
}

#[tokio::test]
async fn two_instances_that_start_at_once_migrate_once() {
    let Some(test) = databases(&[]).await.into_iter().find(|test| test.kind == "mysql") else {
        return;
    };
    let other = Database::open(&test.url, test.folder.path()).await.unwrap();
    let all = [THINGS, SECOND];
    let (one, two) = tokio::join!(test.database.migrate(&all), other.migrate(&all));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.len() + two.len(), 2, "{one:?} {two:?}");
}

#[tokio::test]
async fn a_change_made_by_an_instance_that_died_before_it_said_so_is_passed_over() {
    let plain = Migration {
        mysql: "ALTER TABLE things ADD COLUMN more BIGINT, ADD KEY things_more (more);\nCREATE TABLE IF NOT EXISTS others (id INT);",
        ..SECOND
    };
    let Some(test) = databases(&[THINGS]).await.into_iter().find(|test| test.kind == "mysql")
    else {
        return;
    };
    test.database.migrate(&[THINGS, plain]).await.unwrap();
    let forget = "DELETE FROM schema_migrations WHERE name = '0002_more'";
    test.database.execute(Statement::new(forget, vec![])).await.unwrap();
    let again = test.database.migrate(&[THINGS, plain]).await.unwrap();
    assert_eq!(again, ["0002_more"]);
    test.database.query("SELECT more FROM things", &[]).await.unwrap();
    let wrong = Migration {
        name: "0003_wrong",
        sqlite: "",
        mysql: "ALTER TABLE nowhere ADD COLUMN x INT;",
    };
    assert!(test.database.migrate(&[THINGS, plain, wrong]).await.is_err());
}
