//! All SQL of this crate.

mod limits;
pub(crate) mod prices;
mod search;
mod summary;

use std::collections::HashMap;
use std::sync::LazyLock;

use ::store::{Database, Migration, Row, Value};

pub(crate) use self::limits::{
    find_limit, limits_of, limits_of_org, remove_limit, set_limit, set_zone, zone_of,
};
pub(crate) use self::search::{list_span, list_usage, spans};
pub(crate) use self::summary::{Figures, Source, summarize};
use kernel::{Amount, ChargeId, OrgId, PageRequest, Timestamp};
use ledger::{Attachment, Cell, Table};

use crate::attempts::Inside;
use crate::rollups::ROLLUPS;
use crate::settle::Bill;
use crate::{
    Admission, AttemptRecord, Call, Error, Purchase, Result, RunStep, UsageRecord, UsageSource,
    UsageStatus,
};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0003_metering",
        sqlite: include_str!("../migrations/sqlite/0003_metering.sql"),
        mysql: include_str!("../migrations/mysql/0003_metering.sql"),
    },
    Migration {
        name: "0006_metering_limits",
        sqlite: include_str!("../migrations/sqlite/0006_metering_limits.sql"),
        mysql: include_str!("../migrations/mysql/0006_metering_limits.sql"),
    },
    Migration {
        name: "0010_metering_prices",
        sqlite: include_str!("../migrations/sqlite/0010_metering_prices.sql"),
        mysql: include_str!("../migrations/mysql/0010_metering_prices.sql"),
    },
    Migration {
        name: "0030_metering_attempts",
        sqlite: include_str!("../migrations/sqlite/0030_metering_attempts.sql"),
        mysql: include_str!("../migrations/mysql/0030_metering_attempts.sql"),
    },
    Migration {
        name: "0040_metering_rollups",
        sqlite: include_str!("../migrations/sqlite/0040_metering_rollups.sql"),
        mysql: include_str!("../migrations/mysql/0040_metering_rollups.sql"),
    },
    Migration {
        name: "0051_metering_steps",
        sqlite: include_str!("../migrations/sqlite/0051_metering_steps.sql"),
        mysql: include_str!("../migrations/mysql/0051_metering_steps.sql"),
    },
    Migration {
        name: "0090_metering_places",
        sqlite: include_str!("../migrations/sqlite/0090_metering_places.sql"),
        mysql: include_str!("../migrations/mysql/0090_metering_places.sql"),
    },
];

/// What makes the sums over usage records anew.
pub(crate) static REBUILD: LazyLock<Vec<String>> =
    LazyLock::new(|| ROLLUPS.iter().flat_map(ledger::Sums::rebuild).collect());

/// The usage records, under the journal's hash chain.
pub static USAGE: Table = Table {
    name: "metering_usage",
    columns: &[
        "op_seq",
        "id",
        "org_id",
        "user_id",
        "app_id",
        "key_id",
        "surface",
        "model",
        "provider",
        "upstream_model",
        "status",
        "error_code",
        "upstream_status",
        "currency",
        "cost",
        "debt",
        "written_off",
        "late",
        "price_id",
        "hold_seq",
        "held",
        "input_tokens",
        "cached_input_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "usage_source",
        "anomalies",
        "raw_usage",
        "stream",
        "client_gone",
        "request_id",
        "started_at",
        "first_token_at",
        "ended_at",
    ],
    audited: true,
};

/// What the operator alone sees of calls, under the journal's hash chain.
pub static ATTEMPTS: Table = Table {
    name: "metering_attempts",
    columns: &["op_seq", "id", "org_id", "attempts", "purchase_cost", "purchase_currency"],
    audited: true,
};

/// Which steps of runs calls were, under the journal's hash chain.
pub static STEPS: Table =
    Table { name: "metering_steps", columns: &["op_seq", "run_id", "step"], audited: true };

