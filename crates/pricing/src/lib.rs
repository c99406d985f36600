//! What a call costs: price files, price versions, quotes and charges. Pure functions, no I/O.
//!
//! Invariants:
//! - token classes are disjoint, and a rule prices each class once, so no token is priced twice;
//! - a charge is computed exactly and rounded once, up; its lines add up to it;
//! - no call within its bounds costs more than the ceiling of its quote;
//! - a price version is immutable and named by its content;
//! - a price file that is wrong is refused with all that is wrong in it.

mod cached;
mod ceiling;
mod charge;
mod document;
mod exact;
mod original;
mod percent;
mod quote;
mod rates;
mod tokens;
mod version;
mod window;

pub use cached::CachedResponse;
pub use charge::{Charge, Line, Step};
pub use document::{
    ContextTier, Document, Item, Mistake, Package, Period, Place, Pricing, Rule, Scope, Tier,
};
pub use exact::Exact;
pub use original::PricingData;
pub use percent::{Percent, PercentError};
pub use quote::{Payer, Quote, Used};
pub use rates::Rates;
pub use tokens::{Class, Classes, Tokens};
pub use version::PriceVersion;
pub use window::{Days, TimeOfDay, Window};

/// A price that cannot be used or a charge that cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PricingError {
    /// A rate is below zero.
    #[error("{0} is below zero")]
    NegativeRate(&'static str),
    /// The charge is beyond the range of amounts.
    #[error("the charge is out of range")]
    OutOfRange,
}
