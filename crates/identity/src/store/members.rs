//! Users and applications: whom an organization's keys belong to.

use kernel::{OrgId, PageRequest, Timestamp};
use store::{Cache, Database, List, ListRequest, Listed, Row, Statement, Value};

use super::{Thing, after, json_list, read_list};
use crate::edit::Record;
use crate::{App, Result, USER_ORDERS, User};

pub(super) const COLUMNS: &str =
    "id, org_id, name, disabled, created_at, roles, version, deleted_at";

pub(crate) fn user_insertion(user: &User) -> Statement {
    let args = vec![
        user.id.as_str().into(),
        user.org_id.as_str().into(),
        user.name.as_str().into(),
        user.disabled.into(),
        user.created_at.micros().into(),
        json_list(&user.roles),
        user.version.into(),
        user.deleted_at.map(Timestamp::micros).into(),
    ];
    insertion(Thing::User, args)
}

pub(crate) async fn every_user(database: &Database, page: &PageRequest) -> Result<Vec<User>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM identity_users WHERE id > ? AND deleted_at IS NULL ORDER BY id LIMIT ?"
    );
    let rows = database.query(&sql, &[after(page), page.fetch().into()]).await?;
    rows.iter().map(User::read).collect()
}

/// A page of an organization's, in any order that is allowed.
pub(crate) async fn page_users(
    database: &Database,
    cache: &Cache,
    org_id: &OrgId,
    request: &ListRequest,
) -> Result<(Vec<User>, Listed)> {
    let list = List {
        select: COLUMNS,
        table: "(SELECT * FROM identity_users WHERE deleted_at IS NULL) AS people",
        filters: vec![("org_id", org_id.as_str().into())],
        key: &USER_ORDERS[0],
    };
    let listed = list.page(database, cache, request).await?;
    let users = listed.rows.iter().map(User::read).collect::<Result<_>>()?;
    Ok((users, listed))
}

pub(crate) fn app_insertion(app: &App) -> Statement {
    let args = vec![
        app.id.as_str().into(),
        app.org_id.as_str().into(),
        app.name.as_str().into(),
        app.disabled.into(),
        app.created_at.micros().into(),
        json_list(&app.roles),
        app.version.into(),
        app.deleted_at.map(Timestamp::micros).into(),
    ];
    insertion(Thing::App, args)
}

fn insertion(thing: Thing, args: Vec<Value>) -> Statement {
    let table = thing.table();
    Statement::new(format!("INSERT INTO {table} ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"), args)
}

fn columns(name: &str, disabled: bool, roles: &[String]) -> Vec<(&'static str, Value)> {
    vec![("name", name.into()), ("disabled", disabled.into()), ("roles", json_list(roles))]
}

impl Record for User {
    const THING: Thing = Thing::User;

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn org_id(&self) -> Option<&OrgId> {
        Some(&self.org_id)
    }

    fn version(&mut self) -> &mut i64 {
        &mut self.version
    }

    fn deletion(&mut self) -> Option<(&mut Option<Timestamp>, &mut bool)> {
        Some((&mut self.deleted_at, &mut self.disabled))
    }

    fn columns(&self) -> Vec<(&'static str, Value)> {
        columns(&self.name, self.disabled, &self.roles)
    }

    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.text(0)?.into(),
            org_id: row.text(1)?.into(),
            name: row.text(2)?.to_owned(),
            disabled: row.flag(3)?,
            created_at: Timestamp::from_micros(row.int(4)?),
            roles: read_list(row, 5)?,
            version: row.int(6)?,
            deleted_at: row.opt_int(7)?.map(Timestamp::from_micros),
        })
    }
}

impl Record for App {
    const THING: Thing = Thing::App;

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn org_id(&self) -> Option<&OrgId> {
        Some(&self.org_id)
    }

    fn version(&mut self) -> &mut i64 {
        &mut self.version
    }

    fn deletion(&mut self) -> Option<(&mut Option<Timestamp>, &mut bool)> {
        Some((&mut self.deleted_at, &mut self.disabled))
    }

    fn columns(&self) -> Vec<(&'static str, Value)> {
        columns(&self.name, self.disabled, &self.roles)
    }

    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.text(0)?.into(),
            org_id: row.text(1)?.into(),
            name: row.text(2)?.to_owned(),
            disabled: row.flag(3)?,
            created_at: Timestamp::from_micros(row.int(4)?),
            roles: read_list(row, 5)?,
            version: row.int(6)?,
            deleted_at: row.opt_int(7)?.map(Timestamp::from_micros),
        })
    }
}
