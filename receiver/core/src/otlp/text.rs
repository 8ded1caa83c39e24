//! Addresses and numbers to text, without allocation.

use std::fmt::Write as _;
use std::net::IpAddr;

/// Room for the longest text held, an IPv6 address with an embedded IPv4 address (45), in whole pieces of 16.
const LEN_MAX: usize = 48;
/// Digits of the largest number.
const DIGITS: usize = 10;
/// What is copied at once: most texts are shorter.
const PIECE: usize = 16;

/// The decimal digits of every byte, and how many they are.
const OCTETS: [([u8; 3], u8); 256] = {
    let mut all = [([0; 3], 0); 256];
    let mut n = 0;
    while n < 256 {
        let (hundreds, tens, ones) = (n / 100, n / 10 % 10, n % 10);
        all[n] = if n >= 100 {
            (
                [b'0' + hundreds as u8, b'0' + tens as u8, b'0' + ones as u8],
                3,
            )
        } else if n >= 10 {
            ([b'0' + tens as u8, b'0' + ones as u8, b'.'], 2)
        } else {
            ([b'0' + ones as u8, b'.', b'.'], 1)
        };
        n += 1;
    }
    all
};

/// A short text of ASCII characters.
#[derive(Clone, Copy)]
pub struct Ascii {
    bytes: [u8; LEN_MAX],
    /// Where it starts; at most [`DIGITS`].
    start: u8,
    len: u8,
}

impl Ascii {
    const EMPTY: Self = Self {
        bytes: [0; LEN_MAX],
        start: 0,
        len: 0,
    };

    /// An address as RFC 5952 writes it.
    #[must_use]
    #[inline]
    pub fn ip(ip: IpAddr) -> Self {
        let mut text = Self::EMPTY;
        match ip {
            IpAddr::V4(ip) => {
                for octet in ip.octets() {
                    let (digits, count) = OCTETS[usize::from(octet)];
                    let at = usize::from(text.len);
                    text.bytes[at..at + 3].copy_from_slice(&digits);
                    text.bytes[at + usize::from(count)] = b'.';
                    text.len += count + 1;
                }
                // The dot behind the last.
                text.len -= 1;
            }
            IpAddr::V6(ip) => {
                // 45 bytes hold every address, so the write cannot fail; if it did, the text would be cut, not wrong.
                let _cut = write!(text, "{ip}").is_err();
            }
        }
        text
    }

    /// A number in decimal.
    #[must_use]
    #[inline]
    pub fn decimal(mut value: u32) -> Self {
        let mut text = Self::EMPTY;
        let mut at = DIGITS;
        loop {
            at -= 1;
            text.bytes[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        text.start = at as u8;
        text.len = (DIGITS - at) as u8;
        text
    }

    /// Its characters.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        let start = usize::from(self.start);
        &self.bytes[start..start + usize::from(self.len)]
    }

    /// Its characters, as text.
    #[must_use]
    #[inline]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Writes it behind what is there: in pieces of a fixed length, which is faster than a copy of just so many bytes.
    #[inline(always)]
    pub fn append(&self, out: &mut Vec<u8>) {
        let end = out.len() + usize::from(self.len);
        if usize::from(self.len) <= PIECE {
            let start = usize::from(self.start);
            out.extend_from_slice(&self.bytes[start..start + PIECE]);
        } else {
            out.extend_from_slice(&self.bytes);
        }
        out.truncate(end);
    }
}

impl std::fmt::Write for Ascii {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let start = usize::from(self.len);
        let room = self
            .bytes
            .get_mut(start..start + text.len())
            .ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len() as u8;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(ascii: Ascii) -> String {
        String::from_utf8(ascii.as_bytes().to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn addresses_and_numbers_are_what_the_standard_library_writes(v4: [u8; 4], v6: [u8; 16], number: u32) {
            let (v4, v6) = (IpAddr::from(v4), IpAddr::from(v6));
            prop_assert_eq!(text(Ascii::ip(v4)), v4.to_string());
            prop_assert_eq!(text(Ascii::ip(v6)), v6.to_string());
            prop_assert_eq!(text(Ascii::decimal(number)), number.to_string());
        }
    }

    #[test]
    fn the_longest_address_fits() {
        let ip: IpAddr = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        assert_eq!(text(Ascii::ip(ip)), ip.to_string());
        assert_eq!(text(Ascii::decimal(u32::MAX)), "4294967295");
        assert_eq!(text(Ascii::decimal(0)), "0");
    }
}
