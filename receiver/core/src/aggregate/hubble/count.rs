//! One flow into the series of one plugin. Rules of Cilium `pkg/hubble/metrics/*/handler.go` (1.19; `sctp` of 1.20).

use super::key::Key;
use super::plugin::{Plugin, Series};
use super::store::{Counter, Family, Histogram};
use crate::model::flow::message_type::{ACCESS_LOG, CAPTURE, DROP, POLICY_VERDICT, TRACE};
use crate::model::flow::texts::{
    IcmpText, dns_type_name, observation_point_name, policy_match_name,
};
use crate::model::flow::{
    Dns, DropReason, Flow, Http, L4, L7FlowType, L7Record, Layer7, Node, SctpChunkType, TcpFlags,
    TraceParent, TrafficDirection, Verdict,
};

/// The identity of the node's own host.
const HOST_IDENTITY: u32 = 1;

impl Plugin {
    /// Counts a flow, if it is one of the plugin's.
    pub(super) fn count(&mut self, flow: &Flow, node: &Node, key: &mut Key) {
        let Self {
            contexts,
            filters,
            series,
            ..
        } = self;
        let passes = || filters.is_empty() || filters.pass(flow, node);
        let forwarded = matches!(flow.verdict, Verdict::FORWARDED | Verdict::REDIRECTED);
        key.clear();
        match series {
            Series::Drop(family) => {
                if flow.verdict == Verdict::DROPPED && passes() {
                    contexts.write(flow, false, key);
                    drop_reason(flow.drop_reason, key);
                    key.value(protocol(flow));
                    add(family, flow, key);
                }
            }
            Series::Flow(family) => {
                if passes() {
                    contexts.write(flow, false, key);
                    key.value(protocol(flow));
                    event_type(flow, key);
                    verdict(flow, key);
                    key.end_value();
                    add(family, flow, key);
                }
            }
            Series::Tcp(family) => {
                let (
                    Some(ip),
                    Some(L4::Tcp {
                        flags: Some(flags), ..
                    }),
                ) = (&flow.ip, flow.l4)
                else {
                    return;
                };
                if forwarded
                    && flags.0 & (TcpFlags::FIN.0 | TcpFlags::SYN.0 | TcpFlags::RST.0) != 0
                    && passes()
                {
                    contexts.write(flow, false, key);
                    key.value(ip.version.name().unwrap_or(""));
                    tcp_flags(flags, family, flow, key);
                }
            }
            Series::Dns {
                with_query,
                ignore_aaaa,
                queries,
                responses,
                response_types,
            } => {
                let Some(L7Record::Dns(dns)) = flow.l7_record() else {
                    return;
                };
                if (*ignore_aaaa && dns.qtypes == [28]) || !passes() {
                    return;
                }
                contexts.write(flow, false, key);
                let start = key.len();
                let query = with_query.then_some(&*dns.query);
                if flow.verdict == Verdict::DROPPED {
                    dns_message("Policy denied", dns, query, key);
                    add(queries, flow, key);
                } else if flow.is_reply != Some(true) {
                    dns_message("", dns, query, key);
                    add(queries, flow, key);
                } else {
                    dns_message(rcode(dns.rcode), dns, query, key);
                    add(responses, flow, key);
                    for &kind in &dns.rrtypes {
                        key.truncate(start);
                        key.value(dns_type(kind));
                        dns_types(&dns.qtypes, query, key);
                        add(response_types, flow, key);
                    }
                }
            }
            Series::FlowsToWorld {
                any_drop,
                with_port,
                syn_only,
                flows,
            } => {
                let Some(l4) = flow.l4 else { return };
                if goes_to_world(flow, l4, *any_drop, *syn_only) && passes() {
                    contexts.write(flow, false, key);
                    key.value(protocol(flow));
                    verdict(flow, key);
                    key.end_value();
                    if *with_port {
                        if matches!(l4, L4::Tcp { .. } | L4::Udp { .. } | L4::Sctp { .. }) {
                            key.display(l4.ports().1);
                        }
                        key.end_value();
                    }
                    add(flows, flow, key);
                }
            }
            Series::Http {
                exemplars,
                requests,
                responses,
                duration,
            } => {
                let Some((l7, http)) = http(flow) else { return };
                let is_response = l7.kind == L7FlowType::RESPONSE;
                if (!is_response && l7.kind != L7FlowType::REQUEST) || !passes() {
                    return;
                }
                let trace = l7.trace.filter(|_| *exemplars);
                contexts.write(flow, false, key);
                let start = key.len();
                key.value(&http.method);
                key.value(&http.protocol);
                if is_response {
                    key.number(http.code);
                    key.value(reporter(flow));
                    add_traced(responses, flow, key, trace);
                    key.truncate(start);
                    key.value(&http.method);
                    key.value(reporter(flow));
                    observe(duration, l7, flow, key, trace);
                } else {
                    key.value(reporter(flow));
                    add_traced(requests, flow, key, trace);
                }
            }
            Series::HttpV2 {
                exemplars,
                requests,
                duration,
            } => {
                let Some((l7, http)) = http(flow) else { return };
                if l7.kind != L7FlowType::RESPONSE || !passes() {
                    return;
                }
                let trace = l7.trace.filter(|_| *exemplars);
                // The server is the source of a response; the client shall be.
                contexts.write(flow, true, key);
                let start = key.len();
                key.value(&http.method);
                key.value(&http.protocol);
                key.number(http.code);
                key.value(reporter(flow));
                add_traced(requests, flow, key, trace);
                key.truncate(start);
                key.value(&http.method);
                key.value(reporter(flow));
                observe(duration, l7, flow, key, trace);
            }
            Series::Icmp(family) => {
                let (family_name, text) = match flow.l4 {
                    Some(L4::Icmpv4 { kind, code }) => (
                        "IPv4",
                        IcmpText {
                            v6: false,
                            kind,
                            code,
                        },
                    ),
                    Some(L4::Icmpv6 { kind, code }) => (
                        "IPv6",
                        IcmpText {
                            v6: true,
                            kind,
                            code,
                        },
                    ),
                    _ => return,
                };
                if passes() {
                    contexts.write(flow, false, key);
                    key.value(family_name);
                    key.number(text);
                    add(family, flow, key);
                }
            }
            Series::Kafka { requests, duration } => {
                let Some(l7) = flow.l7.as_deref() else { return };
                let L7Record::Kafka(kafka) = &l7.record else {
                    return;
                };
                if l7.kind != L7FlowType::REQUEST || !passes() {
                    return;
                }
                contexts.write(flow, false, key);
                key.value(&kafka.topic);
                key.value(&kafka.api_key);
                let start = key.len();
                key.number(kafka.error_code);
                key.value(reporter(flow));
                add(requests, flow, key);
                key.truncate(start);
                key.value(reporter(flow));
                observe(duration, l7, flow, key, None);
            }
            Series::Policy(family) => {
                let is_l7 = flow.event_type.kind == ACCESS_LOG;
                // The host may reach every local endpoint: its verdicts say nothing.
                let is_verdict =
                    flow.event_type.kind == POLICY_VERDICT && flow.source.identity != HOST_IDENTITY;
                if (is_l7 || is_verdict) && passes() {
                    contexts.write(flow, false, key);
                    key.lower_case(flow.direction.name().unwrap_or(""));
                    key.end_value();
                    if is_l7 {
                        key.text("l7/");
                        key.lower_case(l7_name(flow));
                    } else {
                        key.lower_case(policy_match_name(flow.policy_match_type));
                    }
                    key.end_value();
                    let start = key.len();
                    verdict(flow, key);
                    key.make_lower_case(start);
                    key.end_value();
                    add(family, flow, key);
                }
            }
            Series::PortDistribution(family) => {
                let Some(l4) = flow.l4 else { return };
                // Unknown is as good as a reply: the port may be an ephemeral one.
                if forwarded && flow.is_reply == Some(false) && passes() {
                    contexts.write(flow, false, key);
                    key.value(l4.name());
                    key.number(l4.ports().1);
                    add(family, flow, key);
                }
            }
            Series::Sctp(family) => {
                let (Some(ip), Some(L4::Sctp { chunk_type, .. })) = (&flow.ip, flow.l4) else {
                    return;
                };
                if forwarded && chunk_type != SctpChunkType::UNSUPPORTED && passes() {
                    contexts.write(flow, false, key);
                    key.value(chunk_type.name().unwrap_or(""));
                    key.value(ip.version.name().unwrap_or(""));
                    add(family, flow, key);
                }
            }
        }
    }
}

