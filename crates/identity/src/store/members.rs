//! Users and applications: whom an organization's keys belong to.

use kernel::{AppId, OrgId, PageRequest, Timestamp, UserId};
use store::{Database, Row, Statement, Value};

use super::{Thing, after};
use crate::{App, Result, User};

const COLUMNS: &str = "id, org_id, name, disabled, created_at";

pub(crate) async fn insert_user(database: &Database, user: &User) -> Result<()> {
    let args = vec![
        user.id.as_str().into(),
        user.org_id.as_str().into(),
        user.name.as_str().into(),
        user.disabled.into(),
        user.created_at.micros().into(),
    ];
    insert(database, Thing::User, args).await
}

pub(crate) async fn find_user(database: &Database, id: &UserId) -> Result<Option<User>> {
    find(database, Thing::User, id.as_str()).await?.as_ref().map(read_user).transpose()
}

pub(crate) async fn list_users(
    database: &Database,
    org_id: &OrgId,
    page: &PageRequest,
) -> Result<Vec<User>> {
    list(database, Thing::User, org_id, page).await?.iter().map(read_user).collect()
}

pub(crate) async fn insert_app(database: &Database, app: &App) -> Result<()> {
    let args = vec![
        app.id.as_str().into(),
        app.org_id.as_str().into(),
        app.name.as_str().into(),
        app.disabled.into(),
        app.created_at.micros().into(),
    ];
    insert(database, Thing::App, args).await
}

pub(crate) async fn find_app(database: &Database, id: &AppId) -> Result<Option<App>> {
    find(database, Thing::App, id.as_str()).await?.as_ref().map(read_app).transpose()
}

pub(crate) async fn list_apps(
    database: &Database,
    org_id: &OrgId,
    page: &PageRequest,
) -> Result<Vec<App>> {
    list(database, Thing::App, org_id, page).await?.iter().map(read_app).collect()
}

/// Whether the user or application is this organization's.
pub(crate) async fn of_org(
    database: &Database,
    thing: Thing,
    id: &str,
    org_id: &OrgId,
) -> Result<bool> {
    let sql = format!("SELECT 1 FROM {} WHERE id = ? AND org_id = ?", thing.table());
    Ok(database.query_one(&sql, &[id.into(), org_id.as_str().into()]).await?.is_some())
}

async fn insert(database: &Database, thing: Thing, args: Vec<Value>) -> Result<()> {
    let sql = format!("INSERT INTO {} ({COLUMNS}) VALUES (?, ?, ?, ?, ?)", thing.table());
    Ok(database.execute(Statement::new(sql, args)).await.map(drop)?)
}

async fn find(database: &Database, thing: Thing, id: &str) -> Result<Option<Row>> {
    let sql = format!("SELECT {COLUMNS} FROM {} WHERE id = ?", thing.table());
    Ok(database.query_one(&sql, &[id.into()]).await?)
}

async fn list(
    database: &Database,
    thing: Thing,
    org_id: &OrgId,
    page: &PageRequest,
) -> Result<Vec<Row>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {} WHERE org_id = ? AND id > ? ORDER BY id LIMIT ?",
        thing.table()
    );
    let args = [org_id.as_str().into(), after(page), page.fetch().into()];
    Ok(database.query(&sql, &args).await?)
}

fn read_user(row: &Row) -> Result<User> {
    Ok(User {
        id: row.text(0)?.into(),
        org_id: row.text(1)?.into(),
        name: row.text(2)?.to_owned(),
        disabled: row.flag(3)?,
        created_at: Timestamp::from_micros(row.int(4)?),
    })
}

fn read_app(row: &Row) -> Result<App> {
    Ok(App {
        id: row.text(0)?.into(),
        org_id: row.text(1)?.into(),
        name: row.text(2)?.to_owned(),
        disabled: row.flag(3)?,
        created_at: Timestamp::from_micros(row.int(4)?),
    })
}
