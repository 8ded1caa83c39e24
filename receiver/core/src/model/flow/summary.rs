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
                    // Not by the formatter, which costs several times as much: every packet has flags.
                    out.write_str(separator)?;
                    out.write_str(name)?;
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
        // The names are those of the library that Hubble decodes packets with.
        Some(L4::Vrrp { kind: 1, .. }) => out.write_str("VRRP VRRPv2 Advertisement"),
        Some(L4::Vrrp { .. }) => out.write_str("VRRP "),
        Some(L4::Igmp { kind, .. }) => write!(out, "IGMP {}", igmp_type(kind)),
        Some(other) => out.write_str(other.name()),
    }
}

const fn igmp_type(kind: u8) -> &'static str {
    match kind {
        0x11 => "IGMP Membership Query",
        0x12 => "IGMPv1 Membership Report",
        0x16 => "IGMPv2 Membership Report",
        0x17 => "Leave Group",
        0x22 => "IGMPv3 Membership Report",
        _ => "",
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
            // A negative code, which is none, keeps its sign here.
            let code = http.code.cast_signed();
            write!(out, "{protocol} {code} {milliseconds}ms ({method} {url})")
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
            let source = if &*dns.observation_source == "proxy" {
                "Proxy"
            } else {
                "Query"
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

/// Joined by commas, quoted as Go's `%q` does: names from the wire may hold anything.
fn quoted(list: &[Box<str>], out: &mut impl Write) -> fmt::Result {
    out.write_char('"')?;
    for (i, item) in list.iter().enumerate() {
        if i > 0 {
            out.write_char(',')?;
        }
        for c in item.chars() {
            match c {
                '"' | '\\' => write!(out, "\\{c}")?,
                '\n' => out.write_str("\\n")?,
                '\r' => out.write_str("\\r")?,
                '\t' => out.write_str("\\t")?,
                c if c.is_control() => write!(out, "\\x{:02x}", u32::from(c))?,
                c => out.write_char(c)?,
            }
        }
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
    let Kafka {
        api_key,
        correlation_id,
        topic,
        ..
    } = kafka;
    let kind_text = if kind == L7FlowType::REQUEST {
        "request"
    } else {
        "response"
    };
    write!(
        out,
        "Kafka {kind_text} {api_key} correlation id {correlation_id} topic '{topic}'"
    )?;
    if kind != L7FlowType::REQUEST {
        write!(out, " return code {}", kafka.error_code)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::flow::Layer7;
    use crate::model::flow::layer7::Generic;

    fn of(kind: L7FlowType, latency_ns: u64, record: L7Record) -> String {
        let flow = Flow {
            summary: Summary::L7,
            l7: Some(Box::new(Layer7 {
                kind,
                latency_ns,
                record,
                ..Layer7::default()
            })),
            ..Flow::default()
        };
        let mut text = String::new();
        write(&flow, &mut text).unwrap();
        text
    }

    #[test]
    fn tcp_flags_stand_in_hubbles_order() {
        let mut text = String::new();
        let l4 = Some(L4::Tcp {
            source_port: 1,
            destination_port: 2,
            flags: Some(TcpFlags(0x1ff)),
        });
        layer4(l4, &mut text).unwrap();
        assert_eq!(
            text,
            "TCP Flags: SYN, ACK, RST, FIN, PSH, URG, ECE, CWR, NS"
        );
    }

    #[test]
    fn http_says_what_was_asked_and_how_long_it_took() {
        let http = Http {
            code: 200,
            method: "GET".into(),
            url: "http://a/b".into(),
            protocol: "HTTP/1.1".into(),
            headers: vec![],
        };
        let record = L7Record::Http(http);
        assert_eq!(
            of(L7FlowType::REQUEST, 0, record.clone()),
            "HTTP/1.1 GET http://a/b"
        );
        assert_eq!(
            of(L7FlowType::RESPONSE, 12_999_999, record.clone()),
            "HTTP/1.1 200 12ms (GET http://a/b)"
        );
        assert_eq!(of(L7FlowType::SAMPLE, 0, record), "");
    }

    #[test]
    fn dns_answers_are_quoted() {
        let mut dns = Dns {
            query: "a.".into(),
            ips: vec!["1.2.3.4".into(), "::1".into()],
            ttl: 30,
            cnames: vec!["c.".into()],
            observation_source: "proxy".into(),
            qtypes: vec![1, 28, 9999],
            ..Dns::default()
        };
        let answer = of(L7FlowType::RESPONSE, 0, L7Record::Dns(dns.clone()));
        assert_eq!(
            answer,
            "DNS Answer \"1.2.3.4,::1\" CNAMEs: \"c.\" TTL: 30 (Proxy a. A,AAAA,Unknown)"
        );
        dns.rcode = 3;
        dns.observation_source = "".into();
        let answer = of(L7FlowType::RESPONSE, 0, L7Record::Dns(dns.clone()));
        assert_eq!(
            answer,
            "DNS Answer RCode: Non-Existent Domain TTL: 30 (Query a. A,AAAA,Unknown)"
        );
        assert_eq!(
            of(L7FlowType::REQUEST, 0, L7Record::Dns(dns)),
            "DNS Query a. A,AAAA,Unknown"
        );
    }

    #[test]
    fn generic_fields_are_shown_as_a_go_map() {
        let generic = Generic {
            protocol: "r2d2".into(),
            fields: vec![("cmd".into(), "READ".into()), ("file".into(), "x".into())],
        };
        assert_eq!(
            of(L7FlowType::REQUEST, 0, L7Record::Generic(generic)),
            "r2d2 Fields: map[cmd:READ file:x]"
        );
    }
}
