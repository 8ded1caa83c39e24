//! Event UUIDs: 16 random bytes into the version 4 form of RFC 9562 and its text, and back.

use std::fmt;

/// A UUID of version 4, shown in the usual form of 36 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Uuid([u8; 16]);

/// Where each byte's two digits stand in the usual form.
const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

impl Uuid {
    /// From random bytes: version and variant bits are put in their places.
    #[must_use]
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// The usual form.
    #[must_use]
    pub fn text(self) -> [u8; 36] {
        // Made at once: formatting byte by byte costs ten times as much, and every flow has one.
        let mut text = [b'-'; 36];
        for (place, byte) in PLACES.into_iter().zip(self.0) {
            text[place] = b"0123456789abcdef"[usize::from(byte >> 4)];
            text[place + 1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        text
    }

    /// Reads the form of 36 characters, in either case, of any version.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let mut digits = text.bytes().enumerate().filter_map(|(i, b)| match (i, b) {
            (8 | 13 | 18 | 23, b'-') => None,
            _ => Some(char::from(b).to_digit(16)),
        });
        for byte in &mut bytes {
            let (high, low) = (digits.next()??, digits.next()??);
            *byte = u8::try_from(high * 16 + low).ok()?;
        }
        (text.len() == 36 && digits.next().is_none()).then_some(Self(bytes))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_become_version_4() {
        let uuid = Uuid::from_random([0xff; 16]);
        assert_eq!(uuid.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(
            Uuid::parse("FFFFFFFF-ffff-4fff-bfff-ffffffffffff"),
            Some(uuid)
        );
        for wrong in [
            "",
            "ffffffff",
            "ffffffff-ffff-4fff-bfff-fffffffffff",
            "ffffffff-ffff-4fff-bfff-ffffffffffffff",
            "fffffffffffff-4fff-bfff-ffffffffffffff",
        ] {
            assert_eq!(Uuid::parse(wrong), None, "{wrong}");
        }
    }
}
