//! One Cilium flow, small enough to keep: what Hubble's `flow.Flow` says, field by field, without a heap allocation for datapath events.
//!
//! Every field names the field of `flow.Flow` (Cilium 1.19.4; number in brackets) that it becomes. What is the same for all flows of
//! a node stands once in [`Node`]; what many flows share is an [`Arc`]; what only layer-7 flows have is boxed in [`Layer7`].
//! Text is made when somebody asks: addresses by [`address_text`], enumerations by their `name`, `Summary` by [`summary`].
//!
//! Never filled, because the monitor socket does not carry it: `egress_allowed_by` and its siblings (21001–21005), `policy_log`
//! (21006), `aggregate` (21007), `extensions` (150000). The deprecated `drop_reason` (3) repeats 25, `reply` (16) repeats 26.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

pub mod layer7;
pub mod names;
pub mod summary;
pub mod texts;

pub use layer7::{Dns, Generic, Http, Kafka, L7Record, Layer7, Question, TraceParent};
pub use names::*;

/// One flow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    /// `time` (1): when the event was read from the socket, nanoseconds since 1970; the datapath gives no time of its own.
    pub time_ns: u64,
    /// `uuid` (34): 16 bytes that are shown as a version 4 UUID.
    pub uuid: [u8; 16],
    /// `verdict` (2).
    pub verdict: Verdict,
    /// `drop_reason_desc` (25) and `drop_reason` (3): zero when nothing was dropped; L7 denials have none.
    pub drop_reason: DropReason,
    /// `auth_type` (35): policy verdicts only.
    pub auth_type: AuthType,
    /// `Type` (10).
    pub flow_type: FlowType,
    /// `event_type` (19).
    pub event_type: EventType,
    /// `ethernet` (4): absent on layer-3 devices, in L7 and in socket flows.
    pub ethernet: Option<Ethernet>,
    /// `IP` (5): absent for ARP, VLAN-tagged and empty packets.
    pub ip: Option<Ip>,
    /// `l4` (6): absent when the packet ended or the protocol is not one of these.
    pub l4: Option<L4>,
    /// `tunnel` (39): the outer headers of a VXLAN or Geneve packet; all other fields then speak of the inner packet.
    pub tunnel: Option<Tunnel>,
    /// `source` (8).
    pub source: Endpoint,
    /// `destination` (9).
    pub destination: Endpoint,
    /// `source_names` (13): DNS names of the source address, as the local destination endpoint looked them up.
    pub source_names: Option<Arc<[Box<str>]>>,
    /// `destination_names` (14): DNS names of the destination address, as the local source endpoint looked them up.
    pub destination_names: Option<Arc<[Box<str>]>>,
    /// `source_service` (20): the service whose front end is the source address and port.
    pub source_service: Option<Arc<Service>>,
    /// `destination_service` (21): the service whose front end is the destination address and port.
    pub destination_service: Option<Arc<Service>>,
    /// `l7` (15) and `trace_context` (30).
    pub l7: Option<Box<Layer7>>,
    /// `is_reply` (26) and `reply` (16): `None` when it is not known.
    pub is_reply: Option<bool>,
    /// `traffic_direction` (22): of the connection, seen from the local endpoint.
    pub direction: TrafficDirection,
    /// `policy_match_type` (23): names by [`texts::policy_match_name`].
    pub policy_match_type: u8,
    /// `trace_observation_point` (24): trace events only.
    pub observation_point: TraceObservationPoint,
    /// `trace_reason` (36): trace events only.
    pub trace_reason: TraceReason,
    /// `debug_capture_point` (27): capture events only.
    pub debug_capture_point: DebugCapturePoint,
    /// `interface` (28).
    pub interface: Option<Interface>,
    /// `proxy_port` (29): zero when absent.
    pub proxy_port: u32,
    /// `sock_xlate_point` (31): socket flows only.
    pub sock_xlate_point: SocketTranslationPoint,
    /// `socket_cookie` (32): socket flows only.
    pub socket_cookie: u64,
    /// `cgroup_id` (33): socket flows only; inode of the cgroup v2 directory.
    pub cgroup_id: u64,
    /// `file` (38): drops only.
    pub file: Option<BpfFile>,
    /// `ip_trace_id` (40), its `trace_id`; zero when absent. `ip_option_type` is [`Node::ip_trace_option_type`].
    pub ip_trace_id: u64,
    /// What `Summary` (100000) is made of, see [`summary::write`].
    pub summary: Summary,
}

// A ring of 4096 flows stays below 2 MiB.
const _: () = assert!(size_of::<Flow>() <= 448);

impl Flow {
    /// Source port of TCP, UDP and SCTP; zero otherwise.
    #[must_use]
    pub fn source_port(&self) -> u16 {
        self.l4.map_or(0, |l4| l4.ports().0)
    }

    /// Destination port of TCP, UDP and SCTP; zero otherwise.
    #[must_use]
    pub fn destination_port(&self) -> u16 {
        self.l4.map_or(0, |l4| l4.ports().1)
    }

