//! The service that knows who is who.

use std::sync::Arc;

use kernel::{AppId, OrgId, Page, PageRequest, SharedClock, UserId};
use store::Database;

use crate::authenticate::KeyCache;
use crate::secret::new_api_key;
use crate::store::{self as rows, Member, missing};
use crate::{
    App, CreatedKey, Error, Key, NewKey, Org, OrgChange, OrgKind, Result, ServerSecret, User,
};

/// The id of the organization that runs this installation.
pub const PLATFORM: &str = "platform";
const LONGEST_NAME: usize = 200;

/// The service that knows who is who. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Parts>);

/// What the service is made of.
#[derive(Debug)]
pub struct Parts {
    pub(crate) database: Database,
    pub(crate) secret: ServerSecret,
    pub(crate) clock: SharedClock,
    pub(crate) cache: KeyCache,
}

impl std::ops::Deref for Identity {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Identity {
    /// The service over a migrated database. Creates the platform's organization; refuses a
    /// database that was made with another secret.
    pub async fn open(
        database: Database,
        secret: ServerSecret,
        clock: SharedClock,
    ) -> Result<Self> {
        let stored = rows::keep_setting(&database, "secret_check", secret.check_value()).await?;
        if stored != secret.check_value() {
            return Err(Error::OtherSecret);
        }
        let cache = KeyCache::default();
        let identity = Self(Arc::new(Parts { database, secret, clock, cache }));
        identity.ensure_platform().await?;
        Ok(identity)
    }

    async fn ensure_platform(&self) -> Result<()> {
        if rows::find_org(&self.database, &PLATFORM.into()).await?.is_some() {
            return Ok(());
        }
        let platform = Org { id: PLATFORM.into(), ..self.new_org("platform", OrgKind::Platform)? };
        match rows::insert_org(&self.database, &platform).await {
            // Another instance created it in this moment.
            Err(Error::Store(cause)) if cause.is_duplicate() => Ok(()),
            outcome => outcome,
        }
    }

    fn new_org(&self, name: &str, kind: OrgKind) -> Result<Org> {
        let created_at = self.clock.now();
        Ok(Org {
            id: OrgId::generate(),
            name: valid_name(name)?,
            kind,
            disabled: false,
            created_at,
        })
    }

    /// Whether anybody can administer this installation.
    pub async fn has_admin_key(&self) -> Result<bool> {
        rows::has_admin_key(&self.database).await
    }

    /// Creates an organization.
    pub async fn create_org(&self, name: &str, kind: OrgKind) -> Result<Org> {
        let org = self.new_org(name, kind)?;
        rows::insert_org(&self.database, &org).await?;
        Ok(org)
    }

    /// The organization, or [`Error::NotFound`].
    pub async fn org(&self, id: &OrgId) -> Result<Org> {
        rows::find_org(&self.database, id)
            .await?
            .ok_or_else(|| missing("organization", id.as_str()))
    }

    /// All organizations, by id.
    pub async fn list_orgs(&self, page: &PageRequest) -> Result<Page<Org>> {
        let orgs = rows::list_orgs(&self.database, page).await?;
        Ok(Page::from_fetched(orgs, page, |org| org.id.to_string()))
    }

    /// Renames an organization, or switches its credentials off or on.
    pub async fn change_org(&self, id: &OrgId, change: OrgChange) -> Result<Org> {
        let mut org = self.org(id).await?;
        if let Some(name) = change.name {
            org.name = valid_name(&name)?;
        }
        org.disabled = change.disabled.unwrap_or(org.disabled);
        rows::update_org(&self.database, &org).await?;
        self.cache.forget_all();
        Ok(org)
    }

    /// Creates a person in an organization.
    pub async fn create_user(&self, org_id: &OrgId, name: &str) -> Result<User> {
        let org = self.org(org_id).await?;
        let (name, created_at) = (valid_name(name)?, self.clock.now());
        let user =
            User { id: UserId::generate(), org_id: org.id, name, disabled: false, created_at };
        rows::insert_user(&self.database, &user).await?;
        Ok(user)
    }

    /// The people of an organization, by id.
    pub async fn list_users(&self, org_id: &OrgId, page: &PageRequest) -> Result<Page<User>> {
        self.org(org_id).await?;
        let users = rows::list_users(&self.database, org_id, page).await?;
        Ok(Page::from_fetched(users, page, |user| user.id.to_string()))
    }

    /// Creates an application of an organization.
    pub async fn create_app(&self, org_id: &OrgId, name: &str) -> Result<App> {
        let org = self.org(org_id).await?;
        let (name, created_at) = (valid_name(name)?, self.clock.now());
        let app = App { id: AppId::generate(), org_id: org.id, name, disabled: false, created_at };
        rows::insert_app(&self.database, &app).await?;
        Ok(app)
    }

    /// The applications of an organization, by id.
    pub async fn list_apps(&self, org_id: &OrgId, page: &PageRequest) -> Result<Page<App>> {
        self.org(org_id).await?;
        let apps = rows::list_apps(&self.database, org_id, page).await?;
        Ok(Page::from_fetched(apps, page, |app| app.id.to_string()))
    }

    /// Creates a key. Its secret is in the answer and nowhere else.
    pub async fn create_key(&self, mut new: NewKey) -> Result<CreatedKey> {
        new.name = valid_name(&new.name)?;
        self.check_owner(&new).await?;
        let (api_key, prefix) = new_api_key()?;
        let key = rows::key_of(new, prefix, self.clock.now());
        let hash = self.secret.hash_key(api_key.expose());
        rows::insert_key(&self.database, &key, &hash).await?;
        self.cache.forget(&hash).await;
        Ok(CreatedKey { id: key.id, api_key })
    }

    async fn check_owner(&self, new: &NewKey) -> Result<()> {
        self.org(&new.org_id).await?;
        if let Some(id) = &new.user_id
            && !rows::belongs(&self.database, &new.org_id, Member::User(id.as_str())).await?
        {
            return Err(missing("user", id.as_str()));
        }
        if let Some(id) = &new.app_id
            && !rows::belongs(&self.database, &new.org_id, Member::App(id.as_str())).await?
        {
            return Err(missing("application", id.as_str()));
        }
        Ok(())
    }

    /// The keys of an organization, by id.
    pub async fn list_keys(&self, org_id: &OrgId, page: &PageRequest) -> Result<Page<Key>> {
        self.org(org_id).await?;
        let keys = rows::list_keys(&self.database, org_id, page).await?;
        Ok(Page::from_fetched(keys, page, |key| key.id.to_string()))
    }

    /// Switches a key off or on.
    pub async fn set_key_disabled(&self, id: &str, disabled: bool) -> Result<()> {
        if !rows::set_key_disabled(&self.database, id, disabled).await? {
            return Err(missing("key", id));
        }
        self.cache.forget_all();
        Ok(())
    }
}

fn valid_name(name: &str) -> Result<String> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > LONGEST_NAME {
        return Err(Error::Name);
    }
    Ok(name.to_owned())
}
