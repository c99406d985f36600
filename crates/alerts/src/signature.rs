//! Signatures of webhooks, by the Standard Webhooks specification (version `v1`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// What secrets begin with, so that leaked ones can be searched for.
const START: &str = "whsec_";

/// What webhooks are signed with.
#[derive(Debug)]
pub struct SigningKey(hmac::Key);

/// A secret as its receiver gets it: `whsec_` and Base64.
pub fn secret_text(secret: &[u8; 32]) -> String {
    format!("{START}{}", STANDARD.encode(secret))
}

impl SigningKey {
    /// Reads a secret as its receiver has it; `None` if it is none.
    pub fn read(secret: &str) -> Option<Self> {
        let bytes = STANDARD.decode(secret.strip_prefix(START)?).ok()?;
        Some(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The header `webhook-signature` of a message: over its id, the time in seconds and the body.
    pub fn sign(&self, id: &str, seconds: i64, body: &str) -> String {
        let tag = hmac::sign(&self.0, content(id, seconds, body).as_bytes());
        format!("v1,{}", STANDARD.encode(tag.as_ref()))
    }

    /// Whether one of the signatures in the header is this message's.
    pub fn verify(&self, signatures: &str, id: &str, seconds: i64, body: &str) -> bool {
        let content = content(id, seconds, body);
        let fits = |signature: &str| {
            let tag = signature.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok());
            tag.is_some_and(|tag| hmac::verify(&self.0, content.as_bytes(), &tag).is_ok())
        };
        signatures.split(' ').any(fits)
    }
}

fn content(id: &str, seconds: i64, body: &str) -> String {
    format!("{id}.{seconds}.{body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn a_signature_is_the_published_one() {
        let key = SigningKey::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, seconds, body) =
            ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        let signature = key.sign(id, seconds, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(key.verify(&signature, id, seconds, body));
        assert!(key.verify(&format!("v2,AAAA v1,eA== {signature}"), id, seconds, body));
    }

    #[test]
    fn a_message_that_was_changed_does_not_verify() {
        let key = SigningKey::read(&secret_text(&[7; 32])).unwrap();
        let signature = key.sign("id", 5, "body");
        assert!(key.verify(&signature, "id", 5, "body"));
        for (id, seconds, body) in [("ie", 5, "body"), ("id", 6, "body"), ("id", 5, "bodz")] {
            assert!(!key.verify(&signature, id, seconds, body));
        }
        let other = SigningKey::read(&secret_text(&[8; 32])).unwrap();
        assert!(!other.verify(&signature, "id", 5, "body"));
        for none in ["", "v1,", "v1,AAAA", &signature.replace("v1", "v2")] {
            assert!(!key.verify(none, "id", 5, "body"), "{none}");
        }
        assert!(SigningKey::read("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_none());
    }
}
