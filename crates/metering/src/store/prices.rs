//! SQL of the price book.

use std::collections::HashMap;

use ::store::{Database, Row, Statement, Value};
use kernel::{ChargeId, OrgId, PageRequest, Timestamp};
use ledger::{Attachment, Cell, Table};
use pricing::{PriceVersion, Used};

use crate::prices::{Activation, Basis, Terms, VersionRecord};
use crate::{Error, Result};

/// What charges were computed from, under the journal's hash chain.
pub static CHARGES: Table = Table {
    name: "metering_charges",
    columns: &["op_seq", "id", "org_id", "basis"],
    audited: true,
};

const VERSION_COLUMNS: &str = "id, document, created_at, created_by";
const ACTIVATION_COLUMNS: &str =
    "revision, version_id, starts_at, created_at, created_by, cancelled_at";
/// Activations kept in memory: those to come, and enough of those before for a clock that steps
/// back.
const ACTIVATIONS_KEPT: i64 = 200;
/// The most units that one call adds to a count.
const MOST_UNITS: u64 = 1_000_000_000_000;

/// Records a price version unless it is known, and with it what tells of that; returns whether it
/// was new.
pub(crate) async fn record_version(
    database: &Database,
    version: &PriceVersion,
    by: Option<&str>,
    now: Timestamp,
    also: Vec<Statement>,
) -> Result<bool> {
    let id = Value::from(version.id().as_ref());
    let known = database
        .query_one("SELECT 1 FROM metering_price_versions WHERE id = ?", std::slice::from_ref(&id))
        .await?;
    if known.is_some() {
        return Ok(false);
    }
    let document = serde_json::to_string(version.document())
        .map_err(|_cause| Error::DamagedPrice(version.id().to_string()))?;
    let insert = Statement::new(
        "INSERT INTO metering_price_versions (id, name, document, created_at, created_by) VALUES (?, ?, ?, ?, ?)",
        vec![
            id,
            version.document().name.as_deref().into(),
            document.into(),
            now.micros().into(),
            by.into(),
        ],
    );
    match database.transaction(std::iter::once(insert).chain(also).collect()).await {
        // Another instance recorded it in this moment.
        Err(error) if error.is_duplicate() => Ok(false),
        outcome => Ok(outcome.map(|_rows| true)?),
    }
}

pub(crate) async fn find_version(database: &Database, id: &str) -> Result<Option<VersionRecord>> {
    let sql = format!("SELECT {VERSION_COLUMNS} FROM metering_price_versions WHERE id = ?");
    database.query_one(&sql, &[id.into()]).await?.as_ref().map(read_version).transpose()
}

/// Newest first.
pub(crate) async fn list_versions(
    database: &Database,
    page: &PageRequest,
) -> Result<Vec<VersionRecord>> {
    let key = page.cursor.as_ref().and_then(|cursor| cursor.key().split_once('/'));
    let before = key.and_then(|(at, id)| Some((at.parse::<i64>().ok()?, id)));
    let (at, id) = before.unwrap_or((i64::MAX, ""));
    let sql = format!(
        "SELECT {VERSION_COLUMNS} FROM metering_price_versions \
         WHERE created_at <= ? AND (created_at < ? OR id < ?) \
         ORDER BY created_at DESC, id DESC LIMIT ?"
    );
    let args = [at.into(), at.into(), id.into(), page.fetch().into()];
    let rows = database.query(&sql, &args).await?;
    rows.iter().map(read_version).collect()
}

fn read_version(row: &Row) -> Result<VersionRecord> {
    let id = row.text(0)?;
    let version =
        PriceVersion::read(row.text(1)?).map_err(|_mistakes| Error::DamagedPrice(id.to_owned()))?;
    Ok(VersionRecord {
        version: version.into(),
        created_at: Timestamp::from_micros(row.int(2)?),
        created_by: row.opt_text(3)?.map(str::to_owned),
    })
}

/// How often the price book has changed.
pub(crate) async fn revision(database: &Database) -> Result<i64> {
    let row =
        database.query_one("SELECT revision FROM metering_price_state WHERE id = 1", &[]).await?;
    Ok(row.map_or(Ok(0), |row| row.int(0))?)
}

/// The latest activations that stand, by when they start, the last first.
pub(crate) async fn schedule(database: &Database) -> Result<Vec<Activation>> {
    let sql = format!(
        "SELECT {ACTIVATION_COLUMNS} FROM metering_price_activations WHERE cancelled_at IS NULL \
         ORDER BY starts_at DESC, revision DESC LIMIT ?"
    );
    let rows = database.query(&sql, &[ACTIVATIONS_KEPT.into()]).await?;
    rows.iter().map(read_activation).collect()
}

