//! Numbers in the monitor's and Hubble's words, where the protobuf schema has no name for them.

/// What the monitor calls an observation point (`to-endpoint`), by the datapath's number ([`super::EventType::sub_type`]).
#[must_use]
pub const fn observation_point_name(raw: u8) -> Option<&'static str> {
    Some(match raw {
        0 => "to-endpoint",
        1 => "to-proxy",
        2 => "to-host",
        3 => "to-stack",
        4 => "to-overlay",
        5 => "from-endpoint",
        6 => "from-proxy",
        7 => "from-host",
        8 => "from-stack",
        9 => "from-overlay",
        10 => "from-network",
        11 => "to-network",
        12 => "from-crypto",
        13 => "to-crypto",
        _ => return None,
    })
}

/// What the monitor calls a policy match type; lower case it in metrics.
#[must_use]
pub const fn policy_match_name(match_type: u8) -> &'static str {
    match match_type {
        0 => "none",
        1 => "L3-Only",
        2 => "L3-L4",
        3 => "L4-Only",
        4 => "all",
        5 => "L3-Proto",
        6 => "Proto-Only",
        _ => "unknown",
    }
}

/// The monitor's text for a drop reason, plainer than the enumeration's name.
#[must_use]
pub const fn drop_reason_text(code: u32) -> Option<&'static str> {
    Some(match code {
        0 => "Success",
        2 => "Invalid packet",
        3 => "Interface",
        4 => "Interface Decrypted",
        5 => "LB, sock cgroup: No backend slot entry found",
        6 => "LB, sock cgroup: No backend entry found",
        7 => "LB, sock cgroup: Reverse entry update failed",
        8 => "LB, sock cgroup: Reverse entry stale",
        9 => "Fragmented packet",
        10 => "Fragmented packet entry update failed",
        11 => "Missed tail call to custom program",
        12 => "Interface Decrypting",
        13 => "Interface Encrypting",
        14 => "LB: sock cgroup: Reverse entry delete succeeded",
        15 => "MTU error message",
        130 => "Invalid source mac",
        131 => "Invalid destination mac",
        132 => "Invalid source ip",
        133 => "Policy denied",
        134 => "Invalid packet",
        135 => "CT: Truncated or invalid header",
        136 => "Fragmentation needed",
        137 => "CT: Unknown L4 protocol",
        138 => "CT: Can't create entry from packet",
        139 => "Unsupported L3 protocol",
        140 => "Missed tail call",
        141 => "Error writing to packet",
        142 => "Unknown L4 protocol",
        143 => "Unknown ICMPv4 code",
        144 => "Unknown ICMPv4 type",
        145 => "Unknown ICMPv6 code",
        146 => "Unknown ICMPv6 type",
        147 => "Error retrieving tunnel key",
        148 => "Error retrieving tunnel options",
        149 => "Invalid Geneve option",
        150 => "Unknown L3 target address",
        151 => "Stale or unroutable IP",
        152 => "No matching local container found",
        153 => "Error while correcting L3 checksum",
        154 => "Error while correcting L4 checksum",
        155 => "CT: Map insertion failed",
        156 => "Invalid IPv6 extension header",
        157 => "IP fragmentation not supported",
        158 => "Service backend not found",
        160 => "No tunnel/encapsulation endpoint (datapath BUG!)",
        161 => "NAT 46/64 not enabled",
        162 => "Reached EDT rate-limiting drop horizon",
        163 => "Unknown connection tracking state",
        164 => "Local host is unreachable",
        165 => "No configuration available to perform policy decision",
        166 => "Unsupported L2 protocol",
        167 => "No mapping for NAT masquerade",
        168 => "Unsupported protocol for NAT masquerade",
        169 => "FIB lookup failed",
        170 => "Encapsulation traffic is prohibited",
        171 => "Invalid identity",
        172 => "Unknown sender",
        173 => "NAT not needed",
        174 => "Is a ClusterIP",
        175 => "First logical datagram fragment not found",
        176 => "Forbidden ICMPv6 message",
        177 => "Denied by LB src range check",
        178 => "Socket lookup failed",
        179 => "Socket assign failed",
        180 => "Proxy redirection not supported for protocol",
        181 => "Policy denied by denylist",
        182 => "VLAN traffic disallowed by VLAN filter",
        183 => "Incorrect VNI from VTEP",
        184 => "Failed to update or lookup TC buffer",
        185 => "No SID was found for the IP address",
        186 => "SRv6 state was removed during tail call",
        187 => "L3 translation from IPv4 to IPv6 failed (NAT46)",
        188 => "L3 translation from IPv6 to IPv4 failed (NAT64)",
        189 => "Authentication required",
        190 => "No conntrack map found",
        191 => "No nat map found",
        192 => "Invalid ClusterID",
        193 => "Unsupported packet protocol for DSR encapsulation",
        194 => "No egress gateway found",
        195 => "Traffic is unencrypted",
        196 => "TTL exceeded",
        197 => "No node ID found",
        198 => "Rate limited",
        199 => "IGMP handled",
        200 => "IGMP subscribed",
        201 => "Multicast handled",
        202 => "Host datapath not ready",
        203 => "Endpoint policy program not available",
        204 => "No Egress IP configured",
        205 => "Punt to proxy",
        206 => "No device",
        207 => "First logical datagram fragment not found from world",
        _ => return None,
    })
}

