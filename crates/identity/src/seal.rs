//! Secrets at rest: sealed with AES-256-GCM under a key that follows from the server's secret.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use kernel::Secret;

use crate::secret::random;
use crate::{Error, Identity, Result};

/// Seals and opens secrets that must be known in clear, such as those that requests are signed with.
#[derive(Clone)]
pub(crate) struct Seal(LessSafeKey);

impl Seal {
    pub(crate) fn new(key: &[u8; 32]) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_wrong_length| Error::Sealed)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// The secret as it is stored. It opens only for the same owner, so that rows cannot be swapped.
    pub(crate) fn seal(&self, owner: &str, secret: &str) -> Result<Vec<u8>> {
        let nonce = random::<NONCE_LEN>()?;
        let mut sealed = nonce.to_vec();
        let mut text = secret.as_bytes().to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(nonce, Aad::from(owner.as_bytes()), &mut text)
            .map_err(|_too_long| Error::Sealed)?;
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// The secret in clear.
    pub(crate) fn open(&self, owner: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(Error::Sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_length| Error::Sealed)?;
        let mut text = text.to_vec();
        let opened = self.0.open_in_place(nonce, Aad::from(owner.as_bytes()), &mut text);
        opened.map(|secret| secret.to_vec()).map_err(|_changed| Error::Sealed)
    }
}

impl Identity {
    /// A secret of 32 bytes for what has this id: by chance, or, where the change is
    /// [witnessed](Identity::witnessed) with a seed, the one that [`Identity::derived_secret`] gives.
    pub fn fresh_secret(&self, id: &str) -> Result<[u8; 32]> {
        match self.1.as_ref().and_then(|witness| witness.seed.as_deref()) {
            Some(seed) => Ok(self.derived_secret(seed, id)),
            None => random(),
        }
    }

    /// The secret that was made for what has this id, with this seed.
    pub fn derived_secret(&self, seed: &str, id: &str) -> [u8; 32] {
        self.0.secret.derived_secret(seed, id)
    }

    /// A secret as it is stored. It opens only for the same owner, so that rows cannot be swapped.
    pub fn seal(&self, owner: &str, secret: &str) -> Result<Vec<u8>> {
        self.0.secret.seal()?.seal(owner, secret)
    }

    /// A stored secret in clear.
    pub fn unseal(&self, owner: &str, sealed: &[u8]) -> Result<Secret> {
        let opened = self.0.secret.seal()?.open(owner, sealed)?;
        String::from_utf8(opened).map(Secret::from).map_err(|_not_text| Error::Sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_for_its_owner_alone_and_only_unchanged() {
        let seal = Seal::new(&[1; 32]).unwrap();
        let sealed = seal.seal("app1", "a secret").unwrap();
        assert_eq!(seal.open("app1", &sealed).unwrap(), b"a secret");
        assert_ne!(sealed, seal.seal("app1", "a secret").unwrap(), "a nonce is used once");
        assert!(!sealed.windows(8).any(|part| part == b"a secret"));
        assert!(seal.open("app2", &sealed).is_err());
        assert!(Seal::new(&[2; 32]).unwrap().open("app1", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(seal.open("app1", &changed).is_err(), "byte {at}");
        }
        assert!(seal.open("app1", b"short").is_err());
    }
}
