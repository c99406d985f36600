//! Organizations, users, applications and keys as callers see them.

use kernel::{AppId, KeyId, OrgId, Secret, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Role;

/// What an organization is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrgKind {
    /// Runs this installation.
    Platform,
    /// Buys.
    Customer,
    /// Resells.
    Distributor,
    /// Sells to the platform.
    Provider,
}

impl OrgKind {
    pub(crate) const ALL: [Self; 4] =
        [Self::Platform, Self::Customer, Self::Distributor, Self::Provider];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Customer => "customer",
            Self::Distributor => "distributor",
            Self::Provider => "provider",
        }
    }
}

/// An organization: holds money and owns things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Org {
    /// Its id.
    #[schema(value_type = String)]
    pub id: OrgId,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: OrgKind,
    /// Its credentials do not work.
    pub disabled: bool,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// What of an organization, user, application or key is to change; what is absent stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// A new name, 1 to 200 characters.
    pub name: Option<String>,
    /// Switch it, and all credentials that belong to it, off or on.
    pub disabled: Option<bool>,
}

/// A person in an organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct User {
    /// Its id.
    #[schema(value_type = String)]
    pub id: UserId,
    /// Its organization.
    #[schema(value_type = String)]
    pub org_id: OrgId,
    /// Its name.
    pub name: String,
    /// Its credentials do not work.
    pub disabled: bool,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// An external system that calls on behalf of an organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct App {
    /// Its id (`app_id`).
    #[schema(value_type = String)]
    pub id: AppId,
    /// Its organization.
    #[schema(value_type = String)]
    pub org_id: OrgId,
    /// Its name.
    pub name: String,
    /// Its credentials do not work.
    pub disabled: bool,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// An API key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Key {
    /// Its id.
    #[schema(value_type = String)]
    pub id: KeyId,
    /// The organization that pays for its calls.
    #[schema(value_type = String)]
    pub org_id: OrgId,
    /// The person it belongs to, if any.
    #[schema(value_type = Option<String>)]
    pub user_id: Option<UserId>,
    /// The application it belongs to, if any.
    #[schema(value_type = Option<String>)]
    pub app_id: Option<AppId>,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The first characters of the secret, to recognise it by.
    pub prefix: String,
    /// It does not work.
    pub disabled: bool,
    /// When it stops working.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last used, a minute or two behind; null if never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
}

/// A key to be created.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The organization that pays for its calls.
    pub org_id: OrgId,
    /// The person it belongs to, if any.
    pub user_id: Option<UserId>,
    /// The application it belongs to, if any.
    pub app_id: Option<AppId>,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

/// A key just created: the only time its secret is seen.
#[derive(Clone, Debug)]
pub struct CreatedKey {
    /// Its id.
    pub id: KeyId,
    /// The secret to call with.
    pub api_key: Secret,
}

/// How a key hands over to its successor.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// When the old key stops working, at the latest; in a day when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub old_until: Option<Timestamp>,
    /// When the new key stops working; never when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}
