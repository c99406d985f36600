//! Taking one of these in a handler is the authentication.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::uapi::is_signed;
use crate::{Caller, Error, Identity, OrgKind, Result};

const API_KEY: &str = "x-api-key";

/// A caller with a valid credential, whom the rules let use the route.
#[derive(Clone, Debug)]
pub struct Authenticated(pub Arc<Caller>);

/// A caller of the platform's organization, whom the rules let use the route.
#[derive(Clone, Debug)]
pub struct Admin(pub Arc<Caller>);

/// Whoever the rules let use the route; `None` without a credential.
#[derive(Clone, Debug)]
pub struct Anyone(pub Option<Arc<Caller>>);

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
        let identity = Identity::from_ref(state);
        let caller = identity.identify(parts).await?;
        identity.admit(parts, &caller)?;
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
        let identity = Identity::from_ref(state);
        let caller = identity.identify(parts).await?;
        // Whatever rules there are: what concerns everybody is for the platform's people.
        if caller.kind != OrgKind::Platform {
            return Err(Error::AdminOnly.into());
        }
        identity.admit(parts, &caller).map_err(|refusal| match refusal {
            Error::PermissionDenied => Error::AdminOnly,
            other => other,
        })?;
        Ok(Self(caller))
    }
}

impl<S> FromRequestParts<S> for Anyone
where
    S: Send + Sync,
    Identity: FromRef<S>,
{
    type Rejection = web::Error;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> std::result::Result<Self, web::Error> {
        if matches!(presented(&parts.headers), Err(Error::MissingCredential)) {
            Identity::from_ref(state).admit_anybody(parts).await?;
            return Ok(Self(None));
        }
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        Ok(Self(Some(caller)))
    }
}

impl Identity {
    /// Who sends this request, by whatever it carries to say so. In a box, so that this is compiled here,
    /// once, and not again in every handler that takes a caller.
    fn identify<'a>(&'a self, parts: &'a Parts) -> BoxFuture<'a, Result<Arc<Caller>>> {
        Box::pin(async move {
            match presented(&parts.headers)? {
                Presented::Key(api_key) => self.authenticate(api_key).await,
                Presented::Deerer(text) => self.authenticate_deerer(text).await,
                Presented::Signed => self.authenticate_signed(parts.extensions.get()).await,
            }
        })
    }
}

/// What a request carries to say who sends it.
enum Presented<'a> {
    Key(&'a str),
    Deerer(&'a str),
    Signed,
}

fn presented(headers: &HeaderMap) -> Result<Presented<'_>> {
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let other = match authorization {
        Some(text) if is_signed(text) => Some(Presented::Signed),
        Some(text) => deerer(text).map(Presented::Deerer),
        None => None,
    };
    match other {
        Some(_) if headers.contains_key(API_KEY) => Err(Error::TwoCredentials),
        Some(other) => Ok(other),
        None => presented_key(headers).map(Presented::Key),
    }
}

fn deerer(authorization: &str) -> Option<&str> {
    let (scheme, text) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("deerer").then_some(text)
}

fn presented_key(headers: &HeaderMap) -> Result<&str> {
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
