//! Reports of usage by hour, day, model and caller, from the sums.

use std::collections::BTreeMap;

use kernel::{Amount, OrgId, Timestamp, Zone};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::rollups::{DAY, HOUR};
use crate::store::{Figures, Source};
use crate::{Error, Metering, Result, store};

/// Without `from`, a report reaches back so far.
const BY_DEFAULT: i64 = 30 * DAY;
/// More rows than this are no report.
const MOST_ROWS: usize = 10_000;
/// Hours of days in a time zone are put together here: so many are read for it at most.
const MOST_HOURS: usize = 200_000;
/// A report over so many calls may be a few seconds old.
const MANY_CALLS: i64 = 100_000;

/// What a report tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Hours, UTC.
    Hour,
    /// Days, in the report's time zone.
    Day,
    /// Models.
    Model,
    /// Providers.
    Provider,
    /// Organizations.
    Org,
    /// Persons.
    User,
    /// External systems.
    App,
    /// API keys.
    Key,
}

/// What is asked of a report, in a query.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SummaryQuery {
    /// What to tell apart, comma-separated: `hour` or `day`, `model`, `user`, `app`, `key`,
    /// `provider`, `org`. Without it, one row for each currency.
    pub group_by: Option<String>,
    /// Only calls that ended in this hour or later (RFC 3339); 30 days before `to` by default.
    #[param(value_type = Option<String>, format = DateTime)]
    pub from: Option<Timestamp>,
    /// Only calls that ended before the end of this hour (RFC 3339); now by default.
    #[param(value_type = Option<String>, format = DateTime)]
    pub to: Option<Timestamp>,
    /// The time zone of days, such as `Asia/Shanghai`; UTC by default.
    pub time_zone: Option<String>,
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
    /// The `seq` of an answer: the report includes what it stands for.
    pub min_seq: Option<i64>,
}

/// What a report is about.
#[derive(Clone, Debug)]
pub(crate) struct SummaryFilter {
    pub(crate) org_id: Option<OrgId>,
    pub(crate) user_id: Option<String>,
    pub(crate) app_id: Option<String>,
    pub(crate) key_id: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// One row of a report. What was not asked to be told apart is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SummaryRow {
    /// When the hour or day begins.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// The date of the day, in the report's time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// The model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The provider; empty where none was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The organization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// The person; empty for calls without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The external system; empty for calls without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// The API key; empty for calls without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The currency of `cost`.
    pub currency: String,
    /// Calls that ended.
    pub calls: i64,
    /// Of these, calls that failed.
    pub failed: i64,
    /// Of these, calls that cost nothing because they gave nothing.
    pub released: i64,
    /// What was charged, as a decimal.
    #[schema(value_type = String, example = "0.00042")]
    pub cost: Amount,
    /// Tokens read, not from a cache.
    pub input_tokens: i64,
    /// Tokens read from upstreams' caches.
    pub cached_input_tokens: i64,
    /// Tokens written to upstreams' caches.
    pub cache_write_tokens: i64,
    /// Tokens produced.
    pub output_tokens: i64,
    /// Tokens produced while thinking.
    pub reasoning_tokens: i64,
}

/// A report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Summary {
    /// Where the report begins: a whole hour, or day where it is made of days.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// Where it ends.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// The time zone of days.
    pub time_zone: String,
    /// What is told apart.
    pub group_by: Vec<By>,
    /// In the order of `group_by`.
    pub rows: Vec<SummaryRow>,
    /// The rows added up, for each currency.
    pub totals: Vec<SummaryRow>,
}

impl By {
    const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Org => "org",
            Self::User => "user",
            Self::App => "app",
            Self::Key => "key",
        }
    }

    /// The column of the sums; periods have none of their own.
    pub(crate) const fn column(self) -> &'static str {
        match self {
            Self::Hour | Self::Day => "",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Org => "org_id",
            Self::User => "user_id",
            Self::App => "app_id",
            Self::Key => "key_id",
        }
    }

    fn parse(list: &str) -> Result<Vec<Self>> {
        const ALL: [By; 8] =
            [By::Hour, By::Day, By::Model, By::Provider, By::Org, By::User, By::App, By::Key];
        let mut all = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let by = ALL.into_iter().find(|by| by.name() == name);
            let by = by.ok_or_else(|| Error::GroupBy(format!("{name:?} is not one of them")))?;
            if !all.contains(&by) {
                all.push(by);
            }
        }
        if all.contains(&Self::Hour) && all.contains(&Self::Day) {
            return Err(Error::GroupBy("hour and day exclude each other".to_owned()));
        }
        Ok(all)
    }
}

