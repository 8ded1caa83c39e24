//! An access log record → a layer-7 flow.

use std::net::IpAddr;
use std::sync::Arc;

use super::labels;
use super::redaction::Redaction;
use super::requests::{Conversation, Requests, Started, question};
use super::{Directory, Endpoint};
use crate::decode::cilium::accesslog::{AccessLog, Label, LogEndpoint};
use crate::model::flow::{
    Dns, EventType, Flow, FlowType, Http, Ip, IpVersion, L4, L7FlowType, L7Record, Labels, Layer7,
    Pod, SctpChunkType, Summary, TraceParent, message_type,
};

/// The flow of a record; `requests` joins a response with what its request left behind.
pub(super) fn flow(
    log: AccessLog<'_>,
    directory: &Directory,
    redaction: &Redaction,
    requests: &mut Requests<Started>,
) -> Flow {
    let ip = addresses(&log);
    let (source_address, destination_address) =
        ip.map_or((None, None), |ip| (ip.source, ip.destination));
    let (source_port, destination_port) = (log.source.port, log.destination.port);
    let l4 = match log.transport {
        6 => Some(L4::Tcp {
            source_port,
            destination_port,
            flags: None,
        }),
        17 => Some(L4::Udp {
            source_port,
            destination_port,
        }),
        132 => Some(L4::Sctp {
            source_port,
            destination_port,
            chunk_type: SctpChunkType::UNSUPPORTED,
        }),
        _ => None,
    };
    // Without a known transport the ports are not looked at.
    let (source_port, destination_port) = l4.map_or((0, 0), L4::ports);
    let mut flow = Flow {
        verdict: log.verdict,
        flow_type: FlowType::L7,
        event_type: EventType {
            kind: message_type::ACCESS_LOG,
            sub_type: 0,
        },
        ip,
        l4,
        source: endpoint(&log.source, source_address, directory),
        destination: endpoint(&log.destination, destination_address, directory),
        source_names: directory.names(log.destination.id, source_address),
        destination_names: directory.names(log.source.id, destination_address),
        source_service: directory.service(source_address, source_port),
        destination_service: directory.service(destination_address, destination_port),
        is_reply: Some(log.kind == L7FlowType::RESPONSE),
        direction: log.direction,
        summary: Summary::L7,
        ..Flow::default()
    };
    let conversation = Conversation::of(&flow, log.kind);
    flow.l7 = Some(Box::new(layer7(log, conversation, redaction, requests)));
    flow
}

/// Absent for a version that is neither. Quirk: encryption is never told.
fn addresses(log: &AccessLog<'_>) -> Option<Ip> {
    let (version, source, destination) = match log.ip_version {
        0 => (IpVersion::IPv4, &log.source.ipv4, &log.destination.ipv4),
        1 => (IpVersion::IPv6, &log.source.ipv6, &log.destination.ipv6),
        _ => return None,
    };
    Some(Ip {
        source: source.parse().ok(),
        destination: destination.parse().ok(),
        version,
        ..Ip::default()
    })
}

/// Id, identity and labels are the record's; namespace and pod those of the address, the workload that of the local endpoint there.
fn endpoint(log: &LogEndpoint<'_>, address: Option<IpAddr>, directory: &Directory) -> Endpoint {
    Endpoint {
        id: log.id,
        identity: log.identity,
        pod: pod(address, directory),
        labels: Some(shared(&log.labels, log.identity, directory)),
    }
}

fn pod(address: Option<IpAddr>, directory: &Directory) -> Option<Arc<Pod>> {
    let address = address?;
    let cached = directory.pod_at(address);
    let local = directory
        .endpoint_at(address)
        .and_then(|local| local.pod.as_ref());
    match (cached, local) {
        (cached, None) => cached.cloned(),
        (Some(cached), Some(local))
            if cached.name == local.name && cached.namespace == local.namespace =>
        {
            Some(Arc::clone(local))
        }
        (cached, Some(local)) => {
            let (namespace, name) = cached.map_or_else(Default::default, |pod| {
                (pod.namespace.clone(), pod.name.clone())
            });
            Some(Arc::new(Pod {
                namespace,
                name,
                workloads: local.workloads.clone(),
            }))
        }
    }
}

