use super::*;
use crate::decode::cilium::test_data::{ETHERNET, hex, ipv4_tcp, ipv6, udp_ipv4};

fn read(bytes: &[u8]) -> Result<Packet, PacketError> {
    decode(bytes, Start::Ethernet, None)
}

fn frame(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn a_tcp_packet_gives_all_headers() {
    let packet = read(&ipv4_tcp(0x12)).unwrap();
    assert_eq!(packet.ethernet.unwrap().source, [2, 0, 0, 0, 0, 2]);
    assert_eq!(
        packet.addresses(),
        (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()))
    );
    assert_eq!(
        packet.l4,
        Some(L4::Tcp {
            source_port: 8080,
            destination_port: 80,
            flags: Some(TcpFlags(0x12))
        })
    );
}

#[test]
fn every_prefix_is_an_error_or_a_smaller_packet() {
    let whole = ipv4_tcp(0x12);
    assert_eq!(read(&[]).unwrap(), Packet::default());
    for end in 1..whole.len() {
        match read(&whole[..end]) {
            Err(PacketError { layer: "Ethernet" }) => assert!(end < 14),
            Ok(packet) if end == 14 => {
                assert_eq!((packet.ip, packet.summary), (None, Summary::Ethernet))
            }
            Err(PacketError { layer: "IPv4" }) => assert!((15..34).contains(&end)),
            Ok(packet) if end == 34 => {
                assert_eq!((packet.l4, packet.summary), (None, Summary::Ipv4))
            }
            Err(PacketError { layer: "TCP" }) => assert!((35..54).contains(&end)),
            other => panic!("{end}: {other:?}"),
        }
    }
}

#[test]
fn a_layer_3_device_has_no_ethernet_header() {
    let whole = ipv4_tcp(2);
    let packet = decode(&whole[14..], Start::Ipv4, None).unwrap();
    assert_eq!(
        (packet.ethernet, packet.l4.unwrap().ports()),
        (None, (8080, 80))
    );
    let packet = decode(&ipv6(17, &[0, 53, 0, 54, 0, 8, 0, 0]), Start::Ipv6, None).unwrap();
    assert_eq!(packet.ip.unwrap().version, IpVersion::IPv6);
    assert_eq!(packet.l4.unwrap().ports(), (53, 54));
}

#[test]
fn a_vlan_tag_ends_the_walk_without_an_error() {
    let mut bytes = ipv4_tcp(2);
    bytes[12..14].copy_from_slice(&[0x81, 0]);
    let packet = read(&bytes).unwrap();
    assert_eq!((packet.ip, packet.summary), (None, Summary::Ethernet));
}

#[test]
fn a_fragment_ends_at_its_ip_header() {
    for flags in [[0x20, 0], [0, 1]] {
        let mut bytes = ipv4_tcp(2);
        bytes[20..22].copy_from_slice(&flags);
        let packet = read(&bytes).unwrap();
        assert_eq!((packet.l4, packet.summary), (None, Summary::Ipv4));
    }
}

#[test]
fn of_nested_ip_headers_the_innermost_wins() {
    let inner = ipv4_tcp(2);
    let mut outer = ipv4_tcp(2)[..34].to_vec();
    outer[23] = 4;
    outer[16..18].copy_from_slice(&[0, 60]);
    outer[26..30].copy_from_slice(&[9, 9, 9, 9]);
    let packet = read(&frame(&[&outer, &inner[14..]])).unwrap();
    assert_eq!(packet.addresses().0, Some([10, 0, 0, 1].into()));
    assert_eq!(packet.l4.unwrap().ports(), (8080, 80));
}

