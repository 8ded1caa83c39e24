//! What a text for people says in numbers: two texts in different words can be compared by it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// A number or an address in a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    Number(u64),
    Address(Ipv4Addr),
}

/// The values of a debug message, whatever the order: decimal numbers, hexadecimal ones (with `0x`, or with a letter among their
/// digits) and IPv4 addresses. Groups of IPv6 addresses are numbers.
pub(crate) fn values(text: &str) -> BTreeSet<Value> {
    let text = text
        // Which part of a message of two it is.
        .replace("1/2:", "")
        .replace("2/2:", "")
        // Flags that Hubble names.
        .replace("flags=OUT", "flags=1")
        .replace("flags=RELATED", "flags=2");
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.')
        .filter_map(value)
        .collect()
}

fn value(word: &str) -> Option<Value> {
    let word = word.trim_matches('.');
    if let Ok(address) = word.parse() {
        return Some(Value::Address(address));
    }
    let number = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None if word.starts_with(|c: char| c.is_ascii_hexdigit())
            && word.contains(|c: char| c.is_ascii_digit()) =>
        {
            word.parse().or_else(|_| u64::from_str_radix(word, 16))
        }
        None => return None,
    };
    number.ok().map(Value::Number)
}

#[test]
fn two_wordings_have_the_same_values_and_swapped_bytes_have_not() {
    let hubble = values("Conntrack lookup 1/2: src=10.0.0.1:40000 dst=10.0.0.2:443");
    assert_eq!(
        hubble,
        values("conntrack lookup: 10.0.0.1:40000 to 10.0.0.2:443")
    );
    assert_ne!(
        hubble,
        values("conntrack lookup: 10.0.0.1:16540 to 10.0.0.2:47873")
    );
    assert_eq!(
        values("Packet hash=255 (0xff), L4 of ICMPv6"),
        values("packet hash 0xff")
    );
    assert_eq!(
        values("src=[::ab00:1]:40000 flags=OUT"),
        values("ending in ab00:0001 port 40000, flags 1")
    );
}
