//! What a key is limited to, beyond what its roles let it do.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::Network;

use crate::{Error, Result};

/// Every scope there is. A surface adds its own here, names them in its rules, and explains them in
/// `docs/access.md`.
pub const SCOPES: &[&str] = &[
    "chat",
    "embeddings",
    "models:read",
    "usage:read",
    "account:read",
    "account:write",
    "agents:read",
    "agents:write",
    "flows:read",
    "flows:run",
    "flows:write",
    "admin:read",
    "admin:write",
];

/// Entries that one list of limits may have.
const MOST: usize = 100;
/// Bytes that one entry may have.
const LONGEST: usize = 128;

/// What a key is limited to. An empty list limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// What it may be used for: such as `chat`, or `admin:*` for every scope that begins so.
    pub scopes: Vec<String>,
    /// The models it may call, by name; `*` stands for any characters, as in `gpt-*`.
    pub models: Vec<String>,
    /// The addresses it may be used from: `192.0.2.7` or `10.0.0.0/8`.
    #[schema(value_type = Vec<String>)]
    pub allowed_ips: Vec<Network>,
}

impl Limits {
    /// No limits.
    pub const NONE: Self = Self { scopes: Vec::new(), models: Vec::new(), allowed_ips: Vec::new() };

    /// The model may be called.
    pub fn check_model(&self, model: &str) -> Result<()> {
        if self.allows_model(model) {
            return Ok(());
        }
        Err(Error::ModelNotAllowed(model.chars().take(LONGEST).collect()))
    }

    /// Whether the model may be called.
    pub fn allows_model(&self, model: &str) -> bool {
        self.models.is_empty()
            || self.models.iter().any(|pattern| matches(pattern.as_bytes(), model.as_bytes()))
    }

    /// Requests may come from there. An unknown address is none of those allowed.
    pub(crate) fn check_ip(&self, client: Option<IpAddr>) -> Result<()> {
        let allowed = |address| self.allowed_ips.iter().any(|network| network.contains(address));
        if self.allowed_ips.is_empty() || client.is_some_and(allowed) {
            return Ok(());
        }
        Err(Error::IpNotAllowed)
    }

    /// The scope is among those given; routes without one ask for none.
    pub fn check_scope(&self, needed: &'static str) -> Result<()> {
        let covers = |given: &String| matches(given.as_bytes(), needed.as_bytes());
        if needed.is_empty() || self.scopes.is_empty() || self.scopes.iter().any(covers) {
            return Ok(());
        }
        Err(Error::ScopeMissing(needed))
    }

    /// Refuses limits that could not have been meant: unknown scopes, empty patterns, long lists.
    pub(crate) fn check(&self) -> Result<()> {
        for given in &self.scopes {
            let known = |scope: &&str| matches(given.as_bytes(), scope.as_bytes());
            let plain = !given.contains('*') || given == "*" || given.ends_with(":*");
            if !plain || !SCOPES.iter().any(known) {
                return Err(Error::UnknownScope(given.chars().take(LONGEST).collect()));
            }
        }
        let fits = |pattern: &String| !pattern.is_empty() && pattern.len() <= LONGEST;
        let lengths = [self.scopes.len(), self.models.len(), self.allowed_ips.len()];
        if lengths.iter().any(|length| *length > MOST) || !self.models.iter().all(fits) {
            return Err(Error::Limits);
        }
        Ok(())
    }

    /// The bytes it takes in memory, roughly.
    pub(crate) fn size(&self) -> usize {
        let texts = self.scopes.iter().chain(&self.models);
        texts.map(|text| text.len() + size_of::<String>()).sum::<usize>()
            + self.allowed_ips.len() * size_of::<Network>()
    }
}

/// Whether the text is like the pattern, in which `*` stands for any characters. Takes no longer
/// than the product of both lengths, whatever the pattern.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where to go on when what follows the last star does not fit.
    let mut again: Option<(usize, usize)> = None;
    while from < text.len() {
        match (pattern.get(at), text.get(from)) {
            (Some(b'*'), _) => {
                again = Some((at + 1, from));
                at += 1;
            }
            (Some(wanted), Some(found)) if wanted == found => {
                at += 1;
                from += 1;
            }
            _ => match again {
                Some((star, taken)) => {
                    again = Some((star, taken + 1));
                    (at, from) = (star, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, as it is said.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|taken| naive(rest, &text[taken..])),
            Some((byte, rest)) => text.first() == Some(byte) && naive(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn stars_stand_for_anything(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                naive(pattern.as_bytes(), text.as_bytes())
            );
        }
    }

    fn limits(scopes: &[&str], models: &[&str], ips: &[&str]) -> Limits {
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let allowed_ips = ips.iter().map(|text| text.parse().unwrap()).collect();
        Limits { scopes: texts(scopes), models: texts(models), allowed_ips }
    }

    #[test]
    fn models_are_allowed_by_name_or_pattern() {
        let some = limits(&[], &["gpt-*", "deepseek-chat"], &[]);
        assert!(some.allows_model("gpt-4o") && some.allows_model("deepseek-chat"));
        assert!(!some.allows_model("deepseek-chat-2") && !some.allows_model("GPT-4o"));
        assert!(
            matches!(some.check_model("o1"), Err(Error::ModelNotAllowed(model)) if model == "o1")
        );
        assert!(Limits::NONE.allows_model("anything"));
    }

    #[test]
    fn an_unknown_address_is_not_among_those_allowed() {
        let inside = limits(&[], &[], &["10.0.0.0/8", "2001:db8::1"]);
        let check = |text: &str| inside.check_ip(Some(text.parse().unwrap())).is_ok();
        assert!(check("10.9.9.9") && check("2001:db8::1") && check("::ffff:10.0.0.1"));
        assert!(!check("11.0.0.1") && !check("2001:db8::2"));
        assert!(inside.check_ip(None).is_err() && Limits::NONE.check_ip(None).is_ok());
    }

    #[test]
    fn scopes_are_known_and_cover_what_they_name() {
        let admin = limits(&["admin:*", "chat"], &[], &[]);
        assert!(admin.check_scope("admin:write").is_ok() && admin.check_scope("chat").is_ok());
        assert!(matches!(admin.check_scope("usage:read"), Err(Error::ScopeMissing("usage:read"))));
        assert!(admin.check_scope("").is_ok());
        assert!(Limits::NONE.check_scope("chat").is_ok());
        assert!(admin.check().is_ok() && limits(&["*"], &[], &[]).check().is_ok());
        for unknown in ["admin", "chat:*", "chats", "", "c*t", "ad*"] {
            assert!(limits(&[unknown], &[], &[]).check().is_err(), "{unknown:?}");
        }
    }

    #[test]
    fn lists_have_bounds() {
        let (long, many) = ("m".repeat(129), ["m"; 101]);
        for models in [&[""][..], &[long.as_str()][..], &many[..]] {
            assert!(matches!(limits(&[], models, &[]).check(), Err(Error::Limits)));
        }
    }
}