fn add(family: &mut Family<Counter>, flow: &Flow, key: &Key) {
    family.at(key.bytes(), flow.time_ns).add(1);
}

/// Counts a message of a trace, if there is one.
fn add_traced(family: &mut Family<Counter>, flow: &Flow, key: &Key, trace: Option<TraceParent>) {
    family
        .at(key.bytes(), flow.time_ns)
        .add_traced(flow.time_ns, trace);
}

fn observe(
    family: &mut Family<Histogram>,
    l7: &Layer7,
    flow: &Flow,
    key: &Key,
    trace: Option<TraceParent>,
) {
    #[allow(
        clippy::cast_precision_loss,
        reason = "53 bits of nanoseconds are 104 days"
    )]
    let seconds = l7.latency_ns as f64 / 1e9;
    family
        .at(key.bytes(), flow.time_ns)
        .observe(seconds, flow.time_ns, trace);
}

fn drop_reason(reason: DropReason, key: &mut Key) {
    match reason.name() {
        Some(name) => key.value(name),
        None => key.number(reason.0),
    }
}

fn verdict(flow: &Flow, key: &mut Key) {
    match flow.verdict.name() {
        Some(name) => key.text(name),
        None => key.display(flow.verdict.0),
    }
}

fn protocol(flow: &Flow) -> &'static str {
    match flow.event_type.kind {
        ACCESS_LOG => match l7_name(flow) {
            "" => "Unknown L7",
            name => name,
        },
        DROP | TRACE | POLICY_VERDICT | CAPTURE => flow.l4.map_or("Unknown L4", L4::name),
        _ => "Unknown flow",
    }
}

