//! Layouts of every version, laid out by hand from the structures; 1.18 and 1.19 are proven against the original elsewhere.

use std::net::IpAddr;

use super::test_data::{PAYLOAD_DEFINITION, hex, ipv4_tcp, perf_padded};
use super::*;
use crate::decode::cilium::trace::Reason;
use crate::model::flow::texts::FileNumbering;
use crate::model::flow::{TrafficDirection, TunnelProtocol};

const OPTIONS: Options = Options { agent: None };

/// Type, subtype, endpoint 77, hash 1, original length 0x200, captured length, version.
fn header(kind: u8, sub_type: u8, captured: usize, version: u8) -> Vec<u8> {
    let mut bytes = vec![kind, sub_type, 77, 0, 1, 0, 0, 0, 0, 2, 0, 0];
    bytes.extend(u16::try_from(captured).unwrap().to_le_bytes());
    bytes.extend([version, 0]);
    bytes
}

fn drop_bytes(version: u8) -> Vec<u8> {
    let mut bytes = header(1, 133, 54, version);
    bytes.extend(hex("e9030000 02000000 4e000000 2a00 65 fe 03000000"));
    if version >= 2 {
        bytes.extend(hex("01 000000"));
    }
    if version >= 3 {
        bytes.extend(hex("2a00000000000000"));
    }
    bytes.extend(ipv4_tcp(2));
    perf_padded(bytes)
}

fn trace_bytes(version: u8) -> Vec<u8> {
    let mut bytes = header(4, 0, 54, version);
    bytes.extend(hex("e9030000 02000000 4e00 82 00 03000000"));
    if version >= 1 {
        bytes.extend(hex("c0000209 000000000000000000000000"));
    }
    if version >= 2 {
        bytes.extend(hex("2a00000000000000"));
    }
    bytes.extend(ipv4_tcp(2));
    perf_padded(bytes)
}

fn verdict_bytes(since_1_19: bool) -> Vec<u8> {
    let mut bytes = header(5, 0, 54, 1);
    bytes.extend(hex("e9030000 7bffffff 5000 06 51 01 000000"));
    if since_1_19 {
        bytes.extend(hex("07000000 00000000"));
    }
    bytes.extend(ipv4_tcp(2));
    perf_padded(bytes)
}

fn capture_bytes() -> Vec<u8> {
    let mut bytes = header(3, 8, 54, 1);
    bytes.extend(hex("1f900000 00000000"));
    bytes.extend(ipv4_tcp(2));
    perf_padded(bytes)
}

fn sock_bytes(since_1_19: bool, address: &str) -> Vec<u8> {
    let ipv6 = u8::from(address.contains("2001"));
    let bytes = if since_1_19 {
        let rest = hex("5000 0000 1122334455667788 0a00000000000000");
        [vec![7, 2, 1, ipv6], rest, hex(address)].concat()
    } else {
        let rest = hex("5000 1122334455667788 0a00000000000000");
        [vec![7, 2], hex(address), rest, vec![1, ipv6]].concat()
    };
    perf_padded(bytes)
}

const V4: &str = "0a000009 000000000000000000000000";
const ONE: &str = "01010101 000000000000000000000000";
const V6: &str = "20010db8 000000000000000000000001";

#[test]
fn drops_of_every_version() {
    for (version, numbering) in [
        (0, FileNumbering::V1),
        (1, FileNumbering::V1),
        (2, FileNumbering::V2),
        (3, FileNumbering::V3),
    ] {
        let bytes = drop_bytes(version);
        let drop = drop::decode(&bytes, &OPTIONS).unwrap();
        assert_eq!(
            (drop.reason, drop.endpoint, drop.hash, drop.original_length),
            (133, 77, 1, 512)
        );
        assert_eq!(
            (
                drop.source_identity,
                drop.destination_identity,
                drop.destination_endpoint
            ),
            (1001, 2, 78)
        );
        assert_eq!(
            (drop.line, drop.file, drop.extended_error, drop.interface),
            (42, 101, -2, 3)
        );
        assert_eq!(
            (drop.numbering, drop.flags.ipv6()),
            (numbering, version >= 2)
        );
        assert_eq!(drop.ip_trace_id, if version >= 3 { 42 } else { 0 });
        assert_eq!(drop.packet, ipv4_tcp(2), "version {version}");
    }
}

#[test]
fn traces_of_every_version() {
    for version in 0..=2 {
        let bytes = trace_bytes(version);
        let trace = trace::decode(&bytes).unwrap();
        assert_eq!(
            (trace.observation_point, trace.endpoint, trace.interface),
            (0, 77, 3)
        );
        assert_eq!((trace.reason, trace.encrypted), (Reason::REPLY, true));
        let original = (version >= 1).then(|| IpAddr::from([192, 0, 2, 9]));
        assert_eq!(trace.original_address, original);
        assert_eq!(trace.ip_trace_id, if version >= 2 { 42 } else { 0 });
        assert_eq!(trace.packet, ipv4_tcp(2), "version {version}");
    }
}

