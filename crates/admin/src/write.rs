//! A change that an administrator asks for: by whom, for which version, and once for its
//! `Idempotency-Key`.

use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts as _, Request};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use identity::{Changed, Identity, OrgKind};
use kernel::{OrgId, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::Statement;
use web::Body;

use crate::audit::Actor;
use crate::http::Admin;
use crate::{Error, store as rows};

const LONGEST_KEY: usize = 255;
/// The role that runs this installation.
const ADMINISTRATOR: &str = "platform.admin";

/// A request for a change, its body as it came.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) actor: Actor,
    /// The version it is meant for, from `If-Match`.
    pub(crate) version: Option<i64>,
    body: Bytes,
    repeat: Option<Repeat>,
}

/// What a repeated request is known by.
#[derive(Clone, Debug)]
pub(crate) struct Repeat {
    /// Only the request and this process know it.
    seed: Arc<str>,
    /// Of the caller's organization and the `Idempotency-Key`.
    pub(crate) key_hash: [u8; 32],
    /// Of the whole request.
    pub(crate) request_hash: [u8; 32],
}

impl FromRequest<Admin> for Write {
    type Rejection = web::Error;

    async fn from_request(request: Request, admin: &Admin) -> web::Result<Self> {
        let (mut parts, body) = request.into_parts();
        let actor = Actor::from_request_parts(&mut parts, admin).await?;
        let version = wanted_version(&parts.headers)?;
        let target = format!("{} {}\n", parts.method, parts.uri.path());
        let headers = parts.headers.clone();
        let Body(body) = Body::from_request(Request::from_parts(parts, body), admin).await?;
        let repeat = Repeat::read(&headers, &actor, &target, &body)?;
        Ok(Self { actor, version, body, repeat })
    }
}

impl Repeat {
    fn read(
        headers: &HeaderMap,
        actor: &Actor,
        target: &str,
        body: &[u8],
    ) -> Result<Option<Self>, Error> {
        let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
        let key = key.to_str().map_err(|_not_ascii| Error::Key)?;
        if key.is_empty() || key.len() > LONGEST_KEY {
            return Err(Error::Key);
        }
        let seed = format!("{}\n{key}", actor.caller.org_id);
        let key_hash = *blake3::hash(seed.as_bytes()).as_bytes();
        let mut request = blake3::Hasher::new();
        request.update(target.as_bytes()).update(body);
        let request_hash = *request.finalize().as_bytes();
        Ok(Some(Self { seed: seed.into(), key_hash, request_hash }))
    }
}

/// The version in `If-Match`: `"3"`; `*` and no header stand for any.
fn wanted_version(headers: &HeaderMap) -> Result<Option<i64>, Error> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let plain = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    plain.parse().map(Some).map_err(|_no_version| Error::IfMatch)
}

