//! After the call: the actual usage is charged, the rest of the hold released, and the usage
//! record written, in one operation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::{Amount, Asset, ChargeId, Timestamp};
use ledger::{
    AccountKey, AccountKind, Applied, Attachment, Charge, Command, JournalError, Operation,
    Outcome, Receipt, Unit,
};
use pricing::{CachedResponse, Tokens};

use crate::metrics::Ended;
use crate::trace::trace;
use crate::{Admission, Attempt, Error, Metering, Pace, Purchase, Result, UsageStatus, store};

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
    /// Counted when the answer was first given.
    Cache,
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
    /// The price of an answer given again from the cache.
    pub cached: Option<CachedResponse>,
    /// What the upstream asks for it, if that is known.
    pub purchase: Option<Purchase>,
    /// The attempts in order; recorded where there was more than one.
    pub attempts: Vec<Attempt>,
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
    /// The operation of the books that says so: lists asked for with it as `min_seq` show the call.
    pub seq: i64,
    /// What the wallet has free now.
    pub balance: Amount,
    /// How the caller's limits stood at admission.
    pub pace: Vec<Pace>,
    /// How long the upstream was waited for, if it was.
    pub upstream_time: Option<Duration>,
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
        let anew = admission.price.charge(&bill.usage.tokens)?;
        let amount = bill.cached.map_or(anew, |rule| rule.charge(anew));
        let platform = AccountKey::new(PLATFORM, AccountKind::Revenue, admission.price.currency());
        let settle = Command::Settle {
            hold: admission.decided.hold().id(),
            charges: vec![Charge { leg: 0, to: platform, amount }],
            max_debt: self.config().max_debt,
            tokens: i64::try_from(bill.usage.tokens.total()).unwrap_or(i64::MAX),
        };
        let operation = Operation::new(format!("settle:{}", admission.call.id), settle);
        let records = store::records(&admission, &bill, UsageStatus::Settled);
        let records = records.chain(admission.price_rows(&bill)).chain(also).collect();
        self.end((admission, bill), operation, records).await
    }

    /// Releases the whole hold: the call gave nothing, so it costs nothing.
    pub async fn release(&self, admission: Admission, bill: Bill) -> Result<Charged> {
        let void = Command::Void { hold: admission.decided.hold().id() };
        let operation = Operation::new(format!("release:{}", admission.call.id), void);
        let records = store::records(&admission, &bill, UsageStatus::Released);
        self.end((admission, bill), operation, records.collect()).await
    }

    async fn end(
        &self,
        (mut admission, bill): (Admission, Bill),
        operation: Operation,
        attachments: Vec<Attachment>,
    ) -> Result<Charged> {
        let released = matches!(operation.command, Command::Void { .. });
        let (begun, ended_at) = (Instant::now(), self.now());
        let unit = admission.unit(operation, attachments);
        let receipt = match self.submit_until_written(unit).await {
            Err(JournalError::HoldLost) => return Err(admission.lost().await),
            outcome => outcome?,
        };
        let applied = applied(&receipt)?;
        let (status, charged) = if released {
            (UsageStatus::Released, Amount::ZERO)
        } else {
            (UsageStatus::Settled, applied.amount)
        };
        let (took, span) = (begun.elapsed(), admission.span.take());
        let ended = Ended {
            admission: &admission,
            bill: &bill,
            status,
            charged,
            written_off: applied.written_off,
            ended_at,
            took,
        };
        self.metrics().ended(&ended);
        if let Some(span) = span {
            trace(*span, &ended);
        }
        Ok(Charged {
            id: admission.call.id.clone(),
            cost: charged,
            currency: admission.price.currency(),
            seq: receipt.seq,
            balance: applied.available,
            pace: admission.pace,
            upstream_time: admission.upstream_time,
        })
    }

    /// The end of a call must reach the books: a full queue or disk delays it, no more. The same
    /// id makes repeating safe when a first try was written but not acknowledged.
    async fn submit_until_written(
        &self,
        mut unit: Unit,
    ) -> std::result::Result<Receipt, JournalError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.journal().submit(unit.clone()).await {
                Err(error @ (JournalError::Busy | JournalError::Storage(_))) => {
                    warn_of_waiting(&unit.operation.id, &error);
                    unit.fresh = false;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }
}

fn warn_of_waiting(operation: &str, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(operation, error, "the end of a call waits to be written");
}

fn applied(receipt: &Receipt) -> Result<Applied> {
    match receipt.outcome {
        Outcome::Applied(applied) => Ok(applied),
        Outcome::Refused(refusal) => Err(Error::Refused(refusal)),
    }
}
