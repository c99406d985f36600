//! Who is calling, after authentication.

use kernel::{AppId, KeyId, OrgId, UserId};

/// What a caller may do. Finer roles come on top of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Uses the products of its own organization.
    Member,
    /// Runs this installation: may use `/admin`.
    Admin,
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
