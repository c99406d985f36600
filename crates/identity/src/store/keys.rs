//! Keys, as they are listed and as authentication needs them.

use std::sync::Arc;

use kernel::{AppId, KeyId, OrgId, Timestamp, UserId};
use store::{Database, Row, Statement, Value};

use super::{Thing, json_list, read_list};
use crate::edit::Record;
use crate::{Caller, Error, Key, Limits, OrgKind, Result, Role};

pub(super) const COLUMNS: &str = "id, org_id, user_id, app_id, name, role, prefix, disabled, \
    expires_at, created_at, last_used_at, roles, limits, version, deleted_at";
/// Uses written in one transaction: few enough not to keep others waiting for the writer.
const PORTION: usize = 500;

pub(crate) fn key_insertion(key: &Key, hash: &[u8; 32]) -> Statement {
    let sql = "INSERT INTO identity_keys (id, org_id, user_id, app_id, name, role, prefix, hash, disabled, \
               expires_at, created_at, roles, limits, version) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let args = vec![
        key.id.as_str().into(),
        key.org_id.as_str().into(),
        key.user_id.as_ref().map(UserId::as_str).into(),
        key.app_id.as_ref().map(AppId::as_str).into(),
        key.name.as_str().into(),
        key.role.as_str().into(),
        key.prefix.as_str().into(),
        hash.as_slice().into(),
        key.disabled.into(),
        key.expires_at.map(Timestamp::micros).into(),
        key.created_at.micros().into(),
        json_list(&key.roles),
        limits_column(&key.limits),
        key.version.into(),
    ];
    Statement::new(sql, args)
}

fn limits_column(limits: &Limits) -> Value {
    let some = *limits != Limits::NONE;
    some.then(|| serde_json::to_string(limits).unwrap_or_default()).into()
}

/// Limits that cannot be read must not become none.
fn read_limits(row: &Row, column: usize) -> Result<Limits> {
    match row.opt_text(column)? {
        None => Ok(Limits::NONE),
        Some(text) => serde_json::from_str(text).map_err(|_cause| Error::Damaged("limits")),
    }
}

impl Record for Key {
    const THING: Thing = Thing::Key;

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
        vec![
            ("name", self.name.as_str().into()),
            ("disabled", self.disabled.into()),
            ("expires_at", self.expires_at.map(Timestamp::micros).into()),
            ("roles", json_list(&self.roles)),
            ("limits", limits_column(&self.limits)),
        ]
    }

    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
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
            last_used_at: row.opt_int(10)?.map(Timestamp::from_micros),
            roles: read_list(row, 11)?,
            limits: read_limits(row, 12)?,
            version: row.int(13)?,
            deleted_at: row.opt_int(14)?.map(Timestamp::from_micros),
        })
    }
}

/// Whether an administrator's key works at this time.
pub(crate) async fn has_admin_key(database: &Database, now: Timestamp) -> Result<bool> {
    let sql = "SELECT 1 FROM identity_keys k JOIN identity_orgs o ON o.id = k.org_id \
               LEFT JOIN identity_users u ON u.id = k.user_id \
               LEFT JOIN identity_apps a ON a.id = k.app_id WHERE k.role = 'admin' \
               AND o.kind = 'platform' AND k.disabled + o.disabled + COALESCE(u.disabled, 0) + COALESCE(a.disabled, 0) = 0 \
               AND (k.expires_at IS NULL OR k.expires_at > ?) LIMIT 1";
    Ok(database.query_one(sql, &[now.micros().into()]).await?.is_some())
}

/// Writes when keys were last used; the keys in the order of their ids, so that instances do not
/// lock each other out.
pub(crate) async fn record_uses(database: &Database, uses: &[(KeyId, Timestamp)]) -> Result<()> {
    let sql = "UPDATE identity_keys SET last_used_at = ? WHERE id = ? \
               AND (last_used_at IS NULL OR last_used_at < ?)";
    let statement = |(id, at): &(KeyId, Timestamp)| {
        let at = Value::from(at.micros());
        Statement::new(sql, vec![at.clone(), id.as_str().into(), at])
    };
    for portion in uses.chunks(PORTION) {
        database.transaction(portion.iter().map(statement).collect()).await?;
    }
    Ok(())
}

/// A key as authentication needs it.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) caller: Arc<Caller>,
    pub(crate) disabled: bool,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) last_used_at: Option<Timestamp>,
}

/// The credential of this hash, and the version of the roles and rules that go with it; disabled
/// also when what the key belongs to is.
pub(crate) async fn find_credential(
    database: &Database,
    hash: &[u8; 32],
) -> Result<Option<(Credential, String)>> {
    let sql = "SELECT k.id, k.org_id, k.user_id, k.app_id, k.role, k.expires_at, k.last_used_at, \
               k.disabled + o.disabled + COALESCE(u.disabled, 0) + COALESCE(a.disabled, 0), \
               o.kind, k.limits, k.roles, u.roles, a.roles, s.value \
               FROM identity_keys k JOIN identity_orgs o ON o.id = k.org_id \
               LEFT JOIN identity_users u ON u.id = k.user_id \
               LEFT JOIN identity_apps a ON a.id = k.app_id \
               LEFT JOIN identity_settings s ON s.name = 'access_version' WHERE k.hash = ?";
    let Some(row) = database.query_one(sql, &[Value::from(hash.as_slice())]).await? else {
        return Ok(None);
    };
    let kind = OrgKind::parse(row.text(8)?).ok_or(Error::Damaged("kind"))?;
    let mut roles = read_list(&row, 10)?;
    roles.extend(read_list(&row, 11)?);
    roles.extend(read_list(&row, 12)?);
    let caller = Caller {
        key_id: Some(row.text(0)?.into()),
        user_id: row.opt_text(2)?.map(Into::into),
        app_id: row.opt_text(3)?.map(Into::into),
        roles,
        limits: read_limits(&row, 9)?,
        ..Caller::new(row.text(1)?.into(), kind, read_role(row.text(4)?))
    };
    let credential = Credential {
        caller: Arc::new(caller),
        expires_at: row.opt_int(5)?.map(Timestamp::from_micros),
        last_used_at: row.opt_int(6)?.map(Timestamp::from_micros),
        disabled: row.flag(7)?,
    };
    Ok(Some((credential, row.opt_text(13)?.unwrap_or_default().to_owned())))
}

/// Anything but `admin` may do the least.
fn read_role(name: &str) -> Role {
    if name == Role::Admin.as_str() { Role::Admin } else { Role::Member }
}