#[test]
fn a_newer_version_is_read_as_far_as_it_is_known() {
    let mut bytes = trace_bytes(2);
    bytes[14] = 9;
    bytes.splice(56..56, [0; 16]);
    assert_eq!(trace::decode(&bytes).unwrap().packet, ipv4_tcp(2));
    let mut bytes = drop_bytes(3);
    bytes[15] = 1;
    bytes.splice(48..48, [0; 8]);
    assert_eq!(drop::decode(&bytes, &OPTIONS).unwrap().packet, ipv4_tcp(2));
}

#[test]
fn policy_verdicts_are_told_apart_by_length() {
    for since_1_19 in [false, true] {
        let bytes = verdict_bytes(since_1_19);
        let verdict = policy_verdict::decode(&bytes, &OPTIONS).unwrap();
        assert_eq!(
            (
                verdict.remote_identity,
                verdict.verdict,
                verdict.destination_port
            ),
            (1001, -133, 80)
        );
        assert_eq!(
            (verdict.direction, verdict.match_type),
            (TrafficDirection::INGRESS, 2)
        );
        assert_eq!(
            (verdict.audited, verdict.start, verdict.auth_type),
            (true, Start::Ethernet, 1)
        );
        assert_eq!(verdict.cookie, if since_1_19 { 7 } else { 0 });
        assert_eq!(verdict.packet, ipv4_tcp(2));
        let known = Options {
            agent: Some((1, if since_1_19 { 20 } else { 14 })),
        };
        assert_eq!(policy_verdict::decode(&bytes, &known).unwrap(), verdict);
    }
}

#[test]
fn socket_traces_are_told_apart_by_plausibility() {
    for since_1_19 in [false, true] {
        for (text, address) in [(V4, "10.0.0.9"), (ONE, "1.1.1.1"), (V6, "2001:db8::1")] {
            let bytes = sock_bytes(since_1_19, text);
            let sock = trace_sock::decode(&bytes, &OPTIONS).unwrap();
            assert_eq!(
                sock.address,
                address.parse::<IpAddr>().unwrap(),
                "{since_1_19}"
            );
            assert_eq!((sock.xlate_point, sock.protocol, sock.port), (2, 1, 80));
            assert_eq!((sock.cookie, sock.cgroup_id), (0x8877_6655_4433_2211, 10));
        }
    }
}

#[test]
fn captures_and_debug_messages_have_one_layout() {
    let bytes = capture_bytes();
    let capture = capture::decode(&bytes).unwrap();
    assert_eq!(
        (capture.sub_type, capture.arg1, capture.packet),
        (8, 0x901f, &ipv4_tcp(2)[..])
    );
    let bytes = hex("02 0f 4d00 01000000 02000000 03000000 04000000");
    let debug = debug::decode(&bytes).unwrap();
    assert_eq!(
        (debug.sub_type, debug.endpoint, debug.hash, debug.args),
        (15, 77, 1, [2, 3, 4])
    );
}

#[test]
fn the_flags_name_start_and_tunnel() {
    assert_eq!(Flags(0).start(), Start::Ethernet);
    assert_eq!(Flags(1).start(), Start::Ethernet);
    assert_eq!(Flags(2).start(), Start::Ipv4);
    assert_eq!(Flags(3).start(), Start::Ipv6);
    assert_eq!(Flags(0).overlay(), None);
    assert_eq!(Flags(4).overlay(), Some(TunnelProtocol::VXLAN));
    assert_eq!(Flags(8).overlay(), Some(TunnelProtocol::GENEVE));
}

#[test]
fn padding_without_a_packet_is_no_packet() {
    let mut bytes = header(4, 0, 0, 1);
    bytes.resize(48, 0);
    assert!(
        trace::decode(&perf_padded(bytes))
            .unwrap()
            .packet
            .is_empty()
    );
}

#[test]
fn every_prefix_is_an_error_or_a_smaller_event() {
    let mut all: Vec<Vec<u8>> = (0..=3).map(drop_bytes).collect();
    all.extend((0..=2).map(trace_bytes));
    all.extend([false, true].map(verdict_bytes));
    all.extend([false, true].map(|new| sock_bytes(new, V4)));
    all.extend([
        capture_bytes(),
        hex("02 0f 4d00 01000000 02000000 03000000 04000000"),
    ]);
    for bytes in all {
        let whole = event(&bytes, &OPTIONS, &mut Definitions::default()).unwrap();
        for end in 0..bytes.len() {
            match event(&bytes[..end], &OPTIONS, &mut Definitions::default()) {
                Err(EventError::Empty) => assert_eq!(end, 0),
                Err(EventError::Short { found, wanted, .. }) => {
                    assert!(found == end && wanted > end)
                }
                Err(other) => panic!("{other}"),
                Ok(smaller) => assert_eq!(
                    std::mem::discriminant(&smaller),
                    std::mem::discriminant(&whole)
                ),
            }
        }
    }
}

