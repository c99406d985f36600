//! Users and applications: whom an organization's keys can belong to.

use kernel::{AppId, OrgId, Page, PageRequest, UserId};

use crate::edit::{Edit, Record};
use crate::service::valid_name;
use crate::store::{self as rows, Filter};
use crate::{App, Change, Identity, MemberChange, Result, User};

/// What users and applications have in common.
trait Member: Record {
    fn own(&mut self) -> (&mut String, &mut bool, &mut Vec<String>);
}

impl Member for User {
    fn own(&mut self) -> (&mut String, &mut bool, &mut Vec<String>) {
        (&mut self.name, &mut self.disabled, &mut self.roles)
    }
}

impl Member for App {
    fn own(&mut self) -> (&mut String, &mut bool, &mut Vec<String>) {
        (&mut self.name, &mut self.disabled, &mut self.roles)
    }
}

impl Identity {
    /// Creates a person in an organization.
    pub async fn create_user(&self, org_id: &OrgId, name: &str) -> Result<User> {
        let org = self.org(org_id).await?;
        let user = User {
            id: UserId::generate(),
            org_id: org.id,
            name: valid_name(name)?,
            disabled: false,
            created_at: self.0.clock.now(),
            roles: Vec::new(),
            version: 1,
            deleted_at: None,
        };
        self.insert(rows::user_insertion(&user), &user, Vec::new()).await?;
        Ok(user)
    }

    /// The people of an organization, by id.
    pub async fn list_users(&self, org_id: &OrgId, page: &PageRequest) -> Result<Page<User>> {
        self.org(org_id).await?;
        self.find_users(&Filter::of(org_id), page).await
    }

    /// The people that the filter lets through, by id.
    pub async fn find_users(&self, filter: &Filter, page: &PageRequest) -> Result<Page<User>> {
        self.list(filter, page).await
    }

    /// The person, or [`crate::Error::NotFound`].
    pub async fn user(&self, id: &UserId) -> Result<User> {
        self.get(id.as_str()).await
    }

    /// Renames a person, switches their keys off or on, or gives them other roles.
    pub async fn change_user(
        &self,
        id: &UserId,
        edit: impl Into<Edit<MemberChange>>,
    ) -> Result<User> {
        self.change_member(id.as_str(), edit.into()).await
    }

    /// Deletes a person: their keys stop working, their past stays.
    pub async fn delete_user(&self, id: &UserId, version: Option<i64>) -> Result<User> {
        self.delete(id.as_str(), version).await
    }

    /// Creates an application of an organization.
    pub async fn create_app(&self, org_id: &OrgId, name: &str) -> Result<App> {
        let org = self.org(org_id).await?;
        let app = App {
            id: AppId::generate(),
            org_id: org.id,
            name: valid_name(name)?,
            disabled: false,
            created_at: self.0.clock.now(),
            roles: Vec::new(),
            version: 1,
            deleted_at: None,
        };
        self.insert(rows::app_insertion(&app), &app, Vec::new()).await?;
        Ok(app)
    }

    /// The applications of an organization, by id.
    pub async fn list_apps(&self, org_id: &OrgId, page: &PageRequest) -> Result<Page<App>> {
        self.org(org_id).await?;
        self.find_apps(&Filter::of(org_id), page).await
    }

    /// The applications that the filter lets through, by id.
    pub async fn find_apps(&self, filter: &Filter, page: &PageRequest) -> Result<Page<App>> {
        self.list(filter, page).await
    }

    /// The application, or [`crate::Error::NotFound`].
    pub async fn app(&self, id: &AppId) -> Result<App> {
        self.get(id.as_str()).await
    }

    /// Renames an application, switches its keys off or on, or gives it other roles.
    pub async fn change_app(&self, id: &AppId, edit: impl Into<Edit<MemberChange>>) -> Result<App> {
        self.change_member(id.as_str(), edit.into()).await
    }

    /// Deletes an application: its keys stop working, its past stays.
    pub async fn delete_app(&self, id: &AppId, version: Option<i64>) -> Result<App> {
        self.delete(id.as_str(), version).await
    }

    async fn change_member<T: Member>(&self, id: &str, edit: Edit<MemberChange>) -> Result<T> {
        let MemberChange { name, disabled, roles } = edit.change;
        let change = Change { name, disabled }.checked()?;
        if let Some(roles) = &roles {
            let member: T = self.get(id).await?;
            self.check_roles_in(member.org_id(), roles).await?;
        }
        self.edit(id, edit.version, |member: &mut T| {
            let (name, disabled, own_roles) = member.own();
            change.apply(name, disabled);
            if let Some(roles) = &roles {
                own_roles.clone_from(roles);
            }
            Ok(())
        })
        .await
    }
}
