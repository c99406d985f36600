//! Why a customer's request is refused.

use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;
use kernel::{Amount, Asset, UserId};
use ledger::{JournalError, Refusal};
use serde_json::json;

/// A refused or failed operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A post came without anything that makes it unique.
    #[error("no idempotency key was sent")]
    KeyRequired,
    /// The key is empty, too long or not plain ASCII.
    #[error("the idempotency key is not 1 to 64 ASCII characters")]
    Key,
    /// Two keys were sent that differ.
    #[error("Idempotency-Key and transno differ")]
    TwoKeys,
    /// The key was used for another post.
    #[error("the idempotency key was used for another post")]
    Conflict,
    /// Only amounts of zero or more can be posted.
    #[error("the amount must not be below zero")]
    Amount,
    /// A field is out of range.
    #[error("{0} {1}")]
    Field(&'static str, &'static str),
    /// A list cannot be sorted by this.
    #[error("the list cannot be sorted by {0:?}")]
    Sort(String, String),
    /// A list was asked for a page that is too far in.
    #[error("the page is too far in")]
    PageTooDeep,
    /// The cursor is not of this list in this order.
    #[error("the cursor is not of this list")]
    Cursor,
    /// No user of the caller's has this id.
    #[error("there is no user {0}")]
    UnknownUser(UserId),
    /// The wallet cannot pay the post.
    #[error("{required} {currency} is needed and {available} {currency} is available")]
    InsufficientFunds {
        /// The amount posted.
        required: Amount,
        /// What the wallet had free.
        available: Amount,
        /// The currency of both.
        currency: Asset,
    },
    /// The books refused.
    #[error("the ledger refused")]
    Refused(#[source] Refusal),
    /// The caller is not of the platform's organization.
    #[error("the caller is not of the platform's organization")]
    PlatformOnly,
    /// No upstream is configured.
    #[error("no upstream is configured")]
    NoUpstream,
    /// The upstream could not be asked.
    #[error("the upstream could not be asked: {0}")]
    Upstream(#[source] crate::ClientError),
    /// The upstream misses more of what is kept than is believed.
    #[error(
        "the upstream misses {missing} of {all} rows, more than upstream.max_delete_percent:          POST /admin/sync/ENTITY/run?force=true believes it"
    )]
    MassDeletion {
        /// Rows kept that it misses.
        missing: i64,
        /// Rows kept.
        all: i64,
    },
    /// Another instance follows the upstream by now.
    #[error("another instance follows the upstream")]
    NotLeading,
    /// Identity refused or failed.
    #[error("identity refused")]
    Identity(#[from] identity::Error),
    /// The journal could not write.
    #[error("the journal failed")]
    Journal(#[source] JournalError),
    /// The database could not be read.
    #[error("the database failed")]
    Read(#[source] Arc<store::Error>),
    /// A value cannot be written as JSON.
    #[error("an answer cannot be written")]
    Render(#[from] serde_json::Error),
    /// A stored record does not read back.
    #[error("accounting record {0} is damaged: run ledgerline verify")]
    Damaged(i64),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Read(Arc::new(error))
    }
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Conflict => Self::Conflict,
            JournalError::TooLong => Self::Key,
            other => Self::Journal(other),
        }
    }
}

impl From<Error> for web::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::KeyRequired
            | Error::Key
            | Error::TwoKeys
            | Error::Amount
            | Error::Field(..)
            | Error::Sort(..)
            | Error::PageTooDeep
            | Error::Cursor => unfit(&error),
            Error::Conflict => Self::new(
                StatusCode::CONFLICT,
                "idempotency_conflict",
                "this Idempotency-Key (or transno) was used for another post: use a new one",
            ),
            Error::UnknownUser(id) => {
                Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no user {id:?}"))
            }
            Error::InsufficientFunds { required, available, currency } => Self::new(
                StatusCode::PAYMENT_REQUIRED,
                "insufficient_balance",
                format!("{required} {currency} is needed and {available} {currency} is available: top up, and post under a new key"),
            )
            .details(json!({"required": required, "available": available, "currency": currency})),
            Error::Refused(refusal) => Self::new(
                StatusCode::CONFLICT,
                "post_refused",
                format!("the post is refused: {refusal}"),
            ),
            Error::PlatformOnly => Self::new(
                StatusCode::FORBIDDEN,
                "platform_only",
                "events are taken from applications of the platform's organization only",
            ),
            Error::NoUpstream => Self::new(
                StatusCode::CONFLICT,
                "no_upstream",
                "this server follows no upstream: the operator sets upstream.url",
            ),
            Error::Identity(cause) => cause.into(),
            Error::Journal(cause @ JournalError::Attachment(_)) => Self::internal(&cause),
            Error::Journal(cause) => journal(&cause),
            Error::Read(_)
            | Error::Render(_)
            | Error::Damaged(_)
            | Error::Upstream(_)
            | Error::MassDeletion { .. }
            | Error::NotLeading => Self::internal(&error),
        }
    }
}

/// What the client must correct.
fn unfit(error: &Error) -> web::Error {
    let bad = |code, message: String| web::Error::new(StatusCode::BAD_REQUEST, code, message);
    match error {
        Error::KeyRequired => bad(
            "idempotency_key_required",
            "send an Idempotency-Key (or transno), so that a repeated request is not a second post".into(),
        ),
        Error::Key => bad(
            "invalid_idempotency_key",
            "Idempotency-Key (or transno) must be 1 to 64 ASCII characters".into(),
        ),
        Error::TwoKeys => {
            bad("two_keys", "Idempotency-Key and transno differ: send one of them".into())
        }
        Error::Amount => {
            bad("invalid_amount", "amount must not be below zero".into()).param("amount")
        }
        Error::Field(field, rule) => {
            bad("invalid_field", format!("{field} {rule}")).param(*field)
        }
        Error::Sort(asked, allowed) => bad(
            "invalid_sort",
            format!("{asked:?} cannot be sorted by: use one of {allowed}, with desc for the largest first"),
        )
        .param("sort"),
        Error::PageTooDeep => {
            bad("page_too_deep", "this page is too far in: continue with the cursor in next".into())
                .param("page")
        }
        _ => bad(
            "invalid_query",
            "the cursor is not one of this list in this order: send back next unchanged".into(),
        )
        .param("cursor"),
    }
}

fn journal(error: &JournalError) -> web::Error {
    let (code, message, wait) = match error {
        JournalError::Busy => {
            ("overloaded", "too many operations are waiting: send the request again later", 1)
        }
        JournalError::Stopped => ("stopping", "the server is stopping: send the request again", 1),
        _ => {
            tracing::error!(error = error as &dyn std::error::Error, "the journal could not write");
            let message =
                "it is not known whether the post is written: send it again with the same key";
            ("storage_unavailable", message, 5)
        }
    };
    web::Error::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
        .retry_after(Duration::from_secs(wait))
}
