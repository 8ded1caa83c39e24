//! Event + [`Directory`] → what Hubble says of it. The rules, quirks included, are those of Hubble's parsers
//! (Cilium 1.19.4, `pkg/hubble/parser`); where older agents differ, the difference is named.

use std::net::IpAddr;

use super::{Directory, accesslog};
use crate::decode::cilium::capture::Capture;
use crate::decode::cilium::drop::Drop;
use crate::decode::cilium::policy_verdict::PolicyVerdict;
use crate::decode::cilium::trace::{Reason, Trace};
use crate::decode::cilium::trace_sock::TraceSock;
use crate::decode::cilium::{self, Definitions, Event, EventError, Payload, agent, debug};
use crate::decode::gob::GobError;
use crate::decode::packet::{self, Packet, PacketError, Start};
use crate::enrich::cilium::redaction::Redaction;
use crate::enrich::cilium::requests::{Limits, Requests, Started};
use crate::model::cilium::{CiliumEvent, DebugEvent, LostEvent};
use crate::model::flow::{
    AuthType, BpfFile, DebugCapturePoint, DebugEventType, DropReason, Endpoint, EventType, Flow,
    FlowType, Interface, Ip, IpVersion, L4, LostEventSource, SocketTranslationPoint, Summary,
    TraceObservationPoint, TraceReason, TrafficDirection, Verdict, message_type,
};

/// How events become flows.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How to read what the bytes alone cannot tell.
    pub decode: cilium::Options,
    /// Leave out socket events whose pod is not known. Default: true, as in Hubble.
    pub skip_unknown_cgroups: bool,
    /// What nobody should read later. Default: on.
    pub redaction: Redaction,
    /// Requests that may wait for their response at once. Default: 10,000, as in Hubble.
    pub requests: usize,
    /// Start of the sequence of UUIDs; the same seed gives the same UUIDs. Default: 0.
    pub uuid_seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            decode: cilium::Options::default(),
            skip_unknown_cgroups: true,
            redaction: Redaction::default(),
            requests: 10_000,
            uuid_seed: 0,
        }
    }
}

/// Why a payload became no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// It could not be read.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A socket event of a cgroup that belongs to no known pod.
    #[error("socket event of an unknown cgroup")]
    UnknownCgroup,
    /// A payload that is neither a sample nor a loss.
    #[error("payload of type {0}")]
    UnknownPayload(i64),
    /// The payload could not be read.
    #[error("payload: {0}")]
    Payload(GobError),
}

impl From<PacketError> for FlowError {
    fn from(error: PacketError) -> Self {
        Self::Event(error.into())
    }
}

/// Makes flows of one node.
#[derive(Clone, Debug)]
pub struct Flows {
    options: Options,
    pub(super) requests: Requests<Started>,
    definitions: Definitions,
    sequence: u64,
}

