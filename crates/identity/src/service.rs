//! The service that knows who is who, and its organizations.

use std::sync::Arc;

use kernel::{OrgId, Page, PageRequest, SharedClock};
use store::Database;

use crate::authenticate::KeyCache;
use crate::jobs::Uses;
use crate::store::{self as rows, Thing};
use crate::{Change, Error, Org, OrgKind, Result, ServerSecret};

/// The id of the organization that runs this installation.
pub const PLATFORM: &str = "platform";
const LONGEST_NAME: usize = 200;

/// The service that knows who is who. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity(pub(crate) Arc<Parts>);

#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) database: Database,
    pub(crate) secret: ServerSecret,
    pub(crate) clock: SharedClock,
    pub(crate) cache: KeyCache,
    pub(crate) uses: Uses,
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
        let (cache, uses) = (KeyCache::default(), Uses::default());
        let identity = Self(Arc::new(Parts { database, secret, clock, cache, uses }));
        identity.ensure_platform().await?;
        Ok(identity)
    }

    async fn ensure_platform(&self) -> Result<()> {
        if rows::find_org(&self.0.database, &PLATFORM.into()).await?.is_some() {
            return Ok(());
        }
        let platform = Org { id: PLATFORM.into(), ..self.new_org("platform", OrgKind::Platform)? };
        match rows::insert_org(&self.0.database, &platform).await {
            // Another instance created it in this moment.
            Err(Error::Store(cause)) if cause.is_duplicate() => Ok(()),
            outcome => outcome,
        }
    }

    fn new_org(&self, name: &str, kind: OrgKind) -> Result<Org> {
        let (name, created_at) = (valid_name(name)?, self.0.clock.now());
        Ok(Org { id: OrgId::generate(), name, kind, disabled: false, created_at })
    }

    /// Creates an organization.
    pub async fn create_org(&self, name: &str, kind: OrgKind) -> Result<Org> {
        let org = self.new_org(name, kind)?;
        rows::insert_org(&self.0.database, &org).await?;
        Ok(org)
    }

    /// The organization, or [`Error::NotFound`].
    pub async fn org(&self, id: &OrgId) -> Result<Org> {
        let found = rows::find_org(&self.0.database, id).await?;
        found.ok_or_else(|| Thing::Org.missing(id.as_str()))
    }

    /// All organizations, by id.
    pub async fn list_orgs(&self, page: &PageRequest) -> Result<Page<Org>> {
        let orgs = rows::list_orgs(&self.0.database, page).await?;
        Ok(Page::from_fetched(orgs, page, |org| org.id.to_string()))
    }

    /// Renames an organization, or switches all its credentials off or on. The platform's stays on:
    /// without it nobody could administer.
    pub async fn change_org(&self, id: &OrgId, change: Change) -> Result<Org> {
        if id.as_str() == PLATFORM && change.disabled == Some(true) {
            return Err(Error::PlatformOrg);
        }
        self.change(Thing::Org, id.as_str(), change).await?;
        self.org(id).await
    }

    /// Makes the change; from then on this instance goes by it, the others within a second.
    pub(crate) async fn change(&self, thing: Thing, id: &str, mut change: Change) -> Result<()> {
        change.name = change.name.as_deref().map(valid_name).transpose()?;
        rows::change(&self.0.database, thing, id, &change).await?;
        self.0.cache.forget_all();
        Ok(())
    }
}

pub(crate) fn valid_name(name: &str) -> Result<String> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > LONGEST_NAME {
        return Err(Error::Name);
    }
    Ok(name.to_owned())
}
