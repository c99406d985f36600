//! Holds that are decided before they are on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::oneshot;

use super::Answer;
use super::outbox::Letter;
use crate::{HoldId, JournalError, Outcome, Receipt};

/// A hold that may not be on disk yet. Its number can still change until it is, and it can be lost: so
/// an operation about it names it by this ([`Unit::hold`](crate::Unit::hold)).
#[derive(Clone, Debug)]
pub struct HoldRef(Arc<AtomicI64>);

impl HoldRef {
    /// A hold that is on disk.
    pub fn of(hold: HoldId) -> Self {
        Self(Arc::new(AtomicI64::new(hold.0)))
    }

    /// Its number, as far as it is known.
    pub fn id(&self) -> HoldId {
        HoldId(self.0.load(Ordering::Acquire).abs())
    }

    /// It could not be written: there is no such hold, and its number may be another's.
    pub fn is_lost(&self) -> bool {
        self.0.load(Ordering::Acquire) < 0
    }

    fn undecided() -> Self {
        Self(Arc::default())
    }

    fn set(&self, seq: i64) {
        self.0.store(seq, Ordering::Release);
    }

    fn lose(&self) {
        self.set(-self.id().0);
    }
}

impl PartialEq for HoldRef {
    /// The same hold, not merely the same number.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for HoldRef {}

/// A hold as it was decided, perhaps ahead of the disk.
#[derive(Debug)]
pub struct Decided {
    receipt: Receipt,
    hold: HoldRef,
    written: Option<oneshot::Receiver<Answer>>,
}

impl From<Receipt> for Decided {
    /// A hold that is on disk.
    fn from(receipt: Receipt) -> Self {
        Self { hold: HoldRef::of(HoldId(receipt.seq)), receipt, written: None }
    }
}

impl Decided {
    /// What was decided.
    pub const fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// The hold, if it was taken.
    pub const fn hold(&self) -> &HoldRef {
        &self.hold
    }

    /// Ends only if the hold is lost: with why it could not be written, or with its refusal, and after
    /// that with [`JournalError::HoldLost`].
    ///
    /// May be dropped and asked again.
    pub async fn lost(&mut self) -> Answer {
        if let Some(written) = &mut self.written {
            let answer = written.await.unwrap_or(Err(JournalError::Stopped));
            self.written = None;
            if !is_taken(&answer) {
                return answer;
            }
        }
        if self.hold.is_lost() {
            return Err(JournalError::HoldLost);
        }
        std::future::pending().await
    }
}

fn is_taken(answer: &Answer) -> bool {
    matches!(answer, Ok(Receipt { outcome: Outcome::Applied(_), .. }))
}

/// The journal's side of a [`Decided`].
#[derive(Debug)]
pub(super) struct Promise {
    decided: Option<oneshot::Sender<Receipt>>,
    hold: HoldRef,
    kept: bool,
}

/// The caller's side, until something is decided.
#[derive(Debug)]
pub(super) struct Promised {
    decided: oneshot::Receiver<Receipt>,
    hold: HoldRef,
}

impl Promise {
    pub(super) fn new() -> (Self, Promised) {
        let (sender, decided) = oneshot::channel();
        let hold = HoldRef::undecided();
        let promise = Self { decided: Some(sender), hold: hold.clone(), kept: false };
        (promise, Promised { decided, hold })
    }

    /// The hold was taken, in memory; what its caller is told, if that is new.
    pub(super) fn tell(&mut self, receipt: &Receipt) -> Option<Letter> {
        if receipt.replayed || !matches!(receipt.outcome, Outcome::Applied(_)) {
            return None;
        }
        self.hold.set(receipt.seq);
        Some(Letter::Decided(self.decided.take()?, receipt.clone()))
    }

    /// The caller has been told.
    pub(super) const fn is_told(&self) -> bool {
        self.decided.is_none()
    }

    /// This is what came of it: a hold, if it was taken, has its number now.
    pub(super) fn end(mut self, answer: &Answer) {
        let Ok(receipt) = answer else { return };
        // One that had been taken before was told to be new: it is not the caller's.
        if is_taken(answer) && !(receipt.replayed && self.is_told()) {
            self.hold.set(receipt.seq);
            self.kept = true;
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.kept {
            self.hold.lose();
        }
    }
}

impl Promised {
    /// Waits until the hold is decided ahead of the disk, or the answer is there.
    pub(super) async fn decided(
        self,
        answered: oneshot::Receiver<Answer>,
    ) -> Result<Decided, JournalError> {
        if let Ok(receipt) = self.decided.await {
            return Ok(Decided { receipt, hold: self.hold, written: Some(answered) });
        }
        Ok(answered.await.unwrap_or(Err(JournalError::Stopped))?.into())
    }
}
