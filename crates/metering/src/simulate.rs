//! What calls of the past would have cost at other prices.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kernel::{Amount, Asset, OrgId, PageRequest, Timestamp};
use pricing::{PriceVersion, Quote};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::explain::tokens;
use crate::prices::{Basis, Place, payer};
use crate::store::{self, prices};
use crate::{Metering, PriceBookError, Result, UsageRecord, UsageStatus};

/// Calls that one simulation reads at most.
const MOST_CALLS: u64 = 2_000_000;
/// Units of a month may go back to before the period that is asked for.
const LONGEST_MONTH: i64 = 32 * 24 * 3_600_000_000;

/// Which calls to compute again: those that ended in the period, all or of one organization or
/// model.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Simulation {
    /// The start of the period.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// Its end, which is not in it.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// Only this organization's calls.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub org_id: Option<OrgId>,
    /// Only calls of this model.
    #[serde(default)]
    pub model: Option<String>,
}

/// What the calls cost, and would have cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Simulated {
    /// The version that was tried.
    pub version_id: String,
    /// Charged calls that were computed again.
    pub calls: u64,
    /// For each organization, model and currency.
    pub rows: Vec<SimulatedRow>,
}

/// The calls of one organization, model and currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SimulatedRow {
    /// Who paid.
    pub org_id: String,
    /// The public model name.
    pub model: String,
    /// The currency of the amounts.
    #[schema(value_type = String)]
    pub currency: Asset,
    /// Charged calls.
    pub calls: u64,
    /// Of these, calls that the version has no price for in this currency: they keep what they
    /// cost.
    pub unpriced: u64,
    /// What they were charged.
    #[schema(value_type = String)]
    pub cost_before: Amount,
    /// What they would have been charged.
    #[schema(value_type = String)]
    pub cost_after: Amount,
    /// `cost_after` less `cost_before`.
    #[schema(value_type = String)]
    pub difference: Amount,
}

type Key = (String, String, Asset);
type Counts = HashMap<(OrgId, Arc<str>, String), u64>;

/// A simulation on its way.
struct Trial<'a> {
    version: &'a PriceVersion,
    asked: &'a Simulation,
    rows: BTreeMap<Key, SimulatedRow>,
    counts: Counts,
    calls: u64,
}

impl Metering {
    /// Computes past calls again at the prices of a version. Each call is priced for its time, with
    /// the terms that its organization had and the step that made it, and units add up in the order in which calls ended.
    pub async fn simulate(&self, version_id: &str, asked: &Simulation) -> Result<Simulated> {
        let version = self.prices().version(version_id).await?.version;
        let mut trial = Trial {
            version: &version,
            asked,
            rows: BTreeMap::new(),
            counts: Counts::new(),
            calls: 0,
        };
        // Only a price that counts units needs to know what was before the period.
        let before = if version.counts_units() { LONGEST_MONTH } else { 0 };
        let since = Timestamp::from_micros(asked.from.micros().saturating_sub(before));
        let mut after = store::first_ended_at(self.database(), since).await? - 1;
        let mut read = 0;
        let (database, org_id) = (self.database(), asked.org_id.as_ref());
        let page = PageRequest { limit: Some(1000), cursor: None };
        loop {
            let records = store::usage_after(database, org_id, after, &page).await?;
            let Some(last) = records.last().and_then(|record| record.op_seq) else { break };
            let bases = prices::bases_between(database, org_id, after, last).await?;
            after = last;
            read += records.len() as u64;
            if read > MOST_CALLS {
                return Err(PriceBookError::TooManyCalls(MOST_CALLS).into());
            }
            for record in &records {
                trial.again(record, record.op_seq.and_then(|seq| bases.get(&seq)))?;
            }
            let end = store::well_after(asked.to);
            if records.iter().all(|record| record.ended_at.is_some_and(|at| at > end)) {
                break;
            }
        }
        let rows = trial.rows.into_values().collect();
        Ok(Simulated { version_id: version_id.to_owned(), calls: trial.calls, rows })
    }
}

impl Trial<'_> {
    fn again(&mut self, record: &UsageRecord, basis: Option<&Basis>) -> Result<()> {
        let ended_at = record.ended_at.unwrap_or_default();
        if record.status != UsageStatus::Settled || ended_at >= self.asked.to {
            return Ok(());
        }
        let terms = basis.map(|basis| &basis.terms);
        let payer = payer(&record.org_id, terms, Place::of(record));
        let quote = self
            .version
            .quote(&record.model, &payer, record.started_at)
            .filter(|quote| quote.currency() == record.currency);
        let anew = quote.map(|quote| self.cost(quote, record, basis)).transpose()?;
        let cached = basis.and_then(|basis| basis.cached);
        let cost = anew.map(|anew| cached.map_or(anew, |rule| rule.charge(anew)));
        // Calls of other models may share a count with those that are asked for.
        let asked = self.asked.model.as_ref().is_none_or(|model| *model == record.model);
        if asked && ended_at >= self.asked.from {
            self.note(record, cost);
        }
        Ok(())
    }

    /// The charge after what was used before, which then counts as used.
    fn cost(
        &mut self,
        mut quote: Quote,
        record: &UsageRecord,
        basis: Option<&Basis>,
    ) -> Result<Amount> {
        let key = |used: &pricing::Used| {
            (record.org_id.clone(), Arc::clone(&used.counter), used.period.clone())
        };
        for used in quote.used_mut() {
            used.units = self.counts.get(&key(used)).copied().unwrap_or(0);
        }
        let tokens = tokens(record, basis);
        for (used, units) in quote.adds(&tokens) {
            let count = self.counts.entry(key(used)).or_default();
            *count = count.saturating_add(units);
        }
        Ok(quote.charge(&tokens)?)
    }

    fn note(&mut self, record: &UsageRecord, cost: Option<Amount>) {
        let before = record.cost.saturating_add(record.written_off);
        let after = cost.unwrap_or(before);
        let key = (record.org_id.to_string(), record.model.clone(), record.currency);
        let row = self.rows.entry(key).or_insert_with(|| SimulatedRow {
            org_id: record.org_id.to_string(),
            model: record.model.clone(),
            currency: record.currency,
            calls: 0,
            unpriced: 0,
            cost_before: Amount::ZERO,
            cost_after: Amount::ZERO,
            difference: Amount::ZERO,
        });
        row.calls += 1;
        row.unpriced += u64::from(cost.is_none());
        row.cost_before = row.cost_before.saturating_add(before);
        row.cost_after = row.cost_after.saturating_add(after);
        row.difference = row.cost_after.saturating_sub(row.cost_before);
        self.calls += 1;
    }
}
