//! Cilium events in Hubble's words: field by field as protobuf's JSON form of `flow.Flow` and its siblings has them (Cilium 1.19.4, original
//! field names in the schema's order, default values left out), into whatever takes fields.
//!
//! | [`Fields`] | gives |
//! | --- | --- |
//! | [`json::Json`] | the text of `hubble observe -o json` |
//! | [`any::AnyFields`] | the body of a log record |

use std::fmt::Display;

use crate::model::flow::texts::{bpf_file_name, dns_type_name};
use crate::model::flow::{
    Dns, Endpoint, Flow, Http, Ip, Kafka, L4, L7Record, Layer7, Node, Service, TcpFlags, Tunnel,
    message_type, summary,
};
use crate::model::uuid::Uuid;
use crate::otlp::text::Ascii;

pub mod any;
pub mod debug_text;
pub mod events;
pub mod json;

/// Takes the fields of an object, in order.
pub trait Fields: Sized {
    /// A text.
    fn text(&mut self, key: &str, value: &str);
    /// A text that is made on the way.
    fn display(&mut self, key: &str, value: impl Display);
    /// A number of at most 32 bits.
    fn number(&mut self, key: &str, value: i64);
    /// A number of 64 bits: a text in JSON, as protobuf wants it.
    fn number64(&mut self, key: &str, value: u64);
    /// True or false.
    fn boolean(&mut self, key: &str, value: bool);
    /// An object.
    fn object(&mut self, key: &str, content: impl FnOnce(&mut Self));
    /// A list of texts.
    fn texts<T: AsRef<str>>(&mut self, key: &str, values: impl Iterator<Item = T>);
    /// A list of objects.
    fn objects<T>(
        &mut self,
        key: &str,
        values: impl Iterator<Item = T>,
        content: impl Fn(&mut Self, T),
    );
}

