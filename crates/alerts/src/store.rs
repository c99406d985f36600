//! All SQL of this crate.

use ::store::{Database, Migration, Row, Statement, Value};
use kernel::{Amount, OrgId, Timestamp};

use crate::deliver::{Attempted, Due};
use crate::{Alert, Delivery, DeliveryFilter, DeliveryState, Error, Result};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0080_alerts",
    sqlite: include_str!("../migrations/sqlite/0080_alerts.sql"),
    mysql: include_str!("../migrations/mysql/0080_alerts.sql"),
}];

const ALERT: &str =
    "SELECT id, org_id, currency, amount, url, low, created_at, version FROM alerts_thresholds";
const DELIVERY: &str = "SELECT id, alert_id, org_id, state, attempts, next_at, last_status, last_error, \
     created_at, ended_at, body FROM alerts_deliveries";
/// Organizations asked for at once, and rows deleted at once.
const PORTION: usize = 200;

/// A new alert, unless the organization has `most` already.
pub(crate) fn alert_insertion(alert: &Alert, sealed: Vec<u8>, most: i64) -> Statement {
    // Through a table of its own: MySQL does not count a table that it inserts into.
    let sql = "INSERT INTO alerts_thresholds (id, org_id, currency, amount, url, secret, low, as_of_seq, \
               created_at, version) SELECT ?, ?, ?, ?, ?, ?, ?, 0, ?, ? FROM \
               (SELECT COUNT(*) AS used FROM alerts_thresholds WHERE org_id = ?) AS d WHERE d.used < ?";
    let args = vec![
        alert.id.as_str().into(),
        alert.org_id.as_str().into(),
        alert.currency.as_str().into(),
        alert.amount.nanos().into(),
        alert.url.as_str().into(),
        sealed.into(),
        alert.low.into(),
        alert.created_at.micros().into(),
        alert.version.into(),
        alert.org_id.as_str().into(),
        most.into(),
    ];
    Statement::one(sql, args)
}

/// What has changed of an alert, if it is still as it was read.
pub(crate) fn alert_update(before: &Alert, after: &Alert) -> Statement {
    let sql = "UPDATE alerts_thresholds SET amount = ?, url = ?, version = ?, \
               low = CASE WHEN ? THEN low ELSE 0 END WHERE id = ? AND org_id = ? AND version = ?";
    let args = vec![
        after.amount.nanos().into(),
        after.url.as_str().into(),
        after.version.into(),
        (before.amount == after.amount).into(),
        after.id.as_str().into(),
        after.org_id.as_str().into(),
        before.version.into(),
    ];
    Statement::one(sql, args)
}

/// The alert is gone, if it is still as it was read; what it had to tell is given up.
pub(crate) fn alert_deletion(alert: &Alert, now: Timestamp) -> [Statement; 2] {
    let delete = "DELETE FROM alerts_thresholds WHERE id = ? AND org_id = ? AND version = ?";
    let give_up = "UPDATE alerts_deliveries SET state = 'failed', ended_at = ?, \
                   last_error = 'the alert was deleted' \
                   WHERE alert_id = ? AND org_id = ? AND state = 'waiting'";
    let (id, org_id) = (|| Value::from(alert.id.as_str()), || Value::from(alert.org_id.as_str()));
    [
        Statement::one(delete, vec![id(), org_id(), alert.version.into()]),
        Statement::new(give_up, vec![now.micros().into(), id(), org_id()]),
    ]
}

pub(crate) async fn find_alert(
    database: &Database,
    org_id: &OrgId,
    id: &str,
) -> Result<Option<Alert>> {
    let sql = format!("{ALERT} WHERE id = ? AND org_id = ?");
    let row = database.query_one(&sql, &[id.into(), org_id.as_str().into()]).await?;
    row.as_ref().map(read_alert).transpose()
}

pub(crate) async fn list_alerts(
    database: &Database,
    org_id: &OrgId,
    after: &str,
    limit: i64,
) -> Result<Vec<Alert>> {
    let sql = format!("{ALERT} WHERE org_id = ? AND id > ? ORDER BY id LIMIT ?");
    let args = [org_id.as_str().into(), after.into(), limit.into()];
    database.query(&sql, &args).await?.iter().map(read_alert).collect()
}

/// Everybody's, in parts.
pub(crate) async fn all_alerts(database: &Database, after: &str, limit: i64) -> Result<Vec<Alert>> {
    let sql = format!("{ALERT} WHERE id > ? ORDER BY id LIMIT ?");
    database.query(&sql, &[after.into(), limit.into()]).await?.iter().map(read_alert).collect()
}

