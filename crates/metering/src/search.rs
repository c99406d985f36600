//! Finding usage records.
//!
//! Records are listed newest first, in the order of the operations that ended the calls; a page
//! continues before the last one's. What has no index of its own is found through the sums: they
//! say in which hours there are calls of a model or a key, and between which operations.

use ::store::Database;
use kernel::{Cursor, OrgId, Page, PageRequest, Timestamp};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::rollups::HOUR;
use crate::{Error, Metering, Result, UsageRecord, UsageStatus, store};

/// Hours asked for at once.
const SPANS: usize = 64;
/// An hour counts as so many records looked through at least.
const LEAST_LOOKED_THROUGH: i64 = 1_000;
/// A page ends early after so many records were looked through, so that no request takes long.
const MOST_LOOKED_THROUGH: i64 = 200_000;

/// What usage records are looked for by, in a query.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// Only calls by this person.
    pub user_id: Option<String>,
    /// Only calls by this external system.
    pub app_id: Option<String>,
    /// Only calls with this API key.
    pub key_id: Option<String>,
    /// Only calls of this model.
    pub model: Option<String>,
    /// Only calls that this provider answered.
    pub provider: Option<String>,
    /// `settled` or `released`.
    pub status: Option<UsageStatus>,
    /// Only calls that failed with this code.
    pub error_code: Option<String>,
    /// Only the call of this HTTP request.
    pub request_id: Option<String>,
    /// Only the calls of this run of a flow.
    pub run_id: Option<String>,
    /// Only calls that ended then or later (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    pub from: Option<Timestamp>,
    /// Only calls that ended before (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    pub to: Option<Timestamp>,
    /// The `seq` of an answer: the list includes what it stands for.
    pub min_seq: Option<i64>,
    /// Records wanted: 1 to 1000, 50 by default.
    pub limit: Option<u32>,
    /// The `next` of the page before.
    #[param(value_type = Option<String>)]
    pub cursor: Option<Cursor>,
}

/// Narrows a listing of usage records.
#[derive(Clone, Debug, Default)]
pub struct UsageFilter {
    /// Only this organization's.
    pub org_id: Option<OrgId>,
    /// Only this person's.
    pub user_id: Option<String>,
    /// Only this external system's.
    pub app_id: Option<String>,
    /// Only this key's.
    pub key_id: Option<String>,
    /// Only of this model.
    pub model: Option<String>,
    /// Only by this provider.
    pub provider: Option<String>,
    /// Only those that stand so.
    pub status: Option<UsageStatus>,
    /// Only those that failed with this code.
    pub error_code: Option<String>,
    /// Only that of this HTTP request.
    pub request_id: Option<String>,
    /// Only those of this run.
    pub run_id: Option<String>,
    /// Only those that ended then or later.
    pub from: Option<Timestamp>,
    /// Only those that ended before.
    pub to: Option<Timestamp>,
    /// The list includes the calls that ended with this operation of the books or before.
    pub min_seq: i64,
}

/// An hour with calls that may fit, and the operations between which they ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) hour: Timestamp,
    pub(crate) first_seq: i64,
    pub(crate) last_seq: i64,
    pub(crate) calls: i64,
}

impl UsageQuery {
    /// The filter and page asked for, within an organization or everywhere.
    pub fn parts(self, org_id: Option<OrgId>) -> (UsageFilter, PageRequest) {
        let page = PageRequest { limit: self.limit, cursor: self.cursor };
        let filter = UsageFilter {
            org_id,
            user_id: self.user_id,
            app_id: self.app_id,
            key_id: self.key_id,
            model: self.model,
            provider: self.provider,
            status: self.status,
            error_code: self.error_code,
            request_id: self.request_id,
            run_id: self.run_id,
            from: self.from,
            to: self.to,
            min_seq: self.min_seq.unwrap_or(0),
        };
        (filter, page)
    }
}

impl UsageFilter {
    /// Whether an index gives the records in order.
    const fn is_direct(&self) -> bool {
        let by_caller = self.user_id.is_some() || self.app_id.is_some() || self.key_id.is_some();
        let narrow = self.model.is_some() || self.provider.is_some() || self.status.is_some();
        let times = self.from.is_some() || self.to.is_some();
        let by_error = self.error_code.is_some() && self.org_id.is_none();
        let plain = !by_caller && !narrow && !times && self.error_code.is_none();
        self.request_id.is_some() || self.run_id.is_some() || by_error || plain
    }

