//! Before the call: the quote is pinned and the money set aside, in one atomic step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use identity::Caller;
use kernel::{Amount, ChargeId, Timestamp};
use ledger::{
    AccountKey, AccountKind, Attachment, Command, Decided, HoldLeg, JournalError, Operation,
    Outcome, Receipt, Refusal, Unit,
};
use pricing::Quote;
use telemetry::CallSpan;

use crate::Metering;
use crate::leases::Lease;
use crate::limits::{Ask, Pace, Rules};
use crate::prices::Terms;
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
    /// The id was made for this call just now: no earlier call has it.
    pub fresh: bool,
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
    /// The step of a run that makes the call.
    pub step: Option<RunStep>,
}

/// A step of a run of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStep {
    /// The run.
    pub run_id: Arc<str>,
    /// Its number in the run.
    pub step: u64,
    /// The name of the flow that runs: prices may depend on it.
    pub pipeline: Arc<str>,
    /// The name of the node that calls, in the flow or in one that it uses.
    pub node: Arc<str>,
}

/// An admitted call: its price is pinned and its money set aside. It must be settled or released;
/// one that is dropped runs out by its lease.
#[derive(Debug)]
#[must_use = "an admitted call must be settled or released"]
pub struct Admission {
    pub(crate) call: Call,
    pub(crate) price: Quote,
    pub(crate) terms: Option<Arc<Terms>>,
    pub(crate) decided: Decided,
    pub(crate) held: Amount,
    pub(crate) output_bound: u64,
    pub(crate) started_at: Timestamp,
    pub(crate) pace: Vec<Pace>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) upstream_time: Option<Duration>,
    pub(crate) span: Option<Box<CallSpan>>,
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

    /// How the caller's limits stand, the tightest of each kind.
    pub fn pace(&self) -> &[Pace] {
        &self.pace
    }

    /// Notes how long the upstream took to answer completely, or to begin its stream.
    pub const fn upstream_took(&mut self, time: Duration) {
        self.upstream_time = Some(time);
    }

    /// How long the upstream took, once that is noted.
    pub const fn upstream_time(&self) -> Option<Duration> {
        self.upstream_time
    }

    /// The call is traced: its span ends with it.
    pub fn trace(&mut self, span: Option<Box<CallSpan>>) {
        self.span = span;
    }

    /// The call's span, if it is traced.
    pub fn span(&mut self) -> Option<&mut CallSpan> {
        self.span.as_deref_mut()
    }

    /// Ends only if the hold of a call that was admitted ahead of the disk cannot be written: with why.
    /// The call is to end then; nothing is left to settle or release.
    ///
    /// May be dropped and asked again.
    pub async fn lost(&mut self) -> Error {
        match self.decided.lost().await {
            Ok(receipt) => match held(&receipt, &self.price) {
                Ok(()) => Error::Journal(JournalError::HoldLost),
                Err(refused) => refused,
            },
            Err(error) => error.into(),
        }
    }

    /// An operation about the call's hold, handed in for the first time: nobody else has this hold.
    pub(crate) fn unit(&self, operation: Operation, attachments: Vec<Attachment>) -> Unit {
        Unit { operation, attachments, hold: Some(self.decided.hold().clone()), fresh: true }
    }

    /// The pinned price.
    pub const fn price(&self) -> &Quote {
        &self.price
    }
}

impl Metering {
    /// Pins the price and sets the money aside, durably, before anything is sent upstream.
    pub async fn admit(&self, call: Call) -> Result<Admission> {
        self.admit_call(call, false).await
    }

    /// As [`admit`](Self::admit), but the hold may be on its way to the disk still: the upstream works
    /// meanwhile. Nothing of the answer may be passed on before the call's end is on disk, and the call
    /// is to be given up when its hold is [`lost`](Admission::lost) (docs/adr/0016).
    pub async fn admit_ahead(&self, call: Call) -> Result<Admission> {
        self.admit_call(call, true).await
    }

    async fn admit_call(&self, call: Call, ahead: bool) -> Result<Admission> {
        let (begun, started_at) = (Instant::now(), self.now());
        let (price, terms) = self.quote(&call, started_at).await?;
        let amount = price.ceiling(call.input_bound, call.output_bound)?;
        let wallet =
            AccountKey::new(call.caller.org_id.shared(), AccountKind::Wallet, price.currency());
        let rules = self.rules(&call.caller).await?;
        let ask = Ask {
            amount,
            currency: price.currency(),
            input_bytes: call.input_bound,
            output: call.output_bound,
            now: started_at,
        };
        let operation = Operation {
            id: hold_operation(&call.id),
            fingerprint: call.fingerprint,
            memo: Some(Arc::clone(&call.model)),
            command: Command::Hold {
                legs: vec![HoldLeg { account: wallet, amount }],
                claims: rules.claims(&ask),
                lease_until: started_at.after(self.config().lease()),
            },
        };
        let hold = Unit { fresh: call.fresh, ..operation.into() };
        let decided = self.take_hold(hold, ahead).await?;
        let receipt = decided.receipt();
        if let Outcome::Refused(refusal @ Refusal::LimitReached { .. }) = receipt.outcome {
            return Err(rules.refused(refusal, &ask));
        }
        held(receipt, &price)?;
        if receipt.replayed {
            return Err(Error::Repeated);
        }
        self.metrics().admit.observe(begun.elapsed().as_secs_f64());
        let output_bound = call.output_bound;
        let lease = self.leases().keep(decided.hold().clone());
        let pace = rules.pace(&receipt.claims, &ask);
        Ok(Admission {
            call,
            price,
            terms,
            decided,
            held: amount,
            output_bound,
            started_at,
            pace,
            rules,
            upstream_time: None,
            span: None,
            _lease: lease,
        })
    }

    async fn take_hold(&self, hold: Unit, ahead: bool) -> Result<Decided> {
        let _turn = self.turns().next().await?;
        if ahead {
            return Ok(self.journal().decide(hold).await?);
        }
        Ok(self.journal().submit(hold).await?.into())
    }

    /// Covers so many more tokens of output, for an answer that has outgrown its hold.
    pub async fn extend(&self, admission: &mut Admission, more_output: u64) -> Result<()> {
        let output_bound = admission.output_bound.saturating_add(more_output);
        let tokens = i64::try_from(more_output).unwrap_or(i64::MAX);
        let input_bound = admission.call.input_bound;
        let covered = admission.price.ceiling(input_bound, admission.output_bound)?;
        let amount = admission.price.ceiling(input_bound, output_bound)?.saturating_sub(covered);
        let operation = Operation::new(
            format!("extend:{}:{output_bound}", admission.call.id),
            Command::Extend { hold: admission.decided.hold().id(), leg: 0, amount, tokens },
        );
        // Who has not heard of it tries again.
        let unit = Unit { fresh: false, ..admission.unit(operation, Vec::new()) };
        let receipt = self.journal().submit(unit).await?;
        if let Outcome::Refused(refusal @ Refusal::LimitReached { .. }) = receipt.outcome {
            return Err(admission.rules.cut_off(refusal, admission.price.currency(), self.now()));
        }
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

fn held(receipt: &Receipt, price: &Quote) -> Result<()> {
    match receipt.outcome {
        Outcome::Applied(_) => Ok(()),
        Outcome::Refused(Refusal::InsufficientFunds { required, available }) => {
            Err(Error::InsufficientFunds { required, available, currency: price.currency() })
        }
        Outcome::Refused(other) => Err(Error::Refused(other)),
    }
}
