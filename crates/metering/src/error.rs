//! Why a call is not admitted, or its end not recorded.

use std::sync::Arc;

use kernel::{Amount, Asset};
use ledger::{JournalError, Refusal};

use crate::Reached;

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
    /// A limit of the caller is reached.
    #[error("the limit of {} is reached: {} used", .0.what, .0.used)]
    LimitReached(Box<Reached>),
    /// A limit that makes no sense.
    #[error("{0}")]
    InvalidLimit(String),
    /// What a limit is could not be read, for this call and those beside it.
    #[error("limits could not be read")]
    Limits(#[source] Arc<Self>),
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
    /// A user, application or key was asked for without its organization.
    #[error("user, app and key are told apart within an organization: name it (org_id)")]
    NeedsOrganization,
    /// The cursor is not one of this list.
    #[error("the cursor is not one of this list: send back the `next` of the page before")]
    Cursor,
    /// A report cannot tell this apart.
    #[error("group_by: {0}")]
    GroupBy(String),
    /// There is no such time zone.
    #[error("time_zone: {0:?} is not one such as Asia/Shanghai")]
    TimeZone(String),
    /// A report's time is empty.
    #[error("from must be before to")]
    Times,
    /// A report would be too long.
    #[error(
        "the report would have more than 10000 rows: ask for a shorter time, or tell less apart"
    )]
    TooManyRows,
    /// A stored price version does not read back.
    #[error("price version {0} is damaged")]
    DamagedPrice(String),
    /// A change of the price book is refused, or it has no answer.
    #[error("the price book refused")]
    PriceBook(#[from] PriceBookError),
    /// A stored usage record does not read back.
    #[error("usage record {0} is damaged: run ledgerline verify")]
    DamagedRecord(String),
}

impl Error {
    /// A list or report was asked for in a way that cannot be answered; the text says what to do.
    pub const fn is_query(&self) -> bool {
        matches!(
            self,
            Self::NeedsOrganization
                | Self::Cursor
                | Self::GroupBy(_)
                | Self::TimeZone(_)
                | Self::Times
                | Self::TooManyRows
        )
    }
}

/// What the price book refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceBookError {
    /// There is no such price version.
    #[error("there is no price version {0}")]
    UnknownVersion(String),
    /// Prices never change for what has been: an activation starts now or later.
    #[error("an activation cannot start in the past")]
    StartsInThePast,
    /// More activations are to come than are kept in mind.
    #[error("{0} activations are waiting to start")]
    TooManyActivations(usize),
    /// The activation is not there, has started, or was cancelled before.
    #[error("activation {0} is not waiting to start")]
    NotWaiting(i64),
    /// Others keep changing the price book at the same time.
    #[error("the price book is being changed by others")]
    Contended,
    /// A simulation would have to read too many calls.
    #[error("the period holds more than {0} calls")]
    TooManyCalls(u64),
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
