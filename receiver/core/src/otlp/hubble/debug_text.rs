//! What the arguments of a debug message mean, in words of our own (`flow.DebugEvent.message`).
//!
//! The numbering is that of the datapath and the protobuf schema. (The text formatter of Cilium 1.19 and 1.20 lacks 66, and so shows the
//! texts of 66 to 68 one number off.)

use std::fmt::{self, Display};
use std::net::Ipv4Addr;

use crate::model::flow::{DebugEventType as Kind, DropReason};

/// The message.
#[must_use]
pub fn message(kind: Kind, args: [u32; 3]) -> impl Display {
    fmt::from_fn(move |f| write(f, kind, args))
}

/// The low 16 bits, from network order: ports of services and proxies, indices of reverse NAT.
const fn net16(value: u32) -> u16 {
    (value as u16).swap_bytes()
}

/// Four bytes in memory order are an IPv4 address.
fn ip4(value: u32) -> Ipv4Addr {
    Ipv4Addr::from(value.to_le_bytes())
}

/// The high and the low half: two ports that the datapath has put together in host order.
const fn halves(value: u32) -> (u16, u16) {
    ((value >> 16) as u16, value as u16)
}

const fn direction(value: u32) -> &'static str {
    match value {
        0 => "egress",
        1 => "ingress",
        2 => "service",
        _ => "unknown direction",
    }
}

fn write(f: &mut fmt::Formatter<'_>, kind: Kind, [a, b, c]: [u32; 3]) -> fmt::Result {
    match kind {
        Kind::DBG_LOCAL_DELIVERY => {
            write!(f, "local delivery to container {a}, security label {b}")
        }
        Kind::DBG_ENCAP => write!(f, "encapsulate to node {a:#x}, security label {b}"),
        Kind::DBG_LXC_FOUND => write!(
            f,
            "local container at interface {a}, security label {}",
            net16(b)
        ),
        Kind::DBG_POLICY_DENIED => write!(f, "policy would deny identity {a} to identity {b}"),
        Kind::DBG_CT_LOOKUP | Kind::DBG_CT_LOOKUP_REV => {
            let reverse = if kind == Kind::DBG_CT_LOOKUP_REV {
                "reverse "
            } else {
                ""
            };
            write!(f, "{reverse}conntrack lookup: {}", tuple(a, b))
        }
        Kind::DBG_CT_MATCH => write!(f, "conntrack hit: lifetime {a}, reverse NAT {}", net16(b)),
        Kind::DBG_CT_CREATED => write!(
            f,
            "conntrack create: {}, reverse NAT {}",
            tuple(a, b),
            net16(c)
        ),
        Kind::DBG_CT_CREATED2 => {
            write!(f, "conntrack create: {}, reverse NAT {}", ip4(a), net16(b))
        }
        Kind::DBG_ICMP6_HANDLE => write!(f, "ICMPv6 type {a}"),
        Kind::DBG_ICMP6_REQUEST => write!(f, "ICMPv6 echo request to the router at offset {a}"),
        Kind::DBG_ICMP6_NS => write!(f, "neighbour solicitation for {a:x}:{b:x}"),
        Kind::DBG_ICMP6_TIME_EXCEEDED => f.write_str("send ICMPv6 time exceeded"),
        Kind::DBG_CT_VERDICT => write!(
            f,
            "conntrack verdict {}, reverse NAT {}",
            ct_state(a),
            net16(b)
        ),
        Kind::DBG_DECAP => write!(f, "decapsulate: tunnel {a}, flow label {b:x}"),
        Kind::DBG_PORT_MAP => write!(f, "map port {a} to {b}"),
        Kind::DBG_ERROR_RET => write!(f, "function {a} returned error {b}"),
        Kind::DBG_TO_HOST => write!(f, "to the host, policy skip {a}"),
        Kind::DBG_TO_STACK => write!(f, "to the stack, policy skip {a}"),
        Kind::DBG_PKT_HASH => write!(f, "packet hash {a:#x} selects service {b}"),
        Kind::DBG_RR_BACKEND_SLOT_SEL => write!(f, "round robin: hash {a:#x} selects service {b}"),
        Kind::DBG_REV_PROXY_LOOKUP => write!(f, "reverse proxy lookup: {}", proxy(a, b, c)),
        Kind::DBG_REV_PROXY_UPDATE => write!(f, "reverse proxy update: {}", proxy(a, b, c)),
        Kind::DBG_REV_PROXY_FOUND => write!(
            f,
            "reverse proxy found: original destination {}:{b}",
            ip4(a)
        ),
        Kind::DBG_L4_POLICY => write!(f, "L4 policy: proxy port {}, {}", net16(a), direction(b)),
        Kind::DBG_NETDEV_IN_CLUSTER => {
            write!(f, "destination inside the cluster, source identity {a}")
        }
        Kind::DBG_NETDEV_ENCAP4 => write!(f, "encapsulate by {}, identity {b}", ip4(a)),
        Kind::DBG_SKIP_PROXY => write!(f, "skip the proxy, tc index {a:x}"),
        Kind::DBG_L4_CREATE => {
            let (port, protocol) = (net16(c >> 16), c & 0xff);
            write!(
                f,
                "L4 policy matched: identity {a} to {b}, port {port}, protocol {protocol}"
            )
        }
        Kind::DBG_IP_ID_MAP_FAILED4 => write!(f, "no identity for {}", ip4(a)),
        Kind::DBG_IP_ID_MAP_FAILED6 => {
            write!(f, "no identity for an IPv6 address ending in {}", p4(a))
        }
        Kind::DBG_IP_ID_MAP_SUCCEED4 => write!(f, "{} has identity {b}", ip4(a)),
        Kind::DBG_IP_ID_MAP_SUCCEED6 => {
            write!(f, "IPv6 address ending in {} has identity {b}", p4(a))
        }
        Kind::DBG_LB_STALE_CT => write!(
            f,
            "stale conntrack entry: its reverse NAT {b}, the service's {a}"
        ),
        Kind::DBG_INHERIT_IDENTITY => write!(f, "identity {a} taken from the stack"),
        Kind::DBG_SK_LOOKUP4 => write!(f, "socket lookup: {}", addresses4(a, b, c)),
        Kind::DBG_SK_LOOKUP6 => write!(f, "socket lookup: {}", addresses6(a, b, c)),
        Kind::DBG_SK_ASSIGN if a == 0 => f.write_str("socket assigned"),
        Kind::DBG_SK_ASSIGN => write!(f, "socket not assigned, errno {a}"),
        Kind::DBG_L7_LB => write!(
            f,
            "L7 load balancing: {} to {}, proxy port {c}",
            ip4(a),
            ip4(b)
        ),
        Kind::DBG_SKIP_POLICY => f.write_str("policy skipped"),
        _ => load_balancing(f, kind, [a, b, c]),
    }
}