#[test]
fn malformed_lengths_are_errors() {
    let with = |at: usize, value: u8| {
        let mut bytes = ipv4_tcp(2);
        bytes[at] = value;
        read(&bytes)
    };
    assert_eq!(
        with(14, 0x44),
        bad("IPv4"),
        "header length below five words"
    );
    assert_eq!(
        with(14, 0x4f),
        bad("IPv4"),
        "header length beyond the total length"
    );
    assert_eq!(with(17, 19), bad("IPv4"), "total length below twenty");
    assert_eq!(with(46, 0x40), bad("TCP"), "data offset below five words");
    assert_eq!(with(46, 0x60), bad("TCP"), "data offset beyond the packet");
    assert!(with(17, 0).is_ok(), "total length zero");
}

#[test]
fn options_are_checked() {
    assert!(tcp_options_are_sound(&hex("020405b4 01 0303 07 00")));
    assert!(!tcp_options_are_sound(&hex("0201")));
    assert!(!tcp_options_are_sound(&hex("0205ff")));
    assert!(!tcp_options_are_sound(&hex("08")));
    assert!(ipv4_options_are_sound(&hex("01 94040000 00ff")));
    assert!(!ipv4_options_are_sound(&hex("9402")));
}

#[test]
fn hop_by_hop_options_belong_to_the_ipv6_header() {
    let udp = [0, 53, 0, 54, 0, 8, 0, 0];
    let options = hex("11 00 0502 0000 0100");
    let packet = decode(&ipv6(0, &frame(&[&options, &udp])), Start::Ipv6, None).unwrap();
    assert_eq!(packet.l4.unwrap().ports(), (53, 54));
    assert_eq!(
        decode(&ipv6(0, &options[..7]), Start::Ipv6, None),
        bad("IPv6")
    );
    // Other extension headers end the walk.
    let packet = decode(&ipv6(60, &frame(&[&options, &udp])), Start::Ipv6, None).unwrap();
    assert_eq!((packet.l4, packet.summary), (None, Summary::Ipv6));
}

#[test]
fn the_other_protocols_of_layer_4() {
    let of = |protocol, bytes: &str| {
        decode(&ipv6(protocol, &hex(bytes)), Start::Ipv6, None).map(|packet| packet.l4.unwrap())
    };
    assert_eq!(
        of(132, "0001 0002 00000000 00000000 02000004"),
        Ok(L4::Sctp {
            source_port: 1,
            destination_port: 2,
            chunk_type: SctpChunkType::INIT_ACK
        })
    );
    assert_eq!(of(132, "0001 0002 00000000 000000"), bad("SCTP"));
    assert_eq!(of(58, "8000 0000"), Ok(L4::Icmpv6 { kind: 128, code: 0 }));
    assert_eq!(of(58, "8000 00"), bad("ICMPv6"));
    assert_eq!(
        of(1, "0303 0000 00000000"),
        Ok(L4::Icmpv4 { kind: 3, code: 3 })
    );
    assert_eq!(of(1, "0303 0000 000000"), bad("ICMPv4"));
    assert_eq!(
        of(112, "21 07 64 01 00 01 0000 0a000001"),
        Ok(L4::Vrrp {
            kind: 1,
            vrid: 7,
            priority: 100
        })
    );
    assert_eq!(of(112, "21 07 64 02 00 01 0000 0a000001"), bad("VRRP"));
    assert_eq!(of(112, "22 07 64 01 00 01 0000 0a000001"), bad("VRRP"));
    assert_eq!(
        of(2, "11 00 0000 e0000001"),
        Ok(L4::Igmp {
            kind: 0x11,
            group_address: [224, 0, 0, 1].into()
        })
    );
    assert_eq!(of(2, "11 00 0000 e00000"), bad("IGMP"));
    assert_eq!(of(17, "0001 0002 0007 0000"), bad("UDP"));
}