/// The alerts of these organizations.
pub(crate) async fn alerts_of(database: &Database, owners: &[&str]) -> Result<Vec<Alert>> {
    let mut found = Vec::new();
    for some in owners.chunks(PORTION) {
        let sql = format!("{ALERT} WHERE org_id IN ({})", places(some.len()));
        let args: Vec<Value> = some.iter().map(|owner| Value::from(*owner)).collect();
        let rows = database.query(&sql, &args).await?;
        found.extend(rows.iter().map(read_alert).collect::<Result<Vec<_>>>()?);
    }
    Ok(found)
}

pub(crate) async fn has_alerts(database: &Database) -> Result<bool> {
    Ok(database.query_one("SELECT 1 FROM alerts_thresholds LIMIT 1", &[]).await?.is_some())
}

fn places(count: usize) -> String {
    vec!["?"; count].join(", ")
}

fn read_alert(row: &Row) -> Result<Alert> {
    let id = row.text(0)?.to_owned();
    let currency = row.text(2)?.parse().map_err(|_unknown| Error::Damaged(id.clone()))?;
    Ok(Alert {
        id,
        org_id: row.text(1)?.into(),
        currency,
        amount: Amount::from_nanos(row.int(3)?),
        url: row.text(4)?.to_owned(),
        low: row.flag(5)?,
        created_at: Timestamp::from_micros(row.int(6)?),
        version: row.int(7)?,
    })
}

/// The alert is low from now on, or is not: if it is still as it was read, and nobody has decided by a
/// later operation.
pub(crate) fn crossing(alert: &Alert, low: bool, as_of_seq: i64) -> Statement {
    let sql = "UPDATE alerts_thresholds SET low = ?, as_of_seq = ? \
               WHERE id = ? AND org_id = ? AND version = ? AND low = ? AND as_of_seq <= ?";
    let args = vec![
        low.into(),
        as_of_seq.into(),
        alert.id.as_str().into(),
        alert.org_id.as_str().into(),
        alert.version.into(),
        (!low).into(),
        as_of_seq.into(),
    ];
    Statement::one(sql, args)
}

/// Something to tell of an alert, from now on until it is given up.
pub(crate) fn delivery_insertion(
    alert: &Alert,
    body: String,
    (now, give_up_at): (Timestamp, Timestamp),
) -> Statement {
    let sql = "INSERT INTO alerts_deliveries (id, alert_id, org_id, body, state, attempts, next_at, \
               give_up_at, lease_owner, lease_until, created_at) VALUES (?, ?, ?, ?, 'waiting', 0, ?, ?, '', 0, ?)";
    let args = vec![
        kernel::id::new().into(),
        alert.id.as_str().into(),
        alert.org_id.as_str().into(),
        body.into(),
        now.micros().into(),
        give_up_at.micros().into(),
        now.micros().into(),
    ];
    Statement::new(sql, args)
}

/// What may be sent now: of each alert the oldest that is due, unless somebody is sending it.
pub(crate) async fn due(database: &Database, now: Timestamp, most: usize) -> Result<Vec<Due>> {
    let sql = "SELECT d.id, d.alert_id, d.body, d.attempts, d.give_up_at, t.url, t.secret FROM \
               (SELECT MIN(id) AS id FROM alerts_deliveries WHERE state = 'waiting' AND next_at <= ? \
                GROUP BY alert_id) AS oldest JOIN alerts_deliveries d ON d.id = oldest.id \
               LEFT JOIN alerts_thresholds t ON t.id = d.alert_id AND t.org_id = d.org_id \
               WHERE d.lease_until <= ? ORDER BY d.next_at, d.id LIMIT ?";
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let args = [now.micros().into(), now.micros().into(), most.into()];
    let read = |row: &Row| {
        let to = row.opt_text(5)?.map(str::to_owned).zip(row.opt_bytes(6)?.map(<[u8]>::to_vec));
        Ok(Due {
            id: row.text(0)?.to_owned(),
            alert_id: row.text(1)?.to_owned(),
            body: row.text(2)?.to_owned(),
            attempts: row.int(3)?,
            give_up_at: Timestamp::from_micros(row.int(4)?),
            to,
            lease: kernel::id::new(),
        })
    };
    database.query(sql, &args).await?.iter().map(read).collect()
}

