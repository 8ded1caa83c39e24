//! Cilium events to log records: the body in Hubble's own words, the facts by semantic conventions as attributes. A flow has no local
//! end, so its two are `source.*` and `destination.*`.

use crate::key;
use crate::model::cilium::CiliumEvent;
use crate::model::flow::{
    DropReason, Endpoint, Flow, FlowType, IpVersion, L4, Node, Verdict, message_type,
};
use crate::model::request::{Request, Signal};
use crate::model::resource::ResourceRef;
use crate::model::span::SpanContext;
use crate::otlp::hubble::any::AnyFields;
use crate::otlp::hubble::json::event_fields;
use crate::otlp::logs::{LogBody, LogsOptions, field};
use crate::otlp::request::RequestBuilder;
use crate::otlp::text::Ascii;
use crate::otlp::wire::{self, ascii_kv, int_kv, text_kv};
use crate::semconv::cilium::{SCOPE, attribute as cilium, event};
use crate::semconv::{attribute, value};

/// `SeverityNumber` and text: INFO.
const INFO: (u64, &str) = (9, "INFO");
/// WARN: something was refused.
const WARN: (u64, &str) = (13, "WARN");
/// ERROR: something was not seen.
const ERROR: (u64, &str) = (17, "ERROR");

/// Writes Cilium events as log records of one resource.
#[derive(Debug)]
pub struct CiliumLogsEncoder {
    body: LogBody,
    requests: RequestBuilder,
    resource: ResourceRef,
}

impl CiliumLogsEncoder {
    /// An empty encoder; `resource` is the node's.
    #[must_use]
    pub fn new(options: LogsOptions, resource: ResourceRef) -> Self {
        Self {
            body: options.body,
            requests: RequestBuilder::new(Signal::Logs, options.max_request_bytes),
            resource,
        }
    }

    /// Adds an event, and the span that it belongs to. Gives back the request of those before it if it did not fit any more.
    #[must_use = "a request that is not exported is lost"]
    pub fn push(
        &mut self,
        event: &CiliumEvent,
        span: Option<&SpanContext>,
        node: &Node,
    ) -> Option<Request> {
        let body = self.body;
        self.requests.add(&self.resource, SCOPE, 1, |out, _| {
            let (number, text) = severity(event);
            wire::fixed64(out, field::TIME_UNIX_NANO, time_ns(event));
            wire::uint(out, field::SEVERITY_NUMBER, number);
            wire::bytes(out, field::SEVERITY_TEXT, text.as_bytes());
            if body == LogBody::Record {
                wire::any_kvlist(out, field::BODY, |out| {
                    AnyFields::append(out, |fields| event_fields(event, node, fields));
                });
            }
            attributes(out, event);
            if let Some(span) = span {
                // W3C trace flags; zero is the field's default.
                if span.flags != 0 {
                    wire::fixed32(out, field::FLAGS, span.flags.into());
                }
                wire::bytes(out, field::TRACE_ID, &span.trace_id);
                wire::bytes(out, field::SPAN_ID, &span.span_id);
            }
            wire::fixed64(out, field::OBSERVED_TIME_UNIX_NANO, time_ns(event));
            wire::bytes(out, field::EVENT_NAME, event_name(event).as_bytes());
        })
    }

    /// The request of all records that were added and not given back yet, if there are any.
    #[must_use = "a request that is not exported is lost"]
    pub fn finish(&mut self) -> Option<Request> {
        self.requests.finish()
    }
}

/// `event_name` of an event's record.
#[must_use]
pub fn event_name(event: &CiliumEvent) -> &'static str {
    match event {
        CiliumEvent::Flow(flow) if flow.flow_type == FlowType::L7 => event::L7,
        CiliumEvent::Flow(flow) => match flow.event_type.kind {
            message_type::DROP => event::DROP,
            message_type::POLICY_VERDICT => event::POLICY_VERDICT,
            message_type::CAPTURE => event::CAPTURE,
            message_type::TRACE_SOCK => event::SOCKET,
            _ => event::TRACE,
        },
        CiliumEvent::Agent(_) => event::AGENT,
        CiliumEvent::Debug(_) => event::DEBUG,
        CiliumEvent::Lost(_) => event::LOST,
    }
}

fn severity(event: &CiliumEvent) -> (u64, &'static str) {
    match event {
        CiliumEvent::Flow(flow) if matches!(flow.verdict, Verdict::DROPPED | Verdict::ERROR) => {
            WARN
        }
        CiliumEvent::Lost(_) => ERROR,
        _ => INFO,
    }
}

fn time_ns(event: &CiliumEvent) -> u64 {
    match event {
        CiliumEvent::Flow(event) => event.time_ns,
        CiliumEvent::Agent(event) => event.time_ns,
        CiliumEvent::Debug(event) => event.time_ns,
        CiliumEvent::Lost(event) => event.time_ns,
    }
}

fn attributes(out: &mut Vec<u8>, event: &CiliumEvent) {
    match event {
        CiliumEvent::Flow(flow) => flow_attributes(out, flow),
        CiliumEvent::Lost(lost) => {
            let count = i64::try_from(lost.count).unwrap_or(i64::MAX);
            int_kv(out, field::ATTRIBUTES, key!(cilium::LOST_COUNT), count);
            if let Some(source) = lost.source.name() {
                text_kv(out, field::ATTRIBUTES, key!(cilium::LOST_SOURCE), source);
            }
        }
        CiliumEvent::Agent(_) | CiliumEvent::Debug(_) => {}
    }
}

