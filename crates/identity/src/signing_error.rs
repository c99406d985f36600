//! Why a signed request is refused.

use http::StatusCode;

/// A refused signature, or a secret that cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The signature is nobody's.
    #[error("the signature does not fit")]
    Unfit,
    /// The request was signed at another time.
    #[error("the request was signed too long ago, too far ahead, or before this server started")]
    When,
    /// The signed request was answered before.
    #[error("the signed request was answered before")]
    Replayed,
    /// The body of a signed request cannot be read.
    #[error("the signed request's body is cut or too large")]
    Body,
    /// More signed requests came than can be remembered.
    #[error("too many signed requests")]
    TooMany,
    /// The application does not use the Deerer scheme.
    #[error("the application does not use Deerer")]
    DeererOff,
    /// The application has no secret.
    #[error("the application has no secret")]
    NoSecret,
}

impl From<SigningError> for web::Error {
    fn from(error: SigningError) -> Self {
        let (status, code, message) = match error {
            SigningError::Unfit => (
                StatusCode::UNAUTHORIZED,
                "invalid_signature",
                "the signature does not fit: check the application's id, secret and key, and what is signed",
            ),
            SigningError::When => (
                StatusCode::UNAUTHORIZED,
                "signature_expired",
                "signed at another time than now: check the clock, and sign each request anew",
            ),
            SigningError::Replayed => (
                StatusCode::UNAUTHORIZED,
                "signature_replayed",
                "this signed request was answered before: sign each request anew",
            ),
            SigningError::Body => (
                StatusCode::BAD_REQUEST,
                "signed_body",
                "the body of the signed request ended early or is larger than server.max_body_bytes",
            ),
            SigningError::TooMany => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "too many signed requests: send the request again later, signed anew",
            ),
            SigningError::DeererOff => (
                StatusCode::FORBIDDEN,
                "deerer_disabled",
                "this application does not use Deerer: sign with Uapi (docs/uapi.md) or send its key",
            ),
            SigningError::NoSecret => (
                StatusCode::CONFLICT,
                "no_app_secret",
                "this application has no secret: make one first",
            ),
        };
        Self::new(status, code, message)
    }
}
