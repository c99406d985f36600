//! Why an administrator's request is refused.

use std::time::Duration;

use http::StatusCode;
use ledger::JournalError;
use metering::PriceBookError;
use pricing::Mistake;
use serde_json::json;

/// A refused or failed administration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A write of money came without an `Idempotency-Key`.
    #[error("no idempotency key was sent")]
    KeyRequired,
    /// The key is empty, too long or not plain ASCII.
    #[error("the idempotency key is empty, too long or not ASCII")]
    Key,
    /// The key was used for another request.
    #[error("the idempotency key was used for another request")]
    Conflict,
    /// `If-Match` holds no version.
    #[error("If-Match holds no version")]
    IfMatch,
    /// A cursor of another list.
    #[error("the cursor is not one of this list")]
    Cursor,
    /// What is kept of a request or change is not JSON any more.
    #[error("a row kept for later cannot be read")]
    Outcome,
    /// Only amounts above zero can be granted.
    #[error("the amount must be above zero")]
    Amount,
    /// A grant would expire before it is given.
    #[error("the grant would have expired")]
    Expired,
    /// An adjustment of nothing.
    #[error("the amount must not be zero")]
    ZeroAmount,
    /// A limit lacks something, or has too much.
    #[error("the limit needs {0}")]
    LimitSubject(&'static str),
    /// A period that ends before it begins.
    #[error("the period is empty")]
    Period,
    /// The reason is missing or too long.
    #[error("the reason must have 1 to 200 bytes")]
    Reason,
    /// The ledger refused the movement.
    #[error("the movement was refused")]
    Refused(#[source] ledger::Refusal),
    /// No provider has this name.
    #[error("no provider has this name")]
    UnknownProvider,
    /// Identity refused or failed.
    #[error("identity refused")]
    Identity(#[from] identity::Error),
    /// The journal could not write.
    #[error("the journal failed")]
    Journal(#[source] JournalError),
    /// Metering failed.
    #[error("metering failed")]
    Metering(#[from] metering::Error),
    /// The price file has mistakes.
    #[error("the price file has {} mistakes", .0.len())]
    PriceFile(Vec<Mistake>),
    /// The price file is larger than this many bytes.
    #[error("the price file is larger than {0} bytes")]
    PriceFileSize(usize),
    /// The price file is not text.
    #[error("the price file is not UTF-8")]
    PriceFileEncoding,
    /// A name in price terms is empty or too long.
    #[error("a name in price terms is empty or too long")]
    Terms,
    /// No call has this id, or none that has ended.
    #[error("no usage record has this id")]
    UnknownUsage,
    /// Alerts refused or failed.
    #[error("alerts refused")]
    Alerts(#[from] alerts::Error),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] store::Error),
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Conflict => Self::Conflict,
            other => Self::Journal(other),
        }
    }
}

impl From<Vec<Mistake>> for Error {
    fn from(mistakes: Vec<Mistake>) -> Self {
        Self::PriceFile(mistakes)
    }
}

/// The price book's refusals.
fn prices(error: &PriceBookError) -> web::Error {
    match error {
        PriceBookError::UnknownVersion(id) => web::Error::new(
            StatusCode::NOT_FOUND,
            "price_version_not_found",
            format!("there is no price version {id:?}: GET /admin/prices lists them"),
        ),
        PriceBookError::StartsInThePast => web::Error::new(
            StatusCode::BAD_REQUEST,
            "starts_in_the_past",
            "prices do not change for what has been: leave starts_at out, or name a time to come",
        )
        .param("starts_at"),
        PriceBookError::TooManyActivations(waiting) => web::Error::new(
            StatusCode::CONFLICT,
            "too_many_activations",
            format!("{waiting} activations wait to start: cancel one first"),
        ),
        PriceBookError::NotWaiting(revision) => web::Error::new(
            StatusCode::CONFLICT,
            "activation_not_waiting",
            format!("activation {revision} is not there, has started or was cancelled before"),
        ),
        PriceBookError::Contended => web::Error::new(
            StatusCode::CONFLICT,
            "prices_contended",
            "others change the price book at the same time: send the request again",
        )
        .retry_after(Duration::from_secs(1)),
        PriceBookError::TooManyCalls(most) => web::Error::new(
            StatusCode::BAD_REQUEST,
            "too_many_calls",
            format!(
                "more than {most} calls would have to be read: name a shorter period or an org_id"
            ),
        ),
    }
}

fn price_file(mistakes: &[Mistake]) -> web::Error {
    let first = mistakes.first().map(ToString::to_string).unwrap_or_default();
    let message = match mistakes.len() {
        1 => format!("the price file has a mistake: {first}"),
        several => format!("the price file has {several} mistakes, the first: {first}"),
    };
    web::Error::new(StatusCode::BAD_REQUEST, "invalid_price_file", message)
        .details(json!({ "mistakes": mistakes }))
}

impl From<Error> for web::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Identity(cause) => cause.into(),
            Error::Journal(JournalError::Busy) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "too many operations are waiting: send the request again later",
            )
            .retry_after(Duration::from_secs(1)),
            Error::Metering(metering::Error::InvalidLimit(why)) => {
                Self::new(StatusCode::BAD_REQUEST, "invalid_limit", why)
            }
            Error::Metering(cause) if cause.is_query() => {
                Self::new(StatusCode::BAD_REQUEST, "invalid_query", cause.to_string())
            }
            Error::Metering(metering::Error::PriceBook(cause)) => prices(&cause),
            Error::Alerts(cause) => refused_alert(cause),
            Error::Outcome => Self::internal(&error),
            Error::Journal(cause) => Self::internal(&cause),
            Error::Metering(cause) => Self::internal(&cause),
            Error::Store(cause) => Self::internal(&cause),
            other => refused(other),
        }
    }
}

