//! Roles: their names, the patterns that rules name them by, and the operator's own.

use std::fmt;
use std::str::FromStr;

use kernel::{OrgId, Page, PageRequest};
use serde::{Serialize, Serializer};

use crate::edit::Edit;
use crate::model::OrgKind;
use crate::service::valid_name;
use crate::store::{self as rows, Filter};
use crate::{Caller, Change, Error, Identity, NamedRole, Result};

/// Bytes of a role's name after its kind.
const LONGEST: usize = 40;
/// Roles that one user, application or key may be given.
const MOST: usize = 32;

/// Whom a rule lets in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RolePattern {
    /// Everybody.
    Any,
    /// Who sends no credential.
    Anonymous,
    /// Who sends a valid one.
    Logined,
    /// Who has a role `<kind>.<name>`; `None` stands for `*`.
    Named {
        /// The kind of organization.
        kind: Option<OrgKind>,
        /// The name within the kind.
        name: Option<Box<str>>,
    },
}

impl RolePattern {
    /// Whether the caller, or nobody in particular, is let in.
    pub(crate) fn admits(&self, caller: Option<&Caller>) -> bool {
        match (self, caller) {
            (Self::Any, _) | (Self::Anonymous, None) | (Self::Logined, Some(_)) => true,
            (Self::Named { kind, name }, Some(caller)) => caller.roles().any(|role| {
                let Some((of, own)) = role.split_once('.') else { return false };
                kind.is_none_or(|kind| kind.as_str() == of)
                    && name.as_deref().is_none_or(|name| name == own)
            }),
            (Self::Anonymous, Some(_)) | (Self::Logined | Self::Named { .. }, None) => false,
        }
    }
}

impl FromStr for RolePattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || Error::InvalidRole(text.chars().take(LONGEST).collect());
        match text {
            "any" => return Ok(Self::Any),
            "anonymous" => return Ok(Self::Anonymous),
            "logined" => return Ok(Self::Logined),
            _ => {}
        }
        let (kind, name) = text.split_once('.').ok_or_else(refused)?;
        let kind = match kind {
            "*" => None,
            kind => Some(OrgKind::parse(kind).ok_or_else(refused)?),
        };
        let name = match name {
            "*" => None,
            name if is_name(name) => Some(name.into()),
            _ => return Err(refused()),
        };
        Ok(Self::Named { kind, name })
    }
}

impl fmt::Display for RolePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Anonymous => f.write_str("anonymous"),
            Self::Logined => f.write_str("logined"),
            Self::Named { kind, name } => {
                let kind = kind.map_or("*", OrgKind::as_str);
                write!(f, "{kind}.{}", name.as_deref().unwrap_or("*"))
            }
        }
    }
}

impl Serialize for RolePattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn is_name(text: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    text.len() <= LONGEST
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(plain)
}

/// The kind and name of a role such as `customer.viewer`.
fn parts(role: &str) -> Result<(OrgKind, &str)> {
    let found = role.split_once('.').filter(|(_, name)| is_name(name));
    found
        .and_then(|(kind, name)| Some((OrgKind::parse(kind)?, name)))
        .ok_or_else(|| Error::InvalidRole(role.chars().take(LONGEST).collect()))
}

/// Whether it is a role that keys have by themselves and that no operator made.
pub(crate) fn is_own_role(role: &str) -> bool {
    matches!(role.split_once('.'), Some((_, "member" | "admin")))
}

impl Identity {
    /// Adds a role, which rules can name and users, applications and keys be given.
    pub async fn create_role(&self, id: &str, name: &str) -> Result<NamedRole> {
        parts(id)?;
        if is_own_role(id) {
            return Err(Error::RoleExists);
        }
        let role = NamedRole {
            id: id.to_owned(),
            name: valid_name(name)?,
            disabled: false,
            created_at: self.0.clock.now(),
            version: 1,
            deleted_at: None,
        };
        let more = vec![rows::new_access_version()];
        match self.insert(rows::role_insertion(&role), &role, more).await {
            Err(Error::Store(cause)) if cause.is_duplicate() => Err(Error::RoleExists),
            outcome => outcome.map(|()| role),
        }
    }

    /// The operator's roles, by id.
    pub async fn list_roles(&self, filter: &Filter, page: &PageRequest) -> Result<Page<NamedRole>> {
        self.list(filter, page).await
    }

    /// The role, or [`Error::NotFound`].
    pub async fn role(&self, id: &str) -> Result<NamedRole> {
        self.get(id).await
    }

    /// Renames a role, or switches it off or on for everybody who has it.
    pub async fn change_role(&self, id: &str, edit: Edit<Change>) -> Result<NamedRole> {
        let edit = edit.checked()?;
        self.edit(id, edit.version, |role: &mut NamedRole| {
            edit.change.apply(&mut role.name, &mut role.disabled);
            Ok(())
        })
        .await
    }

    /// Deletes a role: nobody has it any more, and no other can be created under its id.
    pub async fn delete_role(&self, id: &str, version: Option<i64>) -> Result<NamedRole> {
        self.delete(id, version).await
    }

    /// As [`Identity::check_roles`], for what belongs to this organization.
    pub(crate) async fn check_roles_in(
        &self,
        org_id: Option<&OrgId>,
        roles: &[String],
    ) -> Result<()> {
        match org_id {
            Some(org_id) => self.check_roles(self.org(org_id).await?.kind, roles).await,
            None => Ok(()),
        }
    }

    /// Refuses roles that the organization's members cannot have: of another kind, or unknown.
    pub(crate) async fn check_roles(&self, kind: OrgKind, roles: &[String]) -> Result<()> {
        if roles.len() > MOST {
            return Err(Error::Limits);
        }
        for role in roles {
            let (of, _) = parts(role)?;
            let known = is_own_role(role) || self.role(role).await.is_ok();
            if of != kind || !known {
                return Err(Error::InvalidRole(role.clone()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;

    #[test]
    fn patterns_admit_whom_they_name() {
        let mut member = Caller::new("c".into(), OrgKind::Customer, Role::Member);
        member.roles.push("customer.viewer".to_owned());
        let admin = Caller::new("p".into(), OrgKind::Platform, Role::Admin);
        for (pattern, nobody, by_member, by_admin) in [
            ("any", true, true, true),
            ("anonymous", true, false, false),
            ("logined", false, true, true),
            ("customer.member", false, true, false),
            ("customer.viewer", false, true, false),
            ("customer.*", false, true, false),
            ("*.member", false, true, false),
            ("*.admin", false, false, true),
            ("*.*", false, true, true),
            ("platform.admin", false, false, true),
            ("customer.admin", false, false, false),
        ] {
            let read: RolePattern = pattern.parse().unwrap();
            let admits = [None, Some(&member), Some(&admin)].map(|caller| read.admits(caller));
            assert_eq!(admits, [nobody, by_member, by_admin], "{pattern}");
            assert_eq!(read.to_string(), pattern);
        }
    }

    #[test]
    fn what_is_no_role_is_refused() {
        let long = format!("customer.{}", "a".repeat(41));
        for text in [
            "",
            "admin",
            "*",
            "owner.admin",
            "customer.",
            "customer.Admin",
            "customer.a.b",
            "customer.*x",
            "customer.1",
            "ANY",
            &long,
        ] {
            assert!(text.parse::<RolePattern>().is_err(), "{text:?}");
            assert!(parts(text).is_err(), "{text:?}");
        }
        for pattern in ["*.admin", "customer.*", "any", "logined"] {
            assert!(parts(pattern).is_err(), "{pattern}");
        }
    }
}
