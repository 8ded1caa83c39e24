//! Agent events, debug messages and losses, field by field.

use crate::key;
use crate::model::cilium::{
    AgentEvent, AgentNotification, DebugEvent, IpCacheUpdate, LostEvent, ServiceUpsert,
};
use crate::model::flow::address_text;
use crate::otlp::fields::{Fields, FieldsExt};
use crate::otlp::hubble::debug_text;
use crate::otlp::hubble::flow::endpoint;
use crate::otlp::hubble::timestamp::time;
use crate::otlp::key::Key;

/// Writes a `flow.LostEvent`.
pub(super) fn lost(event: &LostEvent, out: &mut impl Fields) {
    out.enumeration(key!("source"), event.source.name(), event.source.0);
    out.number64_unless_zero(key!("num_events_lost"), event.count);
    if let Some(cpu) = event.cpu {
        out.number(key!("cpu"), cpu.into());
    }
    if let Some((first, last)) = event.range_ns {
        for (key, ns) in [(key!("first"), first), (key!("last"), last)] {
            out.ascii(key, &time(i64::try_from(ns).unwrap_or(i64::MAX)));
        }
    }
}

/// Writes a `flow.DebugEvent`. Its numbers are wrappers: they are written when they are zero, too.
pub(super) fn debug(event: &DebugEvent, out: &mut impl Fields) {
    out.enumeration(key!("type"), event.kind.name(), event.kind.0);
    if let Some(source) = &event.source {
        out.object(key!("source"), |out| endpoint(source, out));
    }
    let [arg1, arg2, arg3] = event.args;
    for (key, value) in [
        (key!("hash"), event.hash),
        (key!("arg1"), arg1),
        (key!("arg2"), arg2),
        (key!("arg3"), arg3),
    ] {
        out.number(key, value.into());
    }
    out.display(key!("message"), debug_text::message(event.kind, event.args));
    out.number(key!("cpu"), event.cpu.into());
}

/// Writes a `flow.AgentEvent`.
pub(super) fn agent(event: &AgentEvent, out: &mut impl Fields) {
    out.enumeration(key!("type"), event.kind.name(), event.kind.0);
    match &event.notification {
        AgentNotification::Unknown { kind, notification } => out.object(key!("unknown"), |out| {
            out.text_unless_empty(key!("type"), kind);
            out.text_unless_empty(key!("notification"), notification);
        }),
        AgentNotification::AgentStart { time_ns } => out.object(key!("agent_start"), |out| {
            if let Some(ns) = time_ns {
                out.ascii(key!("time"), &time(*ns));
            }
        }),
        AgentNotification::PolicyUpdate {
            labels,
            revision,
            rule_count,
        } => out.object(key!("policy_update"), |out| {
            out.texts_unless_empty(key!("labels"), labels);
            out.number64_unless_zero(key!("revision"), *revision);
            if *rule_count != 0 {
                signed64(key!("rule_count"), *rule_count, out);
            }
        }),
        AgentNotification::EndpointRegenerate { id, labels, error } => {
            out.object(key!("endpoint_regenerate"), |out| {
                out.number64_unless_zero(key!("id"), *id);
                out.texts_unless_empty(key!("labels"), labels);
                out.text_unless_empty(key!("error"), error);
            })
        }
        AgentNotification::EndpointUpdate {
            id,
            labels,
            error,
            pod_name,
            namespace,
        } => out.object(key!("endpoint_update"), |out| {
            out.number64_unless_zero(key!("id"), *id);
            out.texts_unless_empty(key!("labels"), labels);
            out.text_unless_empty(key!("error"), error);
            out.text_unless_empty(key!("pod_name"), pod_name);
            out.text_unless_empty(key!("namespace"), namespace);
        }),
        AgentNotification::IpCache(update) => {
            out.object(key!("ipcache_update"), |out| ip_cache(update, out))
        }
        AgentNotification::ServiceUpsert(service) => {
            out.object(key!("service_upsert"), |out| service_upsert(service, out));
        }
        AgentNotification::ServiceDelete { id } => {
            out.object(key!("service_delete"), |out| {
                out.number_unless_zero(key!("id"), *id)
            });
        }
    }
}

/// A signed number of 64 bits.
fn signed64(key: Key, value: i64, out: &mut impl Fields) {
    match u64::try_from(value) {
        Ok(value) => out.number64(key, value),
        Err(_) => out.display(key, value),
    }
}

fn ip_cache(update: &IpCacheUpdate, out: &mut impl Fields) {
    out.text_unless_empty(key!("cidr"), &update.cidr);
    out.number_unless_zero(key!("identity"), update.identity);
    if let Some(old) = update.old_identity {
        out.number(key!("old_identity"), old.into());
    }
    for (key, address) in [
        (key!("host_ip"), update.host_ip),
        (key!("old_host_ip"), update.old_host_ip),
    ] {
        if let Some(address) = address {
            out.display(key, address_text(address));
        }
    }
    out.number_unless_zero(key!("encrypt_key"), update.encrypt_key);
    out.text_unless_empty(key!("namespace"), &update.namespace);
    out.text_unless_empty(key!("pod_name"), &update.pod_name);
}

fn service_upsert(service: &ServiceUpsert, out: &mut impl Fields) {
    out.number_unless_zero(key!("id"), service.id);
    if let Some(address) = service.frontend {
        out.object(key!("frontend_address"), |out| {
            address_and_port(address, out)
        });
    }
    if !service.backends.is_empty() {
        out.objects(
            key!("backend_addresses"),
            service.backends.iter(),
            |out, address| {
                address_and_port(*address, out);
            },
        );
    }
    out.text_unless_empty(key!("type"), &service.kind);
    out.text_unless_empty(key!("traffic_policy"), &service.traffic_policy);
    out.text_unless_empty(key!("name"), &service.name);
    out.text_unless_empty(key!("namespace"), &service.namespace);
    out.text_unless_empty(key!("ext_traffic_policy"), &service.ext_traffic_policy);
    out.text_unless_empty(key!("int_traffic_policy"), &service.int_traffic_policy);
}

fn address_and_port((address, port): (std::net::IpAddr, u16), out: &mut impl Fields) {
    out.display(key!("ip"), address_text(address));
    out.number_unless_zero(key!("port"), port);
}
