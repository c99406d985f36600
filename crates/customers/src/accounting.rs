//! Posts: money that a customer's server reports as spent.

use ::store::ListRequest;
use identity::{Caller, PLATFORM};
use kernel::{Amount, Asset, OrgId, Timestamp};
use ledger::{AccountKey, AccountKind, Command, Leg, Operation, Outcome, Receipt, Refusal, Unit};
use serde_json::Value;

use crate::store::{self as rows, NewRecord};
use crate::{AccountingRecord, Customers, Error, Result};

const LONGEST_KEY: usize = 64;
const LONGEST_NAME: usize = 64;
/// Fits the narrowest database's column and keeps a page of records small enough to send.
const LONGEST_USAGE: usize = 64 * 1024;

/// Money spent, to be taken from a wallet.
#[derive(Clone, Debug, Default)]
pub struct Post {
    /// Names the post for ever: a repeat under it is the same post. A post without one is its own.
    pub key: Option<String>,
    /// Who spent it, as the customer names its people.
    pub user_id: Option<String>,
    /// What it was spent on.
    pub llmid: Option<String>,
    /// How much, zero or more.
    pub amount: Amount,
    /// In which currency; the configured one when absent.
    pub currency: Option<Asset>,
    /// What was used, as the customer measured it.
    pub usage: Option<Value>,
}

/// A post as it was made, the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Its operation in the books, which is also the record's id.
    pub seq: i64,
    /// Who paid.
    pub org_id: OrgId,
    /// The key it was made under.
    pub transno: String,
    /// How much.
    pub amount: Amount,
    /// In which currency.
    pub currency: Asset,
    /// When.
    pub at: Timestamp,
    /// It had been made before.
    pub replayed: bool,
}

/// Narrows a list of records.
#[derive(Clone, Debug, Default)]
pub struct RecordFilter {
    /// Only this user's.
    pub user_id: Option<String>,
    /// Only the one under this key.
    pub transno: Option<String>,
    /// The list includes this operation of the books, if it is one of these records.
    pub min_seq: i64,
}

impl Customers {
    /// Takes the money from the wallet of the caller's organization (or of the user's whom an
    /// administrator names) and records it, once for its key. What was refused once is refused for
    /// ever under the same key.
    pub async fn post(&self, caller: &Caller, post: Post) -> Result<Posted> {
        check(&post)?;
        let org_id = self.payer(caller, post.user_id.as_deref()).await?;
        let currency = post.currency.unwrap_or_else(|| self.default_currency());
        let usage = post.usage.as_ref().map(Value::to_string);
        if usage.as_ref().is_some_and(|usage| usage.len() > LONGEST_USAGE) {
            return Err(Error::Field("usage", "must have at most 65536 bytes"));
        }
        let fingerprint = fingerprint(&post, usage.as_deref());
        let transno = match post.key {
            Some(key) => key,
            None => kernel::id::new(),
        };
        let operation = Operation {
            // The caller's own: nobody else's key is in the way.
            id: format!("post:{}:{transno}", caller.org_id).into(),
            fingerprint: Some(fingerprint),
            memo: None,
            command: spend(&org_id, currency, post.amount),
        };
        let record = NewRecord {
            org_id: &org_id,
            caller,
            transno: &transno,
            user_id: post.user_id.as_deref().unwrap_or_default(),
            llmid: post.llmid.as_deref().unwrap_or_default(),
            currency,
            amount: post.amount,
            usage,
        };
        let unit = Unit::new(operation, vec![record.attachment()]);
        let receipt = self.parts().journal.submit(unit).await?;
        refusal(&receipt, currency)?;
        let (seq, at, replayed) = (receipt.seq, receipt.at, receipt.replayed);
        Ok(Posted { seq, org_id, transno, amount: post.amount, currency, at, replayed })
    }

    /// The records of the caller's organization, and how many there are.
    pub async fn records(
        &self,
        caller: &Caller,
        filter: &RecordFilter,
        request: &ListRequest,
    ) -> Result<(Vec<AccountingRecord>, ::store::Listed)> {
        rows::list_records(self.parts().metering.reader(), &caller.org_id, filter, request).await
    }
}

fn check(post: &Post) -> Result<()> {
    let plain = |key: &str| key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if post.key.as_ref().is_some_and(|key| key.is_empty() || key.len() > LONGEST_KEY || !plain(key))
    {
        return Err(Error::Key);
    }
    if post.amount.is_negative() {
        return Err(Error::Amount);
    }
    for (field, name) in [("userid", &post.user_id), ("llmid", &post.llmid)] {
        if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > LONGEST_NAME) {
            return Err(Error::Field(field, "must have 1 to 64 bytes"));
        }
    }
    Ok(())
}

/// What moves the money to the platform. A post of nothing moves nothing, and yet has its place in
/// the books, so that its key is used up.
fn spend(org_id: &OrgId, currency: Asset, amount: Amount) -> Command {
    if !amount.is_positive() {
        return Command::Renew { holds: Vec::new(), lease_until: Timestamp::default() };
    }
    let from = AccountKey::new(org_id.shared(), AccountKind::Wallet, currency);
    let to = AccountKey::new(PLATFORM, AccountKind::Revenue, currency);
    Command::Transfer { legs: vec![Leg { from, to, amount }] }
}

/// What must be the same in a repeat, besides what the operation moves.
fn fingerprint(post: &Post, usage: Option<&str>) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"ledgerline post 1\n");
    for part in [post.user_id.as_deref(), post.llmid.as_deref(), usage] {
        let part = part.unwrap_or_default().as_bytes();
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut short = [0; 16];
    hasher.finalize_xof().fill(&mut short);
    short
}

fn refusal(receipt: &Receipt, currency: Asset) -> Result<()> {
    match receipt.outcome {
        Outcome::Applied(_) => Ok(()),
        Outcome::Refused(Refusal::InsufficientFunds { required, available }) => {
            Err(Error::InsufficientFunds { required, available, currency })
        }
        Outcome::Refused(other) => Err(Error::Refused(other)),
    }
}

impl RecordFilter {
    pub(crate) fn columns(&self) -> Vec<(&'static str, ::store::Value)> {
        let user = self.user_id.as_deref().map(|user_id| ("user_id", user_id.into()));
        let transno = self.transno.as_deref().map(|transno| ("transno", transno.into()));
        user.into_iter().chain(transno).collect()
    }
}
