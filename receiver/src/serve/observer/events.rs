//! Agent events, debug messages and losses into Hubble's protobuf.

use std::net::IpAddr;

use super::convert::{address, endpoint, texts, timestamp};
use netflume_core::model::cilium::{self as model, AgentNotification};
use netflume_core::model::flow::LostEventSource;
use netflume_core::otlp::hubble::debug_text;
use netflume_core::proto::flow::agent_event::Notification;
use netflume_core::proto::flow::{self as proto};

/// Events that were lost before we saw them.
pub(super) fn lost(lost: &model::LostEvent) -> proto::LostEvent {
    proto::LostEvent {
        source: lost.source.0.into(),
        num_events_lost: lost.count,
        cpu: lost.cpu,
        first: lost.range_ns.map(|(first, _)| timestamp(first)),
        last: lost.range_ns.map(|(_, last)| timestamp(last)),
    }
}

/// Events that a client missed because it was slower than the ring.
pub(super) fn missed(events: u64) -> proto::LostEvent {
    proto::LostEvent {
        source: LostEventSource::HUBBLE_RING_BUFFER.0.into(),
        num_events_lost: events,
        ..proto::LostEvent::default()
    }
}

/// A debug message of the datapath.
pub(super) fn debug(event: &model::DebugEvent) -> proto::DebugEvent {
    let [arg1, arg2, arg3] = event.args;
    proto::DebugEvent {
        r#type: event.kind.0.into(),
        source: event.source.as_ref().map(endpoint),
        hash: Some(event.hash),
        arg1: Some(arg1),
        arg2: Some(arg2),
        arg3: Some(arg3),
        message: debug_text::message(event.kind, event.args).to_string(),
        cpu: Some(event.cpu),
    }
}

/// A notification of the agent.
#[allow(deprecated, reason = "agents up to 1.17 tell about services")]
pub(super) fn agent(event: &model::AgentEvent) -> proto::AgentEvent {
    let notification = match &event.notification {
        AgentNotification::Unknown { kind, notification } => {
            Notification::Unknown(proto::AgentEventUnknown {
                r#type: kind.to_string(),
                notification: notification.to_string(),
            })
        }
        AgentNotification::AgentStart { time_ns } => {
            Notification::AgentStart(proto::TimeNotification {
                time: time_ns.map(|ns| prost_types::Timestamp {
                    seconds: ns.div_euclid(1_000_000_000),
                    nanos: i32::try_from(ns.rem_euclid(1_000_000_000)).unwrap_or_default(),
                }),
            })
        }
        AgentNotification::PolicyUpdate {
            labels,
            revision,
            rule_count,
        } => Notification::PolicyUpdate(proto::PolicyUpdateNotification {
            labels: texts(labels),
            revision: *revision,
            rule_count: *rule_count,
        }),
        AgentNotification::EndpointRegenerate { id, labels, error } => {
            Notification::EndpointRegenerate(proto::EndpointRegenNotification {
                id: *id,
                labels: texts(labels),
                error: error.to_string(),
            })
        }
        AgentNotification::EndpointUpdate {
            id,
            labels,
            error,
            pod_name,
            namespace,
        } => Notification::EndpointUpdate(proto::EndpointUpdateNotification {
            id: *id,
            labels: texts(labels),
            error: error.to_string(),
            pod_name: pod_name.to_string(),
            namespace: namespace.to_string(),
        }),
        AgentNotification::IpCache(update) => {
            Notification::IpcacheUpdate(proto::IpCacheNotification {
                cidr: update.cidr.to_string(),
                identity: update.identity,
                old_identity: update.old_identity,
                host_ip: address(update.host_ip),
                old_host_ip: address(update.old_host_ip),
                encrypt_key: update.encrypt_key.into(),
                namespace: update.namespace.to_string(),
                pod_name: update.pod_name.to_string(),
            })
        }
        AgentNotification::ServiceUpsert(service) => {
            Notification::ServiceUpsert(proto::ServiceUpsertNotification {
                id: service.id,
                frontend_address: service.frontend.map(service_address),
                backend_addresses: service
                    .backends
                    .iter()
                    .copied()
                    .map(service_address)
                    .collect(),
                r#type: service.kind.to_string(),
                traffic_policy: service.traffic_policy.to_string(),
                name: service.name.to_string(),
                namespace: service.namespace.to_string(),
                ext_traffic_policy: service.ext_traffic_policy.to_string(),
                int_traffic_policy: service.int_traffic_policy.to_string(),
            })
        }
        AgentNotification::ServiceDelete { id } => {
            Notification::ServiceDelete(proto::ServiceDeleteNotification { id: *id })
        }
    };
    proto::AgentEvent {
        r#type: event.kind.0.into(),
        notification: Some(notification),
    }
}

fn service_address((ip, port): (IpAddr, u16)) -> proto::ServiceUpsertNotificationAddr {
    proto::ServiceUpsertNotificationAddr {
        ip: address(Some(ip)),
        port: port.into(),
    }
}
