//! Why somebody is not let in, or something cannot be created.

use std::path::PathBuf;

use http::StatusCode;

/// A refused or failed identity operation.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The request carries no credential.
    #[error("no credential was sent")]
    MissingCredential,
    /// The request carries two credentials that differ.
    #[error("two different credentials were sent")]
    TwoCredentials,
    /// No key is like this one.
    #[error("the key is unknown")]
    UnknownKey,
    /// The key's time is over.
    #[error("the key has expired")]
    ExpiredKey,
    /// The key, or what it belongs to, is switched off.
    #[error("the key is disabled")]
    DisabledKey,
    /// The caller does not run this installation.
    #[error("the caller is not an administrator")]
    AdminOnly,
    /// There is no such thing.
    #[error("there is no {what} {id}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A name is empty or too long.
    #[error("a name must have 1 to 200 characters")]
    Name,
    /// The platform's organization was to be disabled, which would lock every administrator out.
    #[error("the platform's organization cannot be disabled")]
    PlatformOrg,
    /// A disabled or expired key was to be rotated.
    #[error("the key to be rotated does not work any more")]
    KeyNotActive,
    /// The secret in the configuration is too short.
    #[error("security.secret must have at least 32 characters")]
    ShortSecret,
    /// The database was made with another secret.
    #[error(
        "the database was made with another server secret: give this instance the same security.secret (or its data folder's secret.key)"
    )]
    OtherSecret,
    /// The secret's file cannot be used.
    #[error("cannot use {0}")]
    SecretFile(PathBuf, #[source] std::sync::Arc<std::io::Error>),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// The database failed.
    #[error("the database failed")]
    Store(#[source] std::sync::Arc<store::Error>),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Store(std::sync::Arc::new(error))
    }
}

impl From<Error> for web::Error {
    fn from(error: Error) -> Self {
        let (status, code, message) = match error {
            Error::MissingCredential => (
                StatusCode::UNAUTHORIZED,
                "missing_credential",
                "send your API key as Authorization: Bearer KEY, or as x-api-key: KEY".into(),
            ),
            Error::TwoCredentials => (
                StatusCode::BAD_REQUEST,
                "two_credentials",
                "Authorization and x-api-key carry different keys: send one of them".into(),
            ),
            Error::UnknownKey => (
                StatusCode::UNAUTHORIZED,
                "invalid_api_key",
                "this API key is not known here: check it, or ask for a new one".into(),
            ),
            Error::ExpiredKey => (
                StatusCode::UNAUTHORIZED,
                "api_key_expired",
                "this API key has expired: ask for a new one".into(),
            ),
            Error::DisabledKey => (
                StatusCode::UNAUTHORIZED,
                "api_key_disabled",
                "this API key, or what it belongs to, is disabled: ask the operator".into(),
            ),
            Error::AdminOnly => (
                StatusCode::FORBIDDEN,
                "admin_only",
                "this needs an administrator's API key".into(),
            ),
            Error::NotFound { what, id } => {
                (StatusCode::NOT_FOUND, "not_found", format!("there is no {what} {id:?}"))
            }
            Error::Name => (
                StatusCode::BAD_REQUEST,
                "invalid_name",
                "a name must have 1 to 200 characters".into(),
            ),
            Error::PlatformOrg => (
                StatusCode::CONFLICT,
                "platform_required",
                "the platform's organization cannot be disabled: disable single keys instead"
                    .into(),
            ),
            Error::KeyNotActive => (
                StatusCode::CONFLICT,
                "key_not_active",
                "this key is disabled or has expired: create a new one".into(),
            ),
            Error::ShortSecret
            | Error::OtherSecret
            | Error::SecretFile(..)
            | Error::Random
            | Error::Store(_) => return Self::internal(&error),
        };
        Self::new(status, code, message)
    }
}