/// All activations, cancelled ones too, the latest made first.
pub(crate) async fn list_activations(
    database: &Database,
    page: &PageRequest,
) -> Result<Vec<Activation>> {
    let before =
        page.cursor.as_ref().and_then(|cursor| cursor.key().parse().ok()).unwrap_or(i64::MAX);
    let sql = format!(
        "SELECT {ACTIVATION_COLUMNS} FROM metering_price_activations WHERE revision < ? \
         ORDER BY revision DESC LIMIT ?"
    );
    let rows = database.query(&sql, &[before.into(), page.fetch().into()]).await?;
    rows.iter().map(read_activation).collect()
}

pub(crate) async fn find_activation(
    database: &Database,
    revision: i64,
) -> Result<Option<Activation>> {
    let sql =
        format!("SELECT {ACTIVATION_COLUMNS} FROM metering_price_activations WHERE revision = ?");
    database.query_one(&sql, &[revision.into()]).await?.as_ref().map(read_activation).transpose()
}

fn read_activation(row: &Row) -> Result<Activation> {
    Ok(Activation {
        revision: row.int(0)?,
        version_id: row.opt_text(1)?.map(str::to_owned),
        starts_at: Timestamp::from_micros(row.int(2)?),
        created_at: Timestamp::from_micros(row.int(3)?),
        created_by: row.opt_text(4)?.map(str::to_owned),
        cancelled_at: row.opt_int(5)?.map(Timestamp::from_micros),
    })
}

/// Moves the revision on from the one that was read; the transaction fails if it has moved.
fn next_revision(read: i64) -> Statement {
    let sql =
        "UPDATE metering_price_state SET revision = revision + 1 WHERE id = 1 AND revision = ?";
    Statement::one(sql, vec![read.into()])
}

/// Adds an activation under the revision after the one that was read; `false` if that has moved.
pub(crate) async fn insert_activation(
    database: &Database,
    activation: &Activation,
    also: Vec<Statement>,
) -> Result<bool> {
    let insert = Statement::new(
        "INSERT INTO metering_price_activations (revision, version_id, starts_at, created_at, created_by) \
         VALUES (?, ?, ?, ?, ?)",
        vec![
            activation.revision.into(),
            activation.version_id.as_deref().into(),
            activation.starts_at.micros().into(),
            activation.created_at.micros().into(),
            activation.created_by.as_deref().into(),
        ],
    );
    let change = [next_revision(activation.revision - 1), insert];
    guarded(database, change.into_iter().chain(also).collect()).await
}

/// Cancels an activation that starts later than now; `false` if the book has changed meanwhile.
pub(crate) async fn cancel_activation(
    database: &Database,
    revision: i64,
    now: Timestamp,
    read: i64,
    also: Vec<Statement>,
) -> Result<bool> {
    let cancel = Statement::one(
        "UPDATE metering_price_activations SET cancelled_at = ? \
         WHERE revision = ? AND cancelled_at IS NULL AND starts_at > ?",
        vec![now.micros().into(), revision.into(), now.micros().into()],
    );
    guarded(database, [next_revision(read), cancel].into_iter().chain(also).collect()).await
}

