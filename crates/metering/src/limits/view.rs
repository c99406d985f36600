//! Limits as they are shown.

use kernel::{Amount, Asset, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Limit, LimitMeasure, LimitScope, LimitSpan, LimitState};

/// A limit, and how much of it is used and left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LimitView {
    /// Whose use it bounds.
    pub scope: LimitScope,
    /// The id of the organization, user or key.
    pub subject: String,
    /// What it bounds.
    pub measure: LimitMeasure,
    /// Over which window.
    pub per: LimitSpan,
    /// Of a spend limit.
    #[schema(value_type = Option<String>)]
    pub currency: Option<Asset>,
    /// The most: a whole number, or for spend a decimal as a string.
    #[schema(value_type = Value)]
    pub limit: Value,
    /// Used in the present window, running calls included.
    #[schema(value_type = Value)]
    pub used: Value,
    /// What is left of it.
    #[schema(value_type = Value)]
    pub left: Value,
    /// When the window ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub resets_at: Option<Timestamp>,
}

impl Limit {
    /// So much of what it bounds: a whole number, or for spend a decimal as a string.
    pub fn figure(&self, value: i64) -> Value {
        match self.measure {
            LimitMeasure::Spend => json!(Amount::from_nanos(value)),
            _ => json!(value),
        }
    }
}

impl From<LimitState> for LimitView {
    fn from(state: LimitState) -> Self {
        let LimitState { limit, used, resets_at } = state;
        let left = limit.most.saturating_sub(used).max(0);
        Self {
            limit: limit.figure(limit.most),
            used: limit.figure(used),
            left: limit.figure(left),
            scope: limit.scope,
            subject: limit.subject,
            measure: limit.measure,
            per: limit.span,
            currency: limit.currency,
            resets_at,
        }
    }
}
