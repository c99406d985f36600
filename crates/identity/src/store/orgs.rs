//! Organizations.

use kernel::{OrgId, PageRequest, Timestamp};
use store::{Database, Row, Statement};

use super::after;
use crate::{Org, OrgKind, Result};

const COLUMNS: &str = "id, name, kind, disabled, created_at";

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
    let sql = format!("SELECT {COLUMNS} FROM identity_orgs WHERE id = ?");
    database.query_one(&sql, &[id.as_str().into()]).await?.as_ref().map(read).transpose()
}

pub(crate) async fn list_orgs(database: &Database, page: &PageRequest) -> Result<Vec<Org>> {
    let sql = format!("SELECT {COLUMNS} FROM identity_orgs WHERE id > ? ORDER BY id LIMIT ?");
    let rows = database.query(&sql, &[after(page), page.fetch().into()]).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Org> {
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
