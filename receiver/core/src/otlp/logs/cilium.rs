//! Cilium events to log records: the body in Hubble's own words, the facts by semantic conventions as attributes. A flow has no local
//! end, so its two are `source.*` and `destination.*`.

use std::net::IpAddr;

use crate::key;
use crate::model::cilium::CiliumEvent;
use crate::model::flow::{
    DropReason, Endpoint, Flow, FlowType, IpVersion, L4, Node, Verdict, message_type,
};
use crate::model::resource::ResourceRef;
use crate::model::span::SpanContext;
use crate::otlp::fields::{Fields, FieldsExt};
use crate::otlp::hubble::event_fields;
use crate::otlp::key::Key;
use crate::otlp::logs::{LogRecord, Severity};
use crate::otlp::text::Ascii;
use crate::semconv::cilium::{SCOPE, attribute as cilium, event};
use crate::semconv::{attribute, value};

/// A Cilium event on its way out.
#[derive(Clone, Copy, Debug)]
pub struct CiliumLog<'a> {
    /// The event.
    pub event: &'a CiliumEvent,
    /// The span that it belongs to.
    pub span: Option<&'a SpanContext>,
    /// The node that it was seen on, as the body names it.
    pub node: &'a Node,
    /// The node's resource.
    pub resource: &'a ResourceRef,
}

impl LogRecord for CiliumLog<'_> {
    fn scope(&self) -> &'static str {
        SCOPE
    }

    fn event_name(&self) -> &'static str {
        event_name(self.event)
    }

    fn resource(&self) -> &ResourceRef {
        self.resource
    }

    fn unix_ns(&self) -> u64 {
        match self.event {
            CiliumEvent::Flow(event) => event.time_ns,
            CiliumEvent::Agent(event) => event.time_ns,
            CiliumEvent::Debug(event) => event.time_ns,
            CiliumEvent::Lost(event) => event.time_ns,
        }
    }

    fn severity(&self) -> Severity {
        match self.event {
            CiliumEvent::Flow(flow)
                if matches!(flow.verdict, Verdict::DROPPED | Verdict::ERROR) =>
            {
                Severity::Warn
            }
            CiliumEvent::Lost(_) => Severity::Error,
            _ => Severity::Info,
        }
    }

    fn span(&self) -> Option<&SpanContext> {
        self.span
    }

    fn body(&self, _: Option<&str>, fields: &mut impl Fields) {
        event_fields(self.event, self.node, fields);
    }

    fn attributes(&self, fields: &mut impl Fields) {
        match self.event {
            CiliumEvent::Flow(flow) => flow_attributes(flow, fields),
            CiliumEvent::Lost(lost) => {
                let count = i64::try_from(lost.count).unwrap_or(i64::MAX);
                fields.number(key!(cilium::LOST_COUNT), count);
                fields.text_if_known(key!(cilium::LOST_SOURCE), lost.source.name());
            }
            CiliumEvent::Agent(_) | CiliumEvent::Debug(_) => {}
        }
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

/// In order of their names.
fn flow_attributes(flow: &Flow, fields: &mut impl Fields) {
    let identity = |endpoint: &Endpoint| i64::from(endpoint.identity);
    let destination = identity(&flow.destination);
    fields.number_unless_zero(key!(cilium::DESTINATION_IDENTITY), destination);
    if flow.drop_reason != DropReason::default() {
        fields.text_if_known(key!(cilium::DROP_REASON), flow.drop_reason.name());
    }
    fields.number_unless_zero(key!(cilium::SOURCE_IDENTITY), identity(&flow.source));
    fields.text_if_known(key!(cilium::TRAFFIC_DIRECTION), flow.direction.name());
    fields.text_if_known(key!(cilium::VERDICT), flow.verdict.name());
    let ip = flow.ip.as_ref();
    let ports = match flow.l4 {
        Some(l4 @ (L4::Tcp { .. } | L4::Udp { .. } | L4::Sctp { .. })) => Some(l4.ports()),
        _ => None,
    };
    address(
        key!(cilium::DESTINATION_ADDRESS),
        ip.and_then(|ip| ip.destination),
        fields,
    );
    let namespace = flow.destination.namespace();
    fields.text_unless_empty(key!(attribute::DESTINATION_K8S_NAMESPACE_NAME), namespace);
    let pod = flow.destination.pod_name();
    fields.text_unless_empty(key!(attribute::DESTINATION_K8S_POD_NAME), pod);
    if let Some((_, port)) = ports {
        fields.number(key!(cilium::DESTINATION_PORT), port.into());
    }
    if let Some(l4) = flow.l4 {
        fields.text(key!(attribute::NETWORK_TRANSPORT), transport(l4));
    }
    match flow.ip_version() {
        IpVersion::IPv4 => fields.text(key!(attribute::NETWORK_TYPE), value::IPV4),
        IpVersion::IPv6 => fields.text(key!(attribute::NETWORK_TYPE), value::IPV6),
        _ => {}
    }
    address(
        key!(cilium::SOURCE_ADDRESS),
        ip.and_then(|ip| ip.source),
        fields,
    );
    let namespace = flow.source.namespace();
    fields.text_unless_empty(key!(attribute::SOURCE_K8S_NAMESPACE_NAME), namespace);
    let pod = flow.source.pod_name();
    fields.text_unless_empty(key!(attribute::SOURCE_K8S_POD_NAME), pod);
    if let Some((port, _)) = ports {
        fields.number(key!(cilium::SOURCE_PORT), port.into());
    }
}

#[inline(always)]
fn address(key: Key, address: Option<IpAddr>, fields: &mut impl Fields) {
    if let Some(address) = address {
        fields.ascii(key, &Ascii::ip(address));
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
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use prost::Message;

    use super::*;
    use crate::decode::cilium::Monitor;
    use crate::enrich::cilium::Directory;
    use crate::enrich::cilium::flow::Flows;
    use crate::otlp::logs::{LogsEncoder, LogsOptions};

    #[test]
    fn every_recorded_drop_is_a_warning_with_its_reason_and_both_ends() {
        let mut rest: &[u8] =
            include_bytes!("../../../../../tests/fixtures/cilium/1.19.4/drop.gob");
        let (mut monitor, mut flows, directory) =
            (Monitor::default(), Flows::default(), Directory::default());
        let mut encoder = LogsEncoder::new(LogsOptions::default());
        let (node, resource) = (Node::default(), ResourceRef::default());
        let mut pushed = 0;
        while !rest.is_empty() {
            let (payload, after) = monitor.next(rest).unwrap();
            rest = after;
            if let Some(payload) = payload
                && let Ok(event) = flows.payload(&payload, 7, &directory)
            {
                let log = CiliumLog {
                    event: &event,
                    span: None,
                    node: &node,
                    resource: &resource,
                };
                assert!(encoder.push(&log).is_none());
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
