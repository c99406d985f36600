//! API keys: created, listed, switched off, rotated.

use std::time::Duration;

use kernel::{KeyId, OrgId, Page, PageRequest};

use crate::secret::new_api_key;
use crate::service::valid_name;
use crate::store::{self as rows, Thing};
use crate::{Change, CreatedKey, Identity, Key, NewKey, Result, Rotation};

/// How long a rotated key works on when nobody says.
const OVERLAP: Duration = Duration::from_hours(24);

impl Identity {
    /// Whether anybody can administer this installation.
    pub async fn has_admin_key(&self) -> Result<bool> {
        rows::has_admin_key(&self.0.database, self.0.clock.now()).await
    }

    /// Creates a key. Its secret is in the answer and nowhere else.
    pub async fn create_key(&self, new: NewKey) -> Result<CreatedKey> {
        let name = valid_name(&new.name)?;
        self.check_owner(&new).await?;
        let (api_key, prefix) = new_api_key()?;
        let key = Key {
            id: KeyId::generate(),
            org_id: new.org_id,
            user_id: new.user_id,
            app_id: new.app_id,
            name,
            role: new.role,
            prefix,
            disabled: false,
            expires_at: new.expires_at,
            created_at: self.0.clock.now(),
            last_used_at: None,
        };
        let hash = self.0.secret.hash_key(api_key.expose());
        rows::insert_key(&self.0.database, &key, &hash).await?;
        Ok(CreatedKey { id: key.id, api_key })
    }

    /// A key can only belong to a user or application of the organization that pays.
    async fn check_owner(&self, new: &NewKey) -> Result<()> {
        self.org(&new.org_id).await?;
        let user = new.user_id.as_ref().map(|id| (Thing::User, id.as_str()));
        let app = new.app_id.as_ref().map(|id| (Thing::App, id.as_str()));
        for (thing, id) in user.into_iter().chain(app) {
            if !rows::of_org(&self.0.database, thing, id, &new.org_id).await? {
                return Err(thing.missing(id));
            }
        }
        Ok(())
    }

    /// The keys of an organization, by id.
    pub async fn list_keys(&self, org_id: &OrgId, page: &PageRequest) -> Result<Page<Key>> {
        self.org(org_id).await?;
        let keys = rows::list_keys(&self.0.database, org_id, page).await?;
        Ok(Page::from_fetched(keys, page, |key| key.id.to_string()))
    }

    /// Renames a key, or switches it off or on.
    pub async fn change_key(&self, id: &KeyId, change: Change) -> Result<Key> {
        self.change(Thing::Key, id.as_str(), change).await?;
        self.key(id).await
    }

    /// Creates a key that may do what this one may, and lets this one end a little later, so that
    /// its user can change over without a gap.
    pub async fn rotate_key(&self, id: &KeyId, rotation: Rotation) -> Result<CreatedKey> {
        let old = self.key(id).await?;
        let now = self.0.clock.now();
        let until = rotation.old_until.unwrap_or_else(|| now.after(OVERLAP));
        let (api_key, prefix) = new_api_key()?;
        let successor = Key {
            id: KeyId::generate(),
            prefix,
            disabled: false,
            expires_at: rotation.expires_at,
            created_at: now,
            last_used_at: None,
            ..old
        };
        let hash = self.0.secret.hash_key(api_key.expose());
        rows::replace_key(&self.0.database, id, until, (&successor, &hash)).await?;
        self.0.cache.forget_all();
        Ok(CreatedKey { id: successor.id, api_key })
    }

    async fn key(&self, id: &KeyId) -> Result<Key> {
        let found = rows::find_key(&self.0.database, id).await?;
        found.ok_or_else(|| Thing::Key.missing(id.as_str()))
    }
}
