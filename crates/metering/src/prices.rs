//! The prices in force, each recorded for ever before the first call uses it.

use std::collections::HashMap;
use std::sync::Arc;

use ::store::Database;
use kernel::Timestamp;
use pricing::PriceVersion;

use crate::{Error, Result, store};

/// The price version in force for each model.
#[derive(Clone, Debug, Default)]
pub struct PriceBook {
    current: HashMap<String, Arc<PriceVersion>>,
}

impl PriceBook {
    /// The book of these versions; each is recorded in the database if it is new.
    pub async fn publish(
        database: &Database,
        versions: Vec<PriceVersion>,
        now: Timestamp,
    ) -> Result<Self> {
        let mut current = HashMap::new();
        for version in versions {
            store::record_price(database, &version, now).await?;
            current.insert(version.model.clone(), Arc::new(version));
        }
        Ok(Self { current })
    }

    /// The version in force for a model.
    pub fn quote(&self, model: &str) -> Result<Arc<PriceVersion>> {
        self.current.get(model).cloned().ok_or_else(|| Error::Unpriced(model.to_owned()))
    }
}
