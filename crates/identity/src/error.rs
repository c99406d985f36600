//! Why somebody is not let in, or something cannot be created.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;

use crate::SigningError;

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
    /// The request's signature is refused.
    #[error("the signature is refused")]
    Signing(#[from] SigningError),
    /// A secret at rest cannot be sealed or opened.
    #[error("a secret at rest does not open")]
    Sealed,
    /// The caller does not run this installation.
    #[error("the caller is not an administrator")]
    AdminOnly,
    /// No rule lets the caller's roles use the route.
    #[error("no role of the caller may use this")]
    PermissionDenied,
    /// The key may not be used from there.
    #[error("the key may not be used from this address")]
    IpNotAllowed,
    /// The key's scopes do not cover the route's.
    #[error("the key has no scope {0}")]
    ScopeMissing(&'static str),
    /// The key may not call the model.
    #[error("the key may not call model {0:?}")]
    ModelNotAllowed(String),
    /// The thing has changed since the author of the change saw it.
    #[error("it has version {current} now")]
    VersionMismatch {
        /// The version it has.
        current: i64,
    },
    /// Others changed the same thing again and again.
    #[error("others change the same thing all the time")]
    Contended,
    /// Not a role, or not one of this kind of organization.
    #[error("{0:?} is not a role that can be given here")]
    InvalidRole(String),
    /// The role is there, or was once.
    #[error("there is a role of this id")]
    RoleExists,
    /// No scope is like this one.
    #[error("no scope is like {0:?}")]
    UnknownScope(String),
    /// A list of limits or roles is too long, or has an entry that is empty or too long.
    #[error("the limits are too long")]
    Limits,
    /// A rule's method or path is not one.
    #[error("the rule's method or path is not one")]
    InvalidRule,
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
    /// A row holds what this program did not write.
    #[error("a row's {0} cannot be read")]
    Damaged(&'static str),
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
        let (status, code, message): (_, _, Cow<'static, str>) = match error {
            Error::Signing(refusal) => return refusal.into(),
            Error::MissingCredential
            | Error::TwoCredentials
            | Error::UnknownKey
            | Error::ExpiredKey
            | Error::DisabledKey => return unauthorized(&error),
            Error::AdminOnly => (
                StatusCode::FORBIDDEN,
                "admin_only",
                "this needs an administrator's API key".into(),
            ),
            Error::NotFound { what, id } => {
                (StatusCode::NOT_FOUND, "not_found", format!("there is no {what} {id:?}").into())
            }
            Error::PermissionDenied
            | Error::IpNotAllowed
            | Error::ScopeMissing(_)
            | Error::ModelNotAllowed(_) => return forbidden(&error),
            Error::VersionMismatch { .. }
            | Error::Contended
            | Error::InvalidRole(_)
            | Error::RoleExists
            | Error::UnknownScope(_)
            | Error::Limits
            | Error::InvalidRule => return not_written(&error),
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
            | Error::Damaged(_)
            | Error::Sealed
            | Error::Store(_) => return Self::internal(&error),
        };
        Self::new(status, code, message)
    }
}

/// A credential that does not say who is calling.
fn unauthorized(error: &Error) -> web::Error {
    let (status, code, message) = match error {
        Error::MissingCredential => (
            StatusCode::UNAUTHORIZED,
            "missing_credential",
            "send your API key as Authorization: Bearer KEY, or as x-api-key: KEY",
        ),
        Error::TwoCredentials => (
            StatusCode::BAD_REQUEST,
            "two_credentials",
            "Authorization and x-api-key carry different keys: send one of them",
        ),
        Error::UnknownKey => (
            StatusCode::UNAUTHORIZED,
            "invalid_api_key",
            "this API key is not known here: check it, or ask for a new one",
        ),
        Error::ExpiredKey => (
            StatusCode::UNAUTHORIZED,
            "api_key_expired",
            "this API key has expired: ask for a new one",
        ),
        _ => (
            StatusCode::UNAUTHORIZED,
            "api_key_disabled",
            "this API key, or what it belongs to, is disabled: ask the operator",
        ),
    };
    web::Error::new(status, code, message)
}

/// A known caller who may not do this.
fn forbidden(error: &Error) -> web::Error {
    match error {
        Error::IpNotAllowed => {
            let message = "this API key may not be used from this address: see its allowed_ips";
            web::Error::new(StatusCode::FORBIDDEN, "ip_not_allowed", message)
        }
        Error::ScopeMissing(scope) => web::Error::new(
            StatusCode::FORBIDDEN,
            "scope_missing",
            format!("this API key has no scope {scope}: use another, or ask for the scope"),
        ),
        Error::ModelNotAllowed(model) => web::Error::new(
            StatusCode::FORBIDDEN,
            "model_not_allowed",
            format!("this API key may not call {model:?}: GET /v1/models lists what it may"),
        )
        .param("model"),
        _ => web::Error::new(
            StatusCode::FORBIDDEN,
            "permission_denied",
            "none of this caller's roles may use this: ask the operator for one that may",
        ),
    }
}

/// A change that is not made.
fn not_written(error: &Error) -> web::Error {
    match error {
        Error::VersionMismatch { current } => web::Error::new(
            StatusCode::PRECONDITION_FAILED,
            "version_mismatch",
            format!("it was changed meanwhile: read it again and change version {current}"),
        ),
        Error::InvalidRole(role) => web::Error::new(
            StatusCode::BAD_REQUEST,
            "invalid_role",
            format!("{role:?} is not a role here: <kind>.<name>, of this kind, and known"),
        )
        .param("role"),
        Error::RoleExists => web::Error::new(
            StatusCode::CONFLICT,
            "role_exists",
            "there is a role of this id, or was once: choose another",
        ),
        Error::UnknownScope(scope) => web::Error::new(
            StatusCode::BAD_REQUEST,
            "unknown_scope",
            format!("no scope is like {scope:?}: see docs/access.md"),
        )
        .param("scopes"),
        Error::Limits => web::Error::new(
            StatusCode::BAD_REQUEST,
            "invalid_limits",
            "a list may have 100 entries (32 roles) of 1 to 128 bytes",
        ),
        Error::InvalidRule => web::Error::new(
            StatusCode::BAD_REQUEST,
            "invalid_rule",
            "a rule needs a method (or *) and a path such as /v1/models/* or /v1/**",
        ),
        _ => web::Error::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "contended",
            "others change the same thing at this moment: send the request again",
        )
        .retry_after(Duration::from_secs(1)),
    }
}