    /// `IP.ipVersion`: IP_NOT_USED without an IP header.
    #[must_use]
    pub fn ip_version(&self) -> IpVersion {
        self.ip
            .as_ref()
            .map_or(IpVersion::IP_NOT_USED, |ip| ip.version)
    }

    /// The layer-7 record, if the flow is an access log.
    #[must_use]
    pub fn l7_record(&self) -> Option<&L7Record> {
        self.l7.as_deref().map(|l7| &l7.record)
    }
}

/// What is the same in all flows of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `node_name` (11): `cluster/node`, or the node alone when the cluster has no name.
    pub name: String,
    /// `node_labels` (37): `key=value`, sorted.
    pub labels: Vec<String>,
    /// `emitter.name` (41.1): Hubble writes `Hubble`. Empty: the field is left out.
    pub emitter_name: String,
    /// `emitter.version` (41.2): Hubble writes the agent's version.
    pub emitter_version: String,
    /// `ip_trace_id.ip_option_type` (40.2): the agent's `ip-tracing-option-type`.
    pub ip_trace_option_type: u32,
}

/// `flow.CiliumEventType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct EventType {
    /// `type` (1): the message type of the monitor socket, [`message_type`].
    pub kind: u8,
    /// `sub_type` (2): drop reason, raw observation point (0 for to-endpoint), capture point, translation point; else zero.
    pub sub_type: u8,
}

/// `flow.Ethernet`: network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Ethernet {
    /// `source` (1).
    pub source: [u8; 6],
    /// `destination` (2).
    pub destination: [u8; 6],
}

/// `flow.IP`. `None` addresses are the empty text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Ip {
    /// `source` (1): the address before translation when the datapath knew it.
    pub source: Option<IpAddr>,
    /// `destination` (2).
    pub destination: Option<IpAddr>,
    /// `source_xlated` (5): the address in the packet, when `source` is another one.
    pub source_xlated: Option<IpAddr>,
    /// `ipVersion` (3): of the header; says IPv6 for a v4-mapped address too.
    pub version: IpVersion,
    /// `encrypted` (4).
    pub encrypted: bool,
}

/// `flow.Layer4`; ports in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum L4 {
    /// `TCP` (1).
    Tcp {
        /// `source_port` (1).
        source_port: u16,
        /// `destination_port` (2).
        destination_port: u16,
        /// `flags` (3): absent in L7 and socket flows.
        flags: Option<TcpFlags>,
    },
    /// `UDP` (2).
    Udp {
        /// `source_port` (1).
        source_port: u16,
        /// `destination_port` (2).
        destination_port: u16,
    },
    /// `SCTP` (5).
    Sctp {
        /// `source_port` (1).
        source_port: u16,
        /// `destination_port` (2).
        destination_port: u16,
        /// `chunk_type` (3, since 1.20): of the first chunk.
        chunk_type: SctpChunkType,
    },
    /// `ICMPv4` (3).
    Icmpv4 {
        /// `type` (1).
        kind: u8,
        /// `code` (2).
        code: u8,
    },
    /// `ICMPv6` (4).
    Icmpv6 {
        /// `type` (1).
        kind: u8,
        /// `code` (2).
        code: u8,
    },
    /// `VRRP` (6), version 2.
    Vrrp {
        /// `type` (1).
        kind: u8,
        /// `vrid` (2).
        vrid: u8,
        /// `priority` (3).
        priority: u8,
    },
    /// `IGMP` (7), versions 1 to 3.
    Igmp {
        /// `type` (1).
        kind: u8,
        /// `group_address` (2).
        group_address: Ipv4Addr,
    },
}

impl L4 {
    /// Source and destination port; zeros for protocols without ports.
    #[must_use]
    pub const fn ports(self) -> (u16, u16) {
        match self {
            Self::Tcp {
                source_port,
                destination_port,
                ..
            }
            | Self::Udp {
                source_port,
                destination_port,
            }
            | Self::Sctp {
                source_port,
                destination_port,
                ..
            } => (source_port, destination_port),
            _ => (0, 0),
        }
    }

    /// The name of the oneof member: `TCP`, `UDP`, `SCTP`, `ICMPv4`, `ICMPv6`, `VRRP`, `IGMP`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp { .. } => "TCP",
            Self::Udp { .. } => "UDP",
            Self::Sctp { .. } => "SCTP",
            Self::Icmpv4 { .. } => "ICMPv4",
            Self::Icmpv6 { .. } => "ICMPv6",
            Self::Vrrp { .. } => "VRRP",
            Self::Igmp { .. } => "IGMP",
        }
    }
}

/// `flow.TCPFlags`: the nine flag bits of the TCP header, FIN lowest, NS highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(pub u16);

