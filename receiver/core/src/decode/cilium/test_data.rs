//! Byte vectors for tests, laid out from the descriptions of Go's `encoding/gob` and of Cilium's structures.

/// Bytes from hexadecimal digits; spaces are left out.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The first message of a connection: the definition of `Payload`, type 64.
pub(crate) const PAYLOAD_DEFINITION: &str = "37 7f 03 01 01 07 5061796c6f6164 01 ff80 00 01 04 \
    01 04 44617461 01 0a 00 01 03 435055 01 04 00 01 04 4c6f7374 01 06 00 01 04 54797065 01 04 00 00 00";

/// 02:00:00:00:00:02 to 02:00:00:00:00:01, IPv4.
pub(crate) const ETHERNET: &str = "020000000001 020000000002 0800";

/// Ethernet, IPv4 10.0.0.1 to 10.0.0.2, TCP 8080 to 80: 54 bytes.
pub(crate) fn ipv4_tcp(flags: u8) -> Vec<u8> {
    let mut bytes = hex(ETHERNET);
    bytes.extend(hex("45 00 0028 0000 4000 40 06 0000 0a000001 0a000002"));
    bytes.extend(hex("1f90 0050 00000000 00000000 50"));
    bytes.push(flags);
    bytes.extend(hex("0000 0000 0000"));
    bytes
}

/// Ethernet, IPv4 192.168.0.1 to 192.168.0.2, UDP 40000 to `port`, and the payload.
pub(crate) fn udp_ipv4(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = hex(ETHERNET);
    let length = |more: usize| u16::try_from(payload.len() + more).unwrap().to_be_bytes();
    bytes.extend(hex("45 00"));
    bytes.extend(length(28));
    bytes.extend(hex("0000 4000 40 11 0000 c0a80001 c0a80002 9c40"));
    bytes.extend(port.to_be_bytes());
    bytes.extend(length(8));
    bytes.extend(hex("0000"));
    bytes.extend(payload);
    bytes
}

/// IPv6 fd00::1 to fd00::2 and the payload.
pub(crate) fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = hex("60000000");
    bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend([next_header, 64]);
    bytes.extend(hex(
        "fd000000000000000000000000000001 fd000000000000000000000000000002",
    ));
    bytes.extend(payload);
    bytes
}

/// Adds the padding of the perf ring: four bytes of its own and the data are a multiple of eight.
pub(crate) fn perf_padded(mut bytes: Vec<u8>) -> Vec<u8> {
    while bytes.len() % 8 != 4 {
        bytes.push(0xee);
    }
    bytes
}
