//! Addresses and numbers to text, without allocation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

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
#[derive(Clone, Copy, Debug)]
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
            IpAddr::V4(ip) => text.push_v4(ip),
            IpAddr::V6(ip) => text.push_v6(ip),
        }
        text
    }

    #[inline]
    fn push_v4(&mut self, ip: Ipv4Addr) {
        for octet in ip.octets() {
            let (digits, count) = OCTETS[usize::from(octet)];
            let at = usize::from(self.len);
            self.bytes[at..at + 3].copy_from_slice(&digits);
            self.bytes[at + usize::from(count)] = b'.';
            self.len += count + 1;
        }
        // The dot behind the last.
        self.len -= 1;
    }

    /// The standard library's formatter takes four times as long.
    fn push_v6(&mut self, ip: Ipv6Addr) {
        if let Some(ip) = ip.to_ipv4_mapped() {
            self.push(b"::ffff:");
            return self.push_v4(ip);
        }
        let groups = ip.segments();
        let zeros = longest_zeros(&groups);
        let mut number = 0;
        while number < groups.len() {
            if number == zeros.start && !zeros.is_empty() {
                self.push(b"::");
                number = zeros.end;
                continue;
            }
            if number > 0 && number != zeros.end {
                self.push(b":");
            }
            self.push_hex(groups[number]);
            number += 1;
        }
    }

    /// A group of an IPv6 address: without leading zeros.
    #[inline]
    fn push_hex(&mut self, group: u16) {
        let digits = (group | 1).ilog2() / 4 + 1;
        for place in (0..digits).rev() {
            let digit = usize::from(group >> (4 * place) & 15);
            self.push(&[b"0123456789abcdef"[digit]]);
        }
    }

    #[inline]
    fn push<const N: usize>(&mut self, characters: &[u8; N]) {
        let at = usize::from(self.len);
        self.bytes[at..at + N].copy_from_slice(characters);
        self.len += N as u8;
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

    /// The first `length` of some ASCII characters, `N` at most.
    #[must_use]
    #[inline]
    pub fn first<const N: usize>(length: usize, characters: [u8; N]) -> Self {
        const { assert!(N <= LEN_MAX, "there is room for so many") };
        let mut text = Self::EMPTY;
        text.bytes[..N].copy_from_slice(&characters);
        text.len = length.min(N) as u8;
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

/// The longest run of two or more groups that are zero, the first of several; empty if there is none.
fn longest_zeros(groups: &[u16; 8]) -> Range<usize> {
    let (mut longest, mut run) = (0..0, 0..0);
    for (number, group) in groups.iter().enumerate() {
        if *group == 0 {
            run.end = number + 1;
        } else {
            run = number + 1..number + 1;
        }
        if run.len() > longest.len() {
            longest = run.clone();
        }
    }
    if longest.len() < 2 { 0..0 } else { longest }
}

impl<const N: usize> From<[u8; N]> for Ascii {
    #[inline]
    fn from(characters: [u8; N]) -> Self {
        Self::first(N, characters)
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
        /// Groups are mostly zero, so that every kind of run occurs.
        #[test]
        fn zeros_are_left_out_as_the_standard_library_does(
            groups in proptest::array::uniform8(prop_oneof![3 => Just(0_u16), 1 => Just(0xffff), 1 => any::<u16>()]),
        ) {
            let ip = IpAddr::from(groups);
            prop_assert_eq!(text(Ascii::ip(ip)), ip.to_string());
        }

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
