//! What a call costs: token classes, rates and price versions. Pure functions, no I/O.
//!
//! Invariants:
//! - token classes are disjoint, so no token is priced twice;
//! - a charge is computed exactly and rounded once, up;
//! - a price version is immutable and named by its content.

mod price;
mod tokens;

pub use price::{PriceVersion, PricingError, Rates};
pub use tokens::Tokens;