    /// Sums tell callers apart within an organization only.
    fn check(&self) -> Result<()> {
        let by_caller = self.user_id.is_some() || self.app_id.is_some() || self.key_id.is_some();
        if by_caller && self.org_id.is_none() {
            return Err(Error::NeedsOrganization);
        }
        Ok(())
    }
}

impl Metering {
    /// Records of ended calls, newest first. A page may hold fewer than asked for, even none, and
    /// still have a next one: the list ends with the page that has none.
    pub async fn list_usage(
        &self,
        filter: &UsageFilter,
        page: &PageRequest,
    ) -> Result<Page<UsageRecord>> {
        filter.check()?;
        let before = match &page.cursor {
            None => i64::MAX,
            Some(cursor) => cursor.key().parse().map_err(|_foreign| Error::Cursor)?,
        };
        let list = |database| async move { list(&database, filter, page, before).await };
        self.reader().read(filter.min_seq, list).await
    }
}

async fn list(
    database: &Database,
    filter: &UsageFilter,
    page: &PageRequest,
    before: i64,
) -> Result<Page<UsageRecord>> {
    if filter.is_direct() {
        let rows = store::list_usage(database, filter, before, page.fetch()).await?;
        return Ok(Page::from_fetched(rows, page, sequence));
    }
    let mut search = Search { rows: Vec::new(), wanted: page.fetch(), looked_through: 0 };
    let from = filter.from.map_or(0, |from| hour_of(from.micros()));
    let mut before_hour = first_hour_before(database, filter, before).await?;
    loop {
        let spans = store::spans(database, filter, before_hour, from, SPANS).await?;
        for span in spans.iter().filter(|span| span.first_seq < before) {
            search.look_through(database, filter, span, before).await?;
            if search.is_full() {
                return Ok(Page::from_fetched(search.rows, page, sequence));
            }
            if search.looked_through >= MOST_LOOKED_THROUGH {
                let next = Some(Cursor::after(span.first_seq.to_string()));
                return Ok(Page { rows: search.rows, next });
            }
        }
        match spans.last() {
            Some(last) if spans.len() == SPANS => before_hour = last.hour.micros(),
            _ => return Ok(Page::from_fetched(search.rows, page, sequence)),
        }
    }
}

/// The end of the newest hour to look at: that of `to`, or of the record a page continues before.
async fn first_hour_before(database: &Database, filter: &UsageFilter, before: i64) -> Result<i64> {
    let to = filter.to.map_or(i64::MAX, Timestamp::micros);
    let mut latest = to;
    if before != i64::MAX {
        let last = UsageFilter { org_id: filter.org_id.clone(), ..UsageFilter::default() };
        let rows = store::list_usage(database, &last, before.saturating_add(1), 1).await?;
        let ended = rows.first().and_then(|row| row.ended_at);
        latest = ended.map_or(to, |ended| to.min(ended.micros() + 1));
    }
    Ok(if latest == i64::MAX { latest } else { hour_of(latest - 1) + HOUR })
}

/// Records found so far, and how many were looked through for them.
struct Search {
    rows: Vec<UsageRecord>,
    wanted: i64,
    looked_through: i64,
}

impl Search {
    fn missing(&self) -> i64 {
        self.wanted - i64::try_from(self.rows.len()).unwrap_or(i64::MAX)
    }

    fn is_full(&self) -> bool {
        self.missing() <= 0
    }

    async fn look_through(
        &mut self,
        database: &Database,
        filter: &UsageFilter,
        span: &Span,
        before: i64,
    ) -> Result<()> {
        let missing = self.missing();
        let found = store::list_span(database, filter, span, before, missing).await?;
        self.rows.extend(found);
        self.looked_through += span.calls.max(LEAST_LOOKED_THROUGH);
        Ok(())
    }
}

fn sequence(record: &UsageRecord) -> String {
    record.op_seq.unwrap_or_default().to_string()
}

pub(crate) const fn hour_of(micros: i64) -> i64 {
    micros - micros.rem_euclid(HOUR)
}
