//! Currencies and units.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const LONGEST: usize = 8;

/// A currency or unit such as `CNY`, `USD` or `POINT`: 3 to 8 capital letters or digits, starting
/// with a letter. Every asset has nine decimal places.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asset([u8; LONGEST]);

/// The text is not an asset code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a currency code such as CNY (3 to 8 capital letters or digits)")]
pub struct AssetError;

impl Asset {
    /// The code, such as `CNY`.
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(LONGEST);
        self.0.get(..length).and_then(|code| std::str::from_utf8(code).ok()).unwrap_or_default()
    }
}

impl FromStr for Asset {
    type Err = AssetError;

    fn from_str(text: &str) -> Result<Self, AssetError> {
        let code = text.as_bytes();
        let valid = (3..=LONGEST).contains(&code.len())
            && code.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
            && code.first().is_some_and(u8::is_ascii_uppercase);
        if !valid {
            return Err(AssetError);
        }
        let mut bytes = [0; LONGEST];
        bytes.iter_mut().zip(code).for_each(|(slot, byte)| *slot = *byte);
        Ok(Self(bytes))
    }
}

impl fmt::Display for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Asset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Asset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|cause| de::Error::custom(format!("{text:?} {cause}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_checked() {
        for text in ["", "CN", "cny", "CNYCNYCNY", "1CN", "C-Y"] {
            assert_eq!(text.parse::<Asset>(), Err(AssetError), "{text:?}");
        }
        for text in ["CNY", "POINT", "USDT2024"] {
            assert_eq!(text.parse::<Asset>().unwrap().as_str(), text);
        }
    }
}
