//! Usage records as CSV, a part at a time: as much memory as one part, however many there are.

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{StreamExt as _, once, try_unfold};
use kernel::{Cursor, Page, PageRequest, Timestamp, csv_line};

use crate::{Error, Metering, Result, UsageFilter, UsageRecord, UsageStatus};

/// Records read at once.
const PART: u32 = 1_000;

const HEAD: [&str; 33] = [
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
    "cost",
    "currency",
    "debt",
    "written_off",
    "late",
    "price_id",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "usage_source",
    "stream",
    "client_gone",
    "request_id",
    "started_at",
    "ended_at",
    "run_id",
    "step",
    "pipeline",
    "node",
];

impl Metering {
    /// All records that fit, newest first, as CSV with a head line. The first part is read before
    /// this returns, so that a filter that is not valid is told.
    pub async fn export_usage(
        &self,
        filter: UsageFilter,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let mut first = csv_line(HEAD);
        let page = self.part(&filter, None).await?;
        first.push_str(&lines(&page));
        let metering = self.clone();
        let rest = try_unfold(page.next, move |next| {
            let (metering, filter) = (metering.clone(), filter.clone());
            async move {
                let Some(cursor) = next else { return Ok::<_, Error>(None) };
                let page = metering.part(&filter, Some(cursor)).await?;
                Ok(Some((Bytes::from(lines(&page)), page.next)))
            }
        });
        Ok(once(async { Ok(Bytes::from(first)) }).chain(rest))
    }

    async fn part(
        &self,
        filter: &UsageFilter,
        cursor: Option<Cursor>,
    ) -> Result<Page<UsageRecord>> {
        self.list_usage(filter, &PageRequest { limit: Some(PART), cursor }).await
    }
}

fn lines(page: &Page<UsageRecord>) -> String {
    page.rows.iter().map(|record| csv_line(cells(record))).collect()
}

fn cells(record: &UsageRecord) -> [String; HEAD.len()] {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
    [
        record.id.to_string(),
        record.org_id.to_string(),
        text(&record.user_id),
        text(&record.app_id),
        text(&record.key_id),
        record.surface.clone(),
        record.model.clone(),
        text(&record.provider),
        text(&record.upstream_model),
        UsageStatus::as_str(record.status).to_owned(),
        text(&record.error_code),
        record.upstream_status.map(|status| status.to_string()).unwrap_or_default(),
        record.cost.to_string(),
        record.currency.to_string(),
        record.debt.to_string(),
        record.written_off.to_string(),
        record.late.to_string(),
        record.price_id.clone(),
        record.input_tokens.to_string(),
        record.cached_input_tokens.to_string(),
        record.cache_write_tokens.to_string(),
        record.output_tokens.to_string(),
        record.reasoning_tokens.to_string(),
        record.usage_source.clone(),
        record.stream.to_string(),
        record.client_gone.to_string(),
        record.request_id.clone(),
        time(Some(record.started_at)),
        time(record.ended_at),
        text(&record.run_id),
        record.step.map(|step| step.to_string()).unwrap_or_default(),
        text(&record.pipeline),
        text(&record.node),
    ]
}
