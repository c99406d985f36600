//! Why a call is not admitted, or its end not recorded.

use kernel::{Amount, Asset};
use ledger::{JournalError, Refusal};

/// A refused or failed metering operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model has no price, so no call of it can be charged.
    #[error("model {0} has no price")]
    Unpriced(String),
    /// The wallet cannot cover the hold.
    #[error("the call needs {required} {currency} and {available} {currency} is available")]
    InsufficientFunds {
        /// What the call may cost at most, or its next part.
        required: Amount,
        /// What the wallet has free.
        available: Amount,
        /// The currency of both.
        currency: Asset,
    },
    /// This call id was admitted before: its first admission counts.
    #[error("the call was admitted before")]
    Repeated,
    /// This call id was used for another request.
    #[error("the call id was used for another request")]
    Conflict,
    /// Too much is queued.
    #[error("too many operations are waiting")]
    Busy,
    /// The hold is gone although its call is not.
    #[error("the ledger refused")]
    Refused(#[source] Refusal),
    /// The charge is beyond the range of amounts.
    #[error("the charge cannot be computed")]
    Pricing(#[from] pricing::PricingError),
    /// The journal could not write.
    #[error("the journal failed")]
    Journal(#[source] JournalError),
    /// Holds could not be swept.
    #[error("holds could not be swept")]
    Sweep(#[from] ledger::SweepError),
    /// The database could not be read.
    #[error("the database failed")]
    Store(#[from] store::Error),
    /// A price version cannot be written down.
    #[error("price version {0} cannot be recorded")]
    DamagedPrice(String),
    /// A stored usage record does not read back.
    #[error("usage record {0} is damaged: run ledgerline verify")]
    DamagedRecord(String),
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Busy => Self::Busy,
            JournalError::Conflict => Self::Conflict,
            other => Self::Journal(other),
        }
    }
}
