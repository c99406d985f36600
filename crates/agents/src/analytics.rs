//! Analytics: from the sums that were kept with the records.

use std::collections::BTreeMap;

use kernel::{Amount, Timestamp};
use serde_json::{Map, Value, json};

use crate::history::{Record, count, rate};
use crate::records::{Decimal, Figures, HOUR, Sum, bucket_value, date_of};
use crate::store::figures::{self, Times, Totals};
use crate::store::history::{self, Filter};
use crate::{Agents, Error, Owner, Result};

/// The longest span of a trend, in hours, and the longest that is told hour by hour.
const LONGEST_TREND: u32 = 366 * 24;
const LONGEST_HOURLY: u32 = 48;
const DAY: i64 = 24 * HOUR;
/// Errors that are told in full.
const RECENT: u32 = 10;
/// Records of a broken hour that are read at once.
const PART: u32 = 1_000;

/// What a trend is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    Performance,
    Tokens,
    Cost,
    Errors,
}

impl Metric {
    pub(crate) fn read(name: &str) -> Result<Self> {
        match name {
            "performance" => Ok(Self::Performance),
            "tokens" => Ok(Self::Tokens),
            "cost" => Ok(Self::Cost),
            "errors" => Ok(Self::Errors),
            _ => {
                let message = "use performance, tokens, cost or errors".to_owned();
                Err(Error::Query("metric", message))
            }
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Performance => "performance",
            Self::Tokens => "tokens",
            Self::Cost => "cost",
            Self::Errors => "errors",
        }
    }

    const fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Performance => &["latency"],
            Self::Tokens => &["prompt", "completion"],
            Self::Cost => &["cost"],
            Self::Errors => &["error"],
        }
    }

    fn point(self, at: Timestamp, totals: &Totals) -> Value {
        match self {
            Self::Performance => {
                let times = Latencies::of(totals);
                json!({"timestamp": at, "avg_response_time": times.mean(), "requests": times.all.number})
            }
            Self::Tokens => json!({"timestamp": at, "total_tokens": total_of(totals, "prompt")
                + total_of(totals, "completion")}),
            Self::Cost => {
                let costs = Costs::of(totals);
                json!({"timestamp": at, "total_cost": costs.total(), "currency": costs.currency()})
            }
            Self::Errors => json!({"timestamp": at, "error_count": number_of(totals, "error")}),
        }
    }
}

/// A span such as `7d` or `24h`, in hours.
pub(crate) fn read_span(text: &str) -> Result<u32> {
    let wanted = || {
        let message = "a number of days or hours is wanted, such as 7d or 24h, at most 366d";
        Error::Query("time_range", message.to_owned())
    };
    let hours = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((number, "d")) => number.parse::<u32>().ok().and_then(|days| days.checked_mul(24)),
        Some((number, "h")) => number.parse::<u32>().ok(),
        _ => None,
    };
    hours.filter(|hours| (1..=LONGEST_TREND).contains(hours)).ok_or_else(wanted)
}

impl Agents {
    /// The session asked about, seen by the owner; empty for all.
    async fn subject(&self, owner: &Owner, session: Option<&str>) -> Result<String> {
        match session {
            Some(id) => Ok(self.find_history(owner, id).await?.view.session_id),
            None => Ok(String::new()),
        }
    }

    /// Sums of a time: of whole hours from what is kept, of broken ones from the records themselves.
    async fn sums(
        &self,
        owner: &Owner,
        session: &str,
        times: Times,
        kinds: &[&str],
    ) -> Result<Totals> {
        let database = &self.parts().database;
        let Bounds { whole, broken } = Bounds::of(times, self.now());
        let mut totals = figures::totals(database, owner, session, whole, kinds).await?;
        for (from, to) in broken {
            let filter = Filter { from: Some(from), to: Some(to), types: Vec::new() };
            let mut figures = Figures::default();
            let mut place = None;
            loop {
                let part = history::between(database, owner, session, &filter, place.take(), PART);
                let part = part.await?;
                part.iter().for_each(|kept| figures.count_kept(&kept.body));
                match part.last() {
                    Some(last) if part.len() >= PART as usize => place = Some(last.place.clone()),
                    _ => break,
                }
            }
            for (_, kind, name, sum) in figures.iter().filter(|(_, kind, ..)| kinds.contains(kind))
            {
                let known = totals.entry((kind.to_owned(), name.to_owned()));
                known.and_modify(|known| known.add(*sum)).or_insert(*sum);
            }
        }
        Ok(totals)
    }