#[test]
fn a_vxlan_packet_speaks_of_its_inner_packet() {
    let outer = udp_ipv4(8472, &frame(&[&hex("08000000 00002a00"), &ipv4_tcp(2)]));
    let packet = decode(&outer, Start::Ethernet, Some(TunnelProtocol::VXLAN)).unwrap();
    let tunnel = packet.tunnel.unwrap();
    assert_eq!((tunnel.protocol, tunnel.vni), (TunnelProtocol::VXLAN, 42));
    assert_eq!(tunnel.ip.unwrap().source, Some([192, 168, 0, 1].into()));
    assert_eq!(tunnel.l4.unwrap().ports().1, 8472);
    assert_eq!(packet.l4.unwrap().ports(), (8080, 80));
    // Without the flag the same bytes are a UDP packet.
    let packet = read(&outer).unwrap();
    assert_eq!((packet.tunnel, packet.l4.unwrap().ports().1), (None, 8472));
}

#[test]
fn every_prefix_of_a_tunnel_is_an_error_or_a_smaller_packet() {
    let whole = udp_ipv4(8472, &frame(&[&hex("08000000 00002a00"), &ipv4_tcp(2)]));
    for end in 1..whole.len() {
        let result = decode(&whole[..end], Start::Ethernet, Some(TunnelProtocol::VXLAN));
        if let Ok(packet) = result {
            let inner = end.saturating_sub(50);
            assert!([14, 34, 50, 64, 84].contains(&end), "{end}");
            assert_eq!(packet.tunnel.is_some(), end >= 50);
            assert_eq!(packet.ethernet.is_some(), end < 50 || inner >= 14);
        }
    }
}

#[test]
fn geneve_goes_by_its_protocol_and_skips_options() {
    let inner = &ipv4_tcp(2)[14..];
    let outer = udp_ipv4(
        6081,
        &frame(&[&hex("02000800 00000700 ffff0001 deadbeef"), inner]),
    );
    let packet = decode(&outer, Start::Ethernet, Some(TunnelProtocol::GENEVE)).unwrap();
    assert_eq!((packet.tunnel.unwrap().vni, packet.ethernet), (7, None));
    assert_eq!(packet.l4.unwrap().ports(), (8080, 80));
    let cut = udp_ipv4(6081, &hex("02000800 00000700 ffff0001"));
    assert_eq!(
        decode(&cut, Start::Ethernet, Some(TunnelProtocol::GENEVE)),
        bad("Geneve")
    );
}

#[test]
fn an_empty_or_unknown_inner_packet_leaves_the_tunnel_only() {
    for payload in [
        "08000000 00002a00",
        "02000806 00000700 ffff0001 deadbeef 00010203",
    ] {
        let protocol = if payload.starts_with("08") {
            TunnelProtocol::VXLAN
        } else {
            TunnelProtocol::GENEVE
        };
        let packet = decode(
            &udp_ipv4(8472, &hex(payload)),
            Start::Ethernet,
            Some(protocol),
        )
        .unwrap();
        assert!(packet.tunnel.is_some());
        assert_eq!((packet.ethernet, packet.ip, packet.l4), (None, None, None));
        assert_eq!(packet.summary, Summary::Empty);
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(
        bytes in proptest::collection::vec(0_u8.., 0..200),
        start in 0..3,
        overlay in 0_u8..3,
    ) {
        let start = [Start::Ethernet, Start::Ipv4, Start::Ipv6][usize::try_from(start).unwrap()];
        let result = decode(&bytes, start, Some(TunnelProtocol(overlay)));
        proptest::prop_assert!(result.is_err() || result.is_ok());
    }

    #[test]
    fn a_flipped_byte_is_read_without_panic(at in 0_usize..104, value: u8) {
        let mut bytes = udp_ipv4(8472, &[&hex("08000000 00002a00")[..], &ipv4_tcp(2)].concat());
        bytes[at] = value;
        let result = decode(&bytes, Start::Ethernet, Some(TunnelProtocol::VXLAN));
        proptest::prop_assert!(result.is_err() || result.is_ok());
    }
}

#[test]
fn the_ethernet_constant_is_a_header() {
    assert_eq!(hex(ETHERNET).len(), 14);
}