/// Which nodes of which flows made them, under the journal's hash chain.
pub static PLACES: Table =
    Table { name: "metering_places", columns: &["op_seq", "pipeline", "node"], audited: true };

/// Where a usage record is read from.
const USAGE_TABLES: &str = "metering_usage LEFT JOIN metering_steps USING (op_seq) \
    LEFT JOIN metering_places USING (op_seq)";

/// A usage record's columns as read: those of [`USAGE`], [`STEPS`] and [`PLACES`].
const USAGE_COLUMNS: &str = "op_seq, id, org_id, user_id, app_id, key_id, surface, model, provider, \
    upstream_model, status, error_code, upstream_status, currency, cost, debt, written_off, late, \
    price_id, hold_seq, held, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, \
    reasoning_tokens, usage_source, anomalies, raw_usage, stream, client_gone, request_id, started_at, \
    first_token_at, ended_at, run_id, step, pipeline, node";

/// The rows that record how a call ended.
pub(crate) fn records(
    admission: &Admission,
    bill: &Bill,
    status: UsageStatus,
) -> impl Iterator<Item = Attachment> + use<> {
    let usage = usage_row(admission, bill, status);
    std::iter::once(usage).chain(attempts_row(admission, bill)).chain(step_rows(&admission.call))
}

/// Which step of a run the call was, and of which flow, if it was one.
fn step_rows(call: &Call) -> impl Iterator<Item = Attachment> + use<> {
    let rows = call.step.as_ref().map(|RunStep { run_id, step, pipeline, node }| {
        let step = i64::try_from(*step).unwrap_or(i64::MAX);
        let steps = vec![Cell::Seq, run_id.as_ref().into(), step.into()];
        let places = vec![Cell::Seq, pipeline.as_ref().into(), node.as_ref().into()];
        [(&STEPS, steps), (&PLACES, places)]
    });
    rows.into_iter().flatten().map(|(table, cells)| Attachment::Insert { table, cells })
}

/// What the operator alone sees of the call, if there is anything.
fn attempts_row(admission: &Admission, bill: &Bill) -> Option<Attachment> {
    let several = bill.attempts.len() > 1;
    // No upstream was asked for an answer from the cache.
    let free = Purchase { amount: Amount::ZERO, currency: admission.price.currency() };
    let purchase = bill.cached.map(|_| free).or(bill.purchase);
    if !several && purchase.is_none() {
        return None;
    }
    let call = &admission.call;
    let attempts: Option<Vec<AttemptRecord>> =
        several.then(|| bill.attempts.iter().map(Into::into).collect());
    let attempts = attempts.and_then(|attempts| serde_json::to_string(&attempts).ok());
    let cells = vec![
        Cell::Seq,
        call.id.as_str().into(),
        call.caller.org_id.as_str().into(),
        attempts.into(),
        purchase.map(|purchase| purchase.amount.nanos()).into(),
        purchase.as_ref().map(|purchase| purchase.currency.as_str()).into(),
    ];
    Some(Attachment::Insert { table: &ATTEMPTS, cells })
}

/// What is kept beside these usage records, by the operations that ended their calls.
pub(crate) async fn list_insides(
    database: &Database,
    records: &[UsageRecord],
) -> Result<HashMap<i64, Inside>> {
    if records.is_empty() {
        return Ok(HashMap::new());
    }
    let places = vec!["?"; records.len()].join(", ");
    let sql = format!(
        "SELECT op_seq, id, attempts, purchase_cost, purchase_currency FROM metering_attempts \
         WHERE op_seq IN ({places})"
    );
    let args: Vec<Value> =
        records.iter().map(|record| Value::from(record.op_seq.unwrap_or_default())).collect();
    let rows = database.query(&sql, &args).await?;
    rows.iter().map(|row| Ok((row.int(0)?, read_inside(row)?))).collect()
}

