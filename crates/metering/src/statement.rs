//! What happened on a wallet in a period, as JSON or CSV, a page at a time: as much memory as one page,
//! however many there are.

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{StreamExt as _, once, try_unfold};
use kernel::{Amount, Asset, OrgId, Timestamp, csv_line};
use ledger::{AccountKey, AccountKind, Entry, Period, STATEMENT_PAGE};
use serde::Deserialize;
use serde_json::json;

use crate::{Error, Metering, Result};

const HEAD: [&str; 8] = ["seq", "at", "what", "amount", "balance", "operation", "usage_id", "memo"];

/// Which statement.
#[derive(Clone, Copy, Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StatementQuery {
    /// The first instant, RFC 3339
    #[param(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// The first instant after it
    #[param(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// Such as CNY; the organization's only wallet, or the one in CNY, when absent
    #[param(value_type = Option<String>)]
    pub currency: Option<Asset>,
    /// `json` (the default) or `csv`
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub format: Format,
}

/// How a statement is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One object, its movements in `rows`.
    #[default]
    Json,
    /// A line for each movement, after a head line.
    Csv,
}

impl Format {
    /// The media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

/// A statement on its way, a page at a time.
struct Pages {
    metering: Metering,
    account: AccountKey,
    period: Period,
    format: Format,
    balance: Amount,
    after: Option<(i64, i64)>,
    ended: bool,
}

impl Metering {
    /// Every movement of an organization's wallet in a period, with the balance after it. A period that
    /// has ended gives the same bytes whenever it is asked for. A charge names its usage record. What
    /// cannot be given is told before the first part.
    pub async fn statement(
        &self,
        org_id: &OrgId,
        query: &StatementQuery,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        if query.to <= query.from {
            return Err(Error::Times);
        }
        let currency = match query.currency {
            Some(currency) => currency,
            None => self.only_currency(org_id).await?,
        };
        let account = AccountKey::new(org_id.shared(), AccountKind::Wallet, currency);
        let period = ledger::period(self.database(), &account, query.from, query.to).await?;
        let head = opening(query, org_id, currency, &period);
        let pages = Pages {
            metering: self.clone(),
            account,
            period,
            format: query.format,
            balance: period.opening,
            after: None,
            ended: false,
        };
        let rest = try_unfold(pages, |mut pages| async move {
            Ok::<_, Error>(pages.next().await?.map(|page| (page, pages)))
        });
        Ok(once(async { Ok(Bytes::from(head)) }).chain(rest))
    }

    /// The currency of an organization's only wallet, or CNY.
    #[expect(clippy::expect_used, reason = "the constant is a currency code")]
    pub async fn only_currency(&self, org_id: &OrgId) -> Result<Asset> {
        let wallets =
            ledger::holdings(self.database(), org_id.as_str(), AccountKind::Wallet).await?;
        Ok(match wallets.as_slice() {
            [only] => only.account.asset,
            _ => "CNY".parse().expect("CNY is a currency code"),
        })
    }
}

fn opening(query: &StatementQuery, org_id: &OrgId, currency: Asset, period: &Period) -> String {
    match query.format {
        Format::Csv => csv_line(HEAD),
        Format::Json => {
            let head = json!({
                "org_id": org_id, "currency": currency, "from": query.from, "to": query.to,
                "opening": period.opening, "closing": period.closing, "as_of_seq": period.to_seq,
            });
            let open = head.to_string();
            let members = open.strip_suffix('}').unwrap_or(&open);
            format!("{members},\"rows\":[")
        }
    }
}

impl Pages {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        let first = self.after.is_none();
        let (account, period, after) = (&self.account, &self.period, self.after);
        let read =
            |database| async move { ledger::entries(&database, account, period, after).await };
        // A replica that has the period's last operation has all of it.
        let entries = self.metering.reader().read(period.to_seq, read).await?;
        self.ended = entries.len() < STATEMENT_PAGE;
        self.after = entries.last().map(|entry| (entry.seq, entry.leg)).or(self.after);
        let mut page = String::new();
        for (at, entry) in entries.iter().enumerate() {
            self.balance = self.balance.saturating_add(entry.amount);
            match self.format {
                Format::Csv => page.push_str(&line_of(entry, self.balance)),
                Format::Json => {
                    page.push_str(if first && at == 0 { "" } else { "," });
                    page.push_str(&object_of(entry, self.balance));
                }
            }
        }
        if self.ended && self.format == Format::Json {
            page.push_str("]}");
        }
        Ok(Some(page.into()))
    }
}

/// The usage record that a charge is for.
fn usage_id(entry: &Entry) -> Option<&str> {
    entry.operation.strip_prefix("settle:")
}

fn object_of(entry: &Entry, balance: Amount) -> String {
    json!({
        "seq": entry.seq, "at": entry.at, "what": entry.what(), "amount": entry.amount,
        "balance": balance, "operation": entry.operation, "usage_id": usage_id(entry),
        "memo": entry.memo,
    })
    .to_string()
}

fn line_of(entry: &Entry, balance: Amount) -> String {
    csv_line([
        entry.seq.to_string().as_str(),
        entry.at.to_string().as_str(),
        entry.what(),
        entry.amount.to_string().as_str(),
        balance.to_string().as_str(),
        entry.operation.as_str(),
        usage_id(entry).unwrap_or_default(),
        entry.memo.as_deref().unwrap_or_default(),
    ])
}