impl Write {
    /// The body as it came.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body, read as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> web::Result<T> {
        web::Json::parse(&self.body).map(|web::Json(body)| body)
    }

    /// Refuses those who are no administrators themselves, whatever rules let them come here: with
    /// this they could make themselves one.
    pub(crate) fn for_administrators(&self) -> web::Result<()> {
        if self.actor.caller.roles().any(|role| role == ADMINISTRATOR) {
            return Ok(());
        }
        Err(identity::Error::AdminOnly.into())
    }

    /// The same, if the change concerns the platform's people; others may look after customers.
    pub(crate) async fn for_org(&self, admin: &Admin, org_id: &OrgId) -> web::Result<()> {
        let allowed = self.for_administrators();
        if allowed.is_err() && admin.identity.org(org_id).await?.kind != OrgKind::Platform {
            return Ok(());
        }
        allowed
    }

    /// The service that writes down who changed what, with the change.
    pub(crate) fn identity(&self, admin: &Admin) -> Identity {
        let (write, at) = (self.clone(), admin.metering.now());
        let seed = self.repeat.as_ref().map(|repeat| Arc::clone(&repeat.seed));
        admin.identity.witnessed(seed, move |changes| {
            let notes = changes.iter().map(|changed| write.actor.note(at, changed));
            notes.chain(write.outcome(changes, at.micros())).collect()
        })
    }

    /// What is kept of the change for when its request is repeated.
    fn outcome(&self, changes: &[Changed], at: i64) -> Option<Statement> {
        let repeat = self.repeat.as_ref()?;
        let makes = |changed: &&Changed| matches!(changed.verb, "create" | "renew");
        let made = changes.iter().find(makes)?.after.as_ref()?;
        Some(rows::outcome_insertion(repeat, &made.to_string(), at))
    }

    /// What is to be written with something that is made elsewhere: its row in the audit log, and its
    /// first answer for when the request is repeated.
    pub(crate) fn statements(
        &self,
        changed: &Changed,
        answer: &Value,
        at: Timestamp,
    ) -> Vec<Statement> {
        let repeat = self.repeat.as_ref();
        let kept =
            repeat.map(|repeat| rows::outcome_insertion(repeat, &answer.to_string(), at.micros()));
        std::iter::once(self.actor.note(at, changed)).chain(kept).collect()
    }

    /// Makes something elsewhere, with [`Write::statements`], once for its `Idempotency-Key`.
    pub(crate) async fn make<T: Serialize>(
        &self,
        admin: &Admin,
        make: impl Future<Output = Result<(StatusCode, T), Error>>,
    ) -> web::Result<Response> {
        if let Some((made, _seed)) = self.made_before(admin).await? {
            return Ok(replayed(&made));
        }
        match make.await {
            Ok((status, made)) => Ok((status, Json(made)).into_response()),
            // The same request may have been faster, here or on another instance.
            Err(error) => match self.made_before(admin).await? {
                Some((made, _seed)) => Ok(replayed(&made)),
                None => Err(error.into()),
            },
        }
    }

    /// Creates something, once for its `Idempotency-Key`.
    pub(crate) async fn create<T, F>(
        &self,
        admin: &Admin,
        make: impl FnOnce(Identity) -> F,
    ) -> web::Result<Response>
    where
        T: Serialize,
        F: Future<Output = identity::Result<T>>,
    {
        self.create_shown(admin, make, |made, _seed| made).await
    }

    /// As [`Write::create`]; `again` makes the first answer of what was created and of the seed that
    /// its secret came from.
    pub(crate) async fn create_shown<T, E, F>(
        &self,
        admin: &Admin,
        make: impl FnOnce(Identity) -> F,
        again: impl FnOnce(Value, &str) -> Value,
    ) -> web::Result<Response>
    where
        T: Serialize,
        E: Into<web::Error>,
        F: Future<Output = Result<T, E>>,
    {
        if let Some((made, seed)) = self.made_before(admin).await? {
            return Ok(replayed(&again(made, seed)));
        }
        match make(self.identity(admin)).await {
            Ok(made) => Ok((StatusCode::CREATED, Json(made)).into_response()),
            // The same request may have been faster, here or on another instance.
            Err(error) => match self.made_before(admin).await? {
                Some((made, seed)) => Ok(replayed(&again(made, seed))),
                None => Err(error.into()),
            },
        }
    }

    async fn made_before(&self, admin: &Admin) -> Result<Option<(Value, &str)>, Error> {
        let Some(repeat) = &self.repeat else { return Ok(None) };
        let Some(outcome) = rows::find_outcome(&admin.database, &repeat.key_hash).await? else {
            return Ok(None);
        };
        if outcome.request_hash != repeat.request_hash {
            return Err(Error::Conflict);
        }
        let made = serde_json::from_str(&outcome.made).map_err(|_cause| Error::Outcome)?;
        Ok(Some((made, &repeat.seed)))
    }
}

fn replayed(made: &Value) -> Response {
    let mut response = (StatusCode::CREATED, Json(made)).into_response();
    response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    response
}

/// Something and, as its `ETag`, the version it has.
pub(crate) fn versioned<T: Serialize>(version: i64, body: &T) -> Response {
    let mut response = Json(body).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}
