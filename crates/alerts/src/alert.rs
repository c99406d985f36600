//! Alerts: created, listed, changed, deleted.

use http::Uri;
use identity::{Changed, Identity};
use kernel::{Amount, Asset, Cursor, OrgId, Page, PageRequest, Secret, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::signature::secret_text;
use crate::{Alerts, Error, Result, store as rows};

/// Alerts that an organization may have.
pub(crate) const MOST: i64 = 20;
/// A change that others always come before is given up after so many.
const ATTEMPTS: usize = 10;
const LONGEST_URL: usize = 2_000;
const LONGEST_ID: usize = 64;

/// A threshold of a wallet, and whom to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Alert {
    /// Its id.
    pub id: String,
    /// Whose wallet.
    #[schema(value_type = String)]
    pub org_id: OrgId,
    /// Which wallet.
    #[schema(value_type = String, example = "CNY")]
    pub currency: Asset,
    /// It is told when the wallet has so much or less.
    #[schema(value_type = String, example = "10")]
    pub amount: Amount,
    /// Where it is told.
    pub url: String,
    /// It was told, and the wallet has not been above the amount since.
    pub low: bool,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Counts its changes.
    pub version: i64,
}

/// An alert to be created.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAlert {
    /// Which wallet, such as `CNY`.
    #[schema(value_type = String, example = "CNY")]
    pub currency: Asset,
    /// Told when the wallet has so much or less; a decimal, zero or more.
    #[schema(value_type = String, example = "10")]
    pub amount: Amount,
    /// Told there, by POST.
    #[schema(example = "https://example.com/hooks/ledgerline")]
    pub url: String,
}

/// What is to change of an alert; what is absent stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertChange {
    /// Told at so much or less from now on, also if the wallet has so little already.
    #[schema(value_type = Option<String>, example = "10")]
    pub amount: Option<Amount>,
    /// Told there from now on, what waits included.
    pub url: Option<String>,
}

/// An alert just created, and what its webhooks are signed with.
#[derive(Clone, Debug)]
pub struct CreatedAlert {
    /// The alert.
    pub alert: Alert,
    /// `whsec_` and Base64. It is here and nowhere else.
    pub secret: Secret,
}

/// Whose secret is sealed.
pub(crate) fn sealed_for(id: &str) -> String {
    format!("alert {id}")
}

fn missing(id: &str) -> Error {
    let id = id.chars().take(LONGEST_ID).collect();
    identity::Error::NotFound { what: "alert", id }.into()
}

fn changed(verb: &'static str, before: Option<&Alert>, after: Option<&Alert>) -> Changed {
    let one = after.or(before);
    let shown = |alert: Option<&Alert>| alert.and_then(|alert| serde_json::to_value(alert).ok());
    Changed {
        verb,
        what: "alert",
        id: one.map(|alert| alert.id.clone()).unwrap_or_default(),
        org_id: one.map(|alert| alert.org_id.clone()),
        before: shown(before),
        after: shown(after),
    }
}

impl Alerts {
    /// Creates an alert of an organization that is there. If its wallet has so little already, that is
    /// told at once. The change is written with what `identity` is
    /// [witnessed](Identity::witnessed) by.
    pub async fn create(
        &self,
        identity: &Identity,
        org_id: &OrgId,
        new: NewAlert,
    ) -> Result<CreatedAlert> {
        let org = identity.org(org_id).await?;
        check_amount(new.amount)?;
        self.check_url(&new.url)?;
        let alert = Alert {
            id: kernel::id::new(),
            org_id: org.id,
            currency: new.currency,
            amount: new.amount,
            url: new.url,
            low: false,
            created_at: self.now(),
            version: 1,
        };
        let secret = secret_text(&identity.fresh_secret(&alert.id)?);
        let sealed = identity.seal(&sealed_for(&alert.id), &secret)?;
        let mut statements = vec![rows::alert_insertion(&alert, sealed, MOST)];
        statements.extend(identity.witness(&[changed("create", None, Some(&alert))]));
        match self.database().transaction(statements).await {
            Ok(_) => {}
            Err(store::Error::Unexpected { .. }) => return Err(Error::TooMany),
            Err(error) => return Err(error.into()),
        }
        self.look_at(&alert).await;
        Ok(CreatedAlert { alert, secret: Secret::from(secret) })
    }

    /// What the repeated request that created this alert is answered: the alert as it was made, and its
    /// secret once more.
    pub fn created_again(identity: &Identity, mut made: Value, seed: &str) -> Value {
        let id = made.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(members) = made.as_object_mut() {
            let secret = secret_text(&identity.derived_secret(seed, &id));
            members.insert("secret".to_owned(), Value::from(secret));
        }
        made
    }

