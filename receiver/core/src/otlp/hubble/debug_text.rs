//! What the arguments of a debug message mean, in words of our own (`flow.DebugEvent.message`).
//!
//! The numbering is that of the datapath and the protobuf schema. (The text formatter of Cilium 1.19 and 1.20 lacks 66, and so shows the
//! texts of 66 to 68 one number off.)

use std::fmt::{self, Display};
use std::net::Ipv4Addr;

use crate::model::flow::DebugEventType as Kind;

/// The message.
#[must_use]
pub fn message(kind: Kind, args: [u32; 3]) -> impl Display {
    fmt::from_fn(move |f| write(f, kind, args))
}

/// The low 16 bits, from network order.
const fn net16(value: u32) -> u16 {
    (value as u16).swap_bytes()
}

/// Four bytes in memory order are an IPv4 address.
fn ip4(value: u32) -> Ipv4Addr {
    Ipv4Addr::from(value.to_le_bytes())
}

/// Source port above, destination port below, each in network order.
const fn ports(value: u32) -> (u16, u16) {
    (net16(value >> 16), net16(value))
}

const fn direction(value: u32) -> &'static str {
    match value {
        0 => "egress",
        1 => "ingress",
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
        Kind::DBG_L4_POLICY => write!(
            f,
            "layer 4 policy: proxy port {}, {}",
            net16(a),
            direction(b)
        ),
        Kind::DBG_NETDEV_IN_CLUSTER => {
            write!(f, "destination inside the cluster, source identity {a}")
        }
        Kind::DBG_NETDEV_ENCAP4 => write!(f, "encapsulate by {}, identity {b}", ip4(a)),
        Kind::DBG_SKIP_PROXY => write!(f, "skip the proxy, tc index {a:x}"),
        Kind::DBG_L4_CREATE => {
            let (port, protocol) = (net16(c >> 16), c & 0xffff);
            write!(
                f,
                "layer 4 policy matched: identity {a} to {b}, port {port}, protocol {protocol}"
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
            "layer 7 load balancing: {} to {}, proxy port {c}",
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
                "conntrack lookup: next header {next_header}, flags {flags}, {}, scope {c}",
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
        other => write!(f, "{other}"),
    })
}

/// The last four bytes of an IPv6 address.
fn p4(value: u32) -> impl Display {
    let [a, b, c, d] = value.to_le_bytes();
    fmt::from_fn(move |f| write!(f, "{a:02x}{b:02x}:{c:02x}{d:02x}"))
}

/// Ports, and next header and flags.
fn tuple(a: u32, b: u32) -> impl Display {
    let (source, destination) = ports(a);
    let (next_header, flags) = (b >> 8, b & 0xff);
    fmt::from_fn(move |f| {
        write!(
            f,
            "ports {source} to {destination}, next header {next_header}, flags {flags}"
        )
    })
}

fn proxy(a: u32, b: u32, c: u32) -> impl Display {
    let (source, destination) = ports(a);
    fmt::from_fn(move |f| {
        write!(
            f,
            "source {}, ports {source} to {destination}, next header {c}",
            ip4(b)
        )
    })
}

/// Addresses, and ports: the source port in the low half.
fn addresses4(a: u32, b: u32, c: u32) -> impl Display {
    let (destination_port, source_port) = ports(c);
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
    let (destination_port, source_port) = ports(c);
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

    #[test]
    fn addresses_and_ports_are_in_network_order() {
        let address = u32::from_le_bytes([10, 0, 0, 1]);
        let text = message(
            Kind::DBG_LB4_LOOKUP_FRONTEND,
            [address, u32::from(80_u16.to_be()), 0],
        )
        .to_string();
        assert_eq!(text, "service lookup: 10.0.0.1:80");
    }
}
