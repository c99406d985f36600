//! Taking one of these in a handler is the authentication.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::{Caller, Error, Identity, Result, Role};

const API_KEY: &str = "x-api-key";

/// Any caller with a valid credential.
#[derive(Clone, Debug)]
pub struct Authenticated(pub Arc<Caller>);

/// A caller who runs this installation.
#[derive(Clone, Debug)]
pub struct Admin(pub Arc<Caller>);

impl<S> FromRequestParts<S> for Authenticated
where
    S: Send + Sync,
    Identity: FromRef<S>,
{
    type Rejection = web::Error;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> std::result::Result<Self, web::Error> {
        let api_key = presented(&parts.headers)?;
        let caller = Identity::from_ref(state).authenticate(api_key).await?;
        Ok(Self(caller))
    }
}

impl<S> FromRequestParts<S> for Admin
where
    S: Send + Sync,
    Identity: FromRef<S>,
{
    type Rejection = web::Error;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> std::result::Result<Self, web::Error> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        match caller.role {
            Role::Admin => Ok(Self(caller)),
            Role::Member => Err(Error::AdminOnly.into()),
        }
    }
}

fn presented(headers: &HeaderMap) -> Result<&str> {
    let bearer = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    let bearer = bearer.map(|value| match value.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim(),
        _ => "",
    });
    let plain = headers.get(API_KEY).map(|value| value.to_str().unwrap_or_default().trim());
    match (bearer, plain) {
        (Some(one), Some(two)) if one != two => Err(Error::TwoCredentials),
        (Some(key), _) | (None, Some(key)) if !key.is_empty() => Ok(key),
        _ => Err(Error::MissingCredential),
    }
}
