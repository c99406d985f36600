//! Moving money by hand: grants, adjustments, reversals. Each is made once for its key.

use identity::{Changed, PLATFORM};
use kernel::{Amount, Asset, OrgId, Timestamp};
use ledger::{
    AccountKey, AccountKind, Command, Journal, Leg, LotTerms, Operation, Outcome, Receipt, Unit,
};
use serde_json::json;
use store::Database;

use crate::Error;
use crate::audit::Actor;

const LONGEST_KEY: usize = 64;
const LONGEST_REASON: usize = 200;

/// Money to be given to an organization, or taken from it.
#[derive(Clone, Debug)]
pub(crate) struct Movement<'a> {
    pub(crate) org_id: &'a OrgId,
    pub(crate) key: &'a str,
    /// Below zero is taken.
    pub(crate) amount: Amount,
    pub(crate) currency: Asset,
    pub(crate) reason: &'a str,
    /// What is given comes under these terms.
    pub(crate) terms: Option<LotTerms>,
    pub(crate) actor: &'a Actor,
    pub(crate) at: Timestamp,
}

/// A movement as it was made, the first time its key was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The operation's id.
    pub id: String,
    /// The operation's position.
    pub seq: i64,
    /// What the account that was credited had free right after.
    pub available: Amount,
    /// It had been made before.
    pub replayed: bool,
}

impl Movement<'_> {
    /// Gives money of the platform's grants.
    pub(crate) async fn grant(
        &self,
        journal: &Journal,
        database: &Database,
    ) -> Result<Moved, Error> {
        if !self.amount.is_positive() {
            return Err(Error::Amount);
        }
        let over = |terms: LotTerms| terms.expires_at.is_some_and(|end| end <= self.at);
        if self.terms.is_some_and(over) && !self.is_made(database).await? {
            return Err(Error::Expired);
        }
        self.make(journal, "grant").await
    }

    /// Corrects the wallet up or down, never below what running calls have set aside.
    pub(crate) async fn adjust(&self, journal: &Journal) -> Result<Moved, Error> {
        if self.amount == Amount::ZERO {
            return Err(Error::ZeroAmount);
        }
        self.make(journal, "adjustment").await
    }

    fn id(&self, what: &str) -> String {
        format!("{what}:{}:{}", self.org_id, self.key)
    }

    /// The grant was made before: what it gave may have expired since.
    async fn is_made(&self, database: &Database) -> Result<bool, Error> {
        Ok(ledger::find_operation(database, &self.id("grant")).await?.is_some())
    }

    async fn make(&self, journal: &Journal, what: &'static str) -> Result<Moved, Error> {
        if self.key.is_empty() || self.key.len() > LONGEST_KEY {
            return Err(Error::Key);
        }
        let memo = Some(checked_reason(self.reason)?.into());
        let id = self.id(what);
        let operation = Operation { memo, ..Operation::new(id.as_str(), self.command()?) };
        let attachments = vec![self.actor.attachment(self.at, &self.changed(what, &id))];
        moved(id, &journal.submit(Unit::new(operation, attachments)).await?)
    }

    fn changed(&self, what: &'static str, id: &str) -> Changed {
        let (amount, currency, reason) = (self.amount, self.currency, self.reason);
        let after = json!({"id": id, "amount": amount, "currency": currency, "reason": reason});
        Changed {
            verb: "create",
            what,
            id: self.org_id.to_string(),
            org_id: Some(self.org_id.clone()),
            before: None,
            after: Some(after),
        }
    }

    fn command(&self) -> Result<Command, Error> {
        let platform = AccountKey::new(PLATFORM, AccountKind::Grant, self.currency);
        let wallet = AccountKey::new(self.org_id.shared(), AccountKind::Wallet, self.currency);
        let leg = if self.amount.is_positive() {
            Leg { from: platform, to: wallet, amount: self.amount }
        } else {
            let amount = Amount::ZERO.checked_sub(self.amount).ok_or(Error::ZeroAmount)?;
            Leg { from: wallet, to: platform, amount }
        };
        Ok(match self.terms {
            Some(terms) => Command::Grant { leg, terms },
            None => Command::Transfer { legs: vec![leg] },
        })
    }
}

/// Moves back what an operation moved. An operation is reversed once, so its reversal needs no key.
pub(crate) async fn reverse(
    journal: &Journal,
    original: &str,
    reason: &str,
    (actor, at): (&Actor, Timestamp),
) -> Result<Moved, Error> {
    let memo = Some(checked_reason(reason)?.into());
    let id = format!("reverse:{original}");
    let command = Command::Reverse { original: original.into() };
    let operation = Operation { memo, ..Operation::new(id.as_str(), command) };
    let changed = Changed {
        verb: "create",
        what: "reversal",
        id: original.to_owned(),
        org_id: None,
        before: None,
        after: Some(json!({"id": id, "reason": reason})),
    };
    let attachments = vec![actor.attachment(at, &changed)];
    moved(id, &journal.submit(Unit::new(operation, attachments)).await?)
}

fn checked_reason(reason: &str) -> Result<&str, Error> {
    let fits = !reason.trim().is_empty() && reason.len() <= LONGEST_REASON;
    if fits { Ok(reason) } else { Err(Error::Reason) }
}

fn moved(id: String, receipt: &Receipt) -> Result<Moved, Error> {
    match receipt.outcome {
        Outcome::Applied(applied) => Ok(Moved {
            id,
            seq: receipt.seq,
            available: applied.available,
            replayed: receipt.replayed,
        }),
        Outcome::Refused(refusal) => Err(Error::Refused(refusal)),
    }
}
