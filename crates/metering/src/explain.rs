//! How a charge came about: the same computation again, from what was pinned.

use kernel::{Amount, Asset, ChargeId, OrgId, Timestamp};
use pricing::{Charge, PriceVersion, Rule, Tokens};
use serde::Serialize;

use crate::prices::{Basis, Place, Terms, payer};
use crate::store::prices as store;
use crate::{Error, Metering, Result, UsageRecord, UsageStatus};

/// A charge line by line. Its lines add up to `amount`, which is what was charged.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The charge id.
    pub id: ChargeId,
    /// The public model name.
    pub model: String,
    /// The pinned price version.
    pub price_id: String,
    /// When the call was admitted, which is when its price was fixed.
    pub admitted_at: Timestamp,
    /// The currency of the amounts.
    pub currency: Asset,
    /// What the call used.
    pub tokens: Tokens,
    /// What the payer's price depended on beside itself.
    pub terms: Terms,
    /// The flow whose run made the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// The node of the flow that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What the payer had used before, where the price depends on it.
    pub used_before: Vec<pricing::Used>,
    /// The rules of the version that the lines name, by position.
    pub rules: Vec<PlacedRule>,
    /// The computation.
    #[serde(flatten)]
    pub charge: Charge,
    /// What was charged: `cost` and `written_off` of the usage record.
    pub charged: Amount,
}

/// A rule and its position in the price file.
#[derive(Clone, Debug, Serialize)]
pub struct PlacedRule {
    /// Counted from 0.
    pub position: usize,
    /// The rule as written.
    pub rule: Rule,
}

impl Metering {
    /// How the charge of an ended call came about, if it is this organization's (or any's, for
    /// `None`).
    pub async fn explain(
        &self,
        id: &ChargeId,
        org_id: Option<&OrgId>,
    ) -> Result<Option<Explanation>> {
        let Some(record) = self.usage(id, org_id).await? else { return Ok(None) };
        let version = self.prices().version(&record.price_id).await?.version;
        let basis = store::find_basis(self.database(), id, &record.org_id).await?;
        let charge = match record.status {
            UsageStatus::Settled => charge(&version, &record, basis.as_ref())?,
            // A released call cost nothing, whatever its price.
            _ => Charge { lines: Vec::new(), amount: Amount::ZERO },
        };
        let tokens = tokens(&record, basis.as_ref());
        let Basis { terms, used, cached: _, media: _ } = basis.unwrap_or_default();
        let charged = record.cost.saturating_add(record.written_off);
        Ok(Some(Explanation {
            rules: named_rules(&version, &charge),
            tokens,
            id: record.id,
            model: record.model,
            price_id: record.price_id,
            admitted_at: record.started_at,
            currency: record.currency,
            terms,
            pipeline: record.pipeline,
            node: record.node,
            used_before: used,
            charge,
            charged,
        }))
    }
}

fn charge(version: &PriceVersion, record: &UsageRecord, basis: Option<&Basis>) -> Result<Charge> {
    let terms = basis.map(|basis| &basis.terms);
    let payer = payer(&record.org_id, terms, Place::of(record));
    let damaged = || Error::DamagedRecord(record.id.to_string());
    let mut quote = version.quote(&record.model, &payer, record.started_at).ok_or_else(damaged)?;
    for count in quote.used_mut() {
        let pinned =
            basis.and_then(|basis| basis.used.iter().find(|used| used.counter == count.counter));
        count.units = pinned.ok_or_else(damaged)?.units;
    }
    let charge = quote.explain(&tokens(record, basis))?;
    Ok(match basis.and_then(|basis| basis.cached) {
        Some(rule) => charge.given_again(rule),
        None => charge,
    })
}

/// The rules that the lines name, each once, in the order they first appear.
fn named_rules(version: &PriceVersion, charge: &Charge) -> Vec<PlacedRule> {
    let mut named: Vec<PlacedRule> = Vec::new();
    for position in charge.lines.iter().filter_map(|line| line.rule) {
        if named.iter().all(|rule| rule.position != position)
            && let Some(rule) = version.document().rules.get(position)
        {
            named.push(PlacedRule { position, rule: rule.clone() });
        }
    }
    named
}

/// The tokens of a usage record, by class.
pub(crate) fn tokens(record: &UsageRecord, basis: Option<&Basis>) -> Tokens {
    let count = |tokens| u64::try_from(tokens).unwrap_or(0);
    let media = basis.map_or_else(Default::default, |basis| basis.media);
    media.told_apart(Tokens {
        input: count(record.input_tokens),
        cached_input: count(record.cached_input_tokens),
        cache_write: count(record.cache_write_tokens),
        output: count(record.output_tokens),
        reasoning: count(record.reasoning_tokens),
        ..Tokens::default()
    })
}