fn read_inside(row: &Row) -> Result<Inside> {
    let damaged = || Error::DamagedRecord(row.text(1).unwrap_or_default().to_owned());
    let attempts = row.opt_text(2)?.map(serde_json::from_str).transpose();
    let currency = row.opt_text(4)?.map(str::parse).transpose();
    let currency = currency.map_err(|_cause| damaged())?;
    let amount = row.opt_int(3)?.map(Amount::from_nanos);
    Ok(Inside {
        attempts: attempts.map_err(|_cause| damaged())?.unwrap_or_default(),
        purchase: amount.zip(currency).map(|(amount, currency)| Purchase { amount, currency }),
    })
}

/// The row of the call itself. A released call's figures are zero, not the hold's. It ends when its
/// end is committed: so later operations never end earlier.
fn usage_row(admission: &Admission, bill: &Bill, status: UsageStatus) -> Attachment {
    let call = &admission.call;
    let route = bill.route.as_ref();
    let tokens = &bill.usage.tokens;
    let settled = status == UsageStatus::Settled;
    let figure = |cell: Cell| if settled { cell } else { Cell::from(0) };
    let cells = vec![
        Cell::Seq,
        call.id.as_str().into(),
        call.caller.org_id.as_str().into(),
        call.caller.user_id.as_ref().map(kernel::UserId::as_str).into(),
        call.caller.app_id.as_ref().map(kernel::AppId::as_str).into(),
        call.caller.key_id.as_ref().map(kernel::KeyId::as_str).into(),
        call.surface.as_str().into(),
        call.model.as_ref().into(),
        route.map(|route| route.provider.as_ref()).into(),
        route.map(|route| route.upstream_model.as_ref()).into(),
        status.as_str().into(),
        bill.error_code.into(),
        bill.upstream_status.map(i64::from).into(),
        admission.price.currency().as_str().into(),
        figure(Cell::Amount),
        figure(Cell::Debt),
        figure(Cell::WrittenOff),
        figure(Cell::Late),
        admission.price.id().as_ref().into(),
        Cell::Hold,
        admission.held.nanos().into(),
        // Audio and images are among what was read and produced; the basis of the charge tells them apart.
        count(
            tokens.context().saturating_sub(tokens.cached_input).saturating_sub(tokens.cache_write),
        ),
        count(tokens.cached_input),
        count(tokens.cache_write),
        count(tokens.produced().saturating_sub(tokens.reasoning)),
        count(tokens.reasoning),
        bill.usage.source.as_str().into(),
        bill.usage.anomalies.as_deref().into(),
        bill.usage.raw.as_deref().into(),
        call.stream.into(),
        bill.client_gone.into(),
        call.request_id.as_ref().into(),
        admission.started_at.micros().into(),
        bill.first_token_at.map(Timestamp::micros).into(),
        Cell::At,
    ];
    Attachment::Summed { table: &USAGE, sums: &ROLLUPS, cells }
}

fn count(tokens: u64) -> Cell {
    Cell::from(i64::try_from(tokens).unwrap_or(i64::MAX))
}

pub(crate) async fn find_usage(
    database: &Database,
    id: &ChargeId,
    org_id: Option<&OrgId>,
) -> Result<Option<UsageRecord>> {
    let mut sql = format!("SELECT {USAGE_COLUMNS} FROM {USAGE_TABLES} WHERE id = ?");
    let mut args = vec![Value::from(id.as_str())];
    if let Some(org_id) = org_id {
        sql.push_str(" AND org_id = ?");
        args.push(Value::from(org_id.as_str()));
    }
    database.query_one(&sql, &args).await?.as_ref().map(read_usage).transpose()
}

/// Calls may end a little out of the order in which their ends are written, and clocks step back.
const OUT_OF_ORDER: i64 = 3_600_000_000;

/// When surely every call that ended before this time has been written.
pub(crate) const fn well_after(time: Timestamp) -> Timestamp {
    Timestamp::from_micros(time.micros().saturating_add(OUT_OF_ORDER))
}