impl TcpFlags {
    /// `FIN` (1).
    pub const FIN: Self = Self(0x001);
    /// `SYN` (2).
    pub const SYN: Self = Self(0x002);
    /// `RST` (3).
    pub const RST: Self = Self(0x004);
    /// `PSH` (4).
    pub const PSH: Self = Self(0x008);
    /// `ACK` (5).
    pub const ACK: Self = Self(0x010);
    /// `URG` (6).
    pub const URG: Self = Self(0x020);
    /// `ECE` (7).
    pub const ECE: Self = Self(0x040);
    /// `CWR` (8).
    pub const CWR: Self = Self(0x080);
    /// `NS` (9).
    pub const NS: Self = Self(0x100);
    /// All flags with their names, by field number.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::FIN, "FIN"),
        (Self::SYN, "SYN"),
        (Self::RST, "RST"),
        (Self::PSH, "PSH"),
        (Self::ACK, "ACK"),
        (Self::URG, "URG"),
        (Self::ECE, "ECE"),
        (Self::CWR, "CWR"),
        (Self::NS, "NS"),
    ];

    /// True when all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// `flow.Tunnel`: the outer packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tunnel {
    /// `protocol` (1).
    pub protocol: TunnelProtocol,
    /// `IP` (2); never translated, never marked encrypted.
    pub ip: Option<Ip>,
    /// `l4` (3).
    pub l4: Option<L4>,
    /// `vni` (4, since 1.19).
    pub vni: u32,
}

/// `flow.Endpoint`: one end of the flow.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Endpoint {
    /// `ID` (1): endpoint id on this node; zero when it is not local.
    pub id: u32,
    /// `identity` (2): security identity; zero when unknown.
    pub identity: u32,
    /// `namespace` (3), `pod_name` (5) and `workloads` (6).
    pub pod: Option<Arc<Pod>>,
    /// `labels` (4) and `cluster_name` (7).
    pub labels: Option<Arc<Labels>>,
}

impl Endpoint {
    /// `namespace`; empty when unknown.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.pod.as_deref().map_or("", |pod| &pod.namespace)
    }

    /// `pod_name`; empty when unknown.
    #[must_use]
    pub fn pod_name(&self) -> &str {
        self.pod.as_deref().map_or("", |pod| &pod.name)
    }

    /// `workloads`; at most one in practice.
    #[must_use]
    pub fn workloads(&self) -> &[Workload] {
        self.pod.as_deref().map_or(&[], |pod| &pod.workloads)
    }

    /// `labels`, sorted bytewise.
    #[must_use]
    pub fn labels(&self) -> &[Box<str>] {
        self.labels.as_deref().map_or(&[], |labels| &labels.list)
    }

    /// `cluster_name`; empty when unknown.
    #[must_use]
    pub fn cluster_name(&self) -> &str {
        self.labels
            .as_deref()
            .map_or("", |labels| &labels.cluster_name)
    }
}

/// A pod, as far as the agent names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Pod {
    /// Kubernetes namespace.
    pub namespace: Box<str>,
    /// Pod name.
    pub name: Box<str>,
    /// The controller behind the pod; known for local pods only.
    pub workloads: Box<[Workload]>,
}

/// `flow.Workload`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Workload {
    /// `name` (1).
    pub name: Box<str>,
    /// `kind` (2): `Deployment`, `StatefulSet` …
    pub kind: Box<str>,
}

/// The labels of an identity or endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Labels {
    /// `source:key=value` or `source:key`, sorted bytewise; of several `cidr:` labels only the longest prefix.
    pub list: Box<[Box<str>]>,
    /// Value of the label `k8s:io.cilium.k8s.policy.cluster`.
    pub cluster_name: Box<str>,
}

/// `flow.Service`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Service {
    /// `name` (1).
    pub name: Box<str>,
    /// `namespace` (2).
    pub namespace: Box<str>,
}

/// `flow.NetworkInterface`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Interface {
    /// `index` (1): never zero.
    pub index: u32,
    /// `name` (2): absent when the node does not know the index.
    pub name: Option<Arc<str>>,
}

/// `flow.FileInfo`: where in Cilium's datapath a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BpfFile {
    /// `name` (1) as a number; [`texts::bpf_file_name`] has the text.
    pub id: u8,
    /// Which numbering `id` belongs to; it changed in 1.18 and 1.19.
    pub numbering: texts::FileNumbering,
    /// `line` (2).
    pub line: u16,
}

/// What `Summary` says; the numbers come from the other fields of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Summary {
    /// Nothing: no packet bytes, or nothing of an inner packet could be read.
    #[default]
    Empty,
    /// The packet ended after the Ethernet header.
    Ethernet,
    /// The packet ended after an IPv4 header.
    Ipv4,
    /// The packet ended after an IPv6 header.
    Ipv6,
    /// The layer-4 header, or the translated protocol of a socket flow.
    L4,
    /// A socket flow of a protocol that is neither TCP nor UDP.
    Unknown,
    /// The layer-7 record.
    L7,
}

/// The text form that Go's `net.IP` gives: as Rust's, but a v4-mapped IPv6 address is shown as IPv4.
#[must_use]
pub fn address_text(address: IpAddr) -> impl std::fmt::Display {
    address.to_canonical()
}