/// The directory's own copy when it says the same: a ring of flows then keeps one.
fn shared(labels: &[Label<'_>], identity: u32, directory: &Directory) -> Arc<Labels> {
    let known = directory.labels(identity);
    if let Some(known) = known
        && labels::are_of_access_log(known, labels)
    {
        return Arc::clone(known);
    }
    let labels = labels::of_access_log(labels);
    match known {
        Some(known) if **known == labels => Arc::clone(known),
        _ => Arc::new(labels),
    }
}

fn layer7(
    log: AccessLog<'_>,
    conversation: Conversation,
    redaction: &Redaction,
    requests: &mut Requests<Started>,
) -> Layer7 {
    let request = log.kind == L7FlowType::REQUEST;
    let mut l7 = Layer7 {
        kind: log.kind,
        record_time_ns: log.time_ns,
        ..Layer7::default()
    };
    if let L7Record::Http(http) = &log.record {
        l7.status = http.code;
        l7.request_id = header(http, "X-Request-Id").unwrap_or_default().into();
    }
    l7.question = question(&log.record, &l7.request_id);
    l7.record = match log.record {
        L7Record::Http(mut http) => {
            join(&http, conversation, requests, &mut l7);
            if request {
                // Hubble shows no status of a request, not even of one that the proxy answered itself.
                http.code = 0;
            }
            redaction.http(&mut http);
            L7Record::Http(http)
        }
        L7Record::Dns(dns) if request => L7Record::Dns(Dns {
            query: dns.query,
            observation_source: dns.observation_source,
            qtypes: dns.qtypes,
            ..Dns::default()
        }),
        L7Record::Kafka(mut kafka) => {
            if request {
                kafka.error_code = 0;
            }
            redaction.kafka(&mut kafka);
            L7Record::Kafka(kafka)
        }
        other => other,
    };
    l7
}

/// Header names come in their canonical form; of several values the first counts.
fn header<'a>(http: &'a Http, name: &str) -> Option<&'a str> {
    let found = http.headers.iter().find(|(key, _)| &**key == name);
    found.map(|(_, value)| &**value)
}

/// A request with an id is remembered; its response takes the time that passed, and the trace.
fn join(
    http: &Http,
    conversation: Conversation,
    requests: &mut Requests<Started>,
    l7: &mut Layer7,
) {
    match l7.kind {
        L7FlowType::REQUEST => {
            l7.trace = header(http, "Traceparent").and_then(traceparent);
            if !l7.request_id.is_empty() {
                let started = Started {
                    time_ns: l7.record_time_ns,
                    trace: l7.trace,
                };
                // All are of one size: their number is bound enough.
                requests.insert(conversation, l7.question, (0, 0), started, |_, _| {});
            }
        }
        L7FlowType::RESPONSE if !l7.request_id.is_empty() => {
            if let Some(started) = requests.take(&conversation, &l7.question) {
                // A response before its request took no time at all.
                let latency = l7.record_time_ns.saturating_sub(started.time_ns);
                l7.latency_ns = u64::try_from(latency).unwrap_or(0);
                l7.trace = started.trace;
            }
        }
        _ => {}
    }
}

/// W3C Trace Context 1 and 2: `version-trace-parent-flags`, lower case; newer versions may have more behind.
#[must_use]
pub fn traceparent(text: &str) -> Option<TraceParent> {
    let mut parts = text.split('-');
    let [version] = hex(parts.next()?)?;
    let trace_id: [u8; 16] = hex(parts.next()?)?;
    let span_id: [u8; 8] = hex(parts.next()?)?;
    let [flags] = hex(parts.next()?)?;
    let rest: usize = parts.map(|part| part.len() + 1).sum();
    // Version 0 has nothing behind the flags (a last dash alone is let pass) and two flags.
    let unknown = version == 0 && (rest > 1 || flags > 3);
    if version == 0xff || unknown || trace_id == [0; 16] || span_id == [0; 8] {
        return None;
    }
    Some(TraceParent {
        trace_id,
        span_id,
        flags: flags & 3,
    })
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != N * 2 {
        return None;
    }
    for (to, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *to = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::traceparent;

    #[test]
    fn a_traceparent_follows_the_standard_or_is_none() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = traceparent(good).unwrap();
        assert_eq!(
            parent.trace_id_text().to_string(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!((parent.span_id[1], parent.flags), (0xf0, 1));
        assert!(
            traceparent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes")
                .is_some()
        );
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-04",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(traceparent(bad), None, "{bad}");
        }
    }
}
