//! All SQL of this crate.

mod keys;
mod members;
mod orgs;

use kernel::PageRequest;
use store::{Database, Migration, Statement, Value};

use crate::{Change, Error, Result};

pub(crate) use keys::{
    Credential, find_credential, find_key, has_admin_key, insert_key, list_keys, record_uses,
    replace_key,
};
pub(crate) use members::{
    find_app, find_user, insert_app, insert_user, list_apps, list_users, of_org,
};
pub(crate) use orgs::{find_org, insert_org, list_orgs};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_identity",
    sqlite: include_str!("../migrations/sqlite/0001_identity.sql"),
    mysql: include_str!("../migrations/mysql/0001_identity.sql"),
}];

/// Longer ids are nobody's, and are not repeated in full.
const LONGEST_ID: usize = 64;

/// What can be renamed and switched off.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Thing {
    Org,
    User,
    App,
    Key,
}

impl Thing {
    const fn table(self) -> &'static str {
        match self {
            Self::Org => "identity_orgs",
            Self::User => "identity_users",
            Self::App => "identity_apps",
            Self::Key => "identity_keys",
        }
    }

    /// There is none with this id.
    pub(crate) fn missing(self, id: &str) -> Error {
        let what = match self {
            Self::Org => "organization",
            Self::User => "user",
            Self::App => "application",
            Self::Key => "key",
        };
        Error::NotFound { what, id: id.chars().take(LONGEST_ID).collect() }
    }
}

/// Changes what is given and leaves the rest, so that two changes at once do not undo each other.
pub(crate) async fn change(
    database: &Database,
    thing: Thing,
    id: &str,
    change: &Change,
) -> Result<()> {
    let sql = format!(
        "UPDATE {} SET name = COALESCE(?, name), disabled = COALESCE(?, disabled) WHERE id = ?",
        thing.table()
    );
    let args = vec![change.name.clone().into(), change.disabled.into(), id.into()];
    match database.execute(Statement::new(sql, args)).await? {
        0 => Err(thing.missing(id)),
        _ => Ok(()),
    }
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
