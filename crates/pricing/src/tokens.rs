//! Token counts by class, and the classes.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeSeq as _};

/// The tokens of one call in disjoint classes: their sum is what the call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// Read, and neither served from nor written to the upstream's prompt cache.
    pub input: u64,
    /// Read from the upstream's prompt cache.
    pub cached_input: u64,
    /// Written to the upstream's prompt cache.
    pub cache_write: u64,
    /// Produced for the client.
    pub output: u64,
    /// Produced while thinking.
    pub reasoning: u64,
    /// Of audio, read; what was served from the cache is there.
    #[serde(skip_serializing_if = "is_zero")]
    pub input_audio: u64,
    /// Of images, read; what was served from the cache is there.
    #[serde(skip_serializing_if = "is_zero")]
    pub input_image: u64,
    /// Of audio, produced.
    #[serde(skip_serializing_if = "is_zero")]
    pub output_audio: u64,
    /// Of images, produced.
    #[serde(skip_serializing_if = "is_zero")]
    pub output_image: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Tokens {
    /// The tokens of all classes.
    pub const fn total(&self) -> u64 {
        self.context().saturating_add(self.produced())
    }

    /// The tokens that the model produced.
    pub const fn produced(&self) -> u64 {
        let text = self.output.saturating_add(self.reasoning);
        text.saturating_add(self.output_audio).saturating_add(self.output_image)
    }

    /// The tokens that the model read, which is what context tiers go by.
    pub const fn context(&self) -> u64 {
        let text = self.input.saturating_add(self.cached_input).saturating_add(self.cache_write);
        text.saturating_add(self.input_audio).saturating_add(self.input_image)
    }
}

/// What a unit is: a token of some class, or the call itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A token read, not from a cache.
    Input,
    /// A token read from the upstream's cache.
    CachedInput,
    /// A token written to the upstream's cache.
    CacheWrite,
    /// A token produced.
    Output,
    /// A token produced while thinking.
    Reasoning,
    /// A token of audio, read.
    InputAudio,
    /// A token of an image, read.
    InputImage,
    /// A token of audio, produced.
    OutputAudio,
    /// A token of an image, produced.
    OutputImage,
    /// The call: one unit, however large.
    Call,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 10] = [
        Self::Input,
        Self::CachedInput,
        Self::CacheWrite,
        Self::Output,
        Self::Reasoning,
        Self::InputAudio,
        Self::InputImage,
        Self::OutputAudio,
        Self::OutputImage,
        Self::Call,
    ];

    /// The name in price files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CachedInput => "cached_input",
            Self::CacheWrite => "cache_write",
            Self::Output => "output",
            Self::Reasoning => "reasoning",
            Self::InputAudio => "input_audio",
            Self::InputImage => "input_image",
            Self::OutputAudio => "output_audio",
            Self::OutputImage => "output_image",
            Self::Call => "call",
        }
    }

    /// The class of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }

    /// The class whose price counts where this one has none.
    pub(crate) const fn parent(self) -> Option<Self> {
        match self {
            Self::CachedInput | Self::CacheWrite | Self::InputAudio | Self::InputImage => {
                Some(Self::Input)
            }
            Self::Reasoning | Self::OutputAudio | Self::OutputImage => Some(Self::Output),
            Self::Input | Self::Output | Self::Call => None,
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }

    /// How many units of the class a call has.
    pub const fn units(self, tokens: &Tokens) -> u64 {
        match self {
            Self::Input => tokens.input,
            Self::CachedInput => tokens.cached_input,
            Self::CacheWrite => tokens.cache_write,
            Self::Output => tokens.output,
            Self::Reasoning => tokens.reasoning,
            Self::InputAudio => tokens.input_audio,
            Self::InputImage => tokens.input_image,
            Self::OutputAudio => tokens.output_audio,
            Self::OutputImage => tokens.output_image,
            Self::Call => 1,
        }
    }
}

/// A set of classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(u16);

impl Classes {
    const INPUT: u16 = Class::Input.bit()
        | Class::CachedInput.bit()
        | Class::CacheWrite.bit()
        | Class::InputAudio.bit()
        | Class::InputImage.bit();
    const OUTPUT: u16 = Class::Output.bit()
        | Class::Reasoning.bit()
        | Class::OutputAudio.bit()
        | Class::OutputImage.bit();
    const MEDIA: u16 = Class::InputAudio.bit()
        | Class::InputImage.bit()
        | Class::OutputAudio.bit()
        | Class::OutputImage.bit();

    /// The set with one class more.
    #[must_use]
    pub const fn with(self, class: Class) -> Self {
        Self(self.0 | class.bit())
    }

    /// The class is in the set.
    pub const fn has(self, class: Class) -> bool {
        self.0 & class.bit() != 0
    }

    /// Nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The classes in the set.
    pub fn iter(self) -> impl Iterator<Item = Class> {
        Class::ALL.into_iter().filter(move |class| self.has(*class))
    }

    /// The units of a call that belong to the set.
    pub(crate) fn units(self, tokens: &Tokens) -> u64 {
        self.iter().fold(0, |sum, class| sum.saturating_add(class.units(tokens)))
    }

    /// The set without the kinds of media that a call does not have: most have none.
    pub(crate) fn told_of(self, tokens: &Tokens) -> Self {
        let there = |class: &Class| class.bit() & Self::MEDIA == 0 || class.units(tokens) > 0;
        self.iter().filter(there).collect()
    }

    /// The most units that a call within these bounds has in the set.
    pub(crate) const fn most(self, input: u64, output: u64) -> u64 {
        let mut most = self.has(Class::Call) as u64;
        if self.0 & Self::INPUT != 0 {
            most = most.saturating_add(input);
        }
        if self.0 & Self::OUTPUT != 0 {
            most = most.saturating_add(output);
        }
        most
    }

    /// Which bounds the set's units come under: two sets of one side share them.
    pub(crate) const fn side(self) -> u8 {
        let input = (self.0 & Self::INPUT != 0) as u8;
        let output = (self.0 & Self::OUTPUT != 0) as u8;
        let call = self.has(Class::Call) as u8;
        input | output << 1 | call << 2
    }
}

impl FromIterator<Class> for Classes {
    fn from_iter<I: IntoIterator<Item = Class>>(classes: I) -> Self {
        classes.into_iter().fold(Self::default(), Self::with)
    }
}

impl fmt::Display for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, class) in self.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { "+" }, class.as_str())?;
        }
        Ok(())
    }
}

/// One class is written as its name, several as a list.
impl Serialize for Classes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut classes = self.iter();
        if let (Some(only), None) = (classes.next(), classes.next()) {
            return serializer.serialize_str(only.as_str());
        }
        let mut list = serializer.serialize_seq(None)?;
        self.iter().try_for_each(|class| list.serialize_element(class.as_str()))?;
        list.end()
    }
}
