//! `Authorization: Deerer <app id>-:-<cipher>`, byte for byte as Sage's clients send it, with what
//! Sage lacks: a time window, no replay, and keys that work for their own application only.
//!
//! The cipher is Base64 of AES-256-ECB with PKCS#7 padding over `<t>:<api key>`, `<t>` being Unix seconds
//! as a decimal. The cipher's key is the application's secret, filled up with `*` to 32 bytes or cut.

use std::sync::Arc;

use aes::Aes256;
use aes::cipher::{Array, BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kernel::{AppId, Timestamp};

use crate::{Caller, Identity, Result, SigningError};

const SEPARATOR: &str = "-:-";
const BLOCK: usize = 16;
const KEY: usize = 32;
const FILLER: u8 = b'*';
/// A longer cipher is nobody's: an API key and a time fit many times.
const LONGEST_CIPHER: usize = 1024;
const MICROS: usize = 6;

/// The key that an application's secret gives.
pub(crate) fn cipher_of(secret: &[u8]) -> Aes256 {
    let mut key = [FILLER; KEY];
    key.iter_mut().zip(secret).for_each(|(slot, byte)| *slot = *byte);
    Aes256::new(&key.into())
}

/// What a cipher says: when it was made, and by which API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    at: Timestamp,
    text: String,
    key_from: usize,
}

impl Opened {
    /// What the cipher says, if it was made with this key.
    pub(crate) fn read(cipher: &Aes256, encrypted: &[u8]) -> Option<Self> {
        let mut bytes = encrypted.to_vec();
        if bytes.is_empty() || !bytes.len().is_multiple_of(BLOCK) {
            return None;
        }
        for block in bytes.chunks_exact_mut(BLOCK) {
            cipher.decrypt_block(<&mut Array<_, _>>::try_from(block).ok()?);
        }
        unpad(&mut bytes)?;
        // Printable characters only, so that its bytes are the same in any encoding.
        let text = String::from_utf8(bytes).ok().filter(|text| text.is_ascii())?;
        let (time, key) = text.split_once(':')?;
        if key.contains(':') {
            return None;
        }
        let (at, key_from) = (unix_seconds(time)?, time.len() + 1);
        Some(Self { at, text, key_from })
    }

    fn api_key(&self) -> &str {
        self.text.get(self.key_from..).unwrap_or_default()
    }
}

fn unpad(bytes: &mut Vec<u8>) -> Option<()> {
    let count = usize::from(*bytes.last()?);
    let end = bytes.len().checked_sub(count)?;
    if count == 0
        || count > BLOCK
        || bytes.get(end..)?.iter().any(|byte| usize::from(*byte) != count)
    {
        return None;
    }
    bytes.truncate(end);
    Some(())
}

/// `1717000000`, `1717000000.25`: seconds with any number of decimal places.
fn unix_seconds(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() > 11 {
        return None;
    }
    let fraction: String = fraction.chars().chain(std::iter::repeat('0')).take(MICROS).collect();
    let micros = whole.parse::<i64>().ok()?.checked_mul(1_000_000)?;
    Some(Timestamp::from_micros(micros.checked_add(fraction.parse().ok()?)?))
}

/// The `Authorization` of an application that presents its key in this scheme.
pub fn deerer_header((app_id, secret): (&str, &str), api_key: &str, now: Timestamp) -> String {
    let (seconds, micros) = (now.seconds(), now.micros().rem_euclid(1_000_000));
    let mut text = format!("{seconds}.{micros:06}:{api_key}").into_bytes();
    let padding = BLOCK - text.len() % BLOCK;
    text.extend(std::iter::repeat_n(u8::try_from(padding).unwrap_or_default(), padding));
    let cipher = cipher_of(secret.as_bytes());
    for block in text.chunks_exact_mut(BLOCK) {
        if let Ok(block) = <&mut Array<_, _>>::try_from(block) {
            cipher.encrypt_block(block);
        }
    }
    format!("Deerer {app_id}{SEPARATOR}{}", STANDARD.encode(text))
}