fn load_balancing(f: &mut fmt::Formatter<'_>, kind: Kind, [a, b, c]: [u32; 3]) -> fmt::Result {
    match kind {
        Kind::DBG_LB6_LOOKUP_FRONTEND => write!(
            f,
            "service lookup: address ending in {a:x}, port {}",
            net16(b)
        ),
        Kind::DBG_LB4_LOOKUP_FRONTEND => write!(f, "service lookup: {}:{}", ip4(a), net16(b)),
        Kind::DBG_LB6_LOOKUP_FRONTEND_FAIL => write!(f, "no service for address words {a:x} {b:x}"),
        Kind::DBG_LB4_LOOKUP_FRONTEND_FAIL => f.write_str("no service"),
        Kind::DBG_LB6_LOOKUP_BACKEND_SLOT | Kind::DBG_LB4_LOOKUP_BACKEND_SLOT => {
            write!(f, "backend lookup: slot {a}, port {}", net16(b))
        }
        Kind::DBG_LB6_LOOKUP_BACKEND_SLOT_SUCCESS => {
            write!(
                f,
                "backend found: address ending in {a:x}, port {}",
                net16(b)
            )
        }
        Kind::DBG_LB4_LOOKUP_BACKEND_SLOT_SUCCESS => {
            write!(f, "backend found: {}:{}", ip4(a), net16(b))
        }
        Kind::DBG_LB6_LOOKUP_BACKEND_SLOT_V2_FAIL | Kind::DBG_LB4_LOOKUP_BACKEND_SLOT_V2_FAIL => {
            write!(f, "no backend in slot {a}, port {}", net16(b))
        }
        Kind::DBG_LB6_LOOKUP_BACKEND_FAIL | Kind::DBG_LB4_LOOKUP_BACKEND_FAIL => {
            write!(f, "no backend {a}")
        }
        Kind::DBG_LB6_REVERSE_NAT_LOOKUP | Kind::DBG_LB4_REVERSE_NAT_LOOKUP => {
            write!(f, "reverse NAT lookup: index {}", net16(a))
        }
        Kind::DBG_LB6_REVERSE_NAT => {
            write!(f, "reverse NAT: address ending in {a:x}, port {}", net16(b))
        }
        Kind::DBG_LB4_REVERSE_NAT => write!(f, "reverse NAT: {}:{}", ip4(a), net16(b)),
        Kind::DBG_LB4_LOOPBACK_SNAT => write!(f, "loopback SNAT: {} to {}", ip4(a), ip4(b)),
        Kind::DBG_LB4_LOOPBACK_SNAT_REV => {
            write!(f, "reverse loopback SNAT: {} to {}", ip4(a), ip4(b))
        }
        Kind::DBG_LB6_LOOPBACK_SNAT => {
            write!(f, "loopback SNAT: addresses ending in {a:x} to {b:x}")
        }
        Kind::DBG_LB6_LOOPBACK_SNAT_REV => write!(
            f,
            "reverse loopback SNAT: addresses ending in {a:x} to {b:x}"
        ),
        Kind::DBG_CT_LOOKUP4 => write!(f, "conntrack lookup: {}", ip4(a)),
        Kind::DBG_CT_LOOKUP4_1 => write!(f, "conntrack lookup: {}", addresses4(a, b, c)),
        Kind::DBG_CT_LOOKUP6_1 => write!(f, "conntrack lookup: {}", addresses6(a, b, c)),
        Kind::DBG_CT_LOOKUP4_2 | Kind::DBG_CT_LOOKUP6_2 => {
            let (next_header, flags) = (a >> 8, a & 0xff);
            write!(
                f,
                "conntrack lookup: next header {next_header}, flags {flags}, direction {b} ({}), scope {c}",
                direction(b)
            )
        }
        Kind::DBG_CT_CREATED4 => write!(
            f,
            "conntrack create: proxy port {}, reverse NAT {}, source identity {b}, service address {}",
            a >> 16,
            net16(a),
            ip4(c)
        ),
        Kind::DBG_CT_CREATED6 => write!(
            f,
            "conntrack create: proxy port {}, reverse NAT {}, source identity {b}",
            a >> 16,
            net16(a)
        ),
        Kind::DBG_GENERIC => write!(f, "{a} {b} {c}"),
        _ => write!(f, "debug message {}: {a} {b} {c}", kind.0),
    }
}