/// Takes the lease of a delivery, unless somebody was faster.
pub(crate) async fn lease(
    database: &Database,
    due: &Due,
    (now, until): (Timestamp, Timestamp),
) -> Result<bool> {
    let sql = "UPDATE alerts_deliveries SET lease_owner = ?, lease_until = ? \
               WHERE id = ? AND state = 'waiting' AND next_at <= ? AND lease_until <= ?";
    let args = vec![
        due.lease.as_str().into(),
        until.micros().into(),
        due.id.as_str().into(),
        now.micros().into(),
        now.micros().into(),
    ];
    match database.transaction(vec![Statement::one(sql, args)]).await {
        Ok(_) => Ok(true),
        Err(::store::Error::Unexpected { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Nobody is sending.
pub(crate) async fn free_leases(database: &Database) -> Result<()> {
    let sql = "UPDATE alerts_deliveries SET lease_until = 0 WHERE state = 'waiting'";
    Ok(database.execute(Statement::new(sql, vec![])).await.map(drop)?)
}

/// What became of an attempt; nothing is written if the lease went to another.
pub(crate) async fn attempted(database: &Database, due: &Due, what: &Attempted) -> Result<()> {
    let sql = "UPDATE alerts_deliveries SET state = ?, attempts = attempts + 1, next_at = ?, \
               last_status = ?, last_error = ?, ended_at = ?, lease_owner = '', lease_until = 0 \
               WHERE id = ? AND state = 'waiting' AND lease_owner = ?";
    let ended = (what.state != DeliveryState::Waiting).then(|| what.at.micros());
    let args = vec![
        what.state.as_str().into(),
        what.next_at.micros().into(),
        what.status.map(i64::from).into(),
        what.error.as_deref().into(),
        ended.into(),
        due.id.as_str().into(),
        due.lease.as_str().into(),
    ];
    Ok(database.execute(Statement::new(sql, args)).await.map(drop)?)
}

/// A delivery is to be sent again from the beginning.
pub(crate) fn redelivery(
    org_id: &OrgId,
    id: &str,
    (now, give_up_at): (Timestamp, Timestamp),
) -> Statement {
    let sql = "UPDATE alerts_deliveries SET state = 'waiting', attempts = 0, next_at = ?, give_up_at = ?, \
               ended_at = NULL WHERE id = ? AND org_id = ?";
    let (now, give_up_at) = (now.micros().into(), give_up_at.micros().into());
    Statement::one(sql, vec![now, give_up_at, id.into(), org_id.as_str().into()])
}

/// Newest first, from before this id.
pub(crate) async fn list_deliveries(
    database: &Database,
    org_id: &OrgId,
    filter: &DeliveryFilter,
    (before, limit): (Option<&str>, i64),
) -> Result<Vec<Delivery>> {
    let (mut sql, mut args) =
        (format!("{DELIVERY} WHERE org_id = ?"), vec![org_id.as_str().into()]);
    let mut narrow = |clause: &str, value: Option<Value>| {
        if let Some(value) = value {
            sql.push_str(clause);
            args.push(value);
        }
    };
    narrow(" AND alert_id = ?", filter.alert_id.as_deref().map(Value::from));
    narrow(" AND state = ?", filter.state.map(|state| state.as_str().into()));
    narrow(" AND id < ?", before.map(Value::from));
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    args.push(limit.into());
    database.query(&sql, &args).await?.iter().map(read_delivery).collect()
}

pub(crate) async fn find_delivery(
    database: &Database,
    org_id: &OrgId,
    id: &str,
) -> Result<Option<Delivery>> {
    let sql = format!("{DELIVERY} WHERE id = ? AND org_id = ?");
    let row = database.query_one(&sql, &[id.into(), org_id.as_str().into()]).await?;
    row.as_ref().map(read_delivery).transpose()
}

fn read_delivery(row: &Row) -> Result<Delivery> {
    let id = row.text(0)?.to_owned();
    let state = DeliveryState::parse(row.text(3)?).ok_or_else(|| Error::Damaged(id.clone()))?;
    let event =
        serde_json::from_str(row.text(10)?).map_err(|_no_json| Error::Damaged(id.clone()))?;
    let next_at = Timestamp::from_micros(row.int(5)?);
    Ok(Delivery {
        id,
        alert_id: row.text(1)?.to_owned(),
        org_id: row.text(2)?.into(),
        state,
        attempts: row.int(4)?,
        next_at: (state == DeliveryState::Waiting).then_some(next_at),
        last_status: row.opt_int(6)?,
        last_error: row.opt_text(7)?.map(str::to_owned),
        created_at: Timestamp::from_micros(row.int(8)?),
        ended_at: row.opt_int(9)?.map(Timestamp::from_micros),
        event,
    })
}

/// Deletes deliveries that ended before this time.
pub(crate) async fn purge(database: &Database, before: i64) -> Result<()> {
    let select = "SELECT id FROM alerts_deliveries WHERE ended_at < ? ORDER BY ended_at LIMIT ?";
    loop {
        let limit = i64::try_from(PORTION).unwrap_or(i64::MAX);
        let old = database.query(select, &[before.into(), limit.into()]).await?;
        if old.is_empty() {
            return Ok(());
        }
        // One that is to be sent again meanwhile has no end any more.
        let delete = format!(
            "DELETE FROM alerts_deliveries WHERE ended_at < ? AND id IN ({})",
            places(old.len())
        );
        let mut args = vec![Value::from(before)];
        for row in &old {
            args.push(row.text(0)?.into());
        }
        database.execute(Statement::new(delete, args)).await?;
    }
}