/// Why an alert cannot be.
fn refused_alert(error: alerts::Error) -> web::Error {
    let text = error.to_string();
    match error {
        alerts::Error::Identity(cause) => cause.into(),
        alerts::Error::Amount => {
            web::Error::new(StatusCode::BAD_REQUEST, "invalid_alert", text).param("amount")
        }
        alerts::Error::Url(_) => {
            web::Error::new(StatusCode::BAD_REQUEST, "invalid_alert", text).param("url")
        }
        alerts::Error::TooMany => web::Error::new(StatusCode::CONFLICT, "too_many_alerts", text),
        other => web::Error::internal(&other),
    }
}

/// What the administrator has asked for and cannot have.
fn refused(error: Error) -> web::Error {
    match error {
        Error::Conflict => web::Error::new(
            StatusCode::CONFLICT,
            "idempotency_conflict",
            "this Idempotency-Key was used for another request: use a new key",
        ),
        Error::Refused(refusal) => web::Error::new(
            StatusCode::CONFLICT,
            "movement_refused",
            format!("nothing is moved: {refusal}"),
        ),
        Error::UnknownProvider => web::Error::new(
            StatusCode::NOT_FOUND,
            "provider_not_found",
            "no provider has this name: GET /admin/providers lists them",
        ),
        Error::UnknownUsage => web::Error::new(
            StatusCode::NOT_FOUND,
            "usage_not_found",
            "no call has this id: one that runs has no charge to explain yet",
        ),
        Error::PriceFile(mistakes) => price_file(&mistakes),
        Error::PriceFileSize(most) => web::Error::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "price_file_too_large",
            format!("a price file has at most {most} bytes: spread the models over fewer rules"),
        ),
        Error::LimitSubject(what) => web::Error::new(
            StatusCode::BAD_REQUEST,
            "invalid_limit",
            format!("the limit is not complete: send {what}"),
        ),
        other => not_valid(&other),
    }
}

/// What is wrong with the request itself.
fn not_valid(error: &Error) -> web::Error {
    let bad = |code, message: &'static str| web::Error::new(StatusCode::BAD_REQUEST, code, message);
    match error {
        Error::KeyRequired => bad(
            "idempotency_key_required",
            "send an Idempotency-Key, so that a repeated request is not a second grant",
        ),
        Error::Key => bad(
            "invalid_idempotency_key",
            "Idempotency-Key must be 1 to 255 ASCII characters (64 for grants)",
        ),
        Error::IfMatch => {
            bad("invalid_if_match", "If-Match must be the version from ETag, such as \"3\"")
        }
        Error::Cursor => bad("invalid_query", "cursor is not one of this list: send back `next`"),
        Error::Amount => bad("invalid_amount", "amount must be above zero").param("amount"),
        Error::Expired => bad(
            "expires_in_the_past",
            "what is given would have expired: leave expires_at out, or name a time to come",
        )
        .param("expires_at"),
        Error::ZeroAmount => bad("invalid_amount", "amount must not be zero").param("amount"),
        Error::Period => bad("invalid_period", "to must be after from").param("to"),
        Error::Reason => bad("invalid_reason", "reason must have 1 to 200 bytes").param("reason"),
        Error::PriceFileEncoding => {
            bad("price_file_encoding", "a price file is text in UTF-8: save it so")
        }
        Error::Terms => bad("invalid_price_terms", "distributor_id and plan have 1 to 64 bytes"),
        other => web::Error::internal(other),
    }
}