fn ct_state(value: u32) -> impl Display {
    fmt::from_fn(move |f| match value {
        0 => f.write_str("new"),
        1 => f.write_str("established"),
        2 => f.write_str("reply"),
        3 => f.write_str("related"),
        4 => f.write_str("reopened"),
        // Otherwise the datapath's return code: a negative drop reason.
        other => match u8::try_from(other.cast_signed().unsigned_abs()) {
            Ok(reason) if other.cast_signed() < 0 => write!(f, "{}", DropReason(reason.into())),
            _ => write!(f, "{other}"),
        },
    })
}

/// The last four bytes of an IPv6 address.
fn p4(value: u32) -> impl Display {
    let [a, b, c, d] = value.to_le_bytes();
    fmt::from_fn(move |f| write!(f, "{a:02x}{b:02x}:{c:02x}{d:02x}"))
}

/// Ports, and next header and flags.
fn tuple(a: u32, b: u32) -> impl Display {
    let (source, destination) = halves(a);
    let (next_header, flags) = (b >> 8, b & 0xff);
    fmt::from_fn(move |f| {
        write!(
            f,
            "ports {source} to {destination}, next header {next_header}, flags {flags}"
        )
    })
}

/// Source port above, destination port below: as they stand in the packet, in network order.
fn proxy(a: u32, b: u32, c: u32) -> impl Display {
    let (source, destination) = (net16(a >> 16), net16(a));
    fmt::from_fn(move |f| {
        write!(
            f,
            "source {}, ports {source} to {destination}, next header {c}",
            ip4(b)
        )
    })
}