    pub(crate) async fn performance(
        &self,
        owner: &Owner,
        session: Option<&str>,
        times: Times,
    ) -> Result<Value> {
        let subject = self.subject(owner, session).await?;
        let totals = self.sums(owner, &subject, times, &["record", "latency"]).await?;
        let (requests, errors) = (count(&totals, "llm_request"), count(&totals, "error"));
        let times = Latencies::of(&totals);
        let success = rate(requests - errors, requests);
        Ok(json!({
            "session_id": session,
            "avg_response_time": times.mean(),
            "max_response_time": millis(times.all.most),
            "min_response_time": millis(times.all.least),
            "p50_response_time": times.percentile(50),
            "p95_response_time": times.percentile(95),
            "p99_response_time": times.percentile(99),
            "total_requests": requests,
            "success_rate": success,
            "error_rate": 100.0 - success,
        }))
    }

    pub(crate) async fn tokens(&self, owner: &Owner, session: &str) -> Result<Value> {
        let subject = self.subject(owner, Some(session)).await?;
        let kinds = ["prompt", "completion", "cost"];
        let totals = self.sums(owner, &subject, Times::default(), &kinds).await?;
        let (prompt, completion) = (total_of(&totals, "prompt"), total_of(&totals, "completion"));
        let mut models: BTreeMap<&str, i64> = BTreeMap::new();
        for ((kind, model), sum) in &totals {
            if kind != "cost" {
                *models.entry(model).or_default() += sum.total;
            }
        }
        let costs = Costs::of(&totals);
        Ok(json!({
            "session_id": session,
            "total_tokens": prompt + completion,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "model_usage": models,
            "estimated_cost": costs.total(),
            "currency": costs.currency(),
        }))
    }

    /// As text, because a JSON value would not keep every digit.
    pub(crate) async fn cost(&self, owner: &Owner, session: &str) -> Result<Record> {
        let subject = self.subject(owner, Some(session)).await?;
        let database = &self.parts().database;
        let hours =
            figures::by_hour(database, owner, &subject, Times::default(), &["cost"]).await?;
        let mut all = Costs::default();
        let mut days: BTreeMap<String, Costs> = BTreeMap::new();
        for (hour, totals) in &hours {
            all.add(totals);
            days.entry(date_of(Timestamp::from_micros(*hour))).or_default().add(totals);
        }
        let currency = all.currency();
        let by_time: Vec<DayCost<'_>> = days
            .iter()
            .map(|(date, costs)| DayCost { date, cost: Decimal(costs.in_currency(currency)) })
            .collect();
        let by_model = all.by_model(currency);
        let cost = SessionCost {
            session_id: session,
            total_cost: Decimal(all.in_currency(currency)),
            currency,
            costs: all.sums(),
            cost_by_model: by_model.iter().map(|(model, cost)| (*model, Decimal(*cost))).collect(),
            cost_by_time: by_time,
        };
        serde_json::value::to_raw_value(&cost).map_err(|_no_json| Error::Damaged("cost"))
    }

    pub(crate) async fn errors(
        &self,
        owner: &Owner,
        session: Option<&str>,
        times: Times,
    ) -> Result<Value> {
        let subject = self.subject(owner, session).await?;
        let totals = self.sums(owner, &subject, times, &["error"]).await?;
        let types: BTreeMap<&str, i64> =
            totals.iter().map(|((_, name), sum)| (name.as_str(), sum.number)).collect();
        let database = &self.parts().database;
        let hours = figures::by_hour(database, owner, &subject, times, &["error"]).await?;
        let mut days: BTreeMap<String, i64> = BTreeMap::new();
        for (hour, totals) in &hours {
            let day = days.entry(date_of(Timestamp::from_micros(*hour))).or_default();
            *day += number_of(totals, "error");
        }
        let days: Vec<Value> =
            days.iter().map(|(date, count)| json!({"date": date, "count": count})).collect();
        let session_row = match session {
            Some(id) => Some(self.find_history(owner, id).await?),
            None => None,
        };
        let recent =
            history::newest(database, owner, session_row.as_ref(), Some("error"), RECENT).await?;
        let recent: Vec<Value> =
            recent.iter().filter_map(|kept| serde_json::from_str(&kept.body).ok()).collect();
        Ok(json!({
            "session_id": session,
            "total_errors": number_of(&totals, "error"),
            "error_by_type": types,
            "error_by_time": days,
            "recent_errors": recent,
        }))
    }

