//! What the operator alone sees of a call: each attempt at an upstream, and what it cost there.

use std::collections::HashMap;
use std::sync::Arc;

use kernel::{Amount, Asset, ChargeId, Page, PageRequest, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::settle::Route;
use crate::{Metering, Result, UsageFilter, UsageRecord, store};

/// One attempt at an upstream, when it is over.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The way it went.
    pub route: Route,
    /// The public name of the model asked, if it is a fallback.
    pub model: Option<Arc<str>>,
    /// When the upstream was asked.
    pub started_at: Timestamp,
    /// When its answer began, or it had failed.
    pub ended_at: Timestamp,
    /// The upstream's HTTP status, if it answered.
    pub status: Option<u16>,
    /// The error's code, if it failed.
    pub error_code: Option<&'static str>,
}

/// What the upstream asks for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// Rounded up once.
    pub amount: Amount,
    /// The currency of the upstream's prices.
    pub currency: Asset,
}

/// One attempt at an upstream, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptRecord {
    /// The provider asked.
    pub provider: String,
    /// The model's name there.
    pub upstream_model: String,
    /// The public name of the model asked, if it is a fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// When the upstream was asked.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When its answer began, or it had failed.
    #[schema(value_type = String, format = DateTime)]
    pub ended_at: Timestamp,
    /// The upstream's HTTP status, if it answered.
    pub status: Option<u16>,
    /// The error's code, if it failed.
    pub error_code: Option<String>,
}

/// A usage record as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct OperatorRecord {
    /// What the customer sees of it.
    #[serde(flatten)]
    pub usage: UsageRecord,
    /// The attempts in order, where there was more than one; one alone is the record itself.
    pub attempts: Vec<AttemptRecord>,
    /// What the upstream asks for it, as a decimal; absent where its prices are not known.
    #[schema(value_type = Option<String>, example = "0.00021")]
    pub purchase_cost: Option<Amount>,
    /// The currency of `purchase_cost`.
    #[schema(value_type = Option<String>, example = "CNY")]
    pub purchase_currency: Option<Asset>,
    /// What is left of the charge: `cost` less `purchase_cost`; absent where the currencies differ.
    #[schema(value_type = Option<String>, example = "0.00021")]
    pub margin: Option<Amount>,
}

/// What is kept beside a usage record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inside {
    pub(crate) attempts: Vec<AttemptRecord>,
    pub(crate) purchase: Option<Purchase>,
}

impl From<&Attempt> for AttemptRecord {
    fn from(attempt: &Attempt) -> Self {
        Self {
            provider: attempt.route.provider.to_string(),
            upstream_model: attempt.route.upstream_model.to_string(),
            model: attempt.model.as_ref().map(ToString::to_string),
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            status: attempt.status,
            error_code: attempt.error_code.map(str::to_owned),
        }
    }
}

impl OperatorRecord {
    fn new(usage: UsageRecord, inside: Inside) -> Self {
        let purchase = inside.purchase;
        let same_currency = purchase.filter(|purchase| purchase.currency == usage.currency);
        Self {
            attempts: inside.attempts,
            purchase_cost: purchase.map(|purchase| purchase.amount),
            purchase_currency: purchase.map(|purchase| purchase.currency),
            margin: same_currency.and_then(|purchase| usage.cost.checked_sub(purchase.amount)),
            usage,
        }
    }
}

impl Metering {
    /// The record of a call with what only the operator may see. Of a call that runs, what its hold
    /// says.
    pub async fn call(&self, id: &ChargeId) -> Result<Option<OperatorRecord>> {
        let Some(usage) = self.usage_or_running(id, None).await? else { return Ok(None) };
        let mut insides = match usage.op_seq {
            Some(_) => store::list_insides(self.database(), std::slice::from_ref(&usage)).await?,
            None => HashMap::new(),
        };
        let inside = insides.remove(&usage.op_seq.unwrap_or_default()).unwrap_or_default();
        Ok(Some(OperatorRecord::new(usage, inside)))
    }

    /// Records of ended calls with what only the operator may see, newest first.
    pub async fn list_calls(
        &self,
        filter: &UsageFilter,
        page: &PageRequest,
    ) -> Result<Page<OperatorRecord>> {
        let Page { rows, next } = self.list_usage(filter, page).await?;
        let found = &rows;
        let read = |database| async move { store::list_insides(&database, found).await };
        // Whatever is read now is there where the records were.
        let newest = rows.iter().filter_map(|row| row.op_seq).max().unwrap_or(0);
        let mut insides = self.reader().read(newest, read).await?;
        let rows = rows.into_iter().map(|usage| {
            let inside = insides.remove(&usage.op_seq.unwrap_or_default()).unwrap_or_default();
            OperatorRecord::new(usage, inside)
        });
        Ok(Page { rows: rows.collect(), next })
    }
}
