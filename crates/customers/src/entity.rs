//! What one server can follow of another.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A kind of thing that one server follows of another.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Entity {
    /// Organizations and the people in them.
    Users,
    /// Prices in force.
    Pricing,
    /// The upstreams of models.
    Uapi,
    /// Models on offer.
    Llmage,
}

impl Entity {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Users, Self::Pricing, Self::Uapi, Self::Llmage];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Pricing => "pricing",
            Self::Uapi => "uapi",
            Self::Llmage => "llmage",
        }
    }

    /// Where a follower keeps it.
    pub(crate) const fn cache(self) -> &'static str {
        match self {
            Self::Users => "users_cache",
            Self::Pricing => "pricing_cache",
            Self::Uapi => "uapi_cache",
            Self::Llmage => "llmage_cache",
        }
    }
}
