//! Hubble's enumerations: numbers as on the wire, names as in the protobuf schema of Cilium 1.20.2.
//!
//! All are open: a number that no version names is kept and shown in decimal, as protobuf does.

use std::fmt;

macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident($int:ty) { $($konst:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub $int);

        #[allow(non_upper_case_globals, reason = "the names are the schema's")]
        impl $name {
            $(#[doc = concat!("`", stringify!($konst), "`.")] pub const $konst: Self = Self($value);)*
            /// All named values, by number.
            pub const ALL: &'static [Self] = &[$(Self::$konst,)*];

            /// The name in the schema; `None` for a number that has none.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($konst)),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "{}", self.0),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

open_enum! {
    /// `flow.Verdict`.
    Verdict(u8) {
        VERDICT_UNKNOWN = 0,
        FORWARDED = 1,
        DROPPED = 2,
        ERROR = 3,
        AUDIT = 4,
        REDIRECTED = 5,
        TRACED = 6,
        TRANSLATED = 7,
    }
}

open_enum! {
    /// `flow.DropReason`: any number; below 130 they are not drops. Hubble names that no longer say what the datapath means: 136, 161.
    DropReason(u32) {
        DROP_REASON_UNKNOWN = 0,
        INVALID_SOURCE_MAC = 130,
        INVALID_DESTINATION_MAC = 131,
        INVALID_SOURCE_IP = 132,
        POLICY_DENIED = 133,
        INVALID_PACKET_DROPPED = 134,
        CT_TRUNCATED_OR_INVALID_HEADER = 135,
        CT_MISSING_TCP_ACK_FLAG = 136,
        CT_UNKNOWN_L4_PROTOCOL = 137,
        CT_CANNOT_CREATE_ENTRY_FROM_PACKET = 138,
        UNSUPPORTED_L3_PROTOCOL = 139,
        MISSED_TAIL_CALL = 140,
        ERROR_WRITING_TO_PACKET = 141,
        UNKNOWN_L4_PROTOCOL = 142,
        UNKNOWN_ICMPV4_CODE = 143,
        UNKNOWN_ICMPV4_TYPE = 144,
        UNKNOWN_ICMPV6_CODE = 145,
        UNKNOWN_ICMPV6_TYPE = 146,
        ERROR_RETRIEVING_TUNNEL_KEY = 147,
        ERROR_RETRIEVING_TUNNEL_OPTIONS = 148,
        INVALID_GENEVE_OPTION = 149,
        UNKNOWN_L3_TARGET_ADDRESS = 150,
        STALE_OR_UNROUTABLE_IP = 151,
        NO_MATCHING_LOCAL_CONTAINER_FOUND = 152,
        ERROR_WHILE_CORRECTING_L3_CHECKSUM = 153,
        ERROR_WHILE_CORRECTING_L4_CHECKSUM = 154,
        CT_MAP_INSERTION_FAILED = 155,
        INVALID_IPV6_EXTENSION_HEADER = 156,
        IP_FRAGMENTATION_NOT_SUPPORTED = 157,
        SERVICE_BACKEND_NOT_FOUND = 158,
        NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT = 160,
        FAILED_TO_INSERT_INTO_PROXYMAP = 161,
        REACHED_EDT_RATE_LIMITING_DROP_HORIZON = 162,
        UNKNOWN_CONNECTION_TRACKING_STATE = 163,
        LOCAL_HOST_IS_UNREACHABLE = 164,
        NO_CONFIGURATION_AVAILABLE_TO_PERFORM_POLICY_DECISION = 165,
        UNSUPPORTED_L2_PROTOCOL = 166,
        NO_MAPPING_FOR_NAT_MASQUERADE = 167,
        UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE = 168,
        FIB_LOOKUP_FAILED = 169,
        ENCAPSULATION_TRAFFIC_IS_PROHIBITED = 170,
        INVALID_IDENTITY = 171,
        UNKNOWN_SENDER = 172,
        NAT_NOT_NEEDED = 173,
        IS_A_CLUSTERIP = 174,
        FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND = 175,
        FORBIDDEN_ICMPV6_MESSAGE = 176,
        DENIED_BY_LB_SRC_RANGE_CHECK = 177,
        SOCKET_LOOKUP_FAILED = 178,
        SOCKET_ASSIGN_FAILED = 179,
        PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL = 180,
        POLICY_DENY = 181,
        VLAN_FILTERED = 182,
        INVALID_VNI = 183,
        INVALID_TC_BUFFER = 184,
        NO_SID = 185,
        MISSING_SRV6_STATE = 186,
        NAT46 = 187,
        NAT64 = 188,
        AUTH_REQUIRED = 189,
        CT_NO_MAP_FOUND = 190,
        SNAT_NO_MAP_FOUND = 191,
        INVALID_CLUSTER_ID = 192,
        UNSUPPORTED_PROTOCOL_FOR_DSR_ENCAP = 193,
        NO_EGRESS_GATEWAY = 194,
        UNENCRYPTED_TRAFFIC = 195,
        TTL_EXCEEDED = 196,
        NO_NODE_ID = 197,
        DROP_RATE_LIMITED = 198,
        IGMP_HANDLED = 199,
        IGMP_SUBSCRIBED = 200,
        MULTICAST_HANDLED = 201,
        DROP_HOST_NOT_READY = 202,
        DROP_EP_NOT_READY = 203,
        DROP_NO_EGRESS_IP = 204,
        DROP_PUNT_PROXY = 205,
        DROP_FRAG_NOT_FOUND_WORLD = 207,
    }
}

open_enum! {
    /// `flow.AuthType`.
    AuthType(u8) {
        DISABLED = 0,
        SPIRE = 1,
        TEST_ALWAYS_FAIL = 2,
    }
}

open_enum! {
    /// `flow.FlowType`.
    FlowType(u8) {
        UNKNOWN_TYPE = 0,
        L3_L4 = 1,
        L7 = 2,
        SOCK = 3,
    }
}

open_enum! {
    /// `flow.TrafficDirection`.
    TrafficDirection(u8) {
        TRAFFIC_DIRECTION_UNKNOWN = 0,
        INGRESS = 1,
        EGRESS = 2,
    }
}

open_enum! {
    /// `flow.TraceObservationPoint`: the datapath's number, but 101 for its 0.
    TraceObservationPoint(u8) {
        UNKNOWN_POINT = 0,
        TO_PROXY = 1,
        TO_HOST = 2,
        TO_STACK = 3,
        TO_OVERLAY = 4,
        FROM_ENDPOINT = 5,
        FROM_PROXY = 6,
        FROM_HOST = 7,
        FROM_STACK = 8,
        FROM_OVERLAY = 9,
        FROM_NETWORK = 10,
        TO_NETWORK = 11,
        FROM_CRYPTO = 12,
        TO_CRYPTO = 13,
        TO_ENDPOINT = 101,
    }
}

open_enum! {
    /// `flow.TraceReason`: not the datapath's numbers.
    TraceReason(u8) {
        TRACE_REASON_UNKNOWN = 0,
        NEW = 1,
        ESTABLISHED = 2,
        REPLY = 3,
        RELATED = 4,
        REOPENED = 5,
        SRV6_ENCAP = 6,
        SRV6_DECAP = 7,
        ENCRYPT_OVERLAY = 8,
    }
}

open_enum! {
    /// `flow.DebugCapturePoint`.
    DebugCapturePoint(u8) {
        DBG_CAPTURE_POINT_UNKNOWN = 0,
        DBG_CAPTURE_DELIVERY = 4,
        DBG_CAPTURE_FROM_LB = 5,
        DBG_CAPTURE_AFTER_V46 = 6,
        DBG_CAPTURE_AFTER_V64 = 7,
        DBG_CAPTURE_PROXY_PRE = 8,
        DBG_CAPTURE_PROXY_POST = 9,
        DBG_CAPTURE_SNAT_PRE = 10,
        DBG_CAPTURE_SNAT_POST = 11,
    }
}

open_enum! {
    /// `flow.SocketTranslationPoint`.
    SocketTranslationPoint(u8) {
        SOCK_XLATE_POINT_UNKNOWN = 0,
        SOCK_XLATE_POINT_PRE_DIRECTION_FWD = 1,
        SOCK_XLATE_POINT_POST_DIRECTION_FWD = 2,
        SOCK_XLATE_POINT_PRE_DIRECTION_REV = 3,
        SOCK_XLATE_POINT_POST_DIRECTION_REV = 4,
    }
}

open_enum! {
    /// `flow.L7FlowType`.
    L7FlowType(u8) {
        UNKNOWN_L7_TYPE = 0,
        REQUEST = 1,
        RESPONSE = 2,
        SAMPLE = 3,
    }
}

open_enum! {
    /// `flow.IPVersion`.
    IpVersion(u8) {
        IP_NOT_USED = 0,
        IPv4 = 1,
        IPv6 = 2,
    }
}

open_enum! {
    /// `flow.SCTPChunkType`: not the numbers of RFC 9260.
    SctpChunkType(u8) {
        UNSUPPORTED = 0,
        INIT = 1,
        INIT_ACK = 2,
        SHUTDOWN = 3,
        SHUTDOWN_ACK = 4,
        SHUTDOWN_COMPLETE = 5,
        ABORT = 6,
    }
}

open_enum! {
    /// `flow.Tunnel.Protocol`.
    TunnelProtocol(u8) {
        UNKNOWN = 0,
        VXLAN = 1,
        GENEVE = 2,
    }
}

open_enum! {
    /// `flow.LostEventSource`.
    LostEventSource(u8) {
        UNKNOWN_LOST_EVENT_SOURCE = 0,
        PERF_EVENT_RING_BUFFER = 1,
        OBSERVER_EVENTS_QUEUE = 2,
        HUBBLE_RING_BUFFER = 3,
    }
}

open_enum! {
    /// `flow.AgentEventType`: not the numbers of the monitor socket.
    AgentEventType(u8) {
        AGENT_EVENT_UNKNOWN = 0,
        AGENT_STARTED = 2,
        POLICY_UPDATED = 3,
        POLICY_DELETED = 4,
        ENDPOINT_REGENERATE_SUCCESS = 5,
        ENDPOINT_REGENERATE_FAILURE = 6,
        ENDPOINT_CREATED = 7,
        ENDPOINT_DELETED = 8,
        IPCACHE_UPSERTED = 9,
        IPCACHE_DELETED = 10,
        SERVICE_UPSERTED = 11,
        SERVICE_DELETED = 12,
    }
}

open_enum! {
    /// `flow.DebugEventType`: the datapath's number.
    DebugEventType(u8) {
        DBG_EVENT_UNKNOWN = 0,
        DBG_GENERIC = 1,
        DBG_LOCAL_DELIVERY = 2,
        DBG_ENCAP = 3,
        DBG_LXC_FOUND = 4,
        DBG_POLICY_DENIED = 5,
        DBG_CT_LOOKUP = 6,
        DBG_CT_LOOKUP_REV = 7,
        DBG_CT_MATCH = 8,
        DBG_CT_CREATED = 9,
        DBG_CT_CREATED2 = 10,
        DBG_ICMP6_HANDLE = 11,
        DBG_ICMP6_REQUEST = 12,
        DBG_ICMP6_NS = 13,
        DBG_ICMP6_TIME_EXCEEDED = 14,
        DBG_CT_VERDICT = 15,
        DBG_DECAP = 16,
        DBG_PORT_MAP = 17,
        DBG_ERROR_RET = 18,
        DBG_TO_HOST = 19,
        DBG_TO_STACK = 20,
        DBG_PKT_HASH = 21,
        DBG_LB6_LOOKUP_FRONTEND = 22,
        DBG_LB6_LOOKUP_FRONTEND_FAIL = 23,
        DBG_LB6_LOOKUP_BACKEND_SLOT = 24,
        DBG_LB6_LOOKUP_BACKEND_SLOT_SUCCESS = 25,
        DBG_LB6_LOOKUP_BACKEND_SLOT_V2_FAIL = 26,
        DBG_LB6_LOOKUP_BACKEND_FAIL = 27,
        DBG_LB6_REVERSE_NAT_LOOKUP = 28,
        DBG_LB6_REVERSE_NAT = 29,
        DBG_LB4_LOOKUP_FRONTEND = 30,
        DBG_LB4_LOOKUP_FRONTEND_FAIL = 31,
        DBG_LB4_LOOKUP_BACKEND_SLOT = 32,
        DBG_LB4_LOOKUP_BACKEND_SLOT_SUCCESS = 33,
        DBG_LB4_LOOKUP_BACKEND_SLOT_V2_FAIL = 34,
        DBG_LB4_LOOKUP_BACKEND_FAIL = 35,
        DBG_LB4_REVERSE_NAT_LOOKUP = 36,
        DBG_LB4_REVERSE_NAT = 37,
        DBG_LB4_LOOPBACK_SNAT = 38,
        DBG_LB4_LOOPBACK_SNAT_REV = 39,
        DBG_CT_LOOKUP4 = 40,
        DBG_RR_BACKEND_SLOT_SEL = 41,
        DBG_REV_PROXY_LOOKUP = 42,
        DBG_REV_PROXY_FOUND = 43,
        DBG_REV_PROXY_UPDATE = 44,
        DBG_L4_POLICY = 45,
        DBG_NETDEV_IN_CLUSTER = 46,
        DBG_NETDEV_ENCAP4 = 47,
        DBG_CT_LOOKUP4_1 = 48,
        DBG_CT_LOOKUP4_2 = 49,
        DBG_CT_CREATED4 = 50,
        DBG_CT_LOOKUP6_1 = 51,
        DBG_CT_LOOKUP6_2 = 52,
        DBG_CT_CREATED6 = 53,
        DBG_SKIP_PROXY = 54,
        DBG_L4_CREATE = 55,
        DBG_IP_ID_MAP_FAILED4 = 56,
        DBG_IP_ID_MAP_FAILED6 = 57,
        DBG_IP_ID_MAP_SUCCEED4 = 58,
        DBG_IP_ID_MAP_SUCCEED6 = 59,
        DBG_LB_STALE_CT = 60,
        DBG_INHERIT_IDENTITY = 61,
        DBG_SK_LOOKUP4 = 62,
        DBG_SK_LOOKUP6 = 63,
        DBG_SK_ASSIGN = 64,
        DBG_L7_LB = 65,
        DBG_SKIP_POLICY = 66,
        DBG_LB6_LOOPBACK_SNAT = 67,
        DBG_LB6_LOOPBACK_SNAT_REV = 68,
    }
}

/// Message types of the monitor socket: the first byte of an event.
pub mod message_type {
    /// A packet was dropped.
    pub const DROP: u8 = 1;
    /// Debug message without a packet.
    pub const DEBUG: u8 = 2;
    /// Debug message with a packet.
    pub const CAPTURE: u8 = 3;
    /// A packet passed an observation point.
    pub const TRACE: u8 = 4;
    /// First packet of a connection was judged by policy.
    pub const POLICY_VERDICT: u8 = 5;
    /// Packet recorder (up to 1.18); Hubble ignores it.
    pub const RECORDER: u8 = 6;
    /// Socket-level service translation.
    pub const TRACE_SOCK: u8 = 7;
    /// Access log of a proxy.
    pub const ACCESS_LOG: u8 = 129;
    /// Notification of the agent.
    pub const AGENT: u8 = 130;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_a_name_is_shown_in_decimal() {
        assert_eq!(DropReason(206).to_string(), "206");
        assert_eq!(DropReason(133).to_string(), "POLICY_DENIED");
        assert_eq!(
            TraceObservationPoint::TO_ENDPOINT,
            TraceObservationPoint(101)
        );
        assert_eq!(IpVersion::IPv4.name(), Some("IPv4"));
    }
}