    pub(crate) async fn trend(
        &self,
        owner: &Owner,
        metric: Metric,
        hours: u32,
        session: Option<&str>,
    ) -> Result<Value> {
        let subject = self.subject(owner, session).await?;
        let to = self.now();
        let from = Timestamp::from_micros(to.micros() - i64::from(hours) * HOUR);
        let step = if hours <= LONGEST_HOURLY { HOUR } else { DAY };
        let times = Times { from: Some(from), to: Some(to) };
        let database = &self.parts().database;
        let kept = figures::by_hour(database, owner, &subject, times, metric.kinds()).await?;
        let mut points: BTreeMap<i64, Totals> = BTreeMap::new();
        let mut at = from.micros().div_euclid(step) * step;
        while at <= to.micros() {
            points.insert(at, Totals::new());
            at += step;
        }
        for (hour, totals) in kept {
            let point = points.entry(hour.div_euclid(step) * step).or_default();
            for (name, sum) in totals {
                point.entry(name).and_modify(|known| known.add(sum)).or_insert(sum);
            }
        }
        let data: Vec<Value> = points
            .iter()
            .map(|(at, totals)| metric.point(Timestamp::from_micros(*at), totals))
            .collect();
        Ok(json!({"metric": metric.as_str(), "time_range": format!("{from}/{to}"), "data": data}))
    }

    pub(crate) async fn dashboard(&self, owner: &Owner, session: Option<&str>) -> Result<Value> {
        let performance = self.performance(owner, session, Times::default()).await?;
        let names = ["avg_response_time", "total_requests", "success_rate", "error_rate"];
        let part =
            |name: &str| (name.to_owned(), performance.get(name).cloned().unwrap_or_default());
        let summary: Map<String, Value> = names.map(part).into_iter().collect();
        let mut board = Map::new();
        board.insert("summary".to_owned(), summary.into());
        board.insert("performance".to_owned(), performance);
        if let Some(id) = session {
            let cost = serde_json::from_str(self.cost(owner, id).await?.get())
                .map_err(|_no_json| Error::Damaged("cost"))?;
            board.insert("tokens".to_owned(), self.tokens(owner, id).await?);
            board.insert("cost".to_owned(), cost);
            board.insert("errors".to_owned(), self.errors(owner, session, Times::default()).await?);
        }
        Ok(board.into())
    }
}

/// What a session's calls have cost.
#[derive(serde::Serialize)]
struct SessionCost<'a> {
    session_id: &'a str,
    total_cost: Decimal,
    currency: &'a str,
    /// By currency, should there be several.
    costs: BTreeMap<&'a str, Amount>,
    cost_by_model: BTreeMap<&'a str, Decimal>,
    cost_by_time: Vec<DayCost<'a>>,
}

#[derive(serde::Serialize)]
struct DayCost<'a> {
    date: &'a str,
    cost: Decimal,
}

/// Costs by currency and model.
#[derive(Debug, Default)]
struct Costs(BTreeMap<(String, String), i64>);

impl Costs {
    fn of(totals: &Totals) -> Self {
        let mut costs = Self::default();
        costs.add(totals);
        costs
    }

    fn add(&mut self, totals: &Totals) {
        for ((_, name), sum) in totals.iter().filter(|((kind, _), _)| kind == "cost") {
            let (currency, model) = name.split_once(' ').unwrap_or((name, ""));
            *self.0.entry((currency.to_owned(), model.to_owned())).or_default() += sum.total;
        }
    }

    fn sums(&self) -> BTreeMap<&str, Amount> {
        let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
        for ((currency, _), nanos) in &self.0 {
            *sums.entry(currency).or_default() += nanos;
        }
        sums.into_iter().map(|(currency, nanos)| (currency, Amount::from_nanos(nanos))).collect()
    }

    /// The currency in which the most was spent; empty if nothing was.
    fn currency(&self) -> &str {
        let sums = self.sums();
        sums.iter().max_by_key(|(_, amount)| **amount).map_or("", |(currency, _)| *currency)
    }

    fn in_currency(&self, currency: &str) -> Amount {
        self.sums().get(currency).copied().unwrap_or_default()
    }

    fn by_model(&self, currency: &str) -> BTreeMap<&str, Amount> {
        let own = self.0.iter().filter(|((known, _), _)| known == currency);
        own.map(|((_, model), nanos)| (model.as_str(), Amount::from_nanos(*nanos))).collect()
    }

    /// All of the main currency, as a number.
    fn total(&self) -> Value {
        let text = self.in_currency(self.currency()).to_string();
        serde_json::from_str(&text).unwrap_or_default()
    }
}

/// Response times of many calls.
struct Latencies {
    all: Sum,
    buckets: Vec<(i64, i64)>,
}

impl Latencies {
    fn of(totals: &Totals) -> Self {
        let mut all = Sum { number: 0, total: 0, least: 0, most: 0 };
        let mut buckets = Vec::new();
        for ((_, name), sum) in totals.iter().filter(|((kind, _), _)| kind == "latency") {
            all.add(*sum);
            buckets.push((bucket_value(name), sum.number));
        }
        Self { all, buckets }
    }

    /// In milliseconds; 0 of none.
    fn mean(&self) -> f64 {
        if self.all.number == 0 {
            return 0.0;
        }
        millis(self.all.total / self.all.number)
    }

