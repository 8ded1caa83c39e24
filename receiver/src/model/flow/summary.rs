//! `Summary` (flow field 100000): the flow in one line.

use std::fmt::{self, Write};

use crate::model::flow::texts::{IcmpText, dns_rcode_text, dns_type_name};
use crate::model::flow::{Dns, Flow, Http, Kafka, L4, L7FlowType, L7Record, Summary, TcpFlags};

/// The order of Hubble's summary is not the order of the field numbers.
const FLAG_ORDER: [(TcpFlags, &str); 9] = [
    (TcpFlags::SYN, "SYN"),
    (TcpFlags::ACK, "ACK"),
    (TcpFlags::RST, "RST"),
    (TcpFlags::FIN, "FIN"),
    (TcpFlags::PSH, "PSH"),
    (TcpFlags::URG, "URG"),
    (TcpFlags::ECE, "ECE"),
    (TcpFlags::CWR, "CWR"),
    (TcpFlags::NS, "NS"),
];

/// Writes the summary of `flow`; nothing when it has none.
///
/// # Errors
/// Only those of `out`.
pub fn write(flow: &Flow, out: &mut impl Write) -> fmt::Result {
    match flow.summary {
        Summary::Empty => Ok(()),
        Summary::Ethernet => out.write_str("Ethernet"),
        Summary::Ipv4 => out.write_str("IPv4"),
        Summary::Ipv6 => out.write_str("IPv6"),
        Summary::Unknown => out.write_str("Unknown"),
        Summary::L4 => layer4(flow.l4, out),
        Summary::L7 => layer7(flow, out),
    }
}

fn layer4(l4: Option<L4>, out: &mut impl Write) -> fmt::Result {
    match l4 {
        None => Ok(()),
        Some(L4::Tcp {
            flags: Some(flags), ..
        }) => {
            out.write_str("TCP Flags: ")?;
            let mut separator = "";
            for (flag, name) in FLAG_ORDER {
                if flags.contains(flag) {
                    write!(out, "{separator}{name}")?;
                    separator = ", ";
                }
            }
            Ok(())
        }
        Some(L4::Icmpv4 { kind, code }) => write!(
            out,
            "ICMPv4 {}",
            IcmpText {
                v6: false,
                kind,
                code
            }
        ),
        Some(L4::Icmpv6 { kind, code }) => write!(
            out,
            "ICMPv6 {}",
            IcmpText {
                v6: true,
                kind,
                code
            }
        ),
        Some(L4::Vrrp {
            kind,
            vrid,
            priority,
        }) => {
            write!(out, "VRRP Type: {kind}, VRID: {vrid}, Priority: {priority}")
        }
        Some(L4::Igmp {
            kind,
            group_address,
        }) => write!(out, "IGMP Type: {kind}, Group: {group_address}"),
        Some(other) => out.write_str(other.name()),
    }
}

fn layer7(flow: &Flow, out: &mut impl Write) -> fmt::Result {
    let Some(l7) = flow.l7.as_deref() else {
        return Ok(());
    };
    match &l7.record {
        L7Record::None => Ok(()),
        L7Record::Http(http) => write_http(http, l7.kind, l7.latency_ns, out),
        L7Record::Dns(dns) => write_dns(dns, l7.kind, out),
        L7Record::Kafka(kafka) => write_kafka(kafka, l7.kind, out),
        L7Record::Generic(generic) => {
            write!(out, "{} Fields: map[", generic.protocol)?;
            for (i, (key, value)) in generic.fields.iter().enumerate() {
                write!(out, "{}{key}:{value}", if i == 0 { "" } else { " " })?;
            }
            out.write_char(']')
        }
    }
}

fn write_http(http: &Http, kind: L7FlowType, latency_ns: u64, out: &mut impl Write) -> fmt::Result {
    let Http {
        protocol,
        method,
        url,
        ..
    } = http;
    match kind {
        L7FlowType::REQUEST => write!(out, "{protocol} {method} {url}"),
        L7FlowType::RESPONSE => {
            let milliseconds = latency_ns / 1_000_000;
            write!(
                out,
                "{protocol} {} {milliseconds}ms ({method} {url})",
                http.code
            )
        }
        _ => Ok(()),
    }
}

fn write_dns(dns: &Dns, kind: L7FlowType, out: &mut impl Write) -> fmt::Result {
    match kind {
        L7FlowType::REQUEST => {
            write!(out, "DNS Query {} ", dns.query)?;
            types(&dns.qtypes, out)
        }
        L7FlowType::RESPONSE => {
            out.write_str("DNS Answer ")?;
            if dns.rcode == 0 {
                answer(dns, out)?;
            } else {
                write!(out, "RCode: {}", dns_rcode_text(dns.rcode))?;
            }
            let source = match &*dns.observation_source {
                "proxy" => "Proxy",
                other => other,
            };
            write!(out, " TTL: {} ({source} {} ", dns.ttl, dns.query)?;
            types(&dns.qtypes, out)?;
            out.write_char(')')
        }
        _ => Ok(()),
    }
}

fn answer(dns: &Dns, out: &mut impl Write) -> fmt::Result {
    let mut space = "";
    if !dns.ips.is_empty() {
        quoted(&dns.ips, out)?;
        space = " ";
    }
    if !dns.cnames.is_empty() {
        write!(out, "{space}CNAMEs: ")?;
        quoted(&dns.cnames, out)?;
    }
    Ok(())
}

fn quoted(list: &[Box<str>], out: &mut impl Write) -> fmt::Result {
    out.write_char('"')?;
    for (i, item) in list.iter().enumerate() {
        write!(out, "{}{item}", if i == 0 { "" } else { "," })?;
    }
    out.write_char('"')
}

fn types(list: &[u16], out: &mut impl Write) -> fmt::Result {
    for (i, number) in list.iter().enumerate() {
        let name = dns_type_name(*number).unwrap_or("Unknown");
        write!(out, "{}{name}", if i == 0 { "" } else { "," })?;
    }
    Ok(())
}

fn write_kafka(kafka: &Kafka, kind: L7FlowType, out: &mut impl Write) -> fmt::Result {
    match kind {
        L7FlowType::REQUEST if kafka.topic.is_empty() => {
            write!(
                out,
                "Kafka {} correlation id {}",
                kafka.api_key, kafka.correlation_id
            )
        }
        L7FlowType::REQUEST => write!(
            out,
            "Kafka {} correlation id {} topic '{}'",
            kafka.api_key, kafka.correlation_id, kafka.topic
        ),
        L7FlowType::RESPONSE => write!(
            out,
            "Kafka response correlation id {} return code {}",
            kafka.correlation_id, kafka.error_code
        ),
        _ => Ok(()),
    }
}
