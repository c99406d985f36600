//! All SQL of this crate.

mod access;
mod keys;
mod members;
mod orgs;
mod signing;

use kernel::{AppId, OrgId, PageRequest, UserId};
use store::{Database, Migration, Row, Statement, Value};

use crate::edit::Record;
use crate::{Error, OrgKind, Result};

pub(crate) use access::{
    ACCESS_VERSION, delete_rule, find_rule, list_rules, new_access_version, read_access,
    role_insertion, rule_insertion,
};
pub(crate) use keys::{Credential, find_credential, has_admin_key, key_insertion, record_uses};
pub(crate) use members::{app_insertion, every_user, page_users, user_insertion};
pub(crate) use orgs::org_insertion;
pub(crate) use signing::{
    StoredSecrets, add_replay, find_signing, purge_replays, put_secret, set_deerer,
};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_identity",
        sqlite: include_str!("../migrations/sqlite/0001_identity.sql"),
        mysql: include_str!("../migrations/mysql/0001_identity.sql"),
    },
    Migration {
        name: "0020_identity_access",
        sqlite: include_str!("../migrations/sqlite/0020_identity_access.sql"),
        mysql: include_str!("../migrations/mysql/0020_identity_access.sql"),
    },
    Migration {
        name: "0061_identity_apps",
        sqlite: include_str!("../migrations/sqlite/0061_identity_apps.sql"),
        mysql: include_str!("../migrations/mysql/0061_identity_apps.sql"),
    },
    Migration {
        name: "0075_identity_user_orders",
        sqlite: include_str!("../migrations/sqlite/0075_identity_user_orders.sql"),
        mysql: include_str!("../migrations/mysql/0075_identity_user_orders.sql"),
    },
];

/// Longer ids are nobody's, and are not repeated in full.
const LONGEST_ID: usize = 64;

/// What can be listed and changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Org,
    User,
    App,
    Key,
    Role,
}

impl Thing {
    const fn table(self) -> &'static str {
        match self {
            Self::Org => "identity_orgs",
            Self::User => "identity_users",
            Self::App => "identity_apps",
            Self::Key => "identity_keys",
            Self::Role => "identity_roles",
        }
    }

    const fn select(self) -> &'static str {
        match self {
            Self::Org => orgs::COLUMNS,
            Self::User | Self::App => members::COLUMNS,
            Self::Key => keys::COLUMNS,
            Self::Role => access::ROLE_COLUMNS,
        }
    }

    pub(crate) const fn noun(self) -> &'static str {
        match self {
            Self::Org => "org",
            Self::User => "user",
            Self::App => "app",
            Self::Key => "key",
            Self::Role => "role",
        }
    }

    /// There is none with this id.
    pub(crate) fn missing(self, id: &str) -> Error {
        let what = match self {
            Self::Org => "organization",
            Self::User => "user",
            Self::App => "application",
            Self::Key => "key",
            Self::Role => "role",
        };
        Error::NotFound { what, id: shortened(id) }
    }
}

/// An id as it can be repeated.
pub(crate) fn shortened(id: &str) -> String {
    id.chars().take(LONGEST_ID).collect()
}

/// What a list is narrowed to; what is absent narrows nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this organization.
    pub org_id: Option<OrgId>,
    /// Keys of this person.
    pub user_id: Option<UserId>,
    /// Keys of this application.
    pub app_id: Option<AppId>,
    /// Organizations of this kind.
    pub kind: Option<OrgKind>,
    /// Given this role.
    pub role: Option<String>,
    /// With this text in the name.
    pub name: Option<String>,
    /// Switched off, or not.
    pub disabled: Option<bool>,
    /// The deleted instead of those that are there.
    pub deleted: bool,
}

impl Filter {
    /// What belongs to this organization.
    pub fn of(org_id: &OrgId) -> Self {
        Self { org_id: Some(org_id.clone()), ..Self::default() }
    }

    fn conditions(&self, thing: Thing) -> Vec<(&'static str, Value)> {
        let mut all = Vec::new();
        let mut add = |sql: &'static str, value: Option<Value>| {
            all.extend(value.map(|value| (sql, value)));
        };
        add("org_id = ?", self.org_id.as_ref().map(|id| id.as_str().into()));
        add("user_id = ?", self.user_id.as_ref().map(|id| id.as_str().into()));
        add("app_id = ?", self.app_id.as_ref().map(|id| id.as_str().into()));
        add("kind = ?", self.kind.map(|kind| kind.as_str().into()));
        // A quote ends each name in the list.
        add("INSTR(roles, ?) > 0", self.role.as_ref().map(|role| format!("\"{role}\"").into()));
        add("INSTR(name, ?) > 0", self.name.as_ref().map(|name| name.as_str().into()));
        add("disabled = ?", self.disabled.map(Into::into));
        if thing != Thing::Org {
            add("(deleted_at IS NOT NULL) = ?", Some(self.deleted.into()));
        }
        all
    }
}

/// What has this id, deleted or not.
pub(crate) async fn find<T: Record>(database: &Database, id: &str) -> Result<Option<T>> {
    let sql = format!("SELECT {} FROM {} WHERE id = ?", T::THING.select(), T::THING.table());
    database.query_one(&sql, &[id.into()]).await?.as_ref().map(T::read).transpose()
}

/// What the filter lets through, by id.
pub(crate) async fn list<T: Record>(
    database: &Database,
    filter: &Filter,
    page: &PageRequest,
) -> Result<Vec<T>> {
    let (mut conditions, mut args) = (String::from("id > ?"), vec![after(page)]);
    for (condition, value) in filter.conditions(T::THING) {
        conditions.push_str(" AND ");
        conditions.push_str(condition);
        args.push(value);
    }
    args.push(page.fetch().into());
    let (columns, table) = (T::THING.select(), T::THING.table());
    let sql = format!("SELECT {columns} FROM {table} WHERE {conditions} ORDER BY id LIMIT ?");
    database.query(&sql, &args).await?.iter().map(T::read).collect()
}

/// Writes what can change, if it still has the version seen.
pub(crate) fn update<T: Record>(record: &mut T, seen: i64) -> Statement {
    let mut columns = record.columns();
    columns.push(("version", (*record.version()).into()));
    if let Some((at, _)) = record.deletion() {
        columns.push(("deleted_at", at.map(kernel::Timestamp::micros).into()));
    }
    let (names, mut args): (Vec<&str>, Vec<Value>) = columns.into_iter().unzip();
    let (table, set) = (T::THING.table(), names.join(" = ?, "));
    args.extend([record.id().into(), seen.into()]);
    Statement::one(format!("UPDATE {table} SET {set} = ? WHERE id = ? AND version = ?"), args)
}

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

fn after(page: &PageRequest) -> Value {
    page.cursor.as_ref().map_or("", |cursor| cursor.key()).into()
}

/// A list as a column; nothing for an empty one.
fn json_list(list: &[String]) -> Value {
    let text = (!list.is_empty()).then(|| serde_json::to_string(list).unwrap_or_default());
    text.into()
}

fn read_list(row: &Row, column: usize) -> Result<Vec<String>> {
    let text = row.opt_text(column)?.unwrap_or("[]");
    serde_json::from_str(text).map_err(|_cause| Error::Damaged("roles"))
}