/// In order of their names.
fn flow_attributes(out: &mut Vec<u8>, flow: &Flow) {
    const AT: u8 = field::ATTRIBUTES;
    identity(out, key!(cilium::DESTINATION_IDENTITY), &flow.destination);
    if flow.drop_reason != DropReason::default()
        && let Some(name) = flow.drop_reason.name()
    {
        text_kv(out, AT, key!(cilium::DROP_REASON), name);
    }
    identity(out, key!(cilium::SOURCE_IDENTITY), &flow.source);
    if let Some(name) = flow.direction.name() {
        text_kv(out, AT, key!(cilium::TRAFFIC_DIRECTION), name);
    }
    if let Some(name) = flow.verdict.name() {
        text_kv(out, AT, key!(cilium::VERDICT), name);
    }
    let ip = flow.ip.as_ref();
    if let Some(address) = ip.and_then(|ip| ip.destination) {
        ascii_kv(
            out,
            AT,
            key!(cilium::DESTINATION_ADDRESS),
            &Ascii::ip(address),
        );
    }
    text_unless_empty(
        out,
        key!(attribute::DESTINATION_K8S_NAMESPACE_NAME),
        flow.destination.namespace(),
    );
    text_unless_empty(
        out,
        key!(attribute::DESTINATION_K8S_POD_NAME),
        flow.destination.pod_name(),
    );
    let has_ports = matches!(
        flow.l4,
        Some(L4::Tcp { .. } | L4::Udp { .. } | L4::Sctp { .. })
    );
    if has_ports {
        int_kv(
            out,
            AT,
            key!(cilium::DESTINATION_PORT),
            flow.destination_port().into(),
        );
    }
    if let Some(l4) = flow.l4 {
        text_kv(out, AT, key!(attribute::NETWORK_TRANSPORT), transport(l4));
    }
    match flow.ip_version() {
        IpVersion::IPv4 => text_kv(out, AT, key!(attribute::NETWORK_TYPE), value::IPV4),
        IpVersion::IPv6 => text_kv(out, AT, key!(attribute::NETWORK_TYPE), value::IPV6),
        _ => {}
    }
    if let Some(address) = ip.and_then(|ip| ip.source) {
        ascii_kv(out, AT, key!(cilium::SOURCE_ADDRESS), &Ascii::ip(address));
    }
    text_unless_empty(
        out,
        key!(attribute::SOURCE_K8S_NAMESPACE_NAME),
        flow.source.namespace(),
    );
    text_unless_empty(
        out,
        key!(attribute::SOURCE_K8S_POD_NAME),
        flow.source.pod_name(),
    );
    if has_ports {
        int_kv(
            out,
            AT,
            key!(cilium::SOURCE_PORT),
            flow.source_port().into(),
        );
    }
}

fn identity<const N: usize>(out: &mut Vec<u8>, key: wire::Key<N>, endpoint: &Endpoint) {
    if endpoint.identity != 0 {
        int_kv(out, field::ATTRIBUTES, key, endpoint.identity.into());
    }
}

fn text_unless_empty<const N: usize>(out: &mut Vec<u8>, key: wire::Key<N>, text: &str) {
    if !text.is_empty() {
        text_kv(out, field::ATTRIBUTES, key, text);
    }
}

/// `network.transport`: lower case; the convention allows own values beside `tcp` and `udp`.
fn transport(l4: L4) -> &'static str {
    match l4 {
        L4::Tcp { .. } => value::TCP,
        L4::Udp { .. } => value::UDP,
        L4::Sctp { .. } => "sctp",
        L4::Icmpv4 { .. } => "icmp",
        L4::Icmpv6 { .. } => "icmpv6",
        L4::Vrrp { .. } => "vrrp",
        L4::Igmp { .. } => "igmp",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use prost::Message;

    use super::*;
    use crate::decode::cilium::Monitor;
    use crate::enrich::cilium::Directory;
    use crate::enrich::cilium::flow::Flows;

    #[test]
    fn every_recorded_drop_is_a_warning_with_its_reason_and_both_ends() {
        let mut rest: &[u8] = include_bytes!("../../../../tests/fixtures/cilium/1.19.4/drop.gob");
        let (mut monitor, mut flows, directory) =
            (Monitor::default(), Flows::default(), Directory::default());
        let mut encoder = CiliumLogsEncoder::new(LogsOptions::default(), Arc::default());
        let mut pushed = 0;
        while !rest.is_empty() {
            let (payload, after) = monitor.next(rest).unwrap();
            rest = after;
            if let Some(payload) = payload
                && let Ok(event) = flows.payload(&payload, 7, &directory)
            {
                assert!(encoder.push(&event, None, &Node::default()).is_none());
                pushed += 1;
            }
        }
        let request = encoder.finish().unwrap();
        assert_eq!(request.items, pushed);
        let decoded = ExportLogsServiceRequest::decode(request.body).unwrap();
        let records = &decoded.resource_logs[0].scope_logs[0].log_records;
        assert_eq!(records.len() as u64, pushed);
        let drops: Vec<_> = records
            .iter()
            .filter(|r| r.event_name == event::DROP)
            .collect();
        assert!(drops.len() > 50, "{}", drops.len());
        for record in drops {
            assert_eq!((record.severity_number, record.time_unix_nano), (13, 7));
            let keys: Vec<&str> = record.attributes.iter().map(|kv| kv.key.as_str()).collect();
            assert!(keys.contains(&cilium::VERDICT), "{keys:?}");
            assert!(keys.is_sorted(), "{keys:?}");
            let body = record.body.as_ref().and_then(|body| body.value.as_ref());
            let Some(Value::KvlistValue(body)) = body else {
                panic!("{body:?}");
            };
            assert!(body.values.iter().any(|kv| kv.key == "verdict"));
        }
    }
}
