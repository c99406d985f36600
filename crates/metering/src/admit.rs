//! Before the call: the quote is pinned and the money set aside, in one atomic step.

use std::sync::Arc;

use identity::Caller;
use kernel::{Amount, ChargeId, Timestamp};
use ledger::{
    AccountKey, AccountKind, Command, HoldId, HoldLeg, Operation, Outcome, Receipt, Refusal, Unit,
};
use pricing::PriceVersion;

use crate::Metering;
use crate::leases::Lease;
use crate::{Error, Result};

/// What kind of product is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// Chat completions.
    Chat,
    /// Embeddings.
    Embeddings,
}

impl Surface {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
        }
    }
}

/// A call that asks to be admitted.
#[derive(Clone, Debug)]
pub struct Call {
    /// Names the call for ever; a repeated request repeats it.
    pub id: ChargeId,
    /// Who calls, and so who pays.
    pub caller: Arc<Caller>,
    /// What is called.
    pub surface: Surface,
    /// The public model name.
    pub model: Arc<str>,
    /// The answer is streamed.
    pub stream: bool,
    /// The most tokens the request can hold.
    pub input_bound: u64,
    /// The most tokens the answer can hold, or its first part if the hold grows with the answer.
    pub output_bound: u64,
    /// What makes a repeated call the same request.
    pub fingerprint: Option<[u8; 16]>,
    /// The HTTP request, for finding its log lines.
    pub request_id: Arc<str>,
}

/// An admitted call: its price is pinned and its money set aside. It must be settled or released;
/// one that is dropped runs out by its lease.
#[derive(Debug)]
#[must_use = "an admitted call must be settled or released"]
pub struct Admission {
    pub(crate) call: Call,
    pub(crate) price: Arc<PriceVersion>,
    pub(crate) hold: HoldId,
    pub(crate) held: Amount,
    pub(crate) output_bound: u64,
    pub(crate) started_at: Timestamp,
    /// Keeps the hold alive.
    pub(crate) _lease: Lease,
}

impl Admission {
    /// The call's id.
    pub fn id(&self) -> &ChargeId {
        &self.call.id
    }

    /// The tokens of output that the hold covers.
    pub const fn output_bound(&self) -> u64 {
        self.output_bound
    }

    /// The pinned price.
    pub fn price(&self) -> &PriceVersion {
        &self.price
    }
}

impl Metering {
    /// Pins the price and sets the money aside, durably, before anything is sent upstream.
    pub async fn admit(&self, call: Call) -> Result<Admission> {
        let price = self.prices().quote(&call.model)?;
        let amount = price.ceiling(call.input_bound, call.output_bound)?;
        let wallet =
            AccountKey::new(call.caller.org_id.shared(), AccountKind::Wallet, price.currency);
        let started_at = self.now();
        let operation = Operation {
            id: hold_operation(&call.id),
            fingerprint: call.fingerprint,
            memo: Some(Arc::clone(&call.model)),
            command: Command::Hold {
                legs: vec![HoldLeg { account: wallet, amount }],
                lease_until: started_at.after(self.config().lease()),
            },
        };
        let receipt = self.journal().submit(Unit { operation, attachments: Vec::new() }).await?;
        let hold = held(&receipt, &price)?;
        if receipt.replayed {
            return Err(Error::Repeated);
        }
        let output_bound = call.output_bound;
        let lease = self.leases().keep(hold);
        Ok(Admission { call, price, hold, held: amount, output_bound, started_at, _lease: lease })
    }

    /// Covers so many more tokens of output, for an answer that has outgrown its hold.
    pub async fn extend(&self, admission: &mut Admission, more_output: u64) -> Result<()> {
        let amount = admission.price.ceiling(0, more_output)?;
        let output_bound = admission.output_bound.saturating_add(more_output);
        let operation = Operation::new(
            format!("extend:{}:{output_bound}", admission.call.id),
            Command::Extend { hold: admission.hold, leg: 0, amount },
        );
        let receipt = self.journal().submit(operation).await?;
        held(&receipt, &admission.price)?;
        admission.held = admission.held.saturating_add(amount);
        admission.output_bound = output_bound;
        Ok(())
    }
}

/// The id of the operation that takes a call's hold.
pub(crate) fn hold_operation(id: &ChargeId) -> Arc<str> {
    format!("call:{id}").into()
}

fn held(receipt: &Receipt, price: &PriceVersion) -> Result<HoldId> {
    match receipt.outcome {
        Outcome::Applied(_) => Ok(HoldId(receipt.seq)),
        Outcome::Refused(Refusal::InsufficientFunds { required, available }) => {
            Err(Error::InsufficientFunds { required, available, currency: price.currency })
        }
        Outcome::Refused(other) => Err(Error::Refused(other)),
    }
}
