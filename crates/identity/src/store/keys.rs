//! Keys, as they are listed and as authentication needs them.

use std::sync::Arc;

use kernel::{AppId, KeyId, OrgId, PageRequest, Timestamp, UserId};
use store::{Database, Row, Statement, Value};

use super::after;
use crate::{Caller, Error, Key, Result, Role};

const COLUMNS: &str = "id, org_id, user_id, app_id, name, role, prefix, disabled, expires_at, \
                       created_at, last_used_at";
/// Uses written in one transaction: few enough not to keep others waiting for the writer.
const PORTION: usize = 500;

pub(crate) async fn insert_key(database: &Database, key: &Key, hash: &[u8; 32]) -> Result<()> {
    Ok(database.execute(insertion(key, hash)).await.map(drop)?)
}

/// Stores a key's successor and lets the key end by `until`, or does neither if the key does not
/// work any more.
pub(crate) async fn replace_key(
    database: &Database,
    old: &KeyId,
    until: Timestamp,
    successor: (&Key, &[u8; 32]),
) -> Result<()> {
    let (key, hash) = successor;
    let sql = "UPDATE identity_keys SET expires_at = CASE WHEN expires_at < ? THEN expires_at ELSE ? END \
               WHERE id = ? AND disabled = 0 AND (expires_at IS NULL OR expires_at > ?)";
    let (until, now) = (Value::from(until.micros()), Value::from(key.created_at.micros()));
    let ending = Statement::one(sql, vec![until.clone(), until, old.as_str().into(), now]);
    match database.transaction(vec![ending, insertion(key, hash)]).await {
        Ok(_) => Ok(()),
        Err(store::Error::Unexpected { .. }) => Err(Error::KeyNotActive),
        Err(error) => Err(error.into()),
    }
}

fn insertion(key: &Key, hash: &[u8; 32]) -> Statement {
    let sql = "INSERT INTO identity_keys (id, org_id, user_id, app_id, name, role, prefix, hash, disabled, \
               expires_at, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
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
    ];
    Statement::new(sql, args)
}

pub(crate) async fn find_key(database: &Database, id: &KeyId) -> Result<Option<Key>> {
    let sql = format!("SELECT {COLUMNS} FROM identity_keys WHERE id = ?");
    database.query_one(&sql, &[id.as_str().into()]).await?.as_ref().map(read).transpose()
}

pub(crate) async fn list_keys(
    database: &Database,
    org_id: &OrgId,
    page: &PageRequest,
) -> Result<Vec<Key>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM identity_keys WHERE org_id = ? AND id > ? ORDER BY id LIMIT ?"
    );
    let args = [org_id.as_str().into(), after(page), page.fetch().into()];
    database.query(&sql, &args).await?.iter().map(read).collect()
}

/// Whether an administrator's key works at this time.
pub(crate) async fn has_admin_key(database: &Database, now: Timestamp) -> Result<bool> {
    let sql = "SELECT 1 FROM identity_keys k JOIN identity_orgs o ON o.id = k.org_id \
               LEFT JOIN identity_users u ON u.id = k.user_id \
               LEFT JOIN identity_apps a ON a.id = k.app_id WHERE k.role = 'admin' \
               AND k.disabled + o.disabled + COALESCE(u.disabled, 0) + COALESCE(a.disabled, 0) = 0 \
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

/// The credential of this hash; disabled also when what the key belongs to is.
pub(crate) async fn find_credential(
    database: &Database,
    hash: &[u8; 32],
) -> Result<Option<Credential>> {
    let sql = "SELECT k.id, k.org_id, k.user_id, k.app_id, k.role, k.expires_at, k.last_used_at, \
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
        caller: Arc::new(caller),
        expires_at: row.opt_int(5)?.map(Timestamp::from_micros),
        last_used_at: row.opt_int(6)?.map(Timestamp::from_micros),
        disabled: row.flag(7)?,
    }))
}

fn read(row: &Row) -> Result<Key> {
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
        last_used_at: row.opt_int(10)?.map(Timestamp::from_micros),
    })
}

/// Anything but `admin` may do the least.
fn read_role(name: &str) -> Role {
    if name == Role::Admin.as_str() { Role::Admin } else { Role::Member }
}
