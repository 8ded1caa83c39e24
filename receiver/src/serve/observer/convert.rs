//! Compact flows into Hubble's protobuf, for clients that asked for them.

use std::net::IpAddr;

use netflume_core::model::flow::texts::{bpf_file_name, dns_type_name};
use netflume_core::model::flow::{self as model, L7Record, address_text, summary};
use netflume_core::model::uuid::Uuid;
use netflume_core::proto::flow::{self as proto, layer4, layer7};

/// The whole flow.
pub(super) fn flow(flow: &model::Flow, node: &model::Node) -> proto::Flow {
    let drop_reason = flow.drop_reason.0;
    let l7 = flow.l7.as_deref();
    let mut summary_text = String::new();
    if summary::write(flow, &mut summary_text).is_err() {
        summary_text.clear();
    }
    #[allow(
        deprecated,
        reason = "old clients read `drop_reason`, `reply` and `Summary`"
    )]
    proto::Flow {
        time: Some(timestamp(flow.time_ns)),
        uuid: Uuid::from_random(flow.uuid).to_string(),
        verdict: flow.verdict.0.into(),
        drop_reason,
        drop_reason_desc: i32::try_from(drop_reason).unwrap_or_default(),
        auth_type: flow.auth_type.0.into(),
        ethernet: flow.ethernet.map(ethernet),
        ip: flow.ip.map(ip),
        l4: flow.l4.map(l4),
        tunnel: flow.tunnel.map(tunnel),
        source: Some(endpoint(&flow.source)),
        destination: Some(endpoint(&flow.destination)),
        r#type: flow.flow_type.0.into(),
        node_name: node.name.clone(),
        node_labels: node.labels.clone(),
        source_names: flow.source_names.as_deref().map(texts).unwrap_or_default(),
        destination_names: flow
            .destination_names
            .as_deref()
            .map(texts)
            .unwrap_or_default(),
        source_service: flow.source_service.as_deref().map(service),
        destination_service: flow.destination_service.as_deref().map(service),
        l7: l7.map(layer7),
        trace_context: l7.and_then(trace_context),
        reply: flow.is_reply.unwrap_or_default(),
        is_reply: flow.is_reply,
        event_type: Some(proto::CiliumEventType {
            r#type: flow.event_type.kind.into(),
            sub_type: flow.event_type.sub_type.into(),
        }),
        traffic_direction: flow.direction.0.into(),
        policy_match_type: flow.policy_match_type.into(),
        trace_observation_point: flow.observation_point.0.into(),
        trace_reason: flow.trace_reason.0.into(),
        debug_capture_point: flow.debug_capture_point.0.into(),
        interface: flow
            .interface
            .as_ref()
            .map(|interface| proto::NetworkInterface {
                index: interface.index,
                name: interface.name.as_deref().unwrap_or_default().to_owned(),
            }),
        proxy_port: flow.proxy_port,
        sock_xlate_point: flow.sock_xlate_point.0.into(),
        socket_cookie: flow.socket_cookie,
        cgroup_id: flow.cgroup_id,
        file: flow.file.map(|file| proto::FileInfo {
            name: bpf_file_name(file.id, file.numbering)
                .map_or_else(|| format!("unknown({})", file.id), str::to_owned),
            line: file.line.into(),
        }),
        ip_trace_id: (flow.ip_trace_id != 0).then_some(proto::IpTraceId {
            trace_id: flow.ip_trace_id,
            ip_option_type: node.ip_trace_option_type,
        }),
        emitter: (!node.emitter_name.is_empty()).then(|| proto::Emitter {
            name: node.emitter_name.clone(),
            version: node.emitter_version.clone(),
        }),
        summary: summary_text,
        // The monitor socket does not carry these.
        egress_allowed_by: Vec::new(),
        ingress_allowed_by: Vec::new(),
        egress_denied_by: Vec::new(),
        ingress_denied_by: Vec::new(),
        policy_log: Vec::new(),
        aggregate: None,
        extensions: None,
    }
}

/// Nanoseconds since 1970.
pub(super) fn timestamp(unix_ns: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(unix_ns / 1_000_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(unix_ns % 1_000_000_000).unwrap_or_default(),
    }
}

/// One end of a flow.
pub(super) fn endpoint(endpoint: &model::Endpoint) -> proto::Endpoint {
    let workload = |workload: &model::Workload| proto::Workload {
        name: workload.name.to_string(),
        kind: workload.kind.to_string(),
    };
    proto::Endpoint {
        id: endpoint.id,
        identity: endpoint.identity,
        namespace: endpoint.namespace().to_owned(),
        labels: texts(endpoint.labels()),
        pod_name: endpoint.pod_name().to_owned(),
        workloads: endpoint.workloads().iter().map(workload).collect(),
        cluster_name: endpoint.cluster_name().to_owned(),
    }
}

