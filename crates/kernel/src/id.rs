//! Identifiers: UUIDv7 text for new things, foreign ids up to 64 characters.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A new UUIDv7 as text: unique, and later ids sort after earlier ones.
pub fn new() -> String {
    write(str::to_owned)
}

/// The same as shared text.
pub fn shared() -> Arc<str> {
    write(|text| Arc::from(text))
}

#[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
fn write<T>(read: impl FnOnce(&str) -> T) -> T {
    read(uuid::Uuid::now_v7().hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))
}

macro_rules! define_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// A new id, later than all before it.
            pub fn generate() -> Self {
                Self(shared())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The id as shared text.
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

define_id! {
    /// An organization.
    OrgId
}
define_id! {
    /// A person in an organization.
    UserId
}
define_id! {
    /// An external system that calls with its own credentials.
    AppId
}
define_id! {
    /// An API key (not its secret).
    KeyId
}
define_id! {
    /// One metered call, from its hold to its usage record.
    ChargeId
}
