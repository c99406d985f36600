//! The people of an organization, as its server sees them.

use ::store::{ListRequest, Listed};
use identity::{Caller, User};
use kernel::{OrgId, Timestamp, UserId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{Customers, Result};

/// A person of the caller's organization.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UserRow {
    /// Its id.
    #[schema(value_type = String)]
    pub id: UserId,
    /// The same.
    #[schema(value_type = String)]
    pub userid: UserId,
    /// Its organization.
    #[schema(value_type = String)]
    pub org_id: OrgId,
    /// Its name.
    pub username: String,
    /// `0` when its keys work, `1` when they are switched off.
    pub user_status: &'static str,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl Customers {
    /// The people of the caller's organization, and how many there are.
    pub async fn users(
        &self,
        caller: &Caller,
        request: &ListRequest,
    ) -> Result<(Vec<UserRow>, Listed)> {
        let (identity, cache) = (&self.parts().identity, self.parts().metering.reader().cache());
        let (users, listed) = identity.page_users(&caller.org_id, request, cache).await?;
        Ok((users.into_iter().map(UserRow::from).collect(), listed))
    }
}

impl From<User> for UserRow {
    fn from(user: User) -> Self {
        Self {
            userid: user.id.clone(),
            id: user.id,
            org_id: user.org_id,
            username: user.name,
            user_status: if user.disabled { "1" } else { "0" },
            created_at: user.created_at,
        }
    }
}
