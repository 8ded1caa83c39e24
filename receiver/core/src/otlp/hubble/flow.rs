//! Flows, field by field.

use crate::key;
use crate::model::flow::texts::bpf_file_name;
use crate::model::flow::{
    Endpoint, Flow, Ip, L4, Node, Service, TcpFlags, Tunnel, message_type, summary,
};
use crate::model::uuid::Uuid;
use crate::otlp::fields::{Fields, FieldsExt};
use crate::otlp::hubble::layer7::layer7;
use crate::otlp::hubble::timestamp::time;
use crate::otlp::key::Key;
use crate::otlp::text::Ascii;

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

/// Writes a flow.
pub(super) fn flow(flow: &Flow, node: &Node, out: &mut impl Fields) {
    out.ascii(key!("time"), &time(signed(flow.time_ns)));
    if flow.uuid != [0; 16] {
        out.ascii(
            key!("uuid"),
            &Ascii::from(Uuid::from_random(flow.uuid).text()),
        );
    }
    if !node.emitter_name.is_empty() {
        out.object(key!("emitter"), |out| {
            out.text(key!("name"), &node.emitter_name);
            out.text_unless_empty(key!("version"), &node.emitter_version);
        });
    }
    out.enumeration(key!("verdict"), flow.verdict.name(), flow.verdict.0);
    out.number_unless_zero(key!("drop_reason"), flow.drop_reason.0);
    out.enumeration(key!("auth_type"), flow.auth_type.name(), flow.auth_type.0);
    if let Some(ethernet) = &flow.ethernet {
        out.object(key!("ethernet"), |out| {
            out.ascii(key!("source"), &mac(ethernet.source));
            out.ascii(key!("destination"), &mac(ethernet.destination));
        });
    }
    if let Some(ip) = &flow.ip {
        out.object(key!("IP"), |out| write_ip(ip, out));
    }
    if let Some(l4) = flow.l4 {
        out.object(key!("l4"), |out| layer4(l4, out));
    }
    if let Some(tunnel) = &flow.tunnel {
        out.object(key!("tunnel"), |out| write_tunnel(tunnel, out));
    }
    out.object(key!("source"), |out| endpoint(&flow.source, out));
    out.object(key!("destination"), |out| endpoint(&flow.destination, out));
    out.enumeration(key!("Type"), flow.flow_type.name(), flow.flow_type.0);
    out.text_unless_empty(key!("node_name"), &node.name);
    out.texts_unless_empty(key!("node_labels"), &node.labels);
    out.texts_unless_empty(
        key!("source_names"),
        flow.source_names.as_deref().unwrap_or_default(),
    );
    out.texts_unless_empty(
        key!("destination_names"),
        flow.destination_names.as_deref().unwrap_or_default(),
    );
    if let Some(l7) = flow.l7.as_deref() {
        out.object(key!("l7"), |out| layer7(l7, out));
    }
    out.true_only(key!("reply"), flow.is_reply == Some(true));
    out.object(key!("event_type"), |out| {
        out.number_unless_zero(key!("type"), flow.event_type.kind);
        out.number_unless_zero(key!("sub_type"), flow.event_type.sub_type);
    });
    service(key!("source_service"), flow.source_service.as_deref(), out);
    service(
        key!("destination_service"),
        flow.destination_service.as_deref(),
        out,
    );
    after_services(flow, node, out);
}

fn after_services(flow: &Flow, node: &Node, out: &mut impl Fields) {
    out.enumeration(
        key!("traffic_direction"),
        flow.direction.name(),
        flow.direction.0,
    );
    out.number_unless_zero(key!("policy_match_type"), flow.policy_match_type);
    let point = flow.observation_point;
    out.enumeration(key!("trace_observation_point"), point.name(), point.0);
    out.enumeration(
        key!("trace_reason"),
        flow.trace_reason.name(),
        flow.trace_reason.0,
    );
    if let Some(file) = flow.file {
        out.object(key!("file"), |out| {
            match bpf_file_name(file.id, file.numbering) {
                Some(name) => out.text(key!("name"), name),
                None => out.display(key!("name"), format_args!("unknown({})", file.id)),
            }
            out.number_unless_zero(key!("line"), file.line);
        });
    }
    if flow.ip_trace_id != 0 {
        out.object(key!("ip_trace_id"), |out| {
            out.number64(key!("trace_id"), flow.ip_trace_id);
            out.number_unless_zero(key!("ip_option_type"), node.ip_trace_option_type);
        });
    }
    out.enumeration(
        key!("drop_reason_desc"),
        flow.drop_reason.name(),
        flow.drop_reason.0,
    );
    if let Some(is_reply) = flow.is_reply {
        out.boolean(key!("is_reply"), is_reply);
    }
    let capture_point = flow.debug_capture_point;
    out.enumeration(
        key!("debug_capture_point"),
        capture_point.name(),
        capture_point.0,
    );
    if let Some(interface) = &flow.interface {
        out.object(key!("interface"), |out| {
            out.number_unless_zero(key!("index"), interface.index);
            out.text_unless_empty(key!("name"), interface.name.as_deref().unwrap_or_default());
        });
    }
    out.number_unless_zero(key!("proxy_port"), flow.proxy_port);
    if let Some(trace) = flow.l7.as_deref().and_then(|l7| l7.trace) {
        out.object(key!("trace_context"), |out| {
            out.object(key!("parent"), |out| {
                out.display(key!("trace_id"), trace.trace_id_text())
            });
        });
    }
    out.enumeration(
        key!("sock_xlate_point"),
        flow.sock_xlate_point.name(),
        flow.sock_xlate_point.0,
    );
    out.number64_unless_zero(key!("socket_cookie"), flow.socket_cookie);
    out.number64_unless_zero(key!("cgroup_id"), flow.cgroup_id);
    let summary = std::fmt::from_fn(|f| summary::write(flow, f));
    if flow.event_type.kind == message_type::ACCESS_LOG {
        // A record without any protocol has no summary; only the text can tell.
        out.text_unless_empty(key!("Summary"), &summary.to_string());
    } else if flow.summary != crate::model::flow::Summary::Empty {
        out.display(key!("Summary"), summary);
    }
}