/// Names of DNS record types that Hubble knows; `None` is shown as `Unknown`.
#[must_use]
pub const fn dns_type_name(number: u16) -> Option<&'static str> {
    Some(match number {
        1 => "A",
        2 => "NS",
        3 => "MD",
        4 => "MF",
        5 => "CNAME",
        6 => "SOA",
        7 => "MB",
        8 => "MG",
        9 => "MR",
        10 => "NULL",
        11 => "WKS",
        12 => "PTR",
        13 => "HINFO",
        14 => "MINFO",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        35 => "NAPTR",
        41 => "OPT",
        46 => "RRSIG",
        48 => "DNSKEY",
        64 => "SVCB",
        65 => "HTTPS",
        256 => "URI",
        _ => return None,
    })
}

/// Which numbering the source file of a drop event follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum FileNumbering {
    /// Agent 1.14: five headers only.
    V0,
    /// Agents 1.15 to 1.17: drop version 1, as that of 1.14.
    V1,
    /// Agent 1.18: drop version 2.
    V2,
    /// Agents from 1.19: drop version 3.
    #[default]
    V3,
}

/// The BPF source file with this number; `None` is shown as `unknown(n)`.
#[must_use]
pub const fn bpf_file_name(id: u8, numbering: FileNumbering) -> Option<&'static str> {
    Some(match (id, numbering) {
        (1, _) => "bpf_host.c",
        (2, _) => "bpf_lxc.c",
        (3, _) => "bpf_overlay.c",
        (4, _) => "bpf_xdp.c",
        (5, _) => "bpf_sock.c",
        (6, _) => "bpf_network.c",
        (7, _) => "bpf_wireguard.c",
        (101, FileNumbering::V0) => "arp.h",
        (102, FileNumbering::V0) => "drop.h",
        (103, FileNumbering::V0) => "egress_policies.h",
        (104, FileNumbering::V0) => "icmp6.h",
        (105, FileNumbering::V0) => "nodeport.h",
        (101, FileNumbering::V1 | FileNumbering::V2) => "arp.h",
        (101, FileNumbering::V3) => "drop.h",
        (102, FileNumbering::V1 | FileNumbering::V2) => "drop.h",
        (102, FileNumbering::V3) => "srv6.h",
        (103, FileNumbering::V1 | FileNumbering::V2) => "srv6.h",
        (103, FileNumbering::V3) => "icmp6.h",
        (104, FileNumbering::V1 | FileNumbering::V2) => "icmp6.h",
        (104, FileNumbering::V3) => "nodeport.h",
        (105, FileNumbering::V1 | FileNumbering::V2) => "nodeport.h",
        (105, FileNumbering::V3) => "lb.h",
        (106, FileNumbering::V1 | FileNumbering::V2) => "lb.h",
        (106, FileNumbering::V3) => "mcast.h",
        (107, FileNumbering::V1 | FileNumbering::V2) => "mcast.h",
        (107, FileNumbering::V3) => "ipv4.h",
        (108, FileNumbering::V1 | FileNumbering::V2) => "ipv4.h",
        (108, FileNumbering::V3) => "conntrack.h",
        (109, FileNumbering::V1 | FileNumbering::V2) => "conntrack.h",
        (109, FileNumbering::V3) => "local_delivery.h",
        (110, FileNumbering::V1) => "l3.h",
        (110, FileNumbering::V2) => "local_delivery.h",
        (110, FileNumbering::V3) => "trace.h",
        (111, FileNumbering::V1 | FileNumbering::V2) => "trace.h",
        (111, FileNumbering::V3) => "encap.h",
        (112, FileNumbering::V1 | FileNumbering::V2) => "encap.h",
        (112, FileNumbering::V3) => "host_firewall.h",
        (113, FileNumbering::V1 | FileNumbering::V2) => "encrypt.h",
        (113, FileNumbering::V3) => "nodeport_egress.h",
        (114, FileNumbering::V1 | FileNumbering::V2) => "host_firewall.h",
        (114, FileNumbering::V3) => "ipv6.h",
        (115, FileNumbering::V1 | FileNumbering::V2) => "nodeport_egress.h",
        (115, FileNumbering::V3) => "classifiers.h",
        (116, FileNumbering::V2) => "ipv6.h",
        (117, FileNumbering::V2) => "classifiers.h",
        _ => return None,
    })
}

/// ICMP type and code in words (`EchoReply`, `DestinationUnreachable(Port)`), as `Summary` and the `icmp` metric show them:
/// `Name(Code: n)` for a code without a text, `type(code)` for a type without a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpText {
    /// ICMPv6 instead of ICMPv4.
    pub v6: bool,
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
}