/// Addresses, and ports in host order: the source port in the low half. (Conntrack tuples name their ports after the replies.)
fn addresses4(a: u32, b: u32, c: u32) -> impl Display {
    let (destination_port, source_port) = halves(c);
    fmt::from_fn(move |f| {
        write!(
            f,
            "{}:{source_port} to {}:{destination_port}",
            ip4(a),
            ip4(b)
        )
    })
}

fn addresses6(a: u32, b: u32, c: u32) -> impl Display {
    let (destination_port, source_port) = halves(c);
    fmt::from_fn(move |f| {
        write!(
            f,
            "ending in {} port {source_port} to {} port {destination_port}",
            p4(a),
            p4(b)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_text() {
        let texts: std::collections::HashSet<String> = (0..=68)
            .map(|number| message(Kind(number), [1, 2, 3]).to_string())
            .collect();
        assert!(texts.len() > 55, "{}", texts.len());
        assert_eq!(
            message(Kind(200), [1, 2, 3]).to_string(),
            "debug message 200: 1 2 3"
        );
    }

    #[track_caller]
    fn check(kind: Kind, args: [u32; 3], expected: &str) {
        assert_eq!(message(kind, args).to_string(), expected);
    }

    /// Of a packet from 10.0.0.1:40000 to 10.0.0.2:443, as `bpf/lib` of Cilium 1.19 puts it together.
    #[test]
    fn ports_are_read_in_the_order_in_which_the_datapath_sends_them() {
        let [client, server] = [1, 2].map(|last| u32::from_le_bytes([10, 0, 0, last]));
        let [client6, server6] = [1, 2].map(|last| u32::from_le_bytes([0xab, 0, 0, last]));
        let ports = 443 << 16 | 40_000;
        check(
            Kind::DBG_CT_LOOKUP4_1,
            [client, server, ports],
            "conntrack lookup: 10.0.0.1:40000 to 10.0.0.2:443",
        );
        check(
            Kind::DBG_SK_LOOKUP4,
            [client, server, ports],
            "socket lookup: 10.0.0.1:40000 to 10.0.0.2:443",
        );
        for (kind, what) in [
            (Kind::DBG_CT_LOOKUP6_1, "conntrack"),
            (Kind::DBG_SK_LOOKUP6, "socket"),
        ] {
            let text =
                format!("{what} lookup: ending in ab00:0001 port 40000 to ab00:0002 port 443");
            check(kind, [client6, server6, ports], &text);
        }
        check(
            Kind::DBG_CT_LOOKUP,
            [40_000 << 16 | 443, 6 << 8 | 1, 0],
            "conntrack lookup: ports 40000 to 443, next header 6, flags 1",
        );
        // What the datapath copies from packets and maps stays in network order.
        check(
            Kind::DBG_LB4_LOOKUP_FRONTEND,
            [server, u32::from(443_u16.to_be()), 0],
            "service lookup: 10.0.0.2:443",
        );
        let in_packet = u32::from(40_000_u16.to_be()) << 16 | u32::from(443_u16.to_be());
        check(
            Kind::DBG_REV_PROXY_LOOKUP,
            [in_packet, client, 6],
            "reverse proxy lookup: source 10.0.0.1, ports 40000 to 443, next header 6",
        );
        check(
            Kind::DBG_L7_LB,
            [client, server, 15_001],
            "L7 load balancing: 10.0.0.1 to 10.0.0.2, proxy port 15001",
        );
    }

    #[test]
    fn a_conntrack_verdict_is_a_state_or_a_drop_reason() {
        let text =
            |value: i32| message(Kind::DBG_CT_VERDICT, [value.cast_unsigned(), 0, 0]).to_string();
        assert_eq!(text(2), "conntrack verdict reply, reverse NAT 0");
        assert_eq!(
            text(-137),
            "conntrack verdict CT_UNKNOWN_L4_PROTOCOL, reverse NAT 0"
        );
        assert_eq!(text(1000), "conntrack verdict 1000, reverse NAT 0");
    }
}
