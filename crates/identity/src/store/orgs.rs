//! Organizations.

use kernel::{OrgId, Timestamp};
use store::{Row, Statement, Value};

use super::Thing;
use crate::edit::Record;
use crate::{Org, OrgKind, Result};

pub(super) const COLUMNS: &str = "id, name, kind, disabled, created_at, version";

pub(crate) fn org_insertion(org: &Org) -> Statement {
    let sql = format!("INSERT INTO identity_orgs ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)");
    let args = vec![
        org.id.as_str().into(),
        org.name.as_str().into(),
        org.kind.as_str().into(),
        org.disabled.into(),
        org.created_at.micros().into(),
        org.version.into(),
    ];
    Statement::new(sql, args)
}

impl Record for Org {
    const THING: Thing = Thing::Org;

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn org_id(&self) -> Option<&OrgId> {
        Some(&self.id)
    }

    fn version(&mut self) -> &mut i64 {
        &mut self.version
    }

    fn deletion(&mut self) -> Option<(&mut Option<Timestamp>, &mut bool)> {
        None
    }

    fn columns(&self) -> Vec<(&'static str, Value)> {
        vec![("name", self.name.as_str().into()), ("disabled", self.disabled.into())]
    }

    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.text(0)?.into(),
            name: row.text(1)?.to_owned(),
            // The column's CHECK allows these names only.
            kind: OrgKind::parse(row.text(2)?).unwrap_or(OrgKind::Customer),
            disabled: row.flag(3)?,
            created_at: Timestamp::from_micros(row.int(4)?),
            version: row.int(5)?,
        })
    }
}