/// How a report is made.
struct Plan {
    source: Source,
    filter: SummaryFilter,
    group_by: Vec<By>,
    zone: Zone,
    zone_name: String,
}

impl Metering {
    /// A report over an organization's calls, or everybody's.
    pub async fn summarize(&self, query: SummaryQuery, org_id: Option<OrgId>) -> Result<Summary> {
        let min_seq = query.min_seq.unwrap_or(0);
        let plan = Plan::new(query, org_id, self.now())?;
        let columns: Vec<By> =
            plan.group_by.iter().copied().filter(|by| !by.column().is_empty()).collect();
        let (_, most) = plan.period();
        let figures = self.figures(&plan, &columns, min_seq).await?;
        if figures.len() > most {
            return Err(Error::TooManyRows);
        }
        plan.report(figures, &columns)
    }

    /// What the report is made of; where that is much, as it was up to five seconds ago.
    async fn figures(&self, plan: &Plan, columns: &[By], min_seq: i64) -> Result<Vec<Figures>> {
        let (length, most) = plan.period();
        let (source, filter) = (plan.source, &plan.filter);
        let ask = |database| async move {
            store::summarize(&database, source, filter, length, columns, most + 1).await
        };
        let read = || self.reader().read(min_seq, ask);
        if min_seq > 0 {
            return read().await;
        }
        let name = format!("summary {source:?} {filter:?} {length:?} {columns:?} {most}");
        let many = |figures: &Vec<Figures>| {
            figures.iter().map(|figures| figures.calls).sum::<i64>() >= MANY_CALLS
        };
        match self.reader().cache().read(&name, many, read).await {
            Ok(figures) => Ok(figures),
            // It was somebody else's failure, too.
            Err(_shared) => read().await,
        }
    }
}

impl Plan {
    fn new(query: SummaryQuery, org_id: Option<OrgId>, now: Timestamp) -> Result<Self> {
        let group_by = By::parse(query.group_by.as_deref().unwrap_or_default())?;
        let zone_name = query.time_zone.unwrap_or_else(|| "UTC".to_owned());
        let zone = zone_name.parse().map_err(|_unknown| Error::TimeZone(zone_name.clone()))?;
        let to = query.to.unwrap_or(now).micros();
        let from = query.from.map_or_else(|| to.saturating_sub(BY_DEFAULT), Timestamp::micros);
        let filter = SummaryFilter {
            org_id,
            user_id: query.user_id,
            app_id: query.app_id,
            key_id: query.key_id,
            model: query.model,
            provider: query.provider,
            from: Timestamp::from_micros(from),
            to: Timestamp::from_micros(to),
        };
        let source = source(&filter, &group_by)?;
        let mut plan = Self { source, filter, group_by, zone, zone_name };
        plan.whole_periods()?;
        Ok(plan)
    }

    /// From the beginning of the first hour or day to the end of the last.
    fn whole_periods(&mut self) -> Result<()> {
        let length = if self.source == Source::Days { DAY } else { HOUR };
        if length == DAY && self.group_by.contains(&By::Day) && self.zone_name != "UTC" {
            return Err(Error::GroupBy(
                "days by organization or provider are UTC days: leave time_zone out".to_owned(),
            ));
        }
        let (from, to) = (self.filter.from.micros(), self.filter.to.micros());
        if from >= to {
            return Err(Error::Times);
        }
        let begin = |micros: i64| micros - micros.rem_euclid(length);
        self.filter.from = Timestamp::from_micros(begin(from));
        self.filter.to = Timestamp::from_micros(begin(to.saturating_sub(1)).saturating_add(length));
        Ok(())
    }

    /// Days of a time zone are read as hours.
    fn in_zone(&self) -> bool {
        self.group_by.contains(&By::Day) && self.source != Source::Days && self.zone_name != "UTC"
    }

    fn period(&self) -> (Option<i64>, usize) {
        if self.in_zone() {
            (Some(HOUR), MOST_HOURS)
        } else if self.group_by.contains(&By::Day) {
            (Some(DAY), MOST_ROWS)
        } else {
            (self.group_by.contains(&By::Hour).then_some(HOUR), MOST_ROWS)
        }
    }

