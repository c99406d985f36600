//! The service that knows who is who, and its organizations.

use std::sync::Arc;

use kernel::{OrgId, Page, PageRequest, SharedClock};
use store::Database;
use tokio::sync::Notify;

use crate::authenticate::KeyCache;
use crate::edit::{Edit, Witness};
use crate::jobs::Uses;
use crate::rules::Policy;
use crate::signing::{Signing, SigningConfig};
use crate::store::{self as rows, Filter};
use crate::{Change, Error, Org, OrgKind, Result, ServerSecret};

/// The id of the organization that runs this installation.
pub const PLATFORM: &str = "platform";
const LONGEST_NAME: usize = 200;

/// The service that knows who is who. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity(pub(crate) Arc<Parts>, pub(crate) Option<Witness>);

#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) database: Database,
    pub(crate) secret: ServerSecret,
    pub(crate) clock: SharedClock,
    pub(crate) cache: KeyCache,
    pub(crate) changed: Notify,
    pub(crate) uses: Uses,
    pub(crate) policy: Policy,
    pub(crate) signing: Signing,
}

impl Identity {
    /// The service over a migrated database. Creates the platform's organization; refuses a
    /// database that was made with another secret.
    pub async fn open(
        database: Database,
        secret: ServerSecret,
        clock: SharedClock,
    ) -> Result<Self> {
        Self::open_with(database, secret, clock, &SigningConfig::default()).await
    }

    /// The same, with settings for signed requests.
    pub async fn open_with(
        database: Database,
        secret: ServerSecret,
        clock: SharedClock,
        signing: &SigningConfig,
    ) -> Result<Self> {
        let stored = rows::keep_setting(&database, "secret_check", secret.check_value()).await?;
        if stored != secret.check_value() {
            return Err(Error::OtherSecret);
        }
        let version = rows::keep_setting(&database, rows::ACCESS_VERSION, "").await?;
        let (cache, uses, policy) = (KeyCache::default(), Uses::default(), Policy::default());
        let fresh = rows::find::<Org>(&database, PLATFORM).await?.is_none();
        let alone = matches!(database, Database::Sqlite(_));
        // Another process of this folder may have answered before, and took its memory with it.
        let signing = Signing::new(signing, (alone && !fresh).then(|| clock.now()));
        let changed = Notify::new();
        let parts = Parts { database, secret, clock, cache, changed, uses, policy, signing };
        let identity = Self(Arc::new(parts), None);
        identity.ensure_platform().await?;
        identity.read_policy(version).await?;
        Ok(identity)
    }

    /// Waits until something has been changed through this instance since the last time: for who
    /// tells the others.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Looks everything up again, as after a change at another instance.
    pub fn forget(&self) {
        self.0.cache.forget_all();
    }

    async fn ensure_platform(&self) -> Result<()> {
        if rows::find::<Org>(&self.0.database, PLATFORM).await?.is_some() {
            return Ok(());
        }
        let platform = Org { id: PLATFORM.into(), ..self.new_org("platform", OrgKind::Platform)? };
        match self.insert(rows::org_insertion(&platform), &platform, Vec::new()).await {
            // Another instance created it in this moment.
            Err(Error::Store(cause)) if cause.is_duplicate() => Ok(()),
            outcome => outcome,
        }
    }

    fn new_org(&self, name: &str, kind: OrgKind) -> Result<Org> {
        let (name, created_at) = (valid_name(name)?, self.0.clock.now());
        Ok(Org { id: OrgId::generate(), name, kind, disabled: false, created_at, version: 1 })
    }

    /// Creates an organization.
    pub async fn create_org(&self, name: &str, kind: OrgKind) -> Result<Org> {
        let org = self.new_org(name, kind)?;
        self.insert(rows::org_insertion(&org), &org, Vec::new()).await?;
        Ok(org)
    }

    /// The organization, or [`Error::NotFound`].
    pub async fn org(&self, id: &OrgId) -> Result<Org> {
        self.get(id.as_str()).await
    }

    /// All organizations, by id.
    pub async fn list_orgs(&self, page: &PageRequest) -> Result<Page<Org>> {
        self.find_orgs(&Filter::default(), page).await
    }

    /// The organizations that the filter lets through, by id.
    pub async fn find_orgs(&self, filter: &Filter, page: &PageRequest) -> Result<Page<Org>> {
        self.list(filter, page).await
    }

    /// Renames an organization, or switches all its credentials off or on. The platform's stays on:
    /// without it nobody could administer.
    pub async fn change_org(&self, id: &OrgId, edit: impl Into<Edit<Change>>) -> Result<Org> {
        let edit = edit.into().checked()?;
        if id.as_str() == PLATFORM && edit.change.disabled == Some(true) {
            return Err(Error::PlatformOrg);
        }
        self.edit(id.as_str(), edit.version, |org: &mut Org| {
            edit.change.apply(&mut org.name, &mut org.disabled);
            Ok(())
        })
        .await
    }
}

pub(crate) fn valid_name(name: &str) -> Result<String> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > LONGEST_NAME {
        return Err(Error::Name);
    }
    Ok(name.to_owned())
}
