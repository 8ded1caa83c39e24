//! What else the monitor socket says: agent events, debug messages and losses; and the event that a ring keeps.

use std::net::IpAddr;

use crate::model::flow::layer7::text_bytes;
use crate::model::flow::{AgentEventType, DebugEventType, Endpoint, Flow, Layer7, LostEventSource};

/// Everything that one message of the monitor socket can become.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "flows are nearly all of the events, and must not be boxed"
)]
pub enum CiliumEvent {
    /// Drop, trace, policy verdict, capture, socket trace, access log.
    Flow(Flow),
    /// Agent notification.
    Agent(AgentEvent),
    /// Debug message.
    Debug(DebugEvent),
    /// Events were lost before we could see them.
    Lost(LostEvent),
}

impl CiliumEvent {
    /// Bytes of memory that only this event takes, about; what it shares with others (names, labels, services) is left out.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let beside = match self {
            Self::Flow(flow) => flow.l7.as_deref().map_or(0, Layer7::bytes),
            Self::Agent(agent) => agent.notification.text_bytes(),
            Self::Debug(_) | Self::Lost(_) => 0,
        };
        size_of::<Self>() + beside
    }
}

/// `flow.LostEvent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LostEvent {
    /// When it was reported, nanoseconds since 1970.
    pub time_ns: u64,
    /// `source` (1).
    pub source: LostEventSource,
    /// `num_events_lost` (2).
    pub count: u64,
    /// `cpu` (3): of the perf ring; `None` for losses that belong to no CPU.
    pub cpu: Option<i32>,
    /// `first` (4) and `last` (5): nanoseconds since 1970; unset for perf losses.
    pub range_ns: Option<(u64, u64)>,
}

/// `flow.DebugEvent`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DebugEvent {
    /// When it was read, nanoseconds since 1970.
    pub time_ns: u64,
    /// `type` (1).
    pub kind: DebugEventType,
    /// `source` (2): absent for endpoint 0.
    pub source: Option<Endpoint>,
    /// `hash` (3): of the packet.
    pub hash: u32,
    /// `arg1` (4), `arg2` (5), `arg3` (6); `message` (7) is made of them.
    pub args: [u32; 3],
    /// `cpu` (8).
    pub cpu: i32,
}

/// `flow.AgentEvent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentEvent {
    /// When it was read, nanoseconds since 1970.
    pub time_ns: u64,
    /// `type` (1).
    pub kind: AgentEventType,
    /// The oneof `notification`.
    pub notification: AgentNotification,
}

/// The oneof `notification` of `flow.AgentEvent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentNotification {
    /// `unknown` (100): anything that the table of the monitor's types lacks.
    Unknown {
        /// `type` (1): the monitor's number, in decimal.
        kind: Box<str>,
        /// `notification` (2): the JSON as it came.
        notification: Box<str>,
    },
    /// `agent_start` (101).
    AgentStart {
        /// `time` (1): nanoseconds since 1970; absent when it could not be parsed.
        time_ns: Option<i64>,
    },
    /// `policy_update` (102).
    PolicyUpdate {
        /// `labels` (1).
        labels: Vec<Box<str>>,
        /// `revision` (2).
        revision: u64,
        /// `rule_count` (3).
        rule_count: i64,
    },
    /// `endpoint_regenerate` (103).
    EndpointRegenerate {
        /// `id` (1): endpoint id.
        id: u64,
        /// `labels` (2).
        labels: Vec<Box<str>>,
        /// `error` (3).
        error: Box<str>,
    },
    /// `endpoint_update` (104): created or deleted.
    EndpointUpdate {
        /// `id` (1): endpoint id.
        id: u64,
        /// `labels` (2).
        labels: Vec<Box<str>>,
        /// `error` (3).
        error: Box<str>,
        /// `pod_name` (4).
        pod_name: Box<str>,
        /// `namespace` (5).
        namespace: Box<str>,
    },
    /// `ipcache_update` (105).
    IpCache(IpCacheUpdate),
    /// `service_upsert` (106), agents up to 1.17.
    ServiceUpsert(ServiceUpsert),
    /// `service_delete` (107), agents up to 1.17.
    ServiceDelete {
        /// `id` (1).
        id: u32,
    },
}

impl AgentNotification {
    fn text_bytes(&self) -> usize {
        match self {
            Self::Unknown { kind, notification } => kind.len() + notification.len(),
            Self::PolicyUpdate { labels, .. } => text_bytes(labels),
            Self::EndpointRegenerate { labels, error, .. } => text_bytes(labels) + error.len(),
            Self::EndpointUpdate {
                labels,
                error,
                pod_name,
                namespace,
                ..
            } => text_bytes(labels) + error.len() + pod_name.len() + namespace.len(),
            Self::IpCache(update) => {
                update.cidr.len() + update.namespace.len() + update.pod_name.len()
            }
            Self::ServiceUpsert(service) => {
                size_of_val(service.backends.as_slice())
                    + service.name.len()
                    + service.namespace.len()
                    + service.kind.len()
            }
            Self::AgentStart { .. } | Self::ServiceDelete { .. } => 0,
        }
    }
}

/// `flow.IPCacheNotification`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct IpCacheUpdate {
    /// `cidr` (1).
    pub cidr: Box<str>,
    /// `identity` (2).
    pub identity: u32,
    /// `old_identity` (3).
    pub old_identity: Option<u32>,
    /// `host_ip` (4).
    pub host_ip: Option<IpAddr>,
    /// `old_host_ip` (5).
    pub old_host_ip: Option<IpAddr>,
    /// `encrypt_key` (6).
    pub encrypt_key: u8,
    /// `namespace` (7).
    pub namespace: Box<str>,
    /// `pod_name` (8).
    pub pod_name: Box<str>,
}

/// `flow.ServiceUpsertNotification`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ServiceUpsert {
    /// `id` (1).
    pub id: u32,
    /// `frontend_address` (2): address and port.
    pub frontend: Option<(IpAddr, u16)>,
    /// `backend_addresses` (3): address and port.
    pub backends: Vec<(IpAddr, u16)>,
    /// `type` (4).
    pub kind: Box<str>,
    /// `traffic_policy` (5), agents up to 1.16.
    pub traffic_policy: Box<str>,
    /// `name` (6).
    pub name: Box<str>,
    /// `namespace` (7).
    pub namespace: Box<str>,
    /// `ext_traffic_policy` (8).
    pub ext_traffic_policy: Box<str>,
    /// `int_traffic_policy` (9).
    pub int_traffic_policy: Box<str>,
}

/// `flow.LostEvent` sources as they stand in `hubble_lost_events_total{source}`.
#[must_use]
pub const fn lost_source_label(source: LostEventSource) -> &'static str {
    match source {
        LostEventSource::PERF_EVENT_RING_BUFFER => "perf_event_ring_buffer",
        LostEventSource::OBSERVER_EVENTS_QUEUE => "observer_events_queue",
        LostEventSource::HUBBLE_RING_BUFFER => "hubble_ring_buffer",
        _ => "unknown_lost_event_source",
    }
}
