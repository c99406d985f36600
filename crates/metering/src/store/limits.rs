//! Limits and time zones in the database.

use ::store::{Database, Row, Statement, Value};
use kernel::{Asset, KeyId, OrgId, Timestamp, UserId, Zone};

use crate::limits::{Limit, LimitKey, LimitMeasure, LimitScope, LimitSpan};
use crate::{Error, Result};

const COLUMNS: &str = "scope, subject, measure, span, currency, most";

/// The limits that a caller of this organization is under.
pub(crate) async fn limits_of(
    database: &Database,
    org_id: &OrgId,
    user_id: Option<&UserId>,
    key_id: Option<&KeyId>,
) -> Result<Vec<Limit>> {
    // Three searches: with OR instead, the limits of all the organization's keys would be read.
    let of =
        |whose: &str| format!("SELECT {COLUMNS} FROM metering_limits WHERE org_id = ? AND {whose}");
    let parts =
        ["scope = 'org'", "scope = 'user' AND subject = ?", "scope = 'key' AND subject = ?"]
            .map(of);
    let sql = format!("{} ORDER BY scope, measure, span", parts.join(" UNION ALL "));
    let org_id = Value::from(org_id.as_str());
    let args = [
        org_id.clone(),
        org_id.clone(),
        user_id.map(UserId::as_str).into(),
        org_id,
        key_id.map(KeyId::as_str).into(),
    ];
    database.query(&sql, &args).await?.iter().map(read).collect()
}

/// So many limits of an organization, its users and its keys, after one of them.
pub(crate) async fn limits_of_org(
    database: &Database,
    org_id: &OrgId,
    after: Option<&LimitKey>,
    most: i64,
) -> Result<Vec<Limit>> {
    const ORDER: &str = "scope, subject, measure, span, currency";
    let mut condition = String::new();
    let mut args = vec![Value::from(org_id.as_str())];
    if let Some(LimitKey { scope, subject, measure, span, currency }) = after {
        // The first condition is for databases that take no index for a row of values.
        condition = format!("AND scope >= ? AND ({ORDER}) > (?, ?, ?, ?, ?)");
        let key = [scope, scope, subject, measure, span, currency];
        args.extend(key.map(|part| Value::from(part.as_str())));
    }
    args.push(most.into());
    let sql = format!(
        "SELECT {COLUMNS} FROM metering_limits WHERE org_id = ? {condition} ORDER BY {ORDER} LIMIT ?"
    );
    database.query(&sql, &args).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Limit> {
    let damaged = || Error::DamagedRecord("metering_limits".to_owned());
    let currency = row.text(4)?;
    let currency: Option<Asset> = match currency {
        "" => None,
        name => Some(name.parse().map_err(|_unreadable| damaged())?),
    };
    Ok(Limit {
        scope: LimitScope::parse(row.text(0)?).ok_or_else(damaged)?,
        subject: row.text(1)?.to_owned(),
        measure: LimitMeasure::parse(row.text(2)?).ok_or_else(damaged)?,
        span: LimitSpan::parse(row.text(3)?).ok_or_else(damaged)?,
        currency,
        most: row.int(5)?,
    })
}

fn key(org_id: &OrgId, limit: &Limit) -> Vec<Value> {
    vec![
        org_id.as_str().into(),
        limit.scope.as_str().into(),
        limit.subject.as_str().into(),
        limit.measure.as_str().into(),
        limit.span.as_str().into(),
        limit.currency.as_ref().map_or("", Asset::as_str).into(),
    ]
}

/// Finds one limit by [`key`].
const BY_KEY: &str =
    "WHERE org_id = ? AND scope = ? AND subject = ? AND measure = ? AND span = ? AND currency = ?";

fn delete(org_id: &OrgId, limit: &Limit) -> Statement {
    Statement::new(format!("DELETE FROM metering_limits {BY_KEY}"), key(org_id, limit))
}

/// The limit for the same as this one, if there is one.
pub(crate) async fn find_limit(
    database: &Database,
    org_id: &OrgId,
    like: &Limit,
) -> Result<Option<Limit>> {
    let sql = format!("SELECT {COLUMNS} FROM metering_limits {BY_KEY}");
    database.query_one(&sql, &key(org_id, like)).await?.as_ref().map(read).transpose()
}

pub(crate) async fn set_limit(
    database: &Database,
    org_id: &OrgId,
    limit: &Limit,
    now: Timestamp,
    note: Statement,
) -> Result<()> {
    let mut values = key(org_id, limit);
    values.extend([limit.most.into(), now.micros().into()]);
    let insert = Statement::new(
        "INSERT INTO metering_limits (org_id, scope, subject, measure, span, currency, most, updated_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        values,
    );
    Ok(database.transaction(vec![delete(org_id, limit), insert, note]).await.map(drop)?)
}

pub(crate) async fn remove_limit(
    database: &Database,
    org_id: &OrgId,
    limit: &Limit,
    note: Statement,
) -> Result<()> {
    Ok(database.transaction(vec![delete(org_id, limit), note]).await.map(drop)?)
}

pub(crate) async fn zone_of(database: &Database, org_id: &OrgId) -> Result<Option<Zone>> {
    let sql = "SELECT time_zone FROM metering_zones WHERE org_id = ?";
    let Some(row) = database.query_one(sql, &[org_id.as_str().into()]).await? else {
        return Ok(None);
    };
    let zone = row.text(0)?.parse();
    zone.map(Some).map_err(|_unknown| Error::DamagedRecord("metering_zones".to_owned()))
}

pub(crate) async fn set_zone(
    database: &Database,
    org_id: &OrgId,
    zone: &Zone,
    note: Statement,
) -> Result<()> {
    let id = Value::from(org_id.as_str());
    let delete = Statement::new("DELETE FROM metering_zones WHERE org_id = ?", vec![id.clone()]);
    let insert = Statement::new(
        "INSERT INTO metering_zones (org_id, time_zone) VALUES (?, ?)",
        vec![id, zone.to_string().into()],
    );
    Ok(database.transaction(vec![delete, insert, note]).await.map(drop)?)
}
