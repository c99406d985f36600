//! The people of an organization in pages, for its own servers.

use kernel::{OrgId, Page, PageRequest, UserId};
use store::{Cache, Column, ListRequest, Listed};

use crate::store::{self as rows};
use crate::{Error, Identity, Result, User};

/// What an organization's users can be sorted by.
pub static USER_ORDERS: [Column; 4] = [
    Column { name: "id", sql: "id", at: 0 },
    Column { name: "userid", sql: "id", at: 0 },
    Column { name: "username", sql: "name", at: 2 },
    Column { name: "created_at", sql: "created_at", at: 4 },
];

impl Identity {
    /// A page of the people of an organization, and how many there are.
    pub async fn page_users(
        &self,
        org_id: &OrgId,
        request: &ListRequest,
        cache: &Cache,
    ) -> Result<(Vec<User>, Listed)> {
        rows::page_users(&self.0.database, cache, org_id, request).await
    }

    /// The people of all organizations, by id.
    pub async fn every_user(&self, page: &PageRequest) -> Result<Page<User>> {
        let users = rows::every_user(&self.0.database, page).await?;
        Ok(Page::from_fetched(users, page, |user| user.id.to_string()))
    }

    /// The organization of a user, if there is such a user.
    pub async fn org_of_user(&self, id: &UserId) -> Result<Option<OrgId>> {
        match self.user(id).await {
            Ok(user) => Ok(Some(user.org_id)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
