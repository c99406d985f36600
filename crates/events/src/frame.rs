//! What travels between instances: its kind and who sent it in a line, then the payload.

use bytes::Bytes;
use memchr::memchr;

/// One thing that an instance tells the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A message; its topic is in the channel's name.
    Message(Bytes),
    /// Some of the sender's messages are lost.
    Gap,
    /// Nothing, except that the way there and back is open.
    Beat,
}

impl Frame {
    pub(crate) fn write(&self, sender: &str) -> Vec<u8> {
        let (kind, payload): (&str, &[u8]) = match self {
            Self::Message(payload) => ("m", payload),
            Self::Gap => ("g", &[]),
            Self::Beat => ("b", &[]),
        };
        [kind.as_bytes(), sender.as_bytes(), b"\n", payload].concat()
    }

    /// The sender and what it sent; `None` for what no instance has written.
    pub(crate) fn read(bytes: &[u8]) -> Option<(&[u8], Self)> {
        let (line, payload) = bytes.split_at_checked(memchr(b'\n', bytes)?)?;
        let (kind, sender) = line.split_first()?;
        let payload = payload.get(1..)?;
        let frame = match (kind, payload) {
            (b'm', _) => Self::Message(Bytes::copy_from_slice(payload)),
            (b'g', []) => Self::Gap,
            (b'b', []) => Self::Beat,
            _ => return None,
        };
        Some((sender, frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_written_and_rubbish_is_none() {
        let message = |text: &'static str| Frame::Message(Bytes::from_static(text.as_bytes()));
        for frame in [message("x\ny"), message(""), Frame::Gap, Frame::Beat] {
            let written = frame.write("me");
            assert_eq!(Frame::read(&written), Some((b"me".as_slice(), frame)));
            assert_eq!(Frame::read(&written[..3]), None);
        }
        for rubbish in ["", "\n", "x", "xme\n", "gme\nmore", "bme\n\n"] {
            assert_eq!(Frame::read(rubbish.as_bytes()), None, "{rubbish:?}");
        }
    }
}