/// Fields whose default value is left out.
pub(crate) trait FieldsExt: Fields {
    fn text_unless_empty(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    fn number_unless_zero(&mut self, key: &str, value: impl Into<i64>) {
        let value = value.into();
        if value != 0 {
            self.number(key, value);
        }
    }

    fn number64_unless_zero(&mut self, key: &str, value: u64) {
        if value != 0 {
            self.number64(key, value);
        }
    }

    fn true_only(&mut self, key: &str, value: bool) {
        if value {
            self.boolean(key, true);
        }
    }

    fn texts_unless_empty<T: AsRef<str>>(&mut self, key: &str, values: &[T]) {
        if !values.is_empty() {
            self.texts(key, values.iter());
        }
    }

    /// An enumeration: its name, or its number when the schema has no name for it; zero is left out.
    fn enumeration(&mut self, key: &str, name: Option<&'static str>, number: impl Into<i64>) {
        let number = number.into();
        match name {
            _ if number == 0 => {}
            Some(name) => self.text(key, name),
            None => self.number(key, number),
        }
    }
}

impl<F: Fields> FieldsExt for F {}

/// An RFC 3339 time in UTC with 0, 3, 6 or 9 digits behind the second, as protobuf's JSON form has it.
#[must_use]
pub fn time(ns: i64) -> impl Display {
    std::fmt::from_fn(move |f| {
        let (seconds, nanoseconds) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        // Digits put in their places at once: the formatter's padding costs ten times as much, and every flow has a time.
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        for (range, number) in [
            (0..4, year),
            (5..7, month),
            (8..10, day),
            (11..13, hour),
            (14..16, minute),
            (17..19, second),
            (20..29, nanoseconds),
        ] {
            digits(&mut text[range], number);
        }
        let length = match nanoseconds {
            0 => 20,
            ns if ns % 1_000_000 == 0 => 24,
            ns if ns % 1000 == 0 => 27,
            _ => 30,
        };
        text[length - 1] = b'Z';
        f.write_str(std::str::from_utf8(&text[..length]).unwrap_or_default())
    })
}

/// Writes the last digits of a number that is not negative, as many as there is room for.
fn digits(room: &mut [u8], mut number: i64) {
    for place in room.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar.
fn date(days: i64) -> (i64, i64, i64) {
    // Counted from 1 March of year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

/// Writes a flow.
pub fn flow(flow: &Flow, node: &Node, out: &mut impl Fields) {
    out.display("time", time(signed(flow.time_ns)));
    if flow.uuid != [0; 16] {
        out.display("uuid", Uuid::from_random(flow.uuid));
    }
    if !node.emitter_name.is_empty() {
        out.object("emitter", |out| {
            out.text("name", &node.emitter_name);
            out.text_unless_empty("version", &node.emitter_version);
        });
    }
    out.enumeration("verdict", flow.verdict.name(), flow.verdict.0);
    out.number_unless_zero("drop_reason", flow.drop_reason.0);
    out.enumeration("auth_type", flow.auth_type.name(), flow.auth_type.0);
    if let Some(ethernet) = &flow.ethernet {
        out.object("ethernet", |out| {
            out.display("source", mac(ethernet.source));
            out.display("destination", mac(ethernet.destination));
        });
    }
    if let Some(ip) = &flow.ip {
        out.object("IP", |out| write_ip(ip, out));
    }
    if let Some(l4) = flow.l4 {
        out.object("l4", |out| layer4(l4, out));
    }
    if let Some(tunnel) = &flow.tunnel {
        out.object("tunnel", |out| write_tunnel(tunnel, out));
    }
    out.object("source", |out| endpoint(&flow.source, out));
    out.object("destination", |out| endpoint(&flow.destination, out));
    out.enumeration("Type", flow.flow_type.name(), flow.flow_type.0);
    out.text_unless_empty("node_name", &node.name);
    out.texts_unless_empty("node_labels", &node.labels);
    out.texts_unless_empty(
        "source_names",
        flow.source_names.as_deref().unwrap_or_default(),
    );
    out.texts_unless_empty(
        "destination_names",
        flow.destination_names.as_deref().unwrap_or_default(),
    );
    if let Some(l7) = flow.l7.as_deref() {
        out.object("l7", |out| layer7(l7, out));
    }
    out.true_only("reply", flow.is_reply == Some(true));
    out.object("event_type", |out| {
        out.number_unless_zero("type", flow.event_type.kind);
        out.number_unless_zero("sub_type", flow.event_type.sub_type);
    });
    service("source_service", flow.source_service.as_deref(), out);
    service(
        "destination_service",
        flow.destination_service.as_deref(),
        out,
    );
    after_services(flow, node, out);
}

fn after_services(flow: &Flow, node: &Node, out: &mut impl Fields) {
    out.enumeration("traffic_direction", flow.direction.name(), flow.direction.0);
    out.number_unless_zero("policy_match_type", flow.policy_match_type);
    let point = flow.observation_point;
    out.enumeration("trace_observation_point", point.name(), point.0);
    out.enumeration(
        "trace_reason",
        flow.trace_reason.name(),
        flow.trace_reason.0,
    );
    if let Some(file) = flow.file {
        out.object("file", |out| {
            match bpf_file_name(file.id, file.numbering) {
                Some(name) => out.text("name", name),
                None => out.display("name", format_args!("unknown({})", file.id)),
            }
            out.number_unless_zero("line", file.line);
        });
    }
    if flow.ip_trace_id != 0 {
        out.object("ip_trace_id", |out| {
            out.number64("trace_id", flow.ip_trace_id);
            out.number_unless_zero("ip_option_type", node.ip_trace_option_type);
        });
    }
    out.enumeration(
        "drop_reason_desc",
        flow.drop_reason.name(),
        flow.drop_reason.0,
    );
    if let Some(is_reply) = flow.is_reply {
        out.boolean("is_reply", is_reply);
    }
    let capture_point = flow.debug_capture_point;
    out.enumeration("debug_capture_point", capture_point.name(), capture_point.0);
    if let Some(interface) = &flow.interface {
        out.object("interface", |out| {
            out.number_unless_zero("index", interface.index);
            out.text_unless_empty("name", interface.name.as_deref().unwrap_or_default());
        });
    }
    out.number_unless_zero("proxy_port", flow.proxy_port);
    if let Some(trace) = flow.l7.as_deref().and_then(|l7| l7.trace) {
        out.object("trace_context", |out| {
            out.object("parent", |out| {
                out.display("trace_id", trace.trace_id_text())
            });
        });
    }
    out.enumeration(
        "sock_xlate_point",
        flow.sock_xlate_point.name(),
        flow.sock_xlate_point.0,
    );
    out.number64_unless_zero("socket_cookie", flow.socket_cookie);
    out.number64_unless_zero("cgroup_id", flow.cgroup_id);
    let summary = std::fmt::from_fn(|f| summary::write(flow, f));
    if flow.event_type.kind == message_type::ACCESS_LOG {
        // A record without any protocol has no summary; only the text can tell.
        out.text_unless_empty("Summary", &summary.to_string());
    } else if flow.summary != crate::model::flow::Summary::Empty {
        out.display("Summary", summary);
    }
}

fn mac(address: [u8; 6]) -> impl Display {
    std::fmt::from_fn(move |f| {
        let mut text = [b':'; 17];
        for (pair, byte) in text.chunks_mut(3).zip(address) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    })
}

fn write_ip(ip: &Ip, out: &mut impl Fields) {
    let addresses = [
        ("source", ip.source),
        ("source_xlated", ip.source_xlated),
        ("destination", ip.destination),
    ];
    for (key, address) in addresses {
        if let Some(address) = address {
            out.text(key, Ascii::ip(address.to_canonical()).as_str());
        }
    }
    out.enumeration("ipVersion", ip.version.name(), ip.version.0);
    out.true_only("encrypted", ip.encrypted);
}

fn layer4(l4: L4, out: &mut impl Fields) {
    out.object(l4.name(), |out| match l4 {
        L4::Tcp { flags, .. } => {
            ports(l4, out);
            if let Some(flags) = flags {
                out.object("flags", |out| {
                    for (flag, name) in TcpFlags::ALL {
                        out.true_only(name, flags.contains(flag));
                    }
                });
            }
        }
        L4::Udp { .. } => ports(l4, out),
        L4::Sctp { chunk_type, .. } => {
            ports(l4, out);
            out.enumeration("chunk_type", chunk_type.name(), chunk_type.0);
        }
        L4::Icmpv4 { kind, code } | L4::Icmpv6 { kind, code } => {
            out.number_unless_zero("type", kind);
            out.number_unless_zero("code", code);
        }
        L4::Vrrp {
            kind,
            vrid,
            priority,
        } => {
            out.number_unless_zero("type", kind);
            out.number_unless_zero("vrid", vrid);
            out.number_unless_zero("priority", priority);
        }
        L4::Igmp {
            kind,
            group_address,
        } => {
            out.number_unless_zero("type", kind);
            out.display("group_address", group_address);
        }
    });
}

fn ports(l4: L4, out: &mut impl Fields) {
    let (source, destination) = l4.ports();
    out.number_unless_zero("source_port", source);
    out.number_unless_zero("destination_port", destination);
}

fn write_tunnel(tunnel: &Tunnel, out: &mut impl Fields) {
    out.enumeration("protocol", tunnel.protocol.name(), tunnel.protocol.0);
    if let Some(ip) = &tunnel.ip {
        out.object("IP", |out| write_ip(ip, out));
    }
    if let Some(l4) = tunnel.l4 {
        out.object("l4", |out| layer4(l4, out));
    }
    out.number_unless_zero("vni", tunnel.vni);
}

pub(super) fn endpoint(endpoint: &Endpoint, out: &mut impl Fields) {
    out.number_unless_zero("ID", endpoint.id);
    out.number_unless_zero("identity", endpoint.identity);
    out.text_unless_empty("cluster_name", endpoint.cluster_name());
    out.text_unless_empty("namespace", endpoint.namespace());
    out.texts_unless_empty("labels", endpoint.labels());
    out.text_unless_empty("pod_name", endpoint.pod_name());
    if !endpoint.workloads().is_empty() {
        out.objects("workloads", endpoint.workloads().iter(), |out, workload| {
            out.text_unless_empty("name", &workload.name);
            out.text_unless_empty("kind", &workload.kind);
        });
    }
}

fn service(key: &str, service: Option<&Service>, out: &mut impl Fields) {
    if let Some(service) = service {
        out.object(key, |out| {
            out.text_unless_empty("name", &service.name);
            out.text_unless_empty("namespace", &service.namespace);
        });
    }
}

fn layer7(l7: &Layer7, out: &mut impl Fields) {
    out.enumeration("type", l7.kind.name(), l7.kind.0);
    out.number64_unless_zero("latency_ns", l7.latency_ns);
    match &l7.record {
        L7Record::Dns(record) => out.object("dns", |out| dns(record, out)),
        L7Record::Http(record) => out.object("http", |out| http(record, out)),
        L7Record::Kafka(record) => out.object("kafka", |out| kafka(record, out)),
        // The schema has nothing for other protocols.
        L7Record::Generic(_) | L7Record::None => {}
    }
}

fn dns(dns: &Dns, out: &mut impl Fields) {
    let types = |types: &[u16]| {
        types
            .iter()
            .map(|number| dns_type_name(*number).unwrap_or("Unknown"))
            .collect()
    };
    let (qtypes, rrtypes): (Vec<&str>, Vec<&str>) = (types(&dns.qtypes), types(&dns.rrtypes));
    out.text_unless_empty("query", &dns.query);
    out.texts_unless_empty("ips", &dns.ips);
    out.number_unless_zero("ttl", dns.ttl);
    out.texts_unless_empty("cnames", &dns.cnames);
    out.text_unless_empty("observation_source", &dns.observation_source);
    out.number_unless_zero("rcode", dns.rcode);
    out.texts_unless_empty("qtypes", &qtypes);
    out.texts_unless_empty("rrtypes", &rrtypes);
}

fn http(http: &Http, out: &mut impl Fields) {
    out.number_unless_zero("code", http.code);
    out.text_unless_empty("method", &http.method);
    out.text_unless_empty("url", &http.url);
    out.text_unless_empty("protocol", &http.protocol);
    if !http.headers.is_empty() {
        out.objects("headers", http.headers.iter(), |out, (key, value)| {
            out.text_unless_empty("key", key);
            out.text_unless_empty("value", value);
        });
    }
}

fn kafka(kafka: &Kafka, out: &mut impl Fields) {
    out.number_unless_zero("error_code", kafka.error_code);
    out.number_unless_zero("api_version", kafka.api_version);
    out.text_unless_empty("api_key", &kafka.api_key);
    out.number_unless_zero("correlation_id", kafka.correlation_id);
    out.text_unless_empty("topic", &kafka.topic);
}

#[cfg(test)]
mod tests;
