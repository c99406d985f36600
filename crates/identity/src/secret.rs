//! The server's secret, and the keys derived from it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::Secret;
use serde::{Deserialize, Serialize};

use crate::seal::Seal;
use crate::{Error, Result};

const SHORTEST: usize = 32;
/// The start of every API key, so that leaked ones can be searched for.
const KEY_START: &str = "llk_";
const PREFIX_LENGTH: usize = 12;
/// `llk_`, 8 characters, `_`, and 256 bits as 43 characters.
const KEY_LENGTH: usize = KEY_START.len() + 8 + 1 + 43;
const CUT: &str = "it has fewer than 32 bytes: put it back from a backup";

/// The `security` section of the configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// At least 32 characters that only the server knows; instances on one database share it. Empty
    /// to keep one in `secret.key` in the data folder.
    pub secret: Secret,
}

/// What API keys are hashed with. Losing it makes every key unknown.
#[derive(Clone)]
pub struct ServerSecret {
    keys: [u8; 32],
    repeats: [u8; 32],
    sealing: [u8; 32],
    replays: [u8; 32],
    cache: [u8; 32],
    check: String,
}

impl std::fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerSecret(***)")
    }
}

impl ServerSecret {
    /// The configured secret, or the one in `file`, which is created (readable by its owner only)
    /// when missing.
    pub fn load(config: &Config, file: &Path) -> Result<Self> {
        let configured = config.secret.expose();
        if !configured.is_empty() {
            if configured.len() < SHORTEST {
                return Err(Error::ShortSecret);
            }
            return Ok(Self::derive(configured.as_bytes()));
        }
        let failed = |cause| Error::SecretFile(file.to_owned(), Arc::new(cause));
        if !file.try_exists().map_err(failed)? {
            create(file, &random::<SHORTEST>()?).map_err(failed)?;
        }
        let bytes = std::fs::read(file).map_err(failed)?;
        if bytes.len() < SHORTEST {
            return Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidData, CUT)));
        }
        Ok(Self::derive(&bytes))
    }

    fn derive(material: &[u8]) -> Self {
        let check = blake3::derive_key("ledgerline 2026 secret check", material);
        Self {
            keys: blake3::derive_key("ledgerline 2026 api key hash", material),
            repeats: blake3::derive_key(
                "ledgerline 2026 api key of a repeatable request",
                material,
            ),
            sealing: blake3::derive_key("ledgerline 2026 secrets at rest", material),
            replays: blake3::derive_key("ledgerline 2026 replay token", material),
            cache: blake3::derive_key("ledgerline 2026 shared cache", material),
            check: URL_SAFE_NO_PAD.encode(check),
        }
    }

    /// Tells two secrets apart without giving either away.
    pub(crate) fn check_value(&self) -> &str {
        &self.check
    }

    /// What seals secrets that must be known in clear.
    pub(crate) fn seal(&self) -> Result<Seal> {
        Seal::new(&self.sealing)
    }

    /// What is remembered of a signed request.
    pub(crate) fn replay_token(&self, parts: &[&[u8]]) -> u128 {
        let mut hasher = blake3::Hasher::new_keyed(&self.replays);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut token = [0; 16];
        hasher.finalize_xof().fill(&mut token);
        u128::from_be_bytes(token)
    }

    /// What names and values of the cache that instances share are made with.
    pub const fn cache_key(&self) -> [u8; 32] {
        self.cache
    }

    /// What is stored of an API key.
    pub(crate) fn hash_key(&self, api_key: &str) -> [u8; 32] {
        *blake3::keyed_hash(&self.keys, api_key.as_bytes()).as_bytes()
    }

    /// The API key of this id that a request with this seed creates, whenever it is asked for. It
    /// can be had from nothing that is stored: it takes this secret and the request's own.
    pub(crate) fn derived_api_key(&self, seed: &str, id: &str) -> (Secret, String) {
        let (mut start, mut secret) = ([0; 6], [0; 32]);
        let mut output = self.derive_for(seed, id);
        output.fill(&mut start);
        output.fill(&mut secret);
        api_key(start, secret)
    }

    /// The same for a secret that is no API key.
    pub(crate) fn derived_secret(&self, seed: &str, id: &str) -> [u8; 32] {
        let mut secret = [0; 32];
        self.derive_for(seed, &format!("secret of {id}")).fill(&mut secret);
        secret
    }

    fn derive_for(&self, seed: &str, id: &str) -> blake3::OutputReader {
        let mut hasher = blake3::Hasher::new_keyed(&self.repeats);
        hasher.update(&(seed.len() as u64).to_le_bytes());
        hasher.update(seed.as_bytes()).update(id.as_bytes());
        hasher.finalize_xof()
    }
}

