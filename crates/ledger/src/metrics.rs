//! The journal's figures.

use telemetry::{Counter, Counters, Gauge, Histogram};

use crate::journal::{Attempt, NoReceipt};
use crate::{JournalError, Outcome};

/// What the journal counts; written by its thread, a batch at a time.
#[derive(Debug)]
pub(crate) struct Metrics {
    operations: Counters,
    refusals: Counters,
    batch: Histogram,
    commit: Histogram,
    failing: Gauge,
    applied: Counter,
    refused: Counter,
    replayed: Counter,
    conflict: Counter,
    busy: Counter,
    storage: Counter,
    attachment: Counter,
    lost: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let (operations, refusals) = (Counters::default(), Counters::default());
        let outcome =
            |name: &str| operations.get_or_create_owned(&vec![("outcome", name.to_owned())]);
        let reason = |name: &str| refusals.get_or_create_owned(&vec![("reason", name.to_owned())]);
        Self {
            batch: telemetry::sizes(),
            commit: telemetry::seconds(),
            failing: Gauge::default(),
            applied: outcome("applied"),
            refused: outcome("refused"),
            replayed: outcome("replayed"),
            conflict: outcome("conflict"),
            busy: reason("busy"),
            storage: reason("storage"),
            attachment: reason("attachment"),
            lost: reason("hold_lost"),
            operations,
            refusals,
        }
    }
}

impl Metrics {
    pub(crate) fn register(&self, metrics: &mut telemetry::Metrics) {
        metrics.add(
            "ledgerline_journal_operations",
            "Operations that have an outcome",
            self.operations.clone(),
        );
        metrics.add(
            "ledgerline_journal_refusals",
            "Operations that were not written: the queue was full (busy), the database failed \
             (storage), what was attached did not fit (attachment), or the hold could not be \
             written before (hold_lost)",
            self.refusals.clone(),
        );
        metrics.add("ledgerline_journal_batch_size", "Operations a commit", self.batch.clone());
        metrics.add(
            "ledgerline_journal_commit_seconds",
            "From taking a batch to its being on disk",
            self.commit.clone(),
        );
        metrics.add(
            "ledgerline_journal_failing",
            "1 while the last batch could not be written",
            self.failing.clone(),
        );
    }

    /// A batch of so many is on disk, after so long.
    pub(crate) fn committed(&self, count: usize, seconds: f64) {
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most some thousand")]
        self.batch.observe(count as f64);
        self.commit.observe(seconds);
    }

    /// Callers are told these outcomes.
    pub(crate) fn told(&self, outcomes: &[Attempt]) {
        let (mut applied, mut refused, mut replayed, mut conflict, mut lost) = (0, 0, 0, 0, 0);
        for outcome in outcomes {
            match outcome {
                Ok(receipt) if receipt.replayed => replayed += 1,
                Ok(receipt) if matches!(receipt.outcome, Outcome::Applied(_)) => applied += 1,
                Ok(_) => refused += 1,
                Err(NoReceipt::Conflict) => conflict += 1,
                Err(NoReceipt::HoldLost) => lost += 1,
            }
        }
        self.applied.inc_by(applied);
        self.refused.inc_by(refused);
        self.replayed.inc_by(replayed);
        self.conflict.inc_by(conflict);
        self.lost.inc_by(lost);
    }

    /// An operation was not written.
    pub(crate) fn not_written(&self, error: &JournalError) {
        match error {
            JournalError::Busy => drop(self.busy.inc()),
            JournalError::Storage(_) => drop(self.storage.inc()),
            JournalError::Attachment(_) => drop(self.attachment.inc()),
            JournalError::Conflict
            | JournalError::HoldLost
            | JournalError::TooLong
            | JournalError::Stopped => {}
        }
    }

    pub(crate) fn failing(&self, failing: bool) {
        self.failing.set(i64::from(failing));
    }
}