impl Identity {
    /// Who presents this, the part after the word `Deerer`.
    pub async fn authenticate_deerer(&self, presented: &str) -> Result<Arc<Caller>> {
        let (app_id, cipher) = presented.trim().split_once(SEPARATOR).ok_or(SigningError::Unfit)?;
        if cipher.len() > LONGEST_CIPHER {
            return Err(SigningError::Unfit.into());
        }
        let encrypted = STANDARD.decode(cipher).map_err(|_not_base64| SigningError::Unfit)?;
        let app_id = AppId::from(app_id);
        let app = self.signing_app(&app_id).await?;
        if !app.deerer {
            return Err(SigningError::DeererOff.into());
        }
        let now = self.now();
        let opened = app.secrets(now).find_map(|secret| Opened::read(&secret.cipher, &encrypted));
        let opened = opened.ok_or(SigningError::Unfit)?;
        self.check_time(opened.at)?;
        let caller = self.authenticate(opened.api_key()).await?;
        if caller.app_id.as_ref() != Some(&app_id) {
            return Err(SigningError::Unfit.into());
        }
        // The text, not the cipher: whatever can be done to blocks gives the same text or another key.
        let token =
            self.replay_token(&[b"deerer", app_id.as_str().as_bytes(), opened.text.as_bytes()]);
        self.use_once(token, opened.at).await?;
        Ok(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with openssl: enc -aes-256-ecb -K (the secret and eleven `*`) of the text below.
    const SECRET: &str = "Xy7secret_0123456789A";
    const CIPHER: &str = "aLxwnWUBSJWtPk+TSpgEdyNKe0I4igF/BA60/4eglhjQYVWfk1wIDSwob4xW/dk8";

    #[test]
    fn the_published_vector_opens() {
        let encrypted = STANDARD.decode(CIPHER).unwrap();
        let opened = Opened::read(&cipher_of(SECRET.as_bytes()), &encrypted).unwrap();
        assert_eq!(opened.text, "1717000000.25:V1StGXR8_Z5jdHi6B-myT");
        assert_eq!(opened.at, Timestamp::from_micros(1_717_000_000_250_000));
        assert_eq!(opened.api_key(), "V1StGXR8_Z5jdHi6B-myT");
        assert_eq!(Opened::read(&cipher_of(b"another"), &encrypted), None);
        for end in [0, 1, 15, 16, 32] {
            assert_eq!(
                Opened::read(&cipher_of(SECRET.as_bytes()), &encrypted[..end]),
                None,
                "{end}"
            );
        }
    }

    #[test]
    fn what_is_made_here_opens() {
        let now = Timestamp::from_micros(1_717_000_000_000_001);
        let header = deerer_header(("app1", SECRET), "a key", now);
        let encrypted = STANDARD.decode(header.strip_prefix("Deerer app1-:-").unwrap()).unwrap();
        let opened = Opened::read(&cipher_of(SECRET.as_bytes()), &encrypted).unwrap();
        assert_eq!((opened.at, opened.api_key()), (now, "a key"));
    }

    #[test]
    fn long_secrets_are_cut() {
        let (long, cut) = ("0123456789".repeat(4), "01234567890123456789012345678901");
        let mut blocks = [Array::from([7; BLOCK]); 2];
        cipher_of(long.as_bytes()).encrypt_block(&mut blocks[0]);
        cipher_of(cut.as_bytes()).encrypt_block(&mut blocks[1]);
        assert_eq!(blocks[0], blocks[1]);
    }

    #[test]
    fn times_are_seconds_with_or_without_a_fraction() {
        let micros = |text: &str| unix_seconds(text).map(Timestamp::micros);
        assert_eq!(micros("1717000000"), Some(1_717_000_000_000_000));
        assert_eq!(micros("1717000000.1234567"), Some(1_717_000_000_123_456));
        assert_eq!(micros("1717000000.5"), Some(1_717_000_000_500_000));
        for bad in ["", ".", "1.", ".5", "-1", "+1", "1e9", "nan", "inf", "1.2.3", "999999999999"] {
            assert_eq!(micros(bad), None, "{bad}");
        }
    }
}
