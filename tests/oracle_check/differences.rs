//! Where netflume does not say what Hubble says, and why. Everything else is equal, field by field.

use super::compare::Difference;

/// A difference that is meant.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Releases for which it holds: the first text of each.
    pub(crate) release: &'static str,
    /// Stream of the fixtures; empty: any.
    pub(crate) stream: &'static str,
    /// Part of what the event was made to show; empty: any.
    pub(crate) what: &'static str,
    /// Path of the field; empty: any.
    pub(crate) path: &'static str,
    /// Why.
    pub(crate) reason: &'static str,
}

pub(crate) const LISTED: &[Listed] = &[
    listed(
        "",
        "",
        "",
        "flow.uuid",
        "a number of the event for its reader: random in Hubble, from a sequence here",
    ),
    listed(
        "",
        "other",
        "debug ",
        "debug_event.message",
        "a text for people, in our own words; Hubble's texts for 66 and 67 are one off",
    ),
    listed(
        "",
        "other",
        "debug ",
        "debug_event.source.workloads",
        "known here, left out by Hubble in debug events only",
    ),
    listed(
        "",
        "other",
        "debug 6",
        "debug_event.type",
        "67 and 68 have names since 1.20",
    ),
    listed(
        "",
        "",
        "sctp",
        "flow.l4.SCTP.chunk_type",
        "known here; Hubble has it since 1.20",
    ),
    listed(
        "",
        "agent",
        "",
        "agent_event",
        "texts that the agent never sends: handed on as unknown notifications; the program that asks Hubble refuses them",
    ),
    listed("", "agent", "", "error", "the same"),
    listed(
        "",
        "agent",
        "notification 1",
        "agent_event.type",
        "service notifications of agents up to 1.17, which these releases do not know any more",
    ),
    listed(
        "",
        "agent",
        "notification 1",
        "agent_event.unknown",
        "the same",
    ),
    listed(
        "",
        "agent",
        "notification 11",
        "agent_event.service_upsert",
        "the same",
    ),
    listed(
        "",
        "agent",
        "notification 12",
        "agent_event.service_delete",
        "the same",
    ),
    listed(
        "1.18",
        "packet",
        "vxlan",
        "flow.tunnel.vni",
        "known here; Hubble has it since 1.19",
    ),
    listed("1.18", "packet", "geneve", "flow.tunnel.vni", "the same"),
    listed(
        "",
        "odd",
        "drop reason 207",
        "flow.drop_reason_desc",
        "a name of 1.20",
    ),
    listed(
        "1.18",
        "odd",
        "vrrp",
        "",
        "read here; Hubble reads VRRP since 1.19, and since then drops the event when it is malformed",
    ),
    listed(
        "1.18",
        "odd",
        "igmp",
        "",
        "read here; Hubble reads IGMP since 1.19, and since then drops the event when it is cut off",
    ),
    listed(
        "",
        "odd",
        "a tunnel in a tunnel",
        "flow.tunnel.vni",
        "of the outer tunnel, whose addresses stand beside it; Hubble shows the inner one's",
    ),
    listed(
        "",
        "odd",
        "and padded",
        "",
        "the packet ends where the datapath says; Hubble takes the ring's padding for packet",
    ),
    listed(
        "",
        "odd",
        "of version",
        "",
        "of layouts newer than the release what is known is read; Hubble refuses them",
    ),
    listed(
        "",
        "odd",
        "dns",
        "flow.Summary",
        "a name of 1.20, or: the text is of the record that the flow shows, DNS; Hubble prints HTTP's beside DNS",
    ),
    listed("", "odd", "dns", "flow.l7.dns.qtypes.0", "a name of 1.20"),
    listed("", "odd", "dns", "flow.l7.dns.rrtypes.0", "a name of 1.20"),
    listed(
        "",
        "odd",
        "transport protocol 262",
        "flow.l4",
        "no protocol; Hubble looks at the low byte, which is TCP's",
    ),
    listed(
        "",
        "odd",
        "addresses that are none",
        "flow.IP.source",
        "left out; Hubble copies the text",
    ),
    listed(
        "",
        "odd",
        "addresses that are none",
        "flow.IP.destination",
        "the same",
    ),
    listed(
        "",
        "odd",
        "ip version 7",
        "",
        "a flow without addresses; Hubble crashes",
    ),
];

const fn listed(
    release: &'static str,
    stream: &'static str,
    what: &'static str,
    path: &'static str,
    reason: &'static str,
) -> Listed {
    Listed {
        release,
        stream,
        what,
        path,
        reason,
    }
}

impl Listed {
    pub(crate) fn covers(
        &self,
        release: &str,
        stream: &str,
        what: &str,
        difference: &Difference,
    ) -> bool {
        release.starts_with(self.release)
            && (self.stream.is_empty() || self.stream == stream)
            && what.contains(self.what)
            && (self.path.is_empty() || self.path == difference.path)
    }
}
