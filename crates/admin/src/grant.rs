//! Giving an organization money to spend.

use identity::PLATFORM;
use kernel::{Amount, Asset, OrgId};
use ledger::{AccountKey, AccountKind, Command, Journal, Leg, Operation, Outcome, Receipt};

use crate::Error;

const LONGEST_KEY: usize = 64;
const LONGEST_REASON: usize = 200;

/// A grant to be made, once for its key.
#[derive(Clone, Debug)]
pub(crate) struct Grant<'a> {
    pub(crate) org_id: &'a OrgId,
    pub(crate) key: &'a str,
    pub(crate) amount: Amount,
    pub(crate) currency: Asset,
    pub(crate) reason: &'a str,
}

/// A grant as it was made, the first time its key was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The operation's id.
    pub id: String,
    /// The operation's position.
    pub seq: i64,
    /// What the wallet had free right after.
    pub available: Amount,
    /// The key had been used before.
    pub replayed: bool,
}

impl Grant<'_> {
    /// Moves the money from the platform's grants to the wallet.
    pub(crate) async fn make(&self, journal: &Journal) -> Result<Granted, Error> {
        self.check()?;
        let id = format!("grant:{}:{}", self.org_id, self.key);
        let leg = Leg {
            from: AccountKey::new(PLATFORM, AccountKind::Grant, self.currency),
            to: AccountKey::new(self.org_id.shared(), AccountKind::Wallet, self.currency),
            amount: self.amount,
        };
        let operation = Operation {
            memo: Some(self.reason.into()),
            ..Operation::new(id.as_str(), Command::Transfer { legs: vec![leg] })
        };
        let receipt = journal.submit(operation).await?;
        granted(id, &receipt)
    }

    fn check(&self) -> Result<(), Error> {
        if self.key.is_empty() || self.key.len() > LONGEST_KEY {
            return Err(Error::Key);
        }
        if !self.amount.is_positive() {
            return Err(Error::Amount);
        }
        if self.reason.trim().is_empty() || self.reason.len() > LONGEST_REASON {
            return Err(Error::Reason);
        }
        Ok(())
    }
}

fn granted(id: String, receipt: &Receipt) -> Result<Granted, Error> {
    match receipt.outcome {
        Outcome::Applied(applied) => Ok(Granted {
            id,
            seq: receipt.seq,
            available: applied.available,
            replayed: receipt.replayed,
        }),
        Outcome::Refused(refusal) => Err(Error::Refused(refusal)),
    }
}