    /// The time that so many of a hundred calls took at most, in milliseconds.
    fn percentile(&self, percent: i64) -> f64 {
        let wanted = (self.all.number * percent + 99) / 100;
        let mut seen = 0;
        for (micros, number) in &self.buckets {
            seen += number;
            if seen >= wanted && seen > 0 {
                return millis((*micros).clamp(self.all.least, self.all.most));
            }
        }
        0.0
    }
}

#[expect(clippy::cast_precision_loss, reason = "a time, for people")]
fn millis(micros: i64) -> f64 {
    micros as f64 / 1000.0
}

fn total_of(totals: &Totals, kind: &str) -> i64 {
    totals.iter().filter(|((known, _), _)| known == kind).map(|(_, sum)| sum.total).sum()
}

fn number_of(totals: &Totals, kind: &str) -> i64 {
    totals.iter().filter(|((known, _), _)| known == kind).map(|(_, sum)| sum.number).sum()
}

/// A time as whole hours, and the broken ones at its ends.
struct Bounds {
    whole: Times,
    broken: Vec<(Timestamp, Timestamp)>,
}

impl Bounds {
    fn of(times: Times, now: Timestamp) -> Self {
        let at = Timestamp::from_micros;
        let from = times.from.map_or(0, |from| from.micros().max(0));
        let to = times.to.unwrap_or(now).micros().min(now.micros() + DAY);
        let first = from.saturating_add(HOUR - 1).div_euclid(HOUR) * HOUR;
        // Up to and with this instant.
        let end = to.saturating_add(1).div_euclid(HOUR) * HOUR;
        if times.to.is_none() && first == from {
            return Self { whole: Times { from: Some(at(first)), to: None }, broken: Vec::new() };
        }
        let mut broken = Vec::new();
        if first > end {
            // Within one hour.
            if to >= from {
                broken.push((at(from), at(to)));
            }
            return Self { whole: NO_TIME, broken };
        }
        if first > from {
            broken.push((at(from), at(first - 1)));
        }
        let open = times.to.is_none();
        if !open && to >= end {
            broken.push((at(end), at(to)));
        }
        let until = if open { None } else { Some(at(end - 1)) };
        Self { whole: Times { from: Some(at(first)), to: until }, broken }
    }
}

/// Before everything.
const NO_TIME: Times =
    Times { from: Some(Timestamp::from_micros(0)), to: Some(Timestamp::from_micros(-1)) };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_days_or_hours() {
        assert_eq!((read_span("7d").unwrap(), read_span("24h").unwrap()), (168, 24));
        for bad in ["", "d", "0d", "7", "7w", "-1d", "400d", "99999999999d", "é"] {
            assert!(read_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_whole_hours_and_what_is_left() {
        let at = |hours: i64, more: i64| Timestamp::from_micros(hours * HOUR + more);
        let shown = |from, to| {
            let Bounds { whole, broken } = Bounds::of(Times { from, to }, at(100, 5));
            let bound = |time: Option<Timestamp>| time.map(Timestamp::micros);
            let broken: Vec<_> =
                broken.iter().map(|(from, to)| (from.micros(), to.micros())).collect();
            (bound(whole.from), bound(whole.to), broken)
        };
        assert_eq!(shown(None, None), (Some(0), None, vec![]));
        assert_eq!(
            shown(Some(at(1, 7)), None),
            (Some(2 * HOUR), None, vec![(HOUR + 7, 2 * HOUR - 1)])
        );
        assert_eq!(
            shown(Some(at(1, 7)), Some(at(3, 9))),
            (
                Some(2 * HOUR),
                Some(3 * HOUR - 1),
                vec![(HOUR + 7, 2 * HOUR - 1), (3 * HOUR, 3 * HOUR + 9)]
            )
        );
        let (_, _, within) = shown(Some(at(1, 7)), Some(at(1, 9)));
        assert_eq!(within, vec![(HOUR + 7, HOUR + 9)]);
        assert_eq!(shown(Some(at(2, 0)), Some(at(1, 0))).2, vec![]);
    }

    #[test]
    fn percentiles_come_from_buckets() {
        let mut totals = Totals::new();
        let sum =
            |number, value: i64| Sum { number, total: number * value, least: value, most: value };
        totals.insert(("latency".to_owned(), "0100".to_owned()), sum(98, bucket_value("0100")));
        totals.insert(("latency".to_owned(), "0200".to_owned()), sum(2, bucket_value("0200")));
        let times = Latencies::of(&totals);
        assert!((times.percentile(50) - millis(bucket_value("0100"))).abs() < 0.001);
        assert!((times.percentile(99) - millis(bucket_value("0200"))).abs() < 0.001);
        assert!(Latencies::of(&Totals::new()).mean().abs() < f64::EPSILON);
    }
}
