//! The operator's roles and rules, and the version of both.

use std::collections::HashSet;

use kernel::{OrgId, PageRequest, Timestamp};
use store::{Database, Row, Statement, Value};

use super::{Thing, after};
use crate::edit::Record;
use crate::rules::Added;
use crate::{AddedRule, NamedRole, Result};

/// The setting that is another after every change of roles and rules.
pub(crate) const ACCESS_VERSION: &str = "access_version";
pub(super) const ROLE_COLUMNS: &str = "id, name, disabled, created_at, version, deleted_at";
const RULE_COLUMNS: &str = "id, role, method, path, created_at";

/// Lets every instance notice that roles or rules have changed.
pub(crate) fn new_access_version() -> Statement {
    let sql = "UPDATE identity_settings SET value = ? WHERE name = ?";
    Statement::one(sql, vec![kernel::id::new().into(), ACCESS_VERSION.into()])
}

pub(crate) fn role_insertion(role: &NamedRole) -> Statement {
    let sql = format!("INSERT INTO identity_roles ({ROLE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)");
    let args = vec![
        role.id.as_str().into(),
        role.name.as_str().into(),
        role.disabled.into(),
        role.created_at.micros().into(),
        role.version.into(),
        role.deleted_at.map(Timestamp::micros).into(),
    ];
    Statement::new(sql, args)
}

impl Record for NamedRole {
    const THING: Thing = Thing::Role;

    fn id(&self) -> &str {
        &self.id
    }

    fn org_id(&self) -> Option<&OrgId> {
        None
    }

    fn version(&mut self) -> &mut i64 {
        &mut self.version
    }

    fn deletion(&mut self) -> Option<(&mut Option<Timestamp>, &mut bool)> {
        Some((&mut self.deleted_at, &mut self.disabled))
    }

    fn columns(&self) -> Vec<(&'static str, Value)> {
        vec![("name", self.name.as_str().into()), ("disabled", self.disabled.into())]
    }

    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.text(0)?.to_owned(),
            name: row.text(1)?.to_owned(),
            disabled: row.flag(2)?,
            created_at: Timestamp::from_micros(row.int(3)?),
            version: row.int(4)?,
            deleted_at: row.opt_int(5)?.map(Timestamp::from_micros),
        })
    }
}

pub(crate) fn rule_insertion(rule: &AddedRule) -> Statement {
    let sql = format!("INSERT INTO identity_rules ({RULE_COLUMNS}) VALUES (?, ?, ?, ?, ?)");
    let args = vec![
        rule.id.as_str().into(),
        rule.role.as_str().into(),
        rule.method.as_str().into(),
        rule.path.as_str().into(),
        rule.created_at.micros().into(),
    ];
    Statement::new(sql, args)
}

pub(crate) fn delete_rule(id: &str) -> Statement {
    Statement::one("DELETE FROM identity_rules WHERE id = ?", vec![id.into()])
}

pub(crate) async fn find_rule(database: &Database, id: &str) -> Result<Option<AddedRule>> {
    let sql = format!("SELECT {RULE_COLUMNS} FROM identity_rules WHERE id = ?");
    database.query_one(&sql, &[id.into()]).await?.as_ref().map(read_rule).transpose()
}

pub(crate) async fn list_rules(database: &Database, page: &PageRequest) -> Result<Vec<AddedRule>> {
    let sql = format!("SELECT {RULE_COLUMNS} FROM identity_rules WHERE id > ? ORDER BY id LIMIT ?");
    let rows = database.query(&sql, &[after(page), page.fetch().into()]).await?;
    rows.iter().map(read_rule).collect()
}

/// Every rule, and the ids of the roles that count.
pub(crate) async fn read_access(database: &Database) -> Result<(Vec<Added>, HashSet<String>)> {
    let rules = database.query("SELECT role, method, path FROM identity_rules", &[]).await?;
    let rule = |row: &Row| -> Result<Added> {
        let (role, method, path) = (row.text(0)?, row.text(1)?, row.text(2)?);
        Ok(Added { role: role.into(), method: method.into(), path: path.into() })
    };
    let rules = rules.iter().map(rule).collect::<Result<_>>()?;
    let sql = "SELECT id FROM identity_roles WHERE disabled = 0 AND deleted_at IS NULL";
    let roles = database.query(sql, &[]).await?;
    let roles = roles.iter().map(|row| Ok(row.text(0)?.to_owned())).collect::<Result<_>>()?;
    Ok((rules, roles))
}

fn read_rule(row: &Row) -> Result<AddedRule> {
    Ok(AddedRule {
        id: row.text(0)?.to_owned(),
        role: row.text(1)?.to_owned(),
        method: row.text(2)?.to_owned(),
        path: row.text(3)?.to_owned(),
        created_at: Timestamp::from_micros(row.int(4)?),
    })
}