/// Runs a transaction; `false` if one of its guards does not hold.
async fn guarded(database: &Database, statements: Vec<Statement>) -> Result<bool> {
    match database.transaction(statements).await {
        Ok(_) => Ok(true),
        Err(::store::Error::Unexpected { .. }) => Ok(false),
        Err(error) if error.is_duplicate() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The terms of all organizations that have any.
pub(crate) async fn all_terms(database: &Database) -> Result<Vec<(OrgId, Terms)>> {
    let sql = "SELECT org_id, distributor_id, plan FROM metering_price_terms";
    let rows = database.query(sql, &[]).await?;
    rows.iter().map(|row| Ok((row.text(0)?.into(), read_terms(row)?))).collect()
}

pub(crate) async fn find_terms(database: &Database, org_id: &OrgId) -> Result<Option<Terms>> {
    let sql = "SELECT org_id, distributor_id, plan FROM metering_price_terms WHERE org_id = ?";
    database.query_one(sql, &[org_id.as_str().into()]).await?.as_ref().map(read_terms).transpose()
}

fn read_terms(row: &Row) -> Result<Terms> {
    Ok(Terms {
        distributor_id: row.opt_text(1)?.map(str::to_owned),
        plan: row.opt_text(2)?.map(str::to_owned),
    })
}

/// Replaces an organization's terms.
pub(crate) async fn put_terms(
    database: &Database,
    org_id: &OrgId,
    terms: &Terms,
    by: Option<&str>,
    now: Timestamp,
    also: Vec<Statement>,
) -> Result<()> {
    let delete = Statement::new(
        "DELETE FROM metering_price_terms WHERE org_id = ?",
        vec![org_id.as_str().into()],
    );
    let insert = Statement::new(
        "INSERT INTO metering_price_terms (org_id, distributor_id, plan, changed_at, changed_by) \
         VALUES (?, ?, ?, ?, ?)",
        vec![
            org_id.as_str().into(),
            terms.distributor_id.as_deref().into(),
            terms.plan.as_deref().into(),
            now.micros().into(),
            by.into(),
        ],
    );
    let changed = Statement::new(
        "UPDATE metering_price_state SET revision = revision + 1 WHERE id = 1",
        vec![],
    );
    // The state's row first: whoever changes the book waits there.
    let statements = [changed, delete, insert].into_iter().chain(also).collect();
    Ok(database.transaction(statements).await.map(drop)?)
}

/// Sets each count to the units that the organization has used before.
pub(crate) async fn read_counts(
    database: &Database,
    org_id: &OrgId,
    counts: &mut [Used],
) -> Result<()> {
    let sql = "SELECT units FROM metering_counts WHERE org_id = ? AND counter = ? AND period = ?";
    for count in counts {
        let args =
            [org_id.as_str().into(), count.counter.as_ref().into(), count.period.as_str().into()];
        let row = database.query_one(sql, &args).await?;
        let units = row.map_or(Ok(0), |row| row.int(0))?;
        count.units = u64::try_from(units).unwrap_or(0);
    }
    Ok(())
}

/// Adds units to a count, which begins if it does not exist. The journal writes one batch at a
/// time, so nothing comes between the two statements.
pub(crate) fn add_to_count(org_id: &OrgId, count: &Used, units: u64) -> [Attachment; 2] {
    // However odd a usage is, no sum of them leaves the range of the column.
    let units = i64::try_from(units.min(MOST_UNITS)).unwrap_or(0);
    let key: [Cell; 3] =
        [org_id.as_str().into(), count.counter.as_ref().into(), count.period.as_str().into()];
    let begin = Attachment::Run {
        sql: "INSERT INTO metering_counts (org_id, counter, period, units) \
              SELECT ?, ?, ?, 0 FROM (SELECT 1 AS one) AS here WHERE NOT EXISTS \
              (SELECT 1 FROM metering_counts WHERE org_id = ? AND counter = ? AND period = ?)",
        cells: key.iter().chain(&key).cloned().collect(),
    };
    let add = Attachment::Run {
        sql: "UPDATE metering_counts SET units = units + ? \
              WHERE org_id = ? AND counter = ? AND period = ?",
        cells: std::iter::once(Cell::from(units)).chain(key).collect(),
    };
    [begin, add]
}

/// The row that keeps what a charge was computed from.
pub(crate) fn basis_row(id: &ChargeId, org_id: &OrgId, basis: &Basis) -> Attachment {
    let text = serde_json::to_string(basis).unwrap_or_default();
    let cells = vec![Cell::Seq, id.as_str().into(), org_id.as_str().into(), text.as_str().into()];
    Attachment::Insert { table: &CHARGES, cells }
}

/// What a charge was computed from; nothing more than its version and tokens if there is no row.
pub(crate) async fn find_basis(
    database: &Database,
    id: &ChargeId,
    org_id: &OrgId,
) -> Result<Option<Basis>> {
    let sql = "SELECT basis FROM metering_charges WHERE id = ? AND org_id = ?";
    let Some(row) = database.query_one(sql, &[id.as_str().into(), org_id.as_str().into()]).await?
    else {
        return Ok(None);
    };
    let basis = serde_json::from_str(row.text(0)?)
        .map_err(|_cause| Error::DamagedRecord(id.to_string()))?;
    Ok(Some(basis))
}

/// What the charges of a range of operations were computed from: all, or one organization's.
pub(crate) async fn bases_between(
    database: &Database,
    org_id: Option<&OrgId>,
    after: i64,
    until: i64,
) -> Result<HashMap<i64, Basis>> {
    let mut sql =
        "SELECT op_seq, basis FROM metering_charges WHERE op_seq > ? AND op_seq <= ?".to_owned();
    let mut args = vec![Value::from(after), Value::from(until)];
    if let Some(org_id) = org_id {
        sql.push_str(" AND org_id = ?");
        args.push(Value::from(org_id.as_str()));
    }
    let rows = database.query(&sql, &args).await?;
    let read = |row: &Row| {
        let seq = row.int(0)?;
        let basis = serde_json::from_str(row.text(1)?)
            .map_err(|_cause| Error::DamagedRecord(format!("of operation {seq}")))?;
        Ok((seq, basis))
    };
    rows.iter().map(read).collect()
}