/// The file is there in full or not at all, whenever the power fails.
fn create(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let unfinished = file.with_extension("new");
    let mut open =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
    open.write_all(bytes)?;
    open.sync_all()?;
    std::fs::rename(&unfinished, file)?;
    match file.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_cause| Error::Random)?;
    Ok(bytes)
}

/// A new API key with 256 random bits, and the start of it that may be shown.
pub(crate) fn new_api_key() -> Result<(Secret, String)> {
    Ok(api_key(random()?, random()?))
}

fn api_key(start: [u8; 6], secret: [u8; 32]) -> (Secret, String) {
    let (start, secret) = (URL_SAFE_NO_PAD.encode(start), URL_SAFE_NO_PAD.encode(secret));
    let api_key = format!("{KEY_START}{start}_{secret}");
    let prefix = api_key.chars().take(PREFIX_LENGTH).collect();
    (Secret::from(api_key), prefix)
}

/// Whether a text can be an API key at all; what cannot is refused without looking it up.
pub(crate) fn is_api_key(text: &str) -> bool {
    text.len() == KEY_LENGTH && text.starts_with(KEY_START)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret.key");
        let first = ServerSecret::load(&Config::default(), &file).unwrap();
        let again = ServerSecret::load(&Config::default(), &file).unwrap();
        assert_eq!(first.check_value(), again.check_value());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&file, "cut").unwrap();
        let cut = ServerSecret::load(&Config::default(), &file);
        assert!(matches!(cut, Err(Error::SecretFile(..))), "{cut:?}");
    }

    #[test]
    fn a_short_secret_is_refused_and_another_hashes_otherwise() {
        let load = |secret: &str| {
            let config = Config { secret: Secret::from(secret) };
            ServerSecret::load(&config, Path::new("/nonexistent"))
        };
        assert!(matches!(load("short"), Err(Error::ShortSecret)));
        let (one, two) = (load(&"a".repeat(32)).unwrap(), load(&"b".repeat(32)).unwrap());
        assert_ne!(one.hash_key("k"), two.hash_key("k"));
        assert_ne!(one.check_value(), two.check_value());
    }

    #[test]
    fn api_keys_carry_256_random_bits() {
        let (one, prefix) = new_api_key().unwrap();
        let (two, _) = new_api_key().unwrap();
        assert_ne!(one.expose(), two.expose());
        assert!(one.expose().starts_with(&prefix));
        assert!(is_api_key(one.expose()) && is_api_key(two.expose()));
        let secret = ServerSecret::derive(b"material");
        let (derived, again) =
            (secret.derived_api_key("seed", "1"), secret.derived_api_key("seed", "1"));
        assert_eq!(derived.0.expose(), again.0.expose());
        assert!(is_api_key(derived.0.expose()));
        for other in [secret.derived_api_key("seed", "2"), secret.derived_api_key("see", "d1")] {
            assert_ne!(derived.0.expose(), other.0.expose());
        }
        assert!(!is_api_key(&prefix) && !is_api_key(&one.expose().replace("llk_", "sk-_")));
    }
}
