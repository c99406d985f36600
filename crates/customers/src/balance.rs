//! What an organization has: reads that wait at the same time share one query.

use std::collections::HashMap;
use std::sync::Arc;

use ::store::Database;
use futures_util::StreamExt as _;
use identity::Caller;
use kernel::{Amount, Asset, OrgId};
use ledger::{AccountKind, Holding};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use crate::{Customers, Error, Result};

/// Queries at once: as many as SQLite has readers.
const ABREAST: usize = 4;

/// A wallet as its owner sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Wallet {
    /// Whose it is.
    #[schema(value_type = String)]
    pub org_id: OrgId,
    /// The currency of the amounts.
    #[schema(value_type = String, example = "CNY")]
    pub currency: Asset,
    /// What can be spent, as a number, for clients that expect one; `available` is the same.
    #[schema(value_type = f64)]
    pub balance: Box<RawValue>,
    /// What can be spent: `posted` less `held`.
    #[schema(value_type = String, example = "12.5")]
    pub available: Amount,
    /// The sum of all movements.
    #[schema(value_type = String)]
    pub posted: Amount,
    /// Set aside for running calls.
    #[schema(value_type = String)]
    pub held: Amount,
    /// The last operation of the books that these figures include.
    pub as_of_seq: i64,
}

type Found = std::result::Result<Arc<Vec<Holding>>, Arc<::store::Error>>;
type Waiting = HashMap<OrgId, Vec<oneshot::Sender<Found>>>;

/// Reads wallets. Whoever asks while a query runs is answered by the next one, so that every
/// answer is at least as new as its question.
#[derive(Clone, Debug)]
pub(crate) struct Balances {
    database: Database,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    running: bool,
    waiting: Waiting,
}

impl Balances {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, queue: Arc::default() }
    }

    /// The wallets of an organization, by currency.
    pub(crate) async fn wallets(&self, org_id: &OrgId) -> Result<Arc<Vec<Holding>>> {
        let (answer, answered) = oneshot::channel();
        let starts = {
            let mut queue = self.queue.lock();
            queue.waiting.entry(org_id.clone()).or_default().push(answer);
            !std::mem::replace(&mut queue.running, true)
        };
        if starts {
            // A task of its own, so that it goes on when its first client leaves.
            tokio::spawn(self.clone().run());
        }
        match answered.await {
            Ok(found) => found.map_err(Error::Read),
            Err(_lost) => Err(Error::Read(Arc::new(::store::Error::TaskLost))),
        }
    }

    async fn run(self) {
        let database = &self.database;
        loop {
            // Whoever is about to ask on this thread does so first, and shares the query.
            tokio::task::yield_now().await;
            let Some(waiting) = self.take() else { return };
            let ask = |(org_id, answers): (OrgId, Vec<oneshot::Sender<Found>>)| async move {
                let wallets =
                    ledger::holdings(database, org_id.as_str(), AccountKind::Wallet).await;
                (wallets.map(Arc::new).map_err(Arc::new), answers)
            };
            let mut asked =
                futures_util::stream::iter(waiting.into_iter().map(ask)).buffer_unordered(ABREAST);
            while let Some((found, answers)) = asked.next().await {
                for answer in answers {
                    // Whoever has left needs no answer.
                    drop(answer.send(found.clone()));
                }
            }
        }
    }

    fn take(&self) -> Option<Waiting> {
        let mut queue = self.queue.lock();
        let waiting = std::mem::take(&mut queue.waiting);
        queue.running = !waiting.is_empty();
        queue.running.then_some(waiting)
    }
}

impl Customers {
    /// What the caller's organization has in a currency; without one, in its only wallet's, or the
    /// configured one. An administrator may name a user instead: then that user's organization.
    pub async fn balance(
        &self,
        caller: &Caller,
        user_id: Option<&str>,
        currency: Option<Asset>,
    ) -> Result<Wallet> {
        let org_id = self.payer(caller, user_id).await?;
        let wallets = self.0.balances.wallets(&org_id).await?;
        let currency = match (currency, wallets.as_slice()) {
            (Some(currency), _) => currency,
            (None, [only]) => only.account.asset,
            (None, _) => self.default_currency(),
        };
        let found = wallets.iter().find(|wallet| wallet.account.asset == currency);
        let balance = found.map(|wallet| wallet.balance).unwrap_or_default();
        let as_of_seq = wallets.first().map_or(0, |wallet| wallet.as_of_seq);
        Ok(Wallet {
            org_id,
            currency,
            balance: number(balance.available())?,
            available: balance.available(),
            posted: balance.posted,
            held: balance.held,
            as_of_seq,
        })
    }
}

/// The amount as a JSON number, with all its digits.
pub(crate) fn number(amount: Amount) -> Result<Box<RawValue>> {
    RawValue::from_string(amount.to_string()).map_err(Error::Render)
}
