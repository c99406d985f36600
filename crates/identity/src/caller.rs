//! Who is calling, after authentication.

use kernel::{AppId, KeyId, OrgId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a caller may do. Finer roles come on top of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Uses the products of its own organization.
    Member,
    /// Runs this installation: may use `/admin`.
    Admin,
}

impl Role {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }
}

/// Who is calling. A handler that takes one is reached by authenticated callers only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The organization that pays and owns.
    pub org_id: OrgId,
    /// The person, if the credential belongs to one.
    pub user_id: Option<UserId>,
    /// The external system, if the credential belongs to one.
    pub app_id: Option<AppId>,
    /// The API key used.
    pub key_id: Option<KeyId>,
    /// What it may do.
    pub role: Role,
}