/// A sequence number at or before that of the first call that ended at this time or later: found by
/// halving, for which the key of the table is enough.
pub(crate) async fn first_ended_at(database: &Database, time: Timestamp) -> Result<i64> {
    let since = time.micros().saturating_sub(OUT_OF_ORDER);
    let at_or_after =
        "SELECT op_seq, ended_at FROM metering_usage WHERE op_seq >= ? ORDER BY op_seq LIMIT 1";
    let last = database
        .query_one("SELECT COALESCE(MAX(op_seq), 0) FROM metering_usage", &[])
        .await?
        .map_or(Ok(0), |row| row.int(0))?;
    let (mut low, mut high) = (0, last + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match database.query_one(at_or_after, &[middle.into()]).await? {
            Some(row) if row.int(1)? < since => low = row.int(0)? + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Oldest first, after a sequence number.
pub(crate) async fn usage_after(
    database: &Database,
    org_id: Option<&OrgId>,
    after: i64,
    page: &PageRequest,
) -> Result<Vec<UsageRecord>> {
    let mut sql = format!("SELECT {USAGE_COLUMNS} FROM {USAGE_TABLES} WHERE op_seq > ?");
    let mut args = vec![Value::from(after)];
    if let Some(org_id) = org_id {
        sql.push_str(" AND org_id = ?");
        args.push(Value::from(org_id.as_str()));
    }
    sql.push_str(" ORDER BY op_seq LIMIT ?");
    args.push(Value::from(i64::from(page.limit())));
    let rows = database.query(&sql, &args).await?;
    rows.iter().map(read_usage).collect()
}

fn read_usage(row: &Row) -> Result<UsageRecord> {
    let amount = |column| row.int(column).map(Amount::from_nanos);
    let text = |column| row.text(column).map(str::to_owned);
    let opt_text = |column| row.opt_text(column).map(|text| text.map(str::to_owned));
    let currency = row.text(13)?;
    Ok(UsageRecord {
        op_seq: Some(row.int(0)?),
        id: row.text(1)?.into(),
        org_id: row.text(2)?.into(),
        user_id: opt_text(3)?,
        app_id: opt_text(4)?,
        key_id: opt_text(5)?,
        surface: text(6)?,
        model: text(7)?,
        provider: opt_text(8)?,
        upstream_model: opt_text(9)?,
        status: UsageStatus::parse(row.text(10)?),
        error_code: opt_text(11)?,
        upstream_status: row.opt_int(12)?,
        currency: currency
            .parse()
            .map_err(|_cause| Error::DamagedRecord(row.text(1).unwrap_or_default().to_owned()))?,
        cost: amount(14)?,
        debt: amount(15)?,
        written_off: amount(16)?,
        late: row.flag(17)?,
        price_id: text(18)?,
        hold_seq: row.int(19)?,
        held: amount(20)?,
        input_tokens: row.int(21)?,
        cached_input_tokens: row.int(22)?,
        cache_write_tokens: row.int(23)?,
        output_tokens: row.int(24)?,
        reasoning_tokens: row.int(25)?,
        usage_source: text(26)?,
        anomalies: opt_text(27)?,
        raw_usage: opt_text(28)?,
        stream: row.flag(29)?,
        client_gone: row.flag(30)?,
        request_id: text(31)?,
        started_at: Timestamp::from_micros(row.int(32)?),
        first_token_at: row.opt_int(33)?.map(Timestamp::from_micros),
        ended_at: Some(Timestamp::from_micros(row.int(34)?)),
        run_id: opt_text(35)?,
        step: row.opt_int(36)?,
        pipeline: opt_text(37)?,
        node: opt_text(38)?,
    })
}

impl UsageSource {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Cache => "cache",
            Self::Estimated => "estimated",
            Self::None => "none",
        }
    }
}

impl UsageStatus {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Settled => "settled",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }

    fn parse(name: &str) -> Self {
        [Self::Running, Self::Settled, Self::Released]
            .into_iter()
            .find(|status| status.as_str() == name)
            .unwrap_or(Self::Expired)
    }
}
