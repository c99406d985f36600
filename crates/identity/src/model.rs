//! Organizations, users, applications and keys as callers see them.

use kernel::{AppId, KeyId, OrgId, Secret, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::Network;

use crate::edit::Edit;
use crate::service::valid_name;
use crate::{Limits, Result, Role};

/// What an organization is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
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

    /// The kind of this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

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
    /// Counts its changes, for `If-Match`.
    pub version: i64,
}

/// What of an organization or role is to change; what is absent stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// A new name, 1 to 200 characters.
    pub name: Option<String>,
    /// Switch it, and all credentials that belong to it, off or on.
    pub disabled: Option<bool>,
}

impl Change {
    /// The same with its name trimmed; refuses a name that cannot be one.
    pub(crate) fn checked(self) -> Result<Self> {
        let name = self.name.as_deref().map(valid_name).transpose()?;
        Ok(Self { name, disabled: self.disabled })
    }

    pub(crate) fn apply(&self, name: &mut String, disabled: &mut bool) {
        if let Some(new) = &self.name {
            name.clone_from(new);
        }
        *disabled = self.disabled.unwrap_or(*disabled);
    }
}

/// What of a user or application is to change; what is absent stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberChange {
    /// A new name, 1 to 200 characters.
    pub name: Option<String>,
    /// Switch all its keys off or on.
    pub disabled: Option<bool>,
    /// All its roles from now on.
    pub roles: Option<Vec<String>>,
}

/// What of a key is to change; what is absent stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    /// A new name, 1 to 200 characters.
    pub name: Option<String>,
    /// Switch it off or on.
    pub disabled: Option<bool>,
    /// All its roles from now on, beside `role`.
    pub roles: Option<Vec<String>>,
    /// What it may be used for from now on; empty for everything.
    pub scopes: Option<Vec<String>>,
    /// The models it may call from now on; empty for all.
    pub models: Option<Vec<String>>,
    /// The addresses it may be used from, from now on; empty for all.
    #[schema(value_type = Option<Vec<String>>)]
    pub allowed_ips: Option<Vec<Network>>,
    /// When it stops working; null for never.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Expiry>,
}

/// When something stops working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It does not.
    Never,
    /// At this instant.
    At(Timestamp),
}

/// Tells null from absent.
fn given<'de, D>(deserializer: D) -> std::result::Result<Option<Expiry>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let end = Option::deserialize(deserializer)?;
    Ok(Some(end.map_or(Expiry::Never, Expiry::At)))
}

impl From<Change> for Edit<MemberChange> {
    fn from(Change { name, disabled }: Change) -> Self {
        MemberChange { name, disabled, roles: None }.into()
    }
}

impl From<Change> for Edit<KeyChange> {
    fn from(Change { name, disabled }: Change) -> Self {
        KeyChange { name, disabled, ..KeyChange::default() }.into()
    }
}

/// A role of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NamedRole {
    /// What it is given and named by in rules: `<kind>.<name>`, such as `customer.viewer`.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// Nobody has it at present.
    pub disabled: bool,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Counts its changes, for `If-Match`.
    pub version: i64,
    /// When it was deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deleted_at: Option<Timestamp>,
}

/// A rule added by the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AddedRule {
    /// Its id.
    pub id: String,
    /// Whom it lets in: such as `customer.viewer`, `*.admin`, `customer.*`, `logined` or `any`.
    pub role: String,
    /// Such as `GET`; `*` for every method.
    pub method: String,
    /// Such as `/v1/models/{model}`, `/v1/*` or `/v1/**`.
    pub path: String,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
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
    /// Roles given to it, such as `customer.viewer`, which its keys have as well.
    pub roles: Vec<String>,
    /// Counts its changes, for `If-Match`.
    pub version: i64,
    /// When it was deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deleted_at: Option<Timestamp>,
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
    /// Roles given to it, such as `customer.viewer`, which its keys have as well.
    pub roles: Vec<String>,
    /// Counts its changes, for `If-Match`.
    pub version: i64,
    /// When it was deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deleted_at: Option<Timestamp>,
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
    /// Its role in its organization.
    pub role: Role,
    /// Roles given to it beside that.
    pub roles: Vec<String>,
    /// What it is limited to.
    #[serde(flatten)]
    pub limits: Limits,
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
    /// Counts its changes, for `If-Match`.
    pub version: i64,
    /// When it was deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deleted_at: Option<Timestamp>,
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
    /// Its role in its organization.
    pub role: Role,
    /// Roles beside that.
    pub roles: Vec<String>,
    /// What it is limited to.
    pub limits: Limits,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

impl NewKey {
    /// A key of the organization that is limited to nothing and does not expire.
    pub fn new(org_id: OrgId, name: &str, role: Role) -> Self {
        Self {
            org_id,
            user_id: None,
            app_id: None,
            name: name.to_owned(),
            role,
            roles: Vec::new(),
            limits: Limits::NONE,
            expires_at: None,
        }
    }
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
