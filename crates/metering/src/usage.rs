//! Usage records, read.

use kernel::{Amount, Asset, ChargeId, OrgId, Timestamp};
use ledger::{AccountKey, AccountKind, HoldId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admit::hold_operation;
use crate::{Metering, Result, store};

/// How a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UsageStatus {
    /// Admitted; its money is set aside.
    Running,
    /// Ended and charged.
    Settled,
    /// Ended without a charge.
    Released,
    /// Its process ended before it did; nothing was charged.
    Expired,
}

/// One metered call: who, what, how much, at which price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct UsageRecord {
    /// The charge id.
    #[schema(value_type = String)]
    pub id: ChargeId,
    /// Who paid.
    #[schema(value_type = String)]
    pub org_id: OrgId,
    /// The person, if the credential belonged to one.
    pub user_id: Option<String>,
    /// The external system, if the credential belonged to one.
    pub app_id: Option<String>,
    /// The API key used.
    pub key_id: Option<String>,
    /// `chat` or `embeddings`; empty while the call runs.
    pub surface: String,
    /// The public model name.
    pub model: String,
    /// The provider that answered.
    pub provider: Option<String>,
    /// The model's name there.
    pub upstream_model: Option<String>,
    /// How the call stands.
    pub status: UsageStatus,
    /// The error's code, if it failed.
    pub error_code: Option<String>,
    /// The upstream's HTTP status, if it answered.
    pub upstream_status: Option<i64>,
    /// What was charged, as a decimal; `0` when nothing was.
    #[schema(value_type = String, example = "0.00042")]
    pub cost: Amount,
    /// The currency of the amounts.
    #[schema(value_type = String, example = "CNY")]
    pub currency: Asset,
    /// Of `cost`, what the wallet came to owe.
    #[schema(value_type = String)]
    pub debt: Amount,
    /// Used but neither paid nor owed.
    #[schema(value_type = String)]
    pub written_off: Amount,
    /// The hold had run out before the call ended.
    pub late: bool,
    /// The price version pinned at admission; empty while the call runs.
    pub price_id: String,
    /// The operation that took the hold.
    pub hold_seq: i64,
    /// The operation that ended the call; absent while it runs.
    pub op_seq: Option<i64>,
    /// What was set aside.
    #[schema(value_type = String)]
    pub held: Amount,
    /// Tokens read, not from a cache.
    pub input_tokens: i64,
    /// Tokens read from the upstream's cache.
    pub cached_input_tokens: i64,
    /// Tokens written to the upstream's cache.
    pub cache_write_tokens: i64,
    /// Tokens produced.
    pub output_tokens: i64,
    /// Tokens produced while thinking.
    pub reasoning_tokens: i64,
    /// `reported` by the upstream, `estimated` here, `cache` for an answer given again, or `none`.
    pub usage_source: String,
    /// What was odd about the upstream's figures.
    pub anomalies: Option<String>,
    /// The upstream's own figures, as received.
    pub raw_usage: Option<String>,
    /// The answer was streamed.
    pub stream: bool,
    /// The client left before the end.
    pub client_gone: bool,
    /// The HTTP request.
    pub request_id: String,
    /// When the call was admitted.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When the first content was passed on.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub first_token_at: Option<Timestamp>,
    /// When the call ended; absent while it runs.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// The run of a flow that made the call.
    pub run_id: Option<String>,
    /// The step of the run; its attempts are calls of their own.
    pub step: Option<i64>,
    /// The name of the flow.
    pub pipeline: Option<String>,
    /// The name of its node that called.
    pub node: Option<String>,
}

impl Metering {
    /// The record of a call, if it is this organization's (or any's, for `None`). Of a call that
    /// runs, what its hold says.
    pub async fn usage_or_running(
        &self,
        id: &ChargeId,
        org_id: Option<&OrgId>,
    ) -> Result<Option<UsageRecord>> {
        // The hold first: a call that ends in between has its record.
        let operation = hold_operation(id);
        let hold = ledger::find_hold(self.database(), &operation, AccountKind::Wallet)
            .await?
            .filter(|hold| {
                let owner = hold.account.owner.as_ref();
                hold.open && org_id.is_none_or(|org_id| owner == org_id.as_str())
            });
        match self.usage(id, org_id).await? {
            Some(record) => Ok(Some(record)),
            None => Ok(hold.map(|hold| UsageRecord::running(id.clone(), hold))),
        }
    }

    /// The record of a call that has ended, if it is this organization's (or any's, for `None`).
    pub async fn usage(
        &self,
        id: &ChargeId,
        org_id: Option<&OrgId>,
    ) -> Result<Option<UsageRecord>> {
        store::find_usage(self.database(), id, org_id).await
    }

    /// Whether a call was admitted and has not ended.
    pub async fn is_running(&self, id: &ChargeId) -> Result<bool> {
        let operation = ledger::find_operation(self.database(), &hold_operation(id)).await?;
        let Some(hold) = operation.filter(|operation| operation.applied) else { return Ok(false) };
        Ok(ledger::hold_is_open(self.database(), HoldId(hold.seq)).await?)
    }

    /// What an organization's wallet has free.
    pub async fn available(&self, org_id: &OrgId, currency: Asset) -> Result<Amount> {
        let wallet = AccountKey::new(org_id.shared(), AccountKind::Wallet, currency);
        let (balance, _) = ledger::balance(self.database(), &wallet).await?;
        Ok(balance.available())
    }
}

impl UsageRecord {
    /// A call that was admitted and has not ended.
    fn running(id: ChargeId, hold: ledger::FoundHold) -> Self {
        Self {
            id,
            org_id: hold.account.owner.as_ref().into(),
            user_id: None,
            app_id: None,
            key_id: None,
            surface: String::new(),
            model: hold.memo.unwrap_or_default(),
            provider: None,
            upstream_model: None,
            status: UsageStatus::Running,
            error_code: None,
            upstream_status: None,
            cost: Amount::ZERO,
            currency: hold.account.asset,
            debt: Amount::ZERO,
            written_off: Amount::ZERO,
            late: false,
            price_id: String::new(),
            hold_seq: hold.seq,
            op_seq: None,
            held: hold.amount,
            input_tokens: 0,
            cached_input_tokens: 0,
            cache_write_tokens: 0,
            output_tokens: 0,
            reasoning_tokens: 0,
            usage_source: "none".to_owned(),
            anomalies: None,
            raw_usage: None,
            stream: false,
            client_gone: false,
            request_id: String::new(),
            started_at: hold.at,
            first_token_at: None,
            ended_at: None,
            run_id: None,
            step: None,
            pipeline: None,
            node: None,
        }
    }
}
