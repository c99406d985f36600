//! `Idempotency-Key`: a repeated request is the same call, charged once, answered the same.
//!
//! The key gives the call its id, so the ledger's own rule (an id is applied once, for ever) is
//! what makes a repeat safe. A try that ended without a charge does not use the key up: the next
//! request is its next attempt, under an id of its own.

use http::HeaderMap;
use kernel::{ChargeId, OrgId};

use crate::Error;

const HEADER: &str = "idempotency-key";
const LONGEST: usize = 255;
/// Attempts of one key that may end without a charge.
pub(crate) const MAX_ATTEMPTS: u32 = 64;

/// A caller's key for one request, and what makes another request the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RepeatKey {
    org_id: OrgId,
    key: String,
    pub(crate) fingerprint: [u8; 16],
}

impl RepeatKey {
    /// The key in the headers, if there is one; `body` is the request it stands for.
    pub(crate) fn read(
        headers: &HeaderMap,
        org_id: &OrgId,
        path: &str,
        body: &[u8],
    ) -> Result<Option<Self>, Error> {
        let Some(value) = headers.get(HEADER) else { return Ok(None) };
        let key = value.to_str().map_err(|_not_ascii| Error::IdempotencyKey)?;
        if key.is_empty() || key.len() > LONGEST {
            return Err(Error::IdempotencyKey);
        }
        let fingerprint = digest(&[path.as_bytes(), body]);
        Ok(Some(Self { org_id: org_id.clone(), key: key.to_owned(), fingerprint }))
    }

    /// The id of this key's n-th attempt.
    pub(crate) fn charge_id(&self, attempt: u32) -> ChargeId {
        let parts = [self.org_id.as_str().as_bytes(), self.key.as_bytes(), &attempt.to_le_bytes()];
        uuid::Builder::from_custom_bytes(digest(&parts)).into_uuid().to_string().into()
    }
}

fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut digest = [0; 16];
    hasher.finalize_xof().fill(&mut digest);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &str, org: &str, body: &str) -> RepeatKey {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, value.parse().unwrap());
        RepeatKey::read(&headers, &org.into(), "/v1/chat/completions", body.as_bytes())
            .unwrap()
            .unwrap()
    }

    #[test]
    fn the_same_key_is_the_same_call_within_its_organization_only() {
        let one = key("k", "a", "{}");
        assert_eq!(one.charge_id(1), key("k", "a", "{\"other\":1}").charge_id(1));
        assert_ne!(one.charge_id(1), one.charge_id(2));
        assert_ne!(one.charge_id(1), key("k", "b", "{}").charge_id(1));
        assert_ne!(one.fingerprint, key("k", "a", "{ }").fingerprint);
    }

    #[test]
    fn keys_are_bounded() {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, "k".repeat(256).parse().unwrap());
        let refused = RepeatKey::read(&headers, &"a".into(), "/", b"");
        assert!(matches!(refused, Err(Error::IdempotencyKey)));
    }
}