    /// An organization's alerts, by id.
    pub async fn list(&self, org_id: &OrgId, page: &PageRequest) -> Result<Page<Alert>> {
        let after = page.cursor.as_ref().map_or("", Cursor::key);
        let found = rows::list_alerts(self.database(), org_id, after, page.fetch()).await?;
        Ok(Page::from_fetched(found, page, |alert| alert.id.clone()))
    }

    /// An organization's alert, or `NotFound`.
    pub async fn get(&self, org_id: &OrgId, id: &str) -> Result<Alert> {
        rows::find_alert(self.database(), org_id, id).await?.ok_or_else(|| missing(id))
    }

    /// Changes an alert, if it has this version. With another amount it counts as not told yet.
    pub async fn change(
        &self,
        identity: &Identity,
        (org_id, id): (&OrgId, &str),
        version: Option<i64>,
        change: &AlertChange,
    ) -> Result<Alert> {
        change.amount.map_or(Ok(()), check_amount)?;
        change.url.as_deref().map_or(Ok(()), |url| self.check_url(url))?;
        for _ in 0..ATTEMPTS {
            let before = self.get_version(org_id, id, version).await?;
            let after = before.changed(change);
            if after.amount == before.amount && after.url == before.url {
                return Ok(before);
            }
            let mut statements = vec![rows::alert_update(&before, &after)];
            statements.extend(identity.witness(&[changed("change", Some(&before), Some(&after))]));
            if self.written(statements).await? {
                self.look_at(&after).await;
                return Ok(after);
            }
        }
        Err(identity::Error::Contended.into())
    }

    /// Deletes an alert, if it has this version, and gives up what it still had to tell.
    pub async fn delete(
        &self,
        identity: &Identity,
        (org_id, id): (&OrgId, &str),
        version: Option<i64>,
    ) -> Result<Alert> {
        for _ in 0..ATTEMPTS {
            let alert = self.get_version(org_id, id, version).await?;
            let mut statements = rows::alert_deletion(&alert, self.now()).to_vec();
            statements.extend(identity.witness(&[changed("delete", Some(&alert), None)]));
            if self.written(statements).await? {
                return Ok(alert);
            }
        }
        Err(identity::Error::Contended.into())
    }

    async fn get_version(&self, org_id: &OrgId, id: &str, version: Option<i64>) -> Result<Alert> {
        let alert = self.get(org_id, id).await?;
        match version {
            Some(version) if version != alert.version => {
                Err(identity::Error::VersionMismatch { current: alert.version }.into())
            }
            _ => Ok(alert),
        }
    }

    /// Whether the alert was still as it was read.
    async fn written(&self, statements: Vec<store::Statement>) -> Result<bool> {
        match self.database().transaction(statements).await {
            Ok(_) => Ok(true),
            Err(store::Error::Unexpected { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn check_url(&self, url: &str) -> Result<()> {
        let refused = |why: String| Err(Error::Url(why));
        if url.len() > LONGEST_URL {
            return refused(format!("has more than {LONGEST_URL} bytes"));
        }
        let Ok(uri) = url.parse::<Uri>() else {
            return refused("is not one such as https://example.com/hook".to_owned());
        };
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return refused("names a user: receivers know a webhook by its signature".to_owned());
        }
        match self.outside().check(&uri) {
            Ok(()) => Ok(()),
            Err(cause @ web::OutsideError::NotPublic(_)) => {
                refused(format!("{cause}; the operator may allow it in alerts.allowed_hosts"))
            }
            Err(cause) => refused(cause.to_string()),
        }
    }
}

fn check_amount(amount: Amount) -> Result<()> {
    if amount.is_negative() { Err(Error::Amount) } else { Ok(()) }
}

impl Alert {
    fn changed(&self, change: &AlertChange) -> Self {
        let amount = change.amount.unwrap_or(self.amount);
        Self {
            amount,
            url: change.url.clone().unwrap_or_else(|| self.url.clone()),
            low: self.low && amount == self.amount,
            version: self.version.saturating_add(1),
            ..self.clone()
        }
    }

    /// What there is to do with this much in the wallet: to tell, or to be ready to tell again.
    pub(crate) fn crossed(&self, posted: Amount) -> Option<Crossing> {
        match (self.low, posted <= self.amount) {
            (false, true) => Some(Crossing::Down),
            (true, false) => Some(Crossing::Up),
            _ => None,
        }
    }
}

/// The way in which a wallet has passed an alert's amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crossing {
    /// To it, or below.
    Down,
    /// Above it.
    Up,
}
