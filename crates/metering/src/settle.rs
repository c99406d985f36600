//! After the call: the actual usage is charged, the rest of the hold released, and the usage
//! record written, in one operation.

use std::sync::Arc;
use std::time::Duration;

use kernel::{Amount, Asset, ChargeId, Timestamp};
use ledger::{
    AccountKey, AccountKind, Applied, Attachment, Charge, Command, JournalError, Operation,
    Outcome, Receipt, Unit,
};
use pricing::Tokens;

use crate::{Admission, Error, Metering, Result, UsageStatus, store};

/// Who receives what is sold.
const PLATFORM: &str = "platform";
/// Between two tries of writing a call's end while the disk or server refuses.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Where a count of tokens comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UsageSource {
    /// The upstream counted.
    Reported,
    /// Counted here, because the upstream did not or was not heard to the end.
    Estimated,
    /// Nothing was used.
    #[default]
    None,
}

/// What a call used.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Tokens by class.
    pub tokens: Tokens,
    /// Who counted them.
    pub source: UsageSource,
    /// What was odd about the upstream's figures, comma-separated.
    pub anomalies: Option<String>,
    /// The upstream's own figures, as received.
    pub raw: Option<String>,
}

/// The way a call went.
#[derive(Clone, Debug)]
pub struct Route {
    /// The provider's name.
    pub provider: Arc<str>,
    /// The model's name there.
    pub upstream_model: Arc<str>,
}

/// How a call ended.
#[derive(Clone, Debug, Default)]
pub struct Bill {
    /// What it used.
    pub usage: Usage,
    /// The way it went; absent if none was open.
    pub route: Option<Route>,
    /// The upstream's HTTP status, if it answered.
    pub upstream_status: Option<u16>,
    /// The error's code, if it failed.
    pub error_code: Option<&'static str>,
    /// The client left before the end.
    pub client_gone: bool,
    /// When the first content was passed on.
    pub first_token_at: Option<Timestamp>,
}

/// What a call cost in the end.
#[derive(Clone, Debug)]
pub struct Charged {
    /// The call.
    pub id: ChargeId,
    /// What was charged.
    pub cost: Amount,
    /// The currency of the amounts.
    pub currency: Asset,
    /// What the wallet has free now.
    pub balance: Amount,
}

impl Metering {
    /// Charges what the call used and releases the rest; `also` is written with it.
    ///
    /// Returns when it is on disk. Does not give up while the journal cannot write; safe to run in
    /// a task that nobody waits for.
    pub async fn settle(
        &self,
        admission: Admission,
        bill: Bill,
        also: Vec<Attachment>,
    ) -> Result<Charged> {
        let amount = admission.price.charge(&bill.usage.tokens)?;
        let platform = AccountKey::new(PLATFORM, AccountKind::Revenue, admission.price.currency);
        let settle = Command::Settle {
            hold: admission.hold,
            charges: vec![Charge { leg: 0, to: platform, amount }],
            max_debt: self.config().max_debt,
        };
        let operation = Operation::new(format!("settle:{}", admission.call.id), settle);
        let record = store::usage_row(&admission, &bill, UsageStatus::Settled, self.now());
        self.end(admission, operation, record, also).await
    }

    /// Releases the whole hold: the call gave nothing, so it costs nothing.
    pub async fn release(&self, admission: Admission, bill: Bill) -> Result<Charged> {
        let void = Command::Void { hold: admission.hold };
        let operation = Operation::new(format!("release:{}", admission.call.id), void);
        let record = store::usage_row(&admission, &bill, UsageStatus::Released, self.now());
        self.end(admission, operation, record, Vec::new()).await
    }

    async fn end(
        &self,
        admission: Admission,
        operation: Operation,
        record: Attachment,
        also: Vec<Attachment>,
    ) -> Result<Charged> {
        let released = matches!(operation.command, Command::Void { .. });
        let attachments = std::iter::once(record).chain(also).collect();
        let receipt = self.submit_until_written(Unit { operation, attachments }).await?;
        let applied = applied(&receipt)?;
        Ok(Charged {
            id: admission.call.id.clone(),
            cost: if released { Amount::ZERO } else { applied.amount },
            currency: admission.price.currency,
            balance: applied.available,
        })
    }

    /// The end of a call must reach the books: a full queue or disk delays it, no more. The same
    /// id makes repeating safe when a first try was written but not acknowledged.
    async fn submit_until_written(&self, unit: Unit) -> Result<Receipt> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.journal().submit(unit.clone()).await {
                Err(error @ (JournalError::Busy | JournalError::Storage(_))) => {
                    tracing::warn!(operation = %unit.operation.id, %error, "the end of a call waits to be written");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                outcome => return Ok(outcome?),
            }
        }
    }
}

fn applied(receipt: &Receipt) -> Result<Applied> {
    match receipt.outcome {
        Outcome::Applied(applied) => Ok(applied),
        Outcome::Refused(refusal) => Err(Error::Refused(refusal)),
    }
}
