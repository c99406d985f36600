//! What was told, and what became of it.

use kernel::{Cursor, OrgId, Page, PageRequest, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use identity::{Changed, Identity};

use crate::{Alerts, Error, Result, store as rows};

/// What became of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// It is to be sent, or sent again.
    Waiting,
    /// Its receiver took it.
    Delivered,
    /// It was given up.
    Failed,
}

/// A webhook, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Delivery {
    /// Its `webhook-id`.
    pub id: String,
    /// The alert it tells of.
    pub alert_id: String,
    /// Whose wallet.
    #[schema(value_type = String)]
    pub org_id: OrgId,
    /// What became of it.
    pub state: DeliveryState,
    /// How often it was sent, since it was last asked to be.
    pub attempts: i64,
    /// When it is sent next; null when it is not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_at: Option<Timestamp>,
    /// The receiver's last status; null if it gave none.
    pub last_status: Option<i64>,
    /// Why the last attempt failed; null if it did not.
    pub last_error: Option<String>,
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was taken or given up.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// The body, as it is sent.
    #[schema(value_type = Object)]
    pub event: Value,
}

/// Which deliveries; what is absent narrows nothing.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only those of this alert.
    pub alert_id: Option<String>,
    /// Only those of which this became.
    pub state: Option<DeliveryState>,
}

impl DeliveryState {
    const ALL: [Self; 3] = [Self::Waiting, Self::Delivered, Self::Failed];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl Alerts {
    /// An organization's deliveries, newest first.
    pub async fn deliveries(
        &self,
        org_id: &OrgId,
        filter: &DeliveryFilter,
        page: &PageRequest,
    ) -> Result<Page<Delivery>> {
        let before = page.cursor.as_ref().map(Cursor::key);
        let found =
            rows::list_deliveries(self.database(), org_id, filter, (before, page.fetch())).await?;
        Ok(Page::from_fetched(found, page, |delivery| delivery.id.clone()))
    }

    /// Sends a delivery again, at once and under its own id, whatever became of it; or `NotFound`. The
    /// change is written with what `identity` is [witnessed](Identity::witnessed) by.
    pub async fn redeliver(
        &self,
        identity: &Identity,
        org_id: &OrgId,
        id: &str,
    ) -> Result<Delivery> {
        let now = self.now();
        let missing = || {
            let id = id.chars().take(64).collect();
            Error::from(identity::Error::NotFound { what: "delivery", id })
        };
        let until = now.after(self.config().patience());
        let mut statements = vec![rows::redelivery(org_id, id, (now, until))];
        let changed = Changed {
            verb: "redeliver",
            what: "alert_delivery",
            id: id.to_owned(),
            org_id: Some(org_id.clone()),
            before: None,
            after: None,
        };
        statements.extend(identity.witness(&[changed]));
        match self.database().transaction(statements).await {
            Ok(_) => {}
            Err(store::Error::Unexpected { .. }) => return Err(missing()),
            Err(error) => return Err(error.into()),
        }
        self.wake().notify_one();
        rows::find_delivery(self.database(), org_id, id).await?.ok_or_else(missing)
    }
}
