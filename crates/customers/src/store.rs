//! All SQL of this crate.

pub(crate) mod feed;
pub(crate) mod sync;

use ::store::{Column, List, ListRequest, Listed, Migration, Reader, Row};
use identity::Caller;
use kernel::{Amount, AppId, Asset, KeyId, OrgId, Timestamp};
use ledger::{Attachment, Cell, Table};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{Error, RecordFilter, Result};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0060_customers",
        sqlite: include_str!("../migrations/sqlite/0060_customers.sql"),
        mysql: include_str!("../migrations/mysql/0060_customers.sql"),
    },
    Migration {
        name: "0060_customers_sync",
        sqlite: include_str!("../migrations/sqlite/0060_customers_sync.sql"),
        mysql: include_str!("../migrations/mysql/0060_customers_sync.sql"),
    },
];

/// The accounting records, under the journal's hash chain.
pub static RECORDS: Table = Table {
    name: "accounting_records",
    columns: &[
        "op_seq",
        "org_id",
        "posted_by",
        "app_id",
        "key_id",
        "transno",
        "user_id",
        "llmid",
        "currency",
        "amount",
        "usage_json",
        "at",
    ],
    audited: true,
};

const RECORD_COLUMNS: &str = "op_seq, org_id, posted_by, app_id, key_id, transno, user_id, llmid, currency, amount, \
     usage_json, at";

/// What records can be sorted by; their sequence is the order of time.
pub(crate) static RECORD_ORDERS: [Column; 4] = [
    Column { name: "created_at", sql: "op_seq", at: 0 },
    Column { name: "id", sql: "op_seq", at: 0 },
    Column { name: "seq", sql: "op_seq", at: 0 },
    Column { name: "amount", sql: "amount", at: 9 },
];

/// A movement posted by a customer's server.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AccountingRecord {
    /// Its operation in the books, as text.
    pub id: String,
    /// The same as a number.
    pub seq: i64,
    /// Who paid.
    #[schema(value_type = String)]
    pub org_id: OrgId,
    /// The organization that posted it.
    #[schema(value_type = String)]
    pub posted_by: OrgId,
    /// The application that posted it.
    #[schema(value_type = Option<String>)]
    pub app_id: Option<AppId>,
    /// The API key it was posted with.
    #[schema(value_type = Option<String>)]
    pub key_id: Option<KeyId>,
    /// The key that makes it unique.
    pub transno: String,
    /// Who spent it, as posted.
    pub userid: Option<String>,
    /// What it was spent on, as posted.
    pub llmid: Option<String>,
    /// The currency of the amount.
    #[schema(value_type = String, example = "CNY")]
    pub currency: Asset,
    /// How much.
    #[schema(value_type = String, example = "0.05")]
    pub amount: Amount,
    /// What was used, as posted.
    #[schema(value_type = Option<Object>)]
    pub usage: Option<Box<RawValue>>,
    /// When it was posted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A record to be written with its operation.
pub(crate) struct NewRecord<'a> {
    pub(crate) org_id: &'a OrgId,
    pub(crate) caller: &'a Caller,
    pub(crate) transno: &'a str,
    pub(crate) user_id: &'a str,
    pub(crate) llmid: &'a str,
    pub(crate) currency: Asset,
    pub(crate) amount: Amount,
    pub(crate) usage: Option<String>,
}

impl NewRecord<'_> {
    pub(crate) fn attachment(self) -> Attachment {
        let cells = vec![
            Cell::Seq,
            self.org_id.as_str().into(),
            self.caller.org_id.as_str().into(),
            self.caller.app_id.as_ref().map(AppId::as_str).into(),
            self.caller.key_id.as_ref().map(KeyId::as_str).into(),
            self.transno.into(),
            self.user_id.into(),
            self.llmid.into(),
            self.currency.as_str().into(),
            self.amount.nanos().into(),
            self.usage.into(),
            Cell::At,
        ];
        Attachment::Insert { table: &RECORDS, cells }
    }
}

pub(crate) async fn list_records(
    reader: &Reader,
    org_id: &OrgId,
    filter: &RecordFilter,
    request: &ListRequest,
) -> Result<(Vec<AccountingRecord>, Listed)> {
    let mut filters = vec![("org_id", org_id.as_str().into())];
    filters.extend(filter.columns());
    let list = &List {
        select: RECORD_COLUMNS,
        table: "accounting_records",
        filters,
        key: &RECORD_ORDERS[0],
    };
    let page = |database| async move { list.page(&database, reader.cache(), request).await };
    let listed = reader.read(filter.min_seq, page).await?;
    let records = listed.rows.iter().map(read_record).collect::<Result<_>>()?;
    Ok((records, listed))
}

fn read_record(row: &Row) -> Result<AccountingRecord> {
    let seq = row.int(0)?;
    let damaged = || Error::Damaged(seq);
    let named = |column| row.text(column).map(|text| (!text.is_empty()).then(|| text.to_owned()));
    let usage = row.opt_text(10)?.map(|text| RawValue::from_string(text.to_owned())).transpose();
    Ok(AccountingRecord {
        id: seq.to_string(),
        seq,
        org_id: row.text(1)?.into(),
        posted_by: row.text(2)?.into(),
        app_id: row.opt_text(3)?.map(Into::into),
        key_id: row.opt_text(4)?.map(Into::into),
        transno: row.text(5)?.to_owned(),
        userid: named(6)?,
        llmid: named(7)?,
        currency: row.text(8)?.parse().map_err(|_not_a_currency| damaged())?,
        amount: Amount::from_nanos(row.int(9)?),
        usage: usage.map_err(|_not_json| damaged())?,
        created_at: Timestamp::from_micros(row.int(11)?),
    })
}
