//! All SQL of this crate.

use kernel::{OrgId, PageRequest, Timestamp};
use store::{Database, Migration, Row, Statement, Value};

use crate::{App, Caller, Error, Key, NewKey, Org, OrgKind, Result, Role, User};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_identity",
    sqlite: include_str!("../migrations/sqlite/0001_identity.sql"),
    mysql: include_str!("../migrations/mysql/0001_identity.sql"),
}];

const ORG_COLUMNS: &str = "id, name, kind, disabled, created_at";
const KEY_COLUMNS: &str =
    "id, org_id, user_id, app_id, name, role, prefix, disabled, expires_at, created_at";

/// Stores a setting unless it is there; returns the one stored.
pub(crate) async fn keep_setting(database: &Database, name: &str, value: &str) -> Result<String> {
    let select = "SELECT value FROM identity_settings WHERE name = ?";
    if let Some(row) = database.query_one(select, &[name.into()]).await? {
        return Ok(row.text(0)?.to_owned());
    }
    let insert = "INSERT INTO identity_settings (name, value) VALUES (?, ?)";
    match database.execute(Statement::new(insert, vec![name.into(), value.into()])).await {
        Ok(_) => Ok(value.to_owned()),
        // Another instance stored its own in this moment.
        Err(error) if error.is_duplicate() => {
            let row = database.query_one(select, &[name.into()]).await?;
            Ok(row.map(|row| row.text(0).map(str::to_owned)).transpose()?.unwrap_or_default())
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn insert_org(database: &Database, org: &Org) -> Result<()> {
    let sql =
        "INSERT INTO identity_orgs (id, name, kind, disabled, created_at) VALUES (?, ?, ?, ?, ?)";
    let args = vec![
        org.id.as_str().into(),
        org.name.as_str().into(),
        org.kind.as_str().into(),
        org.disabled.into(),
        org.created_at.micros().into(),
    ];
    Ok(database.execute(Statement::new(sql, args)).await.map(drop)?)
}

pub(crate) async fn find_org(database: &Database, id: &OrgId) -> Result<Option<Org>> {
    let sql = format!("SELECT {ORG_COLUMNS} FROM identity_orgs WHERE id = ?");
    database.query_one(&sql, &[id.as_str().into()]).await?.as_ref().map(read_org).transpose()
}

pub(crate) async fn list_orgs(database: &Database, page: &PageRequest) -> Result<Vec<Org>> {
    let sql = format!("SELECT {ORG_COLUMNS} FROM identity_orgs WHERE id > ? ORDER BY id LIMIT ?");
    let rows = database.query(&sql, &[after(page), page.fetch().into()]).await?;
    rows.iter().map(read_org).collect()
}

pub(crate) async fn update_org(database: &Database, org: &Org) -> Result<()> {
    let sql = "UPDATE identity_orgs SET name = ?, disabled = ? WHERE id = ?";
    let args = vec![org.name.as_str().into(), org.disabled.into(), org.id.as_str().into()];
    Ok(database.execute(Statement::new(sql, args)).await.map(drop)?)
}

pub(crate) async fn insert_user(database: &Database, user: &User) -> Result<()> {
    let sql = "INSERT INTO identity_users (id, org_id, name, disabled, created_at) VALUES (?, ?, ?, ?, ?)";
    let args = vec![
        user.id.as_str().into(),
        user.org_id.as_str().into(),
        user.name.as_str().into(),
        user.disabled.into(),
        user.created_at.micros().into(),
    ];
    Ok(database.execute(Statement::new(sql, args)).await.map(drop)?)
}

pub(crate) async fn list_users(
    database: &Database,
    org_id: &OrgId,
    page: &PageRequest,
) -> Result<Vec<User>> {
    let sql = "SELECT id, org_id, name, disabled, created_at FROM identity_users \
               WHERE org_id = ? AND id > ? ORDER BY id LIMIT ?";
    let rows =
        database.query(sql, &[org_id.as_str().into(), after(page), page.fetch().into()]).await?;
    let read = |row: &Row| {
        Ok(User {
            id: row.text(0)?.into(),
            org_id: row.text(1)?.into(),
            name: row.text(2)?.to_owned(),
            disabled: row.flag(3)?,
            created_at: Timestamp::from_micros(row.int(4)?),
        })
    };
    rows.iter().map(read).collect()
}

pub(crate) async fn insert_app(database: &Database, app: &App) -> Result<()> {
    let sql =
        "INSERT INTO identity_apps (id, org_id, name, disabled, created_at) VALUES (?, ?, ?, ?, ?)";
    let args = vec![
        app.id.as_str().into(),
        app.org_id.as_str().into(),
        app.name.as_str().into(),
        app.disabled.into(),
        app.created_at.micros().into(),
    ];
    Ok(database.execute(Statement::new(sql, args)).await.map(drop)?)
}

pub(crate) async fn list_apps(
    database: &Database,
    org_id: &OrgId,
    page: &PageRequest,
) -> Result<Vec<App>> {
    let sql = "SELECT id, org_id, name, disabled, created_at FROM identity_apps \
               WHERE org_id = ? AND id > ? ORDER BY id LIMIT ?";
    let rows =
        database.query(sql, &[org_id.as_str().into(), after(page), page.fetch().into()]).await?;
    let read = |row: &Row| {
        Ok(App {
            id: row.text(0)?.into(),
            org_id: row.text(1)?.into(),
            name: row.text(2)?.to_owned(),
            disabled: row.flag(3)?,
            created_at: Timestamp::from_micros(row.int(4)?),
        })
    };
    rows.iter().map(read).collect()
}

pub(crate) async fn insert_key(database: &Database, key: &Key, hash: &[u8; 32]) -> Result<()> {
    let sql = "INSERT INTO identity_keys (id, org_id, user_id, app_id, name, role, prefix, hash, disabled, \
               expires_at, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let args = vec![
        key.id.as_str().into(),
        key.org_id.as_str().into(),
        key.user_id.as_ref().map(kernel::UserId::as_str).into(),
        key.app_id.as_ref().map(kernel::AppId::as_str).into(),
        key.name.as_str().into(),
        key.role.as_str().into(),
        key.prefix.as_str().into(),
        hash.as_slice().into(),
        key.disabled.into(),
        key.expires_at.map(Timestamp::micros).into(),
        key.created_at.micros().into(),
    ];
    Ok(database.execute(Statement::new(sql, args)).await.map(drop)?)
}

pub(crate) async fn list_keys(
    database: &Database,
    org_id: &OrgId,
    page: &PageRequest,
) -> Result<Vec<Key>> {
    let sql = format!(
        "SELECT {KEY_COLUMNS} FROM identity_keys WHERE org_id = ? AND id > ? ORDER BY id LIMIT ?"
    );
    let rows =
        database.query(&sql, &[org_id.as_str().into(), after(page), page.fetch().into()]).await?;
    rows.iter().map(read_key).collect()
}

/// Switches a key off or on; tells whether there is one.
pub(crate) async fn set_key_disabled(
    database: &Database,
    id: &str,
    disabled: bool,
) -> Result<bool> {
    if database.query_one("SELECT 1 FROM identity_keys WHERE id = ?", &[id.into()]).await?.is_none()
    {
        return Ok(false);
    }
    let sql = "UPDATE identity_keys SET disabled = ? WHERE id = ?";
    database.execute(Statement::new(sql, vec![disabled.into(), id.into()])).await?;
    Ok(true)
}

pub(crate) async fn has_admin_key(database: &Database) -> Result<bool> {
    let sql = "SELECT 1 FROM identity_keys WHERE role = 'admin' AND disabled = 0 LIMIT 1";
    Ok(database.query_one(sql, &[]).await?.is_some())
}

/// A key as authentication needs it.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) caller: std::sync::Arc<Caller>,
    pub(crate) disabled: bool,
    pub(crate) expires_at: Option<Timestamp>,
}

/// The credential of this hash; disabled also when what the key belongs to is.
pub(crate) async fn find_credential(
    database: &Database,
    hash: &[u8; 32],
) -> Result<Option<Credential>> {
    let sql = "SELECT k.id, k.org_id, k.user_id, k.app_id, k.role, k.expires_at, \
               k.disabled + o.disabled + COALESCE(u.disabled, 0) + COALESCE(a.disabled, 0) \
               FROM identity_keys k JOIN identity_orgs o ON o.id = k.org_id \
               LEFT JOIN identity_users u ON u.id = k.user_id \
               LEFT JOIN identity_apps a ON a.id = k.app_id WHERE k.hash = ?";
    let Some(row) = database.query_one(sql, &[Value::from(hash.as_slice())]).await? else {
        return Ok(None);
    };
    let caller = Caller {
        key_id: Some(row.text(0)?.into()),
        org_id: row.text(1)?.into(),
        user_id: row.opt_text(2)?.map(Into::into),
        app_id: row.opt_text(3)?.map(Into::into),
        role: read_role(row.text(4)?),
    };
    Ok(Some(Credential {
        caller: std::sync::Arc::new(caller),
        expires_at: row.opt_int(5)?.map(Timestamp::from_micros),
        disabled: row.flag(6)?,
    }))
}

fn after(page: &PageRequest) -> Value {
    page.cursor.as_ref().map_or("", |cursor| cursor.key()).into()
}

fn read_org(row: &Row) -> Result<Org> {
    let kind = row.text(2)?;
    Ok(Org {
        id: row.text(0)?.into(),
        name: row.text(1)?.to_owned(),
        // The column's CHECK allows these names only.
        kind: OrgKind::ALL
            .into_iter()
            .find(|known| known.as_str() == kind)
            .unwrap_or(OrgKind::Customer),
        disabled: row.flag(3)?,
        created_at: Timestamp::from_micros(row.int(4)?),
    })
}

fn read_key(row: &Row) -> Result<Key> {
    Ok(Key {
        id: row.text(0)?.into(),
        org_id: row.text(1)?.into(),
        user_id: row.opt_text(2)?.map(Into::into),
        app_id: row.opt_text(3)?.map(Into::into),
        name: row.text(4)?.to_owned(),
        role: read_role(row.text(5)?),
        prefix: row.text(6)?.to_owned(),
        disabled: row.flag(7)?,
        expires_at: row.opt_int(8)?.map(Timestamp::from_micros),
        created_at: Timestamp::from_micros(row.int(9)?),
    })
}

/// Anything but `admin` may do the least.
fn read_role(name: &str) -> Role {
    if name == Role::Admin.as_str() { Role::Admin } else { Role::Member }
}

/// The key to store for a request to create one.
pub(crate) fn key_of(new: NewKey, prefix: String, created_at: Timestamp) -> Key {
    Key {
        id: kernel::KeyId::generate(),
        org_id: new.org_id,
        user_id: new.user_id,
        app_id: new.app_id,
        name: new.name,
        role: new.role,
        prefix,
        disabled: false,
        expires_at: new.expires_at,
        created_at,
    }
}

/// Whether a user or application is this organization's.
pub(crate) async fn belongs(
    database: &Database,
    org_id: &OrgId,
    member: Member<'_>,
) -> Result<bool> {
    let (sql, id) = match member {
        Member::User(id) => ("SELECT 1 FROM identity_users WHERE id = ? AND org_id = ?", id),
        Member::App(id) => ("SELECT 1 FROM identity_apps WHERE id = ? AND org_id = ?", id),
    };
    Ok(database.query_one(sql, &[id.into(), org_id.as_str().into()]).await?.is_some())
}

/// Somebody a key can belong to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Member<'a> {
    User(&'a str),
    App(&'a str),
}

/// A missing row as an error.
pub(crate) fn missing(what: &'static str, id: &str) -> Error {
    Error::NotFound { what, id: id.to_owned() }
}
