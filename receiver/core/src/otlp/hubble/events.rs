//! Agent events, debug messages and losses, field by field.

use super::{Fields, FieldsExt, debug_text, endpoint, time};
use crate::model::cilium::{
    AgentEvent, AgentNotification, DebugEvent, IpCacheUpdate, LostEvent, ServiceUpsert,
};
use crate::model::flow::address_text;

/// Writes a `flow.LostEvent`.
pub fn lost(event: &LostEvent, out: &mut impl Fields) {
    out.enumeration("source", event.source.name(), event.source.0);
    out.number64_unless_zero("num_events_lost", event.count);
    if let Some(cpu) = event.cpu {
        out.number("cpu", cpu.into());
    }
    if let Some((first, last)) = event.range_ns {
        for (key, ns) in [("first", first), ("last", last)] {
            out.display(key, time(i64::try_from(ns).unwrap_or(i64::MAX)));
        }
    }
}

/// Writes a `flow.DebugEvent`. Its numbers are wrappers: they are written when they are zero, too.
pub fn debug(event: &DebugEvent, out: &mut impl Fields) {
    out.enumeration("type", event.kind.name(), event.kind.0);
    if let Some(source) = &event.source {
        out.object("source", |out| endpoint(source, out));
    }
    let [arg1, arg2, arg3] = event.args;
    for (key, value) in [
        ("hash", event.hash),
        ("arg1", arg1),
        ("arg2", arg2),
        ("arg3", arg3),
    ] {
        out.number(key, value.into());
    }
    out.display("message", debug_text::message(event.kind, event.args));
    out.number("cpu", event.cpu.into());
}

/// Writes a `flow.AgentEvent`.
pub fn agent(event: &AgentEvent, out: &mut impl Fields) {
    out.enumeration("type", event.kind.name(), event.kind.0);
    match &event.notification {
        AgentNotification::Unknown { kind, notification } => out.object("unknown", |out| {
            out.text_unless_empty("type", kind);
            out.text_unless_empty("notification", notification);
        }),
        AgentNotification::AgentStart { time_ns } => out.object("agent_start", |out| {
            if let Some(ns) = time_ns {
                out.display("time", time(*ns));
            }
        }),
        AgentNotification::PolicyUpdate {
            labels,
            revision,
            rule_count,
        } => out.object("policy_update", |out| {
            out.texts_unless_empty("labels", labels);
            out.number64_unless_zero("revision", *revision);
            if *rule_count != 0 {
                signed64("rule_count", *rule_count, out);
            }
        }),
        AgentNotification::EndpointRegenerate { id, labels, error } => {
            out.object("endpoint_regenerate", |out| {
                out.number64_unless_zero("id", *id);
                out.texts_unless_empty("labels", labels);
                out.text_unless_empty("error", error);
            })
        }
        AgentNotification::EndpointUpdate {
            id,
            labels,
            error,
            pod_name,
            namespace,
        } => out.object("endpoint_update", |out| {
            out.number64_unless_zero("id", *id);
            out.texts_unless_empty("labels", labels);
            out.text_unless_empty("error", error);
            out.text_unless_empty("pod_name", pod_name);
            out.text_unless_empty("namespace", namespace);
        }),
        AgentNotification::IpCache(update) => {
            out.object("ipcache_update", |out| ip_cache(update, out))
        }
        AgentNotification::ServiceUpsert(service) => {
            out.object("service_upsert", |out| service_upsert(service, out));
        }
        AgentNotification::ServiceDelete { id } => {
            out.object("service_delete", |out| out.number_unless_zero("id", *id));
        }
    }
}

/// A signed number of 64 bits.
fn signed64(key: &str, value: i64, out: &mut impl Fields) {
    match u64::try_from(value) {
        Ok(value) => out.number64(key, value),
        Err(_) => out.display(key, value),
    }
}

fn ip_cache(update: &IpCacheUpdate, out: &mut impl Fields) {
    out.text_unless_empty("cidr", &update.cidr);
    out.number_unless_zero("identity", update.identity);
    if let Some(old) = update.old_identity {
        out.number("old_identity", old.into());
    }
    for (key, address) in [
        ("host_ip", update.host_ip),
        ("old_host_ip", update.old_host_ip),
    ] {
        if let Some(address) = address {
            out.display(key, address_text(address));
        }
    }
    out.number_unless_zero("encrypt_key", update.encrypt_key);
    out.text_unless_empty("namespace", &update.namespace);
    out.text_unless_empty("pod_name", &update.pod_name);
}

fn service_upsert(service: &ServiceUpsert, out: &mut impl Fields) {
    out.number_unless_zero("id", service.id);
    if let Some(address) = service.frontend {
        out.object("frontend_address", |out| address_and_port(address, out));
    }
    if !service.backends.is_empty() {
        out.objects(
            "backend_addresses",
            service.backends.iter(),
            |out, address| {
                address_and_port(*address, out);
            },
        );
    }
    out.text_unless_empty("type", &service.kind);
    out.text_unless_empty("traffic_policy", &service.traffic_policy);
    out.text_unless_empty("name", &service.name);
    out.text_unless_empty("namespace", &service.namespace);
    out.text_unless_empty("ext_traffic_policy", &service.ext_traffic_policy);
    out.text_unless_empty("int_traffic_policy", &service.int_traffic_policy);
}

fn address_and_port((address, port): (std::net::IpAddr, u16), out: &mut impl Fields) {
    out.display("ip", address_text(address));
    out.number_unless_zero("port", port);
}
