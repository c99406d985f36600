//! Who is calling, after authentication.

use kernel::{AppId, KeyId, OrgId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Limits, OrgKind};

/// The role that every key has in its organization: the role `<kind>.member` or `<kind>.admin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Uses the products of its own organization.
    Member,
    /// Runs its organization; in the platform's, this installation.
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
    /// What the organization is.
    pub kind: OrgKind,
    /// The person, if the credential belongs to one.
    pub user_id: Option<UserId>,
    /// The external system, if the credential belongs to one.
    pub app_id: Option<AppId>,
    /// The API key used.
    pub key_id: Option<KeyId>,
    /// The key's own role.
    pub role: Role,
    /// The roles given to the key, its user and its application, such as `customer.viewer`.
    pub roles: Vec<String>,
    /// What the key is limited to.
    pub limits: Limits,
}

impl Caller {
    /// A caller of the organization, without limits and without a credential of its own yet.
    pub fn new(org_id: OrgId, kind: OrgKind, role: Role) -> Self {
        let (roles, limits) = (Vec::new(), Limits::NONE);
        Self { org_id, kind, user_id: None, app_id: None, key_id: None, role, roles, limits }
    }

    /// Every role it has.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        let own = role_name(self.kind, self.role);
        std::iter::once(own).chain(self.roles.iter().map(String::as_str))
    }

    /// The bytes it takes in memory, roughly.
    pub(crate) fn size(&self) -> usize {
        let roles = self.roles.iter().map(|role| role.len() + size_of::<String>());
        size_of::<Self>() + 4 * ID_BYTES + roles.sum::<usize>() + self.limits.size()
    }
}

/// What an id takes beside its pointer.
const ID_BYTES: usize = 64;

const fn role_name(kind: OrgKind, role: Role) -> &'static str {
    match (kind, role) {
        (OrgKind::Platform, Role::Member) => "platform.member",
        (OrgKind::Platform, Role::Admin) => "platform.admin",
        (OrgKind::Customer, Role::Member) => "customer.member",
        (OrgKind::Customer, Role::Admin) => "customer.admin",
        (OrgKind::Distributor, Role::Member) => "distributor.member",
        (OrgKind::Distributor, Role::Admin) => "distributor.admin",
        (OrgKind::Provider, Role::Member) => "provider.member",
        (OrgKind::Provider, Role::Admin) => "provider.admin",
    }
}
