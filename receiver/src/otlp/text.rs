//! Addresses and numbers to text, without allocation.

use std::fmt::Write as _;
use std::net::IpAddr;

/// The longest text held: an IPv6 address with an embedded IPv4 address.
const LEN_MAX: usize = 45;

/// A short text of ASCII characters.
#[derive(Clone, Copy)]
pub struct Ascii {
    bytes: [u8; LEN_MAX],
    len: u8,
}

impl Ascii {
    const EMPTY: Self = Self {
        bytes: [0; LEN_MAX],
        len: 0,
    };

    /// An address as RFC 5952 writes it.
    #[must_use]
    #[inline]
    pub fn ip(ip: IpAddr) -> Self {
        let mut text = Self::EMPTY;
        match ip {
            IpAddr::V4(ip) => {
                for (i, octet) in ip.octets().into_iter().enumerate() {
                    if i > 0 {
                        text.push(b'.');
                    }
                    if octet >= 100 {
                        text.push(b'0' + octet / 100);
                    }
                    if octet >= 10 {
                        text.push(b'0' + octet / 10 % 10);
                    }
                    text.push(b'0' + octet % 10);
                }
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
        let mut digits = [0; 10];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        let mut text = Self::EMPTY;
        text.len = (digits.len() - at) as u8;
        text.bytes[..digits.len() - at].copy_from_slice(&digits[at..]);
        text
    }

    /// Its characters.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
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
