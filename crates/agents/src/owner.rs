//! Whose things a caller sees.

use std::sync::Arc;

use identity::{Caller, Role};
use kernel::OrgId;
use store::Value;

/// Whose sessions and workflows these are: a person's, an application's, or the organization's.
///
/// A person and an application have their own, which nobody else of the organization sees; its
/// administrators, and keys that belong to neither, see everything of the organization.
#[derive(Clone, Debug)]
pub struct Owner {
    caller: Arc<Caller>,
    id: String,
    all: bool,
}

impl From<Arc<Caller>> for Owner {
    fn from(caller: Arc<Caller>) -> Self {
        let person = caller.user_id.as_ref().map(kernel::UserId::as_str);
        let application = caller.app_id.as_ref().map(kernel::AppId::as_str);
        let own = person.or(application);
        let all = own.is_none() || caller.role == Role::Admin;
        Self { id: own.unwrap_or_default().to_owned(), all, caller }
    }
}

impl Owner {
    /// The caller, who pays for runs.
    pub const fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// The organization.
    pub fn org_id(&self) -> &OrgId {
        &self.caller.org_id
    }

    /// Who owns what this caller makes; empty for the organization.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether everything of the organization is the caller's to see.
    pub(crate) const fn sees_all(&self) -> bool {
        self.all
    }

    /// Whether something of this owner, in the organization, is the caller's to see.
    pub fn sees(&self, org_id: &OrgId, owner: &str) -> bool {
        *org_id == self.caller.org_id && (self.all || owner == self.id)
    }

    /// The condition that keeps a statement to what the caller sees, and its values.
    pub(crate) fn condition(&self) -> (&'static str, Vec<Value>) {
        let org_id = self.org_id().as_str().into();
        if self.all {
            return ("org_id = ?", vec![org_id]);
        }
        ("org_id = ? AND owner = ?", vec![org_id, self.id.as_str().into()])
    }
}