fn mac(address: [u8; 6]) -> Ascii {
    let mut text = [b':'; 17];
    for (pair, byte) in text.chunks_mut(3).zip(address) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    Ascii::from(text)
}

fn write_ip(ip: &Ip, out: &mut impl Fields) {
    let addresses = [
        (key!("source"), ip.source),
        (key!("source_xlated"), ip.source_xlated),
        (key!("destination"), ip.destination),
    ];
    for (key, address) in addresses {
        if let Some(address) = address {
            out.ascii(key, &Ascii::ip(address.to_canonical()));
        }
    }
    out.enumeration(key!("ipVersion"), ip.version.name(), ip.version.0);
    out.true_only(key!("encrypted"), ip.encrypted);
}

/// By field number.
const FLAGS: [(TcpFlags, Key); 9] = [
    (TcpFlags::FIN, key!("FIN")),
    (TcpFlags::SYN, key!("SYN")),
    (TcpFlags::RST, key!("RST")),
    (TcpFlags::PSH, key!("PSH")),
    (TcpFlags::ACK, key!("ACK")),
    (TcpFlags::URG, key!("URG")),
    (TcpFlags::ECE, key!("ECE")),
    (TcpFlags::CWR, key!("CWR")),
    (TcpFlags::NS, key!("NS")),
];

fn layer4(l4: L4, out: &mut impl Fields) {
    let name = match l4 {
        L4::Tcp { .. } => key!("TCP"),
        L4::Udp { .. } => key!("UDP"),
        L4::Sctp { .. } => key!("SCTP"),
        L4::Icmpv4 { .. } => key!("ICMPv4"),
        L4::Icmpv6 { .. } => key!("ICMPv6"),
        L4::Vrrp { .. } => key!("VRRP"),
        L4::Igmp { .. } => key!("IGMP"),
    };
    out.object(name, |out| match l4 {
        L4::Tcp { flags, .. } => {
            ports(l4, out);
            if let Some(flags) = flags {
                out.object(key!("flags"), |out| {
                    for (flag, key) in FLAGS {
                        out.true_only(key, flags.contains(flag));
                    }
                });
            }
        }
        L4::Udp { .. } => ports(l4, out),
        L4::Sctp { chunk_type, .. } => {
            ports(l4, out);
            out.enumeration(key!("chunk_type"), chunk_type.name(), chunk_type.0);
        }
        L4::Icmpv4 { kind, code } | L4::Icmpv6 { kind, code } => {
            out.number_unless_zero(key!("type"), kind);
            out.number_unless_zero(key!("code"), code);
        }
        L4::Vrrp {
            kind,
            vrid,
            priority,
        } => {
            out.number_unless_zero(key!("type"), kind);
            out.number_unless_zero(key!("vrid"), vrid);
            out.number_unless_zero(key!("priority"), priority);
        }
        L4::Igmp {
            kind,
            group_address,
        } => {
            out.number_unless_zero(key!("type"), kind);
            out.display(key!("group_address"), group_address);
        }
    });
}

fn ports(l4: L4, out: &mut impl Fields) {
    let (source, destination) = l4.ports();
    out.number_unless_zero(key!("source_port"), source);
    out.number_unless_zero(key!("destination_port"), destination);
}

fn write_tunnel(tunnel: &Tunnel, out: &mut impl Fields) {
    out.enumeration(key!("protocol"), tunnel.protocol.name(), tunnel.protocol.0);
    if let Some(ip) = &tunnel.ip {
        out.object(key!("IP"), |out| write_ip(ip, out));
    }
    if let Some(l4) = tunnel.l4 {
        out.object(key!("l4"), |out| layer4(l4, out));
    }
    out.number_unless_zero(key!("vni"), tunnel.vni);
}

pub(super) fn endpoint(endpoint: &Endpoint, out: &mut impl Fields) {
    out.number_unless_zero(key!("ID"), endpoint.id);
    out.number_unless_zero(key!("identity"), endpoint.identity);
    out.text_unless_empty(key!("cluster_name"), endpoint.cluster_name());
    out.text_unless_empty(key!("namespace"), endpoint.namespace());
    out.texts_unless_empty(key!("labels"), endpoint.labels());
    out.text_unless_empty(key!("pod_name"), endpoint.pod_name());
    if !endpoint.workloads().is_empty() {
        out.objects(
            key!("workloads"),
            endpoint.workloads().iter(),
            |out, workload| {
                out.text_unless_empty(key!("name"), &workload.name);
                out.text_unless_empty(key!("kind"), &workload.kind);
            },
        );
    }
}

fn service(key: Key, service: Option<&Service>, out: &mut impl Fields) {
    if let Some(service) = service {
        out.object(key, |out| {
            out.text_unless_empty(key!("name"), &service.name);
            out.text_unless_empty(key!("namespace"), &service.namespace);
        });
    }
}