impl std::fmt::Display for IcmpText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, code) = (self.kind, self.code);
        let Some((name, details)) = (if self.v6 {
            icmpv6_type(kind)
        } else {
            icmpv4_type(kind)
        }) else {
            return write!(f, "{kind}({code})");
        };
        match details.get(usize::from(code)) {
            Some(detail) => write!(f, "{name}({detail})"),
            None if code == 0 => f.write_str(name),
            None => write!(f, "{name}(Code: {code})"),
        }
    }
}

type IcmpType = (&'static str, &'static [&'static str]);

const fn icmpv4_type(kind: u8) -> Option<IcmpType> {
    Some(match kind {
        0 => ("EchoReply", &[]),
        3 => (
            "DestinationUnreachable",
            &[
                "Net",
                "Host",
                "Protocol",
                "Port",
                "FragmentationNeeded",
                "SourceRoutingFailed",
                "NetUnknown",
                "HostUnknown",
                "SourceIsolated",
                "NetAdminProhibited",
                "HostAdminProhibited",
                "NetTOS",
                "HostTOS",
                "CommAdminProhibited",
                "HostPrecedence",
                "PrecedenceCutoff",
            ],
        ),
        4 => ("SourceQuench", &[]),
        5 => ("Redirect", &["Net", "Host", "TOS+Net", "TOS+Host"]),
        8 => ("EchoRequest", &[]),
        9 => ("RouterAdvertisement", &[]),
        10 => ("RouterSolicitation", &[]),
        11 => (
            "TimeExceeded",
            &["TTLExceeded", "FragmentReassemblyTimeExceeded"],
        ),
        12 => (
            "ParameterProblem",
            &["PointerIndicatesError", "MissingOption", "BadLength"],
        ),
        13 => ("TimestampRequest", &[]),
        14 => ("TimestampReply", &[]),
        15 => ("InfoRequest", &[]),
        16 => ("InfoReply", &[]),
        17 => ("AddressMaskRequest", &[]),
        18 => ("AddressMaskReply", &[]),
        _ => return None,
    })
}

const fn icmpv6_type(kind: u8) -> Option<IcmpType> {
    Some(match kind {
        1 => (
            "DestinationUnreachable",
            &[
                "NoRouteToDst",
                "AdminProhibited",
                "BeyondScopeOfSrc",
                "AddressUnreachable",
                "PortUnreachable",
                "SrcAddressFailedPolicy",
                "RejectRouteToDst",
            ],
        ),
        2 => ("PacketTooBig", &[]),
        3 => (
            "TimeExceeded",
            &["HopLimitExceeded", "FragmentReassemblyTimeExceeded"],
        ),
        4 => (
            "ParameterProblem",
            &[
                "ErroneousHeaderField",
                "UnrecognizedNextHeader",
                "UnrecognizedIPv6Option",
            ],
        ),
        128 => ("EchoRequest", &[]),
        129 => ("EchoReply", &[]),
        133 => ("RouterSolicitation", &[]),
        134 => ("RouterAdvertisement", &[]),
        135 => ("NeighborSolicitation", &[]),
        136 => ("NeighborAdvertisement", &[]),
        137 => ("Redirect", &[]),
        _ => return None,
    })
}

/// DNS response codes in words, as `Summary` shows them. (The `dns` metric has a table of its own.)
#[must_use]
pub const fn dns_rcode_text(rcode: u32) -> &'static str {
    match rcode {
        0 => "No Error",
        1 => "Format Error",
        2 => "Server Failure",
        3 => "Non-Existent Domain",
        4 => "Not Implemented",
        5 => "Query Refused",
        6 => "Name Exists when it should not",
        7 => "RR Set Exists when it should not",
        8 => "RR Set that should exist does not",
        9 => "Server Not Authoritative for zone",
        10 => "Name not contained in zone",
        16 => "Bad OPT Version",
        17 => "Key not recognized",
        18 => "Signature out of time window",
        19 => "Bad TKEY Mode",
        20 => "Duplicate key name",
        21 => "Algorithm not supported",
        22 => "Bad Truncation",
        23 => "Bad Cookie",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_numbers_follow_the_drop_version() {
        assert_eq!(bpf_file_name(101, FileNumbering::V1), Some("arp.h"));
        assert_eq!(
            bpf_file_name(110, FileNumbering::V2),
            Some("local_delivery.h")
        );
        assert_eq!(bpf_file_name(101, FileNumbering::V3), Some("drop.h"));
        assert_eq!(bpf_file_name(117, FileNumbering::V3), None);
    }

    #[test]
    fn icmp_texts_have_four_forms() {
        let text = |v6, kind, code| IcmpText { v6, kind, code }.to_string();
        assert_eq!(text(false, 8, 0), "EchoRequest");
        assert_eq!(text(false, 3, 3), "DestinationUnreachable(Port)");
        assert_eq!(text(true, 128, 7), "EchoRequest(Code: 7)");
        assert_eq!(text(true, 200, 7), "200(7)");
    }
}