impl Default for Flows {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Flows {
    /// With these options.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            requests: Requests::new(Limits {
                count: options.requests,
                bytes: usize::MAX,
            }),
            definitions: Definitions::default(),
            sequence: options.uuid_seed,
            options,
        }
    }

    /// The options.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Changes the redaction of what comes from now on, and the agent's version when it became known.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// What a payload says that was read at `time_ns` (nanoseconds since 1970).
    ///
    /// # Errors
    /// Why it says nothing.
    #[inline]
    pub fn payload(
        &mut self,
        payload: &Payload<'_>,
        time_ns: u64,
        directory: &Directory,
    ) -> Result<CiliumEvent, FlowError> {
        match *payload {
            Payload::Sample { data, cpu } => self.sample(data, cpu, time_ns, directory),
            Payload::Lost { count, cpu } => Ok(CiliumEvent::Lost(LostEvent {
                time_ns,
                source: LostEventSource::PERF_EVENT_RING_BUFFER,
                count,
                cpu: Some(cpu),
                range_ns: None,
            })),
            Payload::Unknown(kind) => Err(FlowError::UnknownPayload(kind)),
            Payload::Malformed(error) => Err(FlowError::Payload(error)),
        }
    }

    #[inline]
    fn sample(
        &mut self,
        data: &[u8],
        cpu: i32,
        time_ns: u64,
        directory: &Directory,
    ) -> Result<CiliumEvent, FlowError> {
        let event = cilium::event(data, &self.options.decode, &mut self.definitions)?;
        let mut flow = match event {
            Event::Drop(drop) => of_drop(&drop, directory)?,
            Event::Trace(trace) => of_trace(&trace, directory, &self.options.decode)?,
            Event::PolicyVerdict(verdict) => of_verdict(&verdict, directory)?,
            Event::Capture(capture) => of_capture(&capture, directory)?,
            Event::TraceSock(sock) => of_sock(&sock, directory, self.options.skip_unknown_cgroups)?,
            Event::AccessLog(log) => {
                accesslog::flow(*log, directory, &self.options.redaction, &mut self.requests)
            }
            Event::Debug(debug) => {
                return Ok(CiliumEvent::Debug(of_debug(
                    &debug, cpu, time_ns, directory,
                )));
            }
            Event::Agent(agent) => {
                return Ok(CiliumEvent::Agent(agent::agent_event(&agent, time_ns)));
            }
        };
        flow.time_ns = time_ns;
        flow.uuid = self.uuid();
        Ok(CiliumEvent::Flow(flow))
    }

    /// Two numbers of the SplitMix64 sequence: unlike each other, and the same at every run with the same seed.
    fn uuid(&mut self) -> [u8; 16] {
        let mut next = || {
            self.sequence = self.sequence.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.sequence ^ (self.sequence >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        (u128::from(next()) << 64 | u128::from(next())).to_be_bytes()
    }
}

/// What all layer-3 and layer-4 flows share: the packet, both ends, services and names. `original_source` is the source address before
/// translation, by which the source is then looked up.
#[inline]
fn of_packet(
    packet: &Packet,
    identities: (u32, u32),
    original_source: Option<IpAddr>,
    directory: &Directory,
) -> Flow {
    let (source_address, destination_address) = packet.addresses();
    // Only a packet with an IP header can have been translated.
    let source_address = source_address.and(original_source).or(source_address);
    let source = directory.resolve(source_address, identities.0);
    let destination = directory.resolve(destination_address, identities.1);
    let (source_port, destination_port) = packet.l4.map_or((0, 0), L4::ports);
    Flow {
        flow_type: FlowType::L3_L4,
        ethernet: packet.ethernet,
        ip: packet.ip,
        l4: packet.l4,
        tunnel: packet.tunnel,
        summary: packet.summary,
        // Each end's names are those that the other, local end looked up.
        source_names: directory.names(destination.id, source_address),
        destination_names: directory.names(source.id, destination_address),
        source_service: directory.service(source_address, source_port),
        destination_service: directory.service(destination_address, destination_port),
        source,
        destination,
        ..Flow::default()
    }
}

/// Whether the program of endpoint `emitter` saw a packet that the endpoint sent.
fn is_sender(emitter: u16, source: &Endpoint) -> bool {
    // Hubble compares the low 16 bits.
    u32::from(emitter) == source.id & 0xffff
}

fn of_drop(drop: &Drop<'_>, directory: &Directory) -> Result<Flow, FlowError> {
    let packet = packet::decode(drop.packet, drop.flags.start(), drop.flags.overlay())?;
    let identities = (drop.source_identity, drop.destination_identity);
    let mut flow = of_packet(&packet, identities, None, directory);
    flow.verdict = Verdict::DROPPED;
    flow.drop_reason = DropReason(u32::from(drop.reason));
    flow.event_type = EventType {
        kind: message_type::DROP,
        sub_type: drop.reason,
    };
    // A dropped packet is taken for the first of its connection: its direction is that of the packet.
    flow.direction = match drop.endpoint {
        0 => TrafficDirection::TRAFFIC_DIRECTION_UNKNOWN,
        emitter if is_sender(emitter, &flow.source) => TrafficDirection::EGRESS,
        _ => TrafficDirection::INGRESS,
    };
    flow.file = Some(BpfFile {
        id: drop.file,
        numbering: drop.numbering,
        line: drop.line,
    });
    flow.ip_trace_id = drop.ip_trace_id;
    // Quirk: the event has an interface, Hubble's flow never.
    Ok(flow)
}

fn of_trace(
    trace: &Trace<'_>,
    directory: &Directory,
    options: &cilium::Options,
) -> Result<Flow, FlowError> {
    let packet = packet::decode(trace.packet, trace.flags.start(), trace.flags.overlay())?;
    let identities = (trace.source_identity, trace.destination_identity);
    let mut flow = of_packet(&packet, identities, trace.original_address, directory);
    if let Some(ip) = &mut flow.ip {
        // Quirk: some traces carry the header's own address as the original one; that is no translation.
        let canonical = |address: Option<IpAddr>| address.map(|address| address.to_canonical());
        if trace.original_address.is_some()
            && canonical(trace.original_address) != canonical(ip.source)
        {
            ip.source_xlated = ip.source;
            ip.source = trace.original_address;
        }
        ip.encrypted = trace.encrypted;
    }
    flow.verdict = Verdict::FORWARDED;
    flow.event_type = EventType {
        kind: message_type::TRACE,
        sub_type: trace.observation_point,
    };
    // Zero is to-endpoint in the datapath, and "not set" in the schema.
    flow.observation_point = match trace.observation_point {
        0 => TraceObservationPoint::TO_ENDPOINT,
        point => TraceObservationPoint(point),
    };
    flow.trace_reason = trace_reason(trace.reason);
    flow.is_reply = is_reply(trace, options);
    flow.direction = trace_direction(trace, &flow.source, options);
    flow.interface = interface(trace.interface, directory);
    if flow.observation_point == TraceObservationPoint::TO_PROXY {
        flow.proxy_port = u32::from(trace.destination_endpoint);
    }
    flow.ip_trace_id = trace.ip_trace_id;
    Ok(flow)
}

/// The schema has zero for "unknown", which is 5 in the datapath; numbers below it move up by one.
const fn trace_reason(reason: Reason) -> TraceReason {
    match reason.0 {
        5 => TraceReason::TRACE_REASON_UNKNOWN,
        below @ 0..5 => TraceReason(below + 1),
        above => TraceReason(above),
    }
}

/// Encrypted overlay packets had a reason of their own from 1.16 to 1.18; 1.19 does not know it any more.
fn is_encrypt_overlay(trace: &Trace<'_>, options: &cilium::Options) -> bool {
    let since_1_19 = options.since_1_19().unwrap_or(trace.version >= 2);
    trace.reason == Reason::ENCRYPT_OVERLAY && !since_1_19
}

fn is_reply(trace: &Trace<'_>, options: &cilium::Options) -> Option<bool> {
    match trace.reason {
        Reason::UNKNOWN | Reason::SRV6_ENCAP | Reason::SRV6_DECAP => None,
        _ if is_encrypt_overlay(trace, options) => None,
        reason => Some(reason == Reason::REPLY),
    }
}

/// The direction is that of the connection: a reply that the endpoint sent belongs to an incoming one.
fn trace_direction(
    trace: &Trace<'_>,
    source: &Endpoint,
    options: &cilium::Options,
) -> TrafficDirection {
    if trace.endpoint == 0 || trace.reason == Reason::UNKNOWN {
        return TrafficDirection::TRAFFIC_DIRECTION_UNKNOWN;
    }
    let sent = is_sender(trace.endpoint, source);
    let reply = trace.reason == Reason::REPLY;
    if is_encrypt_overlay(trace, options) || sent != reply || trace.original_address.is_some() {
        TrafficDirection::EGRESS
    } else {
        TrafficDirection::INGRESS
    }
}

fn of_verdict(verdict: &PolicyVerdict<'_>, directory: &Directory) -> Result<Flow, FlowError> {
    let packet = packet::decode(verdict.packet, verdict.start, None)?;
    // The local end gets no identity from the datapath, and so that of its endpoint.
    let identities = if verdict.direction == TrafficDirection::INGRESS {
        (verdict.remote_identity, 0)
    } else {
        (0, verdict.remote_identity)
    };
    let allowed = verdict.verdict >= 0;
    let mut flow = of_packet(&packet, identities, None, directory);
    // The sign is looked at before the audit bit.
    flow.verdict = match verdict.verdict {
        ..0 => Verdict::DROPPED,
        1.. => Verdict::REDIRECTED,
        0 if verdict.audited => Verdict::AUDIT,
        0 => Verdict::FORWARDED,
    };
    if !allowed {
        flow.drop_reason = DropReason(verdict.verdict.unsigned_abs());
    }
    flow.auth_type = AuthType(verdict.auth_type);
    flow.event_type = EventType {
        kind: message_type::POLICY_VERDICT,
        sub_type: verdict.sub_type,
    };
    flow.direction = verdict.direction;
    flow.policy_match_type = verdict.match_type;
    // Verdicts are given on the first packet of a connection. Of a denied one Hubble does not say so.
    flow.is_reply = allowed.then_some(false);
    Ok(flow)
}

fn of_capture(capture: &Capture<'_>, directory: &Directory) -> Result<Flow, FlowError> {
    let packet = packet::decode(capture.packet, Start::Ethernet, None)?;
    let point = DebugCapturePoint(capture.sub_type);
    let (index, proxy_port) = match point {
        DebugCapturePoint::DBG_CAPTURE_DELIVERY
        | DebugCapturePoint::DBG_CAPTURE_FROM_LB
        | DebugCapturePoint::DBG_CAPTURE_AFTER_V46
        | DebugCapturePoint::DBG_CAPTURE_AFTER_V64
        | DebugCapturePoint::DBG_CAPTURE_SNAT_PRE
        | DebugCapturePoint::DBG_CAPTURE_SNAT_POST => (capture.arg1, 0),
        // Quirk: Hubble swaps the port as if it were 32 bits wide: 8080 is shown as 529530880.
        DebugCapturePoint::DBG_CAPTURE_PROXY_PRE | DebugCapturePoint::DBG_CAPTURE_PROXY_POST => {
            (0, capture.arg1.swap_bytes())
        }
        _ => (0, 0),
    };
    Ok(Flow {
        verdict: Verdict::VERDICT_UNKNOWN,
        event_type: EventType {
            kind: message_type::CAPTURE,
            sub_type: capture.sub_type,
        },
        debug_capture_point: point,
        interface: interface(index, directory),
        proxy_port,
        ..of_packet(&packet, (0, 0), None, directory)
    })
}

fn interface(index: u32, directory: &Directory) -> Option<Interface> {
    (index != 0).then(|| Interface {
        index,
        name: directory.interface(index),
    })
}

fn of_sock(sock: &TraceSock, directory: &Directory, skip_unknown: bool) -> Result<Flow, FlowError> {
    let pod = directory.cgroup_address(sock.cgroup_id, sock.ipv6);
    if pod.is_none() && skip_unknown {
        return Err(FlowError::UnknownCgroup);
    }
    let mut ends = (
        directory.resolve(pod, 0),
        directory.resolve(Some(sock.address), 0),
    );
    let mut addresses = (pod, Some(sock.address.to_canonical()));
    // The port of the pod's own end is not known.
    let mut ports = (0, sock.port);
    let point = SocketTranslationPoint(sock.xlate_point);
    if matches!(
        point,
        SocketTranslationPoint::SOCK_XLATE_POINT_PRE_DIRECTION_REV
            | SocketTranslationPoint::SOCK_XLATE_POINT_POST_DIRECTION_REV
    ) {
        // On the way back the other end is the sender.
        ends = (ends.1, ends.0);
        addresses = (addresses.1, addresses.0);
        ports = (ports.1, ports.0);
    }
    let (source_port, destination_port) = ports;
    let (l4, summary) = match sock.protocol {
        1 => {
            let flags = None;
            let tcp = L4::Tcp {
                source_port,
                destination_port,
                flags,
            };
            (Some(tcp), Summary::L4)
        }
        2 => {
            let udp = L4::Udp {
                source_port,
                destination_port,
            };
            (Some(udp), Summary::L4)
        }
        _ => (None, Summary::Unknown),
    };
    Ok(Flow {
        verdict: match sock.xlate_point {
            1 | 3 => Verdict::TRACED,
            2 | 4 => Verdict::TRANSLATED,
            _ => Verdict::VERDICT_UNKNOWN,
        },
        flow_type: FlowType::SOCK,
        event_type: EventType {
            kind: message_type::TRACE_SOCK,
            sub_type: sock.xlate_point,
        },
        ip: Some(Ip {
            source: addresses.0,
            destination: addresses.1,
            version: if sock.ipv6 {
                IpVersion::IPv6
            } else {
                IpVersion::IPv4
            },
            ..Ip::default()
        }),
        l4,
        summary,
        source_names: directory.names(ends.1.id, addresses.0),
        destination_names: directory.names(ends.0.id, addresses.1),
        source_service: directory.service(addresses.0, source_port),
        destination_service: directory.service(addresses.1, destination_port),
        source: ends.0,
        destination: ends.1,
        sock_xlate_point: point,
        socket_cookie: sock.cookie,
        cgroup_id: sock.cgroup_id,
        ..Flow::default()
    })
}

fn of_debug(debug: &debug::Debug, cpu: i32, time_ns: u64, directory: &Directory) -> DebugEvent {
    let source = (debug.endpoint != 0).then(|| match directory.endpoint(debug.endpoint) {
        Some(local) => Endpoint {
            id: u32::from(local.id),
            identity: local.identity,
            pod: local.pod.clone(),
            labels: Some(std::sync::Arc::clone(&local.labels)),
        },
        None => Endpoint {
            id: u32::from(debug.endpoint),
            ..Endpoint::default()
        },
    });
    DebugEvent {
        time_ns,
        kind: DebugEventType(debug.sub_type),
        source,
        hash: debug.hash,
        args: debug.args,
        cpu,
    }
}
