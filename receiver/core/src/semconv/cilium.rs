//! Names of Cilium's log records: `cilium.*` where OpenTelemetry has none.

/// Instrumentation scope.
pub const SCOPE: &str = "netflume.cilium";

/// `event_name` of each kind of record.
pub mod event {
    /// A packet was dropped.
    pub const DROP: &str = "cilium.drop";
    /// A packet passed an observation point.
    pub const TRACE: &str = "cilium.trace";
    /// Network policy decided.
    pub const POLICY_VERDICT: &str = "cilium.policy_verdict";
    /// A packet was captured for debugging.
    pub const CAPTURE: &str = "cilium.capture";
    /// A socket's destination was translated.
    pub const SOCKET: &str = "cilium.socket";
    /// A proxy's access log.
    pub const L7: &str = "cilium.l7";
    /// A debug message of the datapath.
    pub const DEBUG: &str = "cilium.debug";
    /// A notification of the agent.
    pub const AGENT: &str = "cilium.agent";
    /// Events were lost before we saw them.
    pub const LOST: &str = "cilium.lost";
}

/// Attributes beside the body.
pub mod attribute {
    /// Name of `flow.Verdict`.
    pub const VERDICT: &str = "cilium.verdict";
    /// Name of `flow.DropReason`; drops only.
    pub const DROP_REASON: &str = "cilium.drop_reason";
    /// Name of `flow.TrafficDirection`.
    pub const TRAFFIC_DIRECTION: &str = "cilium.traffic_direction";
    /// Security identity of the source.
    pub const SOURCE_IDENTITY: &str = "cilium.source.identity";
    /// Security identity of the destination.
    pub const DESTINATION_IDENTITY: &str = "cilium.destination.identity";
    /// How many events were lost.
    pub const LOST_COUNT: &str = "cilium.lost.count";
    /// Where they were lost: name of `flow.LostEventSource`.
    pub const LOST_SOURCE: &str = "cilium.lost.source";
    /// `source.address`.
    pub const SOURCE_ADDRESS: &str = "source.address";
    /// `source.port`.
    pub const SOURCE_PORT: &str = "source.port";
    /// `destination.address`.
    pub const DESTINATION_ADDRESS: &str = "destination.address";
    /// `destination.port`.
    pub const DESTINATION_PORT: &str = "destination.port";
}
