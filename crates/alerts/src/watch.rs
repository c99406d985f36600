//! Whether wallets have passed the amounts of alerts.
//!
//! Looked at are the wallets that money has moved on since the last look; everything, once at the
//! start and now and then, so that nothing depends on a look that failed. What counts is what a wallet
//! has posted: money that is only set aside comes back, wholly or in part, and would raise an alert
//! that is wrong a moment later.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use kernel::{Asset, Timestamp};
use ledger::{AccountKind, Holding};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::alert::Crossing;
use crate::{Alert, Alerts, Result, store as rows};

/// How often it is looked what has changed.
const TURN: Duration = Duration::from_millis(500);
/// How often everything is looked at.
const SWEEP: Duration = Duration::from_mins(1);
/// With more operations than this since the last look, everything is looked at.
const MOST_BEHIND: i64 = 20_000;
/// Alerts looked at at once.
const PORTION: i64 = 500;

/// Looks at wallets, again and again.
#[derive(Debug)]
pub struct Watcher {
    alerts: Alerts,
    /// The last operation looked at; `None` while there are no alerts, or nothing was looked at.
    seen: Option<i64>,
    swept: Option<Instant>,
}

impl Watcher {
    /// A watcher that has seen nothing yet.
    pub const fn new(alerts: Alerts) -> Self {
        Self { alerts, seen: None, swept: None }
    }

    pub(crate) async fn run(mut self) {
        let mut turn = interval(TURN);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            if let Err(error) = self.turn().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "wallets cannot be watched"
                );
            }
        }
    }

    /// Looks at what has changed since the last turn.
    pub async fn turn(&mut self) -> Result<()> {
        let database = self.alerts.database();
        if !rows::has_alerts(database).await? {
            self.seen = None;
            return Ok(());
        }
        // What happens from here on is looked at next time, whether this time sees it or not.
        let head = ledger::head(database).await?;
        let due = self.swept.is_none_or(|at| at.elapsed() >= SWEEP);
        match self.seen {
            Some(seen) if !due && head.saturating_sub(seen) <= MOST_BEHIND => {
                if head > seen {
                    self.look(seen).await?;
                }
            }
            _ => {
                self.sweep().await?;
                self.swept = Some(Instant::now());
            }
        }
        self.seen = Some(head);
        Ok(())
    }

    async fn look(&self, seen: i64) -> Result<()> {
        let database = self.alerts.database();
        let moved = ledger::moved(database, AccountKind::Wallet, seen).await?;
        let owners: HashSet<&str> = moved.iter().map(|one| one.account.owner.as_ref()).collect();
        let owners: Vec<&str> = owners.into_iter().collect();
        let alerts = rows::alerts_of(database, &owners).await?;
        self.alerts.judge(&alerts, &moved).await
    }

    async fn sweep(&self) -> Result<()> {
        let mut after = String::new();
        loop {
            let alerts = rows::all_alerts(self.alerts.database(), &after, PORTION).await?;
            let Some(last) = alerts.last() else { return Ok(()) };
            after.clone_from(&last.id);
            self.alerts.judge_now(&alerts).await?;
        }
    }
}

impl Alerts {
    /// Looks at an alert that is new or has changed. If that fails, it is looked at within a minute.
    pub(crate) async fn look_at(&self, alert: &Alert) {
        if let Err(error) = self.judge_now(std::slice::from_ref(alert)).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a new alert cannot be looked at yet"
            );
        }
    }

    async fn judge_now(&self, alerts: &[Alert]) -> Result<()> {
        let wallets: HashSet<(&str, Asset)> =
            alerts.iter().map(|alert| (alert.org_id.as_str(), alert.currency)).collect();
        let wallets: Vec<(&str, Asset)> = wallets.into_iter().collect();
        let holdings = ledger::holdings_of(self.database(), AccountKind::Wallet, &wallets).await?;
        self.judge(alerts, &holdings).await
    }

    /// Tells what has fallen, and makes ready what has risen. A wallet that has not begun is neither.
    async fn judge(&self, alerts: &[Alert], holdings: &[Holding]) -> Result<()> {
        let key = |one: &Holding| (one.account.owner.to_string(), one.account.asset);
        let holdings: HashMap<(String, Asset), &Holding> =
            holdings.iter().map(|one| (key(one), one)).collect();
        for alert in alerts {
            let wallet = (alert.org_id.to_string(), alert.currency);
            let Some(holding) = holdings.get(&wallet) else { continue };
            if let Some(crossing) = alert.crossed(holding.balance.posted) {
                self.cross(alert, crossing, holding).await?;
            }
        }
        Ok(())
    }

    async fn cross(&self, alert: &Alert, crossing: Crossing, holding: &Holding) -> Result<()> {
        let low = crossing == Crossing::Down;
        let mut statements = vec![rows::crossing(alert, low, holding.as_of_seq)];
        if low {
            let (now, patience) = (self.now(), self.config().patience());
            let body = event(alert, holding, now);
            statements.push(rows::delivery_insertion(alert, body, (now, now.after(patience))));
        }
        match self.database().transaction(statements).await {
            Ok(_) if low => {
                self.metrics().raised.inc();
                self.wake().notify_one();
                Ok(())
            }
            // Another instance was faster, or the alert is another one now.
            Ok(_) | Err(store::Error::Unexpected { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What is told.
fn event(alert: &Alert, holding: &Holding, now: Timestamp) -> String {
    let ledger::Balance { posted, held } = holding.balance;
    json!({
        "type": "wallet.low",
        "timestamp": now,
        "data": {
            "alert_id": alert.id, "org_id": alert.org_id, "currency": alert.currency,
            "amount": alert.amount, "posted": posted, "held": held,
            "available": posted.saturating_sub(held), "as_of_seq": holding.as_of_seq,
        },
    })
    .to_string()
}