#[test]
fn types_without_an_event_are_named() {
    for kind in [0, 6, 8, 128, 131, 255] {
        assert_eq!(
            event(&[kind; 64], &OPTIONS, &mut Definitions::default()),
            Err(EventError::UnknownType(kind))
        );
    }
}

fn payloads(stream: &[u8]) -> Vec<Result<Payload<'_>, GobError>> {
    let mut monitor = Monitor::default();
    let mut result = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        match monitor.next(rest) {
            Ok((payload, next)) => {
                result.extend(payload.map(Ok));
                rest = next;
            }
            Err(error) => {
                result.push(Err(error));
                break;
            }
        }
    }
    result
}

#[test]
fn payloads_follow_their_definition() {
    let stream = [
        hex(PAYLOAD_DEFINITION),
        hex("0d ff80 01 04 0405aabb 01 06 02 12 00"),
        hex("0b ff80 02 02 01 fe012c 01 04 00"),
        hex("0b ff80 01 01 01 01 ff80 02 12 00"),
        hex("03 ff80 00"),
        hex("0f ff80 02 01 01 fa010000000000 01 12 00"),
    ]
    .concat();
    assert_eq!(
        payloads(&stream),
        [
            Ok(Payload::Sample {
                data: &[4, 5, 0xaa, 0xbb],
                cpu: 3
            }),
            Ok(Payload::Lost { count: 300, cpu: 1 }),
            Ok(Payload::Sample {
                data: &[1],
                cpu: 64
            }),
            Ok(Payload::Unknown(0)),
            Ok(Payload::Sample { data: &[], cpu: -1 }),
        ]
    );
}

#[test]
fn a_value_that_does_not_follow_its_type_takes_no_other_with_it() {
    // A field beyond the last; bytes beyond the end; a CPU that is none.
    for wrong in [
        "04 ff80 7f 00",
        "06 ff80 01 7f 04 00",
        "08 ff80 02 fb0200000000 00",
    ] {
        let mut wrong = hex(wrong);
        wrong[0] = u8::try_from(wrong.len() - 1).unwrap();
        let good = hex("0b ff80 01 01 01 01 ff80 02 12 00");
        let stream = [hex(PAYLOAD_DEFINITION), wrong.clone(), good.clone()].concat();
        let payloads = payloads(&stream);
        assert!(
            matches!(
                payloads[..],
                [
                    Ok(Payload::Malformed(_)),
                    Ok(Payload::Sample { data: &[1], .. })
                ]
            ),
            "{payloads:?}"
        );
        // Without the definition both are lost, and a message that is cut off.
        let lost = [&wrong[..], &good, &hex(PAYLOAD_DEFINITION), &good[..5]].concat();
        assert_eq!(values_lost(&lost), 3);
    }
    assert_eq!(values_lost(&[0xf8; 64]), 1);
    assert_eq!(values_lost(&[]), 1);
}

#[test]
fn a_new_connection_may_number_and_order_its_types_anew() {
    // Type 65, fields in another order and one that nobody knows.
    let definition = "41 ff81 03 01 01 07 5061796c6f6164 01 ff82 00 01 05 \
        01 04 54797065 01 04 00 01 05 4578747261 01 0c 00 01 03 435055 01 04 00 01 04 4c6f7374 01 06 00 01 04 44617461 01 0a 00 00 00";
    let mut definition = hex(definition);
    definition[0] = u8::try_from(definition.len() - 1).unwrap();
    let stream = [
        hex(PAYLOAD_DEFINITION),
        hex("0b ff80 01 01 01 01 ff80 02 12 00"),
        definition,
        hex("0d ff82 01 12 01 02 6869 03 02 0405 00"),
        hex(PAYLOAD_DEFINITION),
        hex("0b ff80 01 01 01 01 ff80 02 12 00"),
    ]
    .concat();
    assert_eq!(
        payloads(&stream),
        [
            Ok(Payload::Sample {
                data: &[1],
                cpu: 64
            }),
            Ok(Payload::Sample {
                data: &[4, 5],
                cpu: 0
            }),
            Ok(Payload::Sample {
                data: &[1],
                cpu: 64
            }),
        ]
    );
}

#[test]
fn a_value_before_its_definition_ends_the_stream() {
    assert_eq!(
        payloads(&hex("03 ff80 00")),
        [Err(GobError::UnknownType(64))]
    );
    assert_eq!(payloads(&hex("05 ff80 00")), [Err(GobError::Truncated)]);
}

proptest::proptest! {
    #[test]
    fn any_event_is_read_without_panic(kind in 0_u8..9, bytes in proptest::collection::vec(0_u8.., 0..160)) {
        let bytes = [&[kind][..], &bytes].concat();
        let result = event(&bytes, &OPTIONS, &mut Definitions::default());
        proptest::prop_assert!(result.is_err() || result.is_ok());
    }
}
