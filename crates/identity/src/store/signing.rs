//! Applications' secrets, sealed, and the shared memory of signed requests.

use kernel::{AppId, OrgId, Timestamp};
use store::{Database, Statement, Value};

use crate::{Result, SigningError};

/// An application as signing needs it.
pub(crate) struct StoredSigning {
    pub(crate) org_id: OrgId,
    /// It, or its organization, is switched off.
    pub(crate) disabled: bool,
    pub(crate) secrets: Option<StoredSecrets>,
}

/// An application's secrets, sealed.
pub(crate) struct StoredSecrets {
    pub(crate) sealed: Vec<u8>,
    pub(crate) created_at: Timestamp,
    pub(crate) old: Option<(Vec<u8>, Timestamp)>,
    pub(crate) deerer: bool,
}

pub(crate) async fn find_signing(database: &Database, id: &AppId) -> Result<Option<StoredSigning>> {
    let sql = "SELECT a.org_id, a.disabled + o.disabled, s.sealed, s.created_at, s.old_sealed, s.old_until, \
               s.deerer FROM identity_apps a JOIN identity_orgs o ON o.id = a.org_id \
               LEFT JOIN identity_app_secrets s ON s.app_id = a.id WHERE a.id = ?";
    let Some(row) = database.query_one(sql, &[id.as_str().into()]).await? else {
        return Ok(None);
    };
    let mut secrets = None;
    if let Some(sealed) = row.opt_bytes(2)? {
        let old = row.opt_bytes(4)?.map(<[u8]>::to_vec);
        let old_until = row.opt_int(5)?.map(Timestamp::from_micros);
        secrets = Some(StoredSecrets {
            sealed: sealed.to_vec(),
            created_at: Timestamp::from_micros(row.int(3)?),
            old: old.zip(old_until),
            deerer: row.flag(6)?,
        });
    }
    Ok(Some(StoredSigning { org_id: row.text(0)?.into(), disabled: row.flag(1)?, secrets }))
}

/// What stores a secret and lets the one before end at the second of the times.
pub(crate) fn put_secret(
    id: &AppId,
    sealed: Vec<u8>,
    (now, old_until): (Timestamp, Timestamp),
) -> Vec<Statement> {
    let (id, now) = (Value::from(id.as_str()), Value::from(now.micros()));
    let begin = "INSERT INTO identity_app_secrets (app_id, sealed, created_at, deerer) \
                 SELECT ?, ?, ?, 1 FROM (SELECT 1 AS one) AS d \
                 WHERE NOT EXISTS (SELECT 1 FROM identity_app_secrets WHERE app_id = ?)";
    let begin =
        Statement::new(begin, vec![id.clone(), sealed.clone().into(), now.clone(), id.clone()]);
    // Not for the row just begun. On MySQL assignments see those before them: the old one first.
    let replace = "UPDATE identity_app_secrets SET old_sealed = sealed, old_until = ?, sealed = ?, created_at = ? \
                   WHERE app_id = ? AND sealed <> ?";
    let args = vec![old_until.micros().into(), sealed.clone().into(), now, id, sealed.into()];
    vec![begin, Statement::new(replace, args)]
}

pub(crate) fn set_deerer(id: &AppId, deerer: bool) -> Statement {
    let sql = "UPDATE identity_app_secrets SET deerer = ? WHERE app_id = ?";
    Statement::new(sql, vec![deerer.into(), id.as_str().into()])
}

/// Remembers that a signed request was answered, for all instances; refuses a second time.
pub(crate) async fn add_replay(database: &Database, token: u128, until: Timestamp) -> Result<()> {
    let sql = "INSERT INTO identity_replays (token, until) VALUES (?, ?)";
    let args = vec![token.to_be_bytes().as_slice().into(), until.micros().into()];
    match database.execute(Statement::new(sql, args)).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_duplicate() => Err(SigningError::Replayed.into()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn purge_replays(database: &Database, now: Timestamp) -> Result<()> {
    let sql = "DELETE FROM identity_replays WHERE until < ?";
    Ok(database.execute(Statement::new(sql, vec![now.micros().into()])).await.map(drop)?)
}