    fn report(self, figures: Vec<Figures>, columns: &[By]) -> Result<Summary> {
        let mut rows: BTreeMap<(i64, Vec<String>, String), Figures> = BTreeMap::new();
        let mut totals: BTreeMap<String, Figures> = BTreeMap::new();
        for figure in figures {
            let total = totals.entry(figure.currency.clone()).or_default();
            total.currency.clone_from(&figure.currency);
            total.add(&figure);
            let period =
                if self.in_zone() { day_in(&self.zone, figure.period) } else { figure.period };
            let row = rows.entry((period, figure.of.clone(), figure.currency.clone()));
            let row = row.or_insert_with(|| Figures {
                period,
                of: figure.of.clone(),
                currency: figure.currency.clone(),
                ..Figures::default()
            });
            row.add(&figure);
        }
        if rows.len() > MOST_ROWS {
            return Err(Error::TooManyRows);
        }
        let rows = rows.into_values().map(|figures| self.row(figures, columns)).collect();
        let totals = totals.into_values().map(SummaryRow::plain).collect();
        let SummaryFilter { from, to, .. } = self.filter;
        Ok(Summary { from, to, time_zone: self.zone_name, group_by: self.group_by, rows, totals })
    }

    fn row(&self, mut figures: Figures, columns: &[By]) -> SummaryRow {
        let (period, of) = (figures.period, std::mem::take(&mut figures.of));
        let mut row = SummaryRow::plain(figures);
        if self.group_by.contains(&By::Hour) || self.group_by.contains(&By::Day) {
            row.starts_at = Some(Timestamp::from_micros(period));
        }
        if self.group_by.contains(&By::Day) {
            let zone = if self.in_zone() { self.zone.clone() } else { Zone::default() };
            let shown = zone.clock(Timestamp::from_micros(period));
            row.day = Some(shown.date().to_string());
        }
        for (by, value) in columns.iter().zip(of) {
            match by {
                By::Hour | By::Day => {}
                By::Model => row.model = Some(value),
                By::Provider => row.provider = Some(value),
                By::Org => row.org_id = Some(value),
                By::User => row.user_id = Some(value),
                By::App => row.app_id = Some(value),
                By::Key => row.key_id = Some(value),
            }
        }
        row
    }
}

/// The smallest sums that can tell what is asked.
fn source(filter: &SummaryFilter, group_by: &[By]) -> Result<Source> {
    let grouped = |one: &[By]| one.iter().any(|by| group_by.contains(by));
    let by_caller = filter.user_id.is_some()
        || filter.app_id.is_some()
        || filter.key_id.is_some()
        || grouped(&[By::User, By::App, By::Key]);
    let by_provider = filter.provider.is_some() || grouped(&[By::Provider]);
    let by_org = grouped(&[By::Org]) || (filter.org_id.is_some() && by_provider);
    if by_caller && filter.org_id.is_none() {
        return Err(Error::NeedsOrganization);
    }
    if by_caller && (by_provider || grouped(&[By::Org])) {
        return Err(Error::GroupBy("callers are not told apart by provider or org".to_owned()));
    }
    if by_org && (grouped(&[By::Hour, By::Model]) || filter.model.is_some()) {
        return Err(Error::GroupBy(
            "by org, and by provider within one, there are days: no hours and no models".to_owned(),
        ));
    }
    Ok(match filter.org_id {
        _ if by_org => Source::Days,
        Some(_) => Source::Hours,
        None => Source::Totals,
    })
}

/// The beginning of the day, in this zone, in which an hour begins: where days begin within an hour,
/// that hour counts to the day before.
fn day_in(zone: &Zone, hour: i64) -> i64 {
    zone.day(Timestamp::from_micros(hour)).start.micros()
}

impl Figures {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.released += other.released;
        self.cost = self.cost.saturating_add(other.cost);
        self.tokens.iter_mut().zip(other.tokens).for_each(|(sum, more)| *sum += more);
    }
}

impl SummaryRow {
    fn plain(figures: Figures) -> Self {
        let Figures { currency, calls, failed, released, cost, tokens, .. } = figures;
        let [
            input_tokens,
            cached_input_tokens,
            cache_write_tokens,
            output_tokens,
            reasoning_tokens,
        ] = tokens;
        Self {
            starts_at: None,
            day: None,
            model: None,
            provider: None,
            org_id: None,
            user_id: None,
            app_id: None,
            key_id: None,
            currency,
            calls,
            failed,
            released,
            cost,
            input_tokens,
            cached_input_tokens,
            cache_write_tokens,
            output_tokens,
            reasoning_tokens,
        }
    }
}
