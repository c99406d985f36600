//! All SQL of this crate.

use ::store::{Database, Migration, Row, Statement, Value};
use kernel::{Amount, ChargeId, OrgId, PageRequest, Timestamp};
use ledger::{Attachment, Cell, Table};
use pricing::PriceVersion;

use crate::settle::Bill;
use crate::{Admission, Error, Result, UsageFilter, UsageRecord, UsageSource, UsageStatus};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0003_metering",
    sqlite: include_str!("../migrations/sqlite/0003_metering.sql"),
    mysql: include_str!("../migrations/mysql/0003_metering.sql"),
}];

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

/// A usage record's columns as read: those of [`USAGE`].
const USAGE_COLUMNS: &str = "op_seq, id, org_id, user_id, app_id, key_id, surface, model, provider, \
    upstream_model, status, error_code, upstream_status, currency, cost, debt, written_off, late, \
    price_id, hold_seq, held, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, \
    reasoning_tokens, usage_source, anomalies, raw_usage, stream, client_gone, request_id, started_at, \
    first_token_at, ended_at";

/// The row that records how a call ended. A released call's figures are zero, not the hold's.
pub(crate) fn usage_row(
    admission: &Admission,
    bill: &Bill,
    status: UsageStatus,
    ended_at: Timestamp,
) -> Attachment {
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
        admission.price.currency.as_str().into(),
        figure(Cell::Amount),
        figure(Cell::Debt),
        figure(Cell::WrittenOff),
        figure(Cell::Late),
        admission.price.id.as_str().into(),
        admission.hold.0.into(),
        admission.held.nanos().into(),
        count(tokens.input),
        count(tokens.cached_input),
        count(tokens.cache_write),
        count(tokens.output),
        count(tokens.reasoning),
        bill.usage.source.as_str().into(),
        bill.usage.anomalies.as_deref().into(),
        bill.usage.raw.as_deref().into(),
        call.stream.into(),
        bill.client_gone.into(),
        call.request_id.as_ref().into(),
        admission.started_at.micros().into(),
        bill.first_token_at.map(Timestamp::micros).into(),
        ended_at.micros().into(),
    ];
    Attachment::Insert { table: &USAGE, cells }
}

fn count(tokens: u64) -> Cell {
    Cell::from(i64::try_from(tokens).unwrap_or(i64::MAX))
}

/// Records a price version unless it is known.
pub(crate) async fn record_price(
    database: &Database,
    version: &PriceVersion,
    now: Timestamp,
) -> Result<()> {
    let id = Value::from(version.id.as_str());
    let known = database
        .query_one("SELECT 1 FROM metering_prices WHERE id = ?", std::slice::from_ref(&id))
        .await?;
    if known.is_some() {
        return Ok(());
    }
    let rates = serde_json::to_string(&version.rates)
        .map_err(|_cause| Error::DamagedPrice(version.id.clone()))?;
    let insert = Statement::new(
        "INSERT INTO metering_prices (id, model, currency, rates, created_at) VALUES (?, ?, ?, ?, ?)",
        vec![
            id,
            Value::from(version.model.as_str()),
            Value::from(version.currency.as_str()),
            Value::from(rates),
            Value::from(now.micros()),
        ],
    );
    match database.execute(insert).await {
        // Another instance recorded it in this moment.
        Err(error) if error.is_duplicate() => Ok(()),
        outcome => Ok(outcome.map(drop)?),
    }
}

pub(crate) async fn find_usage(
    database: &Database,
    id: &ChargeId,
    org_id: Option<&OrgId>,
) -> Result<Option<UsageRecord>> {
    let mut sql = format!("SELECT {USAGE_COLUMNS} FROM metering_usage WHERE id = ?");
    let mut args = vec![Value::from(id.as_str())];
    if let Some(org_id) = org_id {
        sql.push_str(" AND org_id = ?");
        args.push(Value::from(org_id.as_str()));
    }
    database.query_one(&sql, &args).await?.as_ref().map(read_usage).transpose()
}

/// Newest first, by the sequence of the operations that ended the calls.
pub(crate) async fn list_usage(
    database: &Database,
    filter: &UsageFilter,
    page: &PageRequest,
) -> Result<Vec<UsageRecord>> {
    let before =
        page.cursor.as_ref().and_then(|cursor| cursor.key().parse().ok()).unwrap_or(i64::MAX);
    let mut sql = format!("SELECT {USAGE_COLUMNS} FROM metering_usage WHERE op_seq < ?");
    let mut args = vec![Value::from(before)];
    if let Some(org_id) = &filter.org_id {
        sql.push_str(" AND org_id = ?");
        args.push(Value::from(org_id.as_str()));
    }
    sql.push_str(" ORDER BY op_seq DESC LIMIT ?");
    args.push(Value::from(page.fetch()));
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
    })
}

impl UsageSource {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Estimated => "estimated",
            Self::None => "none",
        }
    }
}

impl UsageStatus {
    const fn as_str(self) -> &'static str {
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