const fn l7_name(flow: &Flow) -> &'static str {
    match &flow.l7 {
        Some(l7) => match l7.record {
            L7Record::Dns(_) => "DNS",
            L7Record::Http(_) => "HTTP",
            L7Record::Kafka(_) => "Kafka",
            L7Record::None | L7Record::Generic(_) => "",
        },
        None => "",
    }
}

/// `type` and `subtype`.
fn event_type(flow: &Flow, key: &mut Key) {
    let (kind, detail) = match flow.event_type.kind {
        ACCESS_LOG => ("L7", l7_name(flow)),
        DROP => ("Drop", ""),
        CAPTURE => ("Capture", ""),
        TRACE => (
            "Trace",
            observation_point_name(flow.event_type.sub_type).unwrap_or(""),
        ),
        POLICY_VERDICT => ("PolicyVerdict", ""),
        other => {
            key.value("Unknown");
            key.number(other);
            return;
        }
    };
    key.value(kind);
    key.value(detail);
}

fn tcp_flags(flags: TcpFlags, family: &mut Family<Counter>, flow: &Flow, key: &mut Key) {
    let start = key.len();
    let syn = if flags.contains(TcpFlags::ACK) {
        "SYN-ACK"
    } else {
        "SYN"
    };
    for (flag, name) in [
        (TcpFlags::FIN, "FIN"),
        (TcpFlags::SYN, syn),
        (TcpFlags::RST, "RST"),
    ] {
        if flags.contains(flag) {
            key.truncate(start);
            key.value(name);
            add(family, flow, key);
        }
    }
}

fn goes_to_world(flow: &Flow, l4: L4, any_drop: bool, syn_only: bool) -> bool {
    const WORLD: [&str; 3] = [
        "reserved:world",
        "reserved:world-ipv4",
        "reserved:world-ipv6",
    ];
    let is_reply = flow.is_reply == Some(true);
    let is_counted = if flow.verdict == Verdict::DROPPED {
        any_drop || flow.drop_reason == DropReason::POLICY_DENIED
    } else {
        // A reply's destination port is an ephemeral one.
        !is_reply
    };
    let is_syn =
        || matches!(l4, L4::Tcp { flags: Some(flags), .. } if flags.contains(TcpFlags::SYN));
    is_counted
        && (!syn_only || (is_syn() && !is_reply))
        && flow
            .destination
            .labels()
            .iter()
            .any(|label| WORLD.contains(&&**label))
}

const fn http(flow: &Flow) -> Option<(&Layer7, &Http)> {
    match &flow.l7 {
        Some(l7) => match &l7.record {
            L7Record::Http(http) => Some((l7, http)),
            _ => None,
        },
        None => None,
    }
}

/// Which side's proxy saw the message.
const fn reporter(flow: &Flow) -> &'static str {
    match flow.direction {
        TrafficDirection::EGRESS => "client",
        TrafficDirection::INGRESS => "server",
        _ => "unknown",
    }
}

/// `rcode`, `qtypes`, `ips_returned` and `query`.
fn dns_message(rcode: &str, dns: &Dns, query: Option<&str>, key: &mut Key) {
    key.value(rcode);
    key.joined(dns.qtypes.iter().map(|&number| dns_type(number)));
    key.end_value();
    key.number(dns.ips.len());
    if let Some(query) = query {
        key.value(query);
    }
}

/// `qtypes` and `query`.
fn dns_types(qtypes: &[u16], query: Option<&str>, key: &mut Key) {
    key.joined(qtypes.iter().map(|&number| dns_type(number)));
    key.end_value();
    if let Some(query) = query {
        key.value(query);
    }
}

fn dns_type(number: u16) -> &'static str {
    dns_type_name(number).unwrap_or("Unknown")
}

/// Hubble's words for response codes in this metric (its summaries have others).
const fn rcode(code: u32) -> &'static str {
    match code {
        0 => "No Error",
        1 => "Format Error",
        2 => "Server Failure",
        3 => "Non-Existent Domain",
        4 => "Not Implemented",
        5 => "Query Refused",
        6 => "Name Exists when it should not",
        7 => "RR Set Exists when it should not",
        8 => "RR Set that should exist does not",
        9 => "Not Authorized",
        10 => "Name not contained in zone",
        11 => "DSO-TYPE Not Implemented",
        16 => "Bad OPT Version",
        17 => "Key not recognized",
        18 => "Signature out of time window",
        19 => "Bad TKEY Mode",
        20 => "Duplicate key name",
        21 => "Algorithm not supported",
        22 => "Bad Truncation",
        23 => "Bad/missing Server Cookie",
        _ => "",
    }
}
