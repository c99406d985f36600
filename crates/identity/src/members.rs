//! Users and applications: whom an organization's keys can belong to.

use kernel::{AppId, OrgId, Page, PageRequest, UserId};

use crate::service::valid_name;
use crate::store::{self as rows, Thing};
use crate::{App, Change, Identity, Result, User};

impl Identity {
    /// Creates a person in an organization.
    pub async fn create_user(&self, org_id: &OrgId, name: &str) -> Result<User> {
        let org = self.org(org_id).await?;
        let (id, name, created_at) = (UserId::generate(), valid_name(name)?, self.0.clock.now());
        let user = User { id, org_id: org.id, name, disabled: false, created_at };
        rows::insert_user(&self.0.database, &user).await?;
        Ok(user)
    }

    /// The people of an organization, by id.
    pub async fn list_users(&self, org_id: &OrgId, page: &PageRequest) -> Result<Page<User>> {
        self.org(org_id).await?;
        let users = rows::list_users(&self.0.database, org_id, page).await?;
        Ok(Page::from_fetched(users, page, |user| user.id.to_string()))
    }

    /// Renames a person, or switches their keys off or on.
    pub async fn change_user(&self, id: &UserId, change: Change) -> Result<User> {
        self.change(Thing::User, id.as_str(), change).await?;
        let found = rows::find_user(&self.0.database, id).await?;
        found.ok_or_else(|| Thing::User.missing(id.as_str()))
    }

    /// Creates an application of an organization.
    pub async fn create_app(&self, org_id: &OrgId, name: &str) -> Result<App> {
        let org = self.org(org_id).await?;
        let (id, name, created_at) = (AppId::generate(), valid_name(name)?, self.0.clock.now());
        let app = App { id, org_id: org.id, name, disabled: false, created_at };
        rows::insert_app(&self.0.database, &app).await?;
        Ok(app)
    }

    /// The applications of an organization, by id.
    pub async fn list_apps(&self, org_id: &OrgId, page: &PageRequest) -> Result<Page<App>> {
        self.org(org_id).await?;
        let apps = rows::list_apps(&self.0.database, org_id, page).await?;
        Ok(Page::from_fetched(apps, page, |app| app.id.to_string()))
    }

    /// Renames an application, or switches its keys off or on.
    pub async fn change_app(&self, id: &AppId, change: Change) -> Result<App> {
        self.change(Thing::App, id.as_str(), change).await?;
        let found = rows::find_app(&self.0.database, id).await?;
        found.ok_or_else(|| Thing::App.missing(id.as_str()))
    }
}