/// Owned copies.
pub(super) fn texts(texts: &[Box<str>]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

/// As Hubble shows addresses; empty without one.
pub(super) fn address(address: Option<IpAddr>) -> String {
    address
        .map(|address| address_text(address).to_string())
        .unwrap_or_default()
}

fn ethernet(ethernet: model::Ethernet) -> proto::Ethernet {
    let text = |mac: [u8; 6]| {
        let [a, b, c, d, e, f] = mac;
        format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    };
    proto::Ethernet {
        source: text(ethernet.source),
        destination: text(ethernet.destination),
    }
}

fn ip(ip: model::Ip) -> proto::Ip {
    proto::Ip {
        source: address(ip.source),
        destination: address(ip.destination),
        source_xlated: address(ip.source_xlated),
        ip_version: ip.version.0.into(),
        encrypted: ip.encrypted,
    }
}

fn l4(l4: model::L4) -> proto::Layer4 {
    use layer4::Protocol;
    use model::L4;
    let protocol = match l4 {
        L4::Tcp {
            source_port,
            destination_port,
            flags,
        } => Protocol::Tcp(proto::Tcp {
            source_port: source_port.into(),
            destination_port: destination_port.into(),
            flags: flags.map(tcp_flags),
        }),
        L4::Udp {
            source_port,
            destination_port,
        } => Protocol::Udp(proto::Udp {
            source_port: source_port.into(),
            destination_port: destination_port.into(),
        }),
        L4::Sctp {
            source_port,
            destination_port,
            chunk_type,
        } => Protocol::Sctp(proto::Sctp {
            source_port: source_port.into(),
            destination_port: destination_port.into(),
            chunk_type: chunk_type.0.into(),
        }),
        L4::Icmpv4 { kind, code } => Protocol::IcmPv4(proto::IcmPv4 {
            r#type: kind.into(),
            code: code.into(),
        }),
        L4::Icmpv6 { kind, code } => Protocol::IcmPv6(proto::IcmPv6 {
            r#type: kind.into(),
            code: code.into(),
        }),
        L4::Vrrp {
            kind,
            vrid,
            priority,
        } => Protocol::Vrrp(proto::Vrrp {
            r#type: kind.into(),
            vrid: vrid.into(),
            priority: priority.into(),
        }),
        L4::Igmp {
            kind,
            group_address,
        } => Protocol::Igmp(proto::Igmp {
            r#type: kind.into(),
            group_address: group_address.to_string(),
        }),
    };
    proto::Layer4 {
        protocol: Some(protocol),
    }
}

fn tcp_flags(flags: model::TcpFlags) -> proto::TcpFlags {
    use model::TcpFlags;
    proto::TcpFlags {
        fin: flags.contains(TcpFlags::FIN),
        syn: flags.contains(TcpFlags::SYN),
        rst: flags.contains(TcpFlags::RST),
        psh: flags.contains(TcpFlags::PSH),
        ack: flags.contains(TcpFlags::ACK),
        urg: flags.contains(TcpFlags::URG),
        ece: flags.contains(TcpFlags::ECE),
        cwr: flags.contains(TcpFlags::CWR),
        ns: flags.contains(TcpFlags::NS),
    }
}

fn tunnel(tunnel: model::Tunnel) -> proto::Tunnel {
    proto::Tunnel {
        protocol: tunnel.protocol.0.into(),
        ip: tunnel.ip.map(ip),
        l4: tunnel.l4.map(l4),
        vni: tunnel.vni,
    }
}

fn service(service: &model::Service) -> proto::Service {
    proto::Service {
        name: service.name.to_string(),
        namespace: service.namespace.to_string(),
    }
}

#[allow(deprecated, reason = "agents up to 1.19 have Kafka records")]
fn layer7(l7: &model::Layer7) -> proto::Layer7 {
    let record = match &l7.record {
        L7Record::Dns(record) => Some(layer7::Record::Dns(dns(record))),
        L7Record::Http(record) => Some(layer7::Record::Http(http(record))),
        L7Record::Kafka(record) => Some(layer7::Record::Kafka(proto::Kafka {
            error_code: record.error_code,
            api_version: record.api_version,
            api_key: record.api_key.to_string(),
            correlation_id: record.correlation_id,
            topic: record.topic.to_string(),
        })),
        L7Record::None | L7Record::Generic(_) => None,
    };
    proto::Layer7 {
        r#type: l7.kind.0.into(),
        latency_ns: l7.latency_ns,
        record,
    }
}

fn dns(dns: &model::Dns) -> proto::Dns {
    let types = |numbers: &[u16]| {
        let name = |&number: &u16| dns_type_name(number).unwrap_or("Unknown").to_owned();
        numbers.iter().map(name).collect()
    };
    proto::Dns {
        query: dns.query.to_string(),
        ips: texts(&dns.ips),
        ttl: dns.ttl,
        cnames: texts(&dns.cnames),
        observation_source: dns.observation_source.to_string(),
        rcode: dns.rcode,
        qtypes: types(&dns.qtypes),
        rrtypes: types(&dns.rrtypes),
    }
}

fn http(http: &model::Http) -> proto::Http {
    let header = |(key, value): &(Box<str>, Box<str>)| proto::HttpHeader {
        key: key.to_string(),
        value: value.to_string(),
    };
    proto::Http {
        code: http.code,
        method: http.method.to_string(),
        url: http.url.to_string(),
        protocol: http.protocol.to_string(),
        headers: http.headers.iter().map(header).collect(),
    }
}

fn trace_context(l7: &model::Layer7) -> Option<proto::TraceContext> {
    l7.trace.map(|trace| proto::TraceContext {
        parent: Some(proto::TraceParent {
            trace_id: trace.trace_id_text().to_string(),
        }),
    })
}
