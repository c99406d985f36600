//! API keys: created, listed, limited, switched off, rotated.

use std::time::Duration;

use kernel::{KeyId, OrgId, Page, PageRequest, Secret, Timestamp};

use crate::edit::{Edit, Record, created};
use crate::secret::new_api_key;
use crate::service::valid_name;
use crate::store::{self as rows, Filter};
use crate::{
    App, Change, CreatedKey, Error, Expiry, Identity, Key, KeyChange, NewKey, Result, Rotation,
    User,
};

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
        new.limits.check()?;
        self.check_owner(&new).await?;
        let id = KeyId::generate();
        let (api_key, prefix) = self.new_secret(&id)?;
        let key = Key {
            id,
            org_id: new.org_id,
            user_id: new.user_id,
            app_id: new.app_id,
            name,
            role: new.role,
            roles: new.roles,
            limits: new.limits,
            prefix,
            disabled: false,
            expires_at: new.expires_at,
            created_at: self.0.clock.now(),
            last_used_at: None,
            version: 1,
            deleted_at: None,
        };
        let hash = self.0.secret.hash_key(api_key.expose());
        self.insert(rows::key_insertion(&key, &hash), &key, Vec::new()).await?;
        Ok(CreatedKey { id: key.id, api_key })
    }

    fn new_secret(&self, id: &KeyId) -> Result<(Secret, String)> {
        match self.1.as_ref().and_then(|witness| witness.seed.as_deref()) {
            Some(seed) => Ok(self.0.secret.derived_api_key(seed, id.as_str())),
            None => new_api_key(),
        }
    }

    /// The secret of a key that was created with this seed.
    pub fn derived_key(&self, seed: &str, id: &KeyId) -> Secret {
        self.0.secret.derived_api_key(seed, id.as_str()).0
    }

    /// A key can only belong to a user or application of the organization that pays, and only have
    /// roles of its kind.
    async fn check_owner(&self, new: &NewKey) -> Result<()> {
        let org = self.org(&new.org_id).await?;
        if let Some(id) = &new.user_id {
            self.member_of::<User>(id.as_str(), &org.id).await?;
        }
        if let Some(id) = &new.app_id {
            self.member_of::<App>(id.as_str(), &org.id).await?;
        }
        self.check_roles(org.kind, &new.roles).await
    }

    async fn member_of<T: Record>(&self, id: &str, org_id: &OrgId) -> Result<()> {
        let member: T = self.get(id).await?;
        if member.org_id() == Some(org_id) { Ok(()) } else { Err(T::THING.missing(id)) }
    }

    /// The keys of an organization, by id.
    pub async fn list_keys(&self, org_id: &OrgId, page: &PageRequest) -> Result<Page<Key>> {
        self.org(org_id).await?;
        self.find_keys(&Filter::of(org_id), page).await
    }

    /// The keys that the filter lets through, by id.
    pub async fn find_keys(&self, filter: &Filter, page: &PageRequest) -> Result<Page<Key>> {
        self.list(filter, page).await
    }

    /// The key, or [`Error::NotFound`].
    pub async fn key(&self, id: &KeyId) -> Result<Key> {
        self.get(id.as_str()).await
    }

    /// Changes what a key is called and may do, or switches it off or on.
    pub async fn change_key(&self, id: &KeyId, edit: impl Into<Edit<KeyChange>>) -> Result<Key> {
        let Edit { change, version } = edit.into();
        let named = Change { name: change.name.clone(), disabled: change.disabled }.checked()?;
        if let Some(roles) = &change.roles {
            let key = self.key(id).await?;
            self.check_roles_in(Some(&key.org_id), roles).await?;
        }
        self.edit(id.as_str(), version, |key: &mut Key| {
            named.apply(&mut key.name, &mut key.disabled);
            change.alter(key);
            key.limits.check()
        })
        .await
    }

    /// Deletes a key: it stops working, what it did stays.
    pub async fn delete_key(&self, id: &KeyId, version: Option<i64>) -> Result<Key> {
        self.delete(id.as_str(), version).await
    }

    /// Creates a key that may do what this one may, and lets this one end a little later, so that
    /// its user can change over without a gap.
    pub async fn rotate_key(
        &self,
        id: &KeyId,
        rotation: impl Into<Edit<Rotation>>,
    ) -> Result<CreatedKey> {
        let Edit { change: rotation, version } = rotation.into();
        let now = self.0.clock.now();
        let until = rotation.old_until.unwrap_or_else(|| now.after(OVERLAP));
        let new_id = KeyId::generate();
        let (api_key, prefix) = self.new_secret(&new_id)?;
        let hash = self.0.secret.hash_key(api_key.expose());
        self.edit_as("rotate", id.as_str(), version, |old: &mut Key| {
            if !works(old, now) {
                return Err(Error::KeyNotActive);
            }
            let successor = Key {
                id: new_id.clone(),
                prefix: prefix.clone(),
                expires_at: rotation.expires_at,
                created_at: now,
                last_used_at: None,
                version: 1,
                ..old.clone()
            };
            old.expires_at = Some(old.expires_at.map_or(until, |end| end.min(until)));
            Ok(vec![(rows::key_insertion(&successor, &hash), created(&successor))])
        })
        .await?;
        Ok(CreatedKey { id: new_id, api_key })
    }
}

fn works(key: &Key, now: Timestamp) -> bool {
    !key.disabled && key.expires_at.is_none_or(|end| end > now)
}

impl KeyChange {
    fn alter(&self, key: &mut Key) {
        let limits = &mut key.limits;
        set(self.roles.as_ref(), &mut key.roles);
        set(self.scopes.as_ref(), &mut limits.scopes);
        set(self.models.as_ref(), &mut limits.models);
        set(self.allowed_ips.as_ref(), &mut limits.allowed_ips);
        match self.expires_at {
            None => {}
            Some(Expiry::Never) => key.expires_at = None,
            Some(Expiry::At(end)) => key.expires_at = Some(end),
        }
    }
}

fn set<T: Clone>(given: Option<&T>, field: &mut T) {
    if let Some(given) = given {
        field.clone_from(given);
    }
}
