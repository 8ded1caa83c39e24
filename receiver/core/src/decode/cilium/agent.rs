//! Type 130, `AgentNotify`: the agent tells what it did. A gob struct {`Type` uint, `Text` string}; `Text` is JSON.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;

use super::{Definitions, EventError, timestamp};
use crate::decode::gob;
use crate::model::cilium::{AgentEvent, AgentNotification, IpCacheUpdate, ServiceUpsert};
use crate::model::flow::AgentEventType;

/// A notification as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification<'a> {
    /// The monitor's number (`AgentNotification`), not that of `flow.AgentEventType`.
    pub kind: u64,
    /// JSON.
    pub text: Cow<'a, str>,
}

/// Reads an `AgentNotify`.
///
/// # Errors
/// When the gob stream inside makes no sense.
pub fn decode<'a>(
    data: &'a [u8],
    definitions: &mut Definitions,
) -> Result<Notification<'a>, EventError> {
    definitions.value(data, |fields, reader| {
        let mut notification = Notification {
            kind: 0,
            text: Cow::Borrowed(""),
        };
        while let Some((name, id)) = fields.next(reader)? {
            match name {
                "Type" => notification.kind = gob::uint(id, reader)?,
                "Text" => notification.text = gob::string(id, reader)?,
                _ => fields.types().skip(id, reader)?,
            }
        }
        Ok(notification)
    })
}

type Strings = Vec<Box<str>>;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Start {
    time: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Policy {
    labels: Strings,
    revision: u64,
    rule_count: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Endpoint {
    id: u64,
    labels: Strings,
    error: Box<str>,
    #[serde(rename = "pod-name")]
    pod_name: Box<str>,
    namespace: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct IpCache {
    cidr: Box<str>,
    id: u32,
    old_id: Option<u32>,
    host_ip: Option<Box<str>>,
    old_host_ip: Option<Box<str>>,
    encrypt_key: u8,
    namespace: Box<str>,
    pod_name: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ServiceAddress {
    ip: Box<str>,
    port: u16,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Service {
    id: u32,
    frontend_address: ServiceAddress,
    backend_addresses: Vec<ServiceAddress>,
    r#type: Box<str>,
    traffic_policy: Box<str>,
    ext_traffic_policy: Box<str>,
    int_traffic_policy: Box<str>,
    name: Box<str>,
    namespace: Box<str>,
}

/// What the notification says, by Hubble's schema. One whose JSON does not fit its number becomes `Unknown`, so nothing is lost.
#[must_use]
pub fn agent_event(notification: &Notification<'_>, time_ns: u64) -> AgentEvent {
    let (kind, notification) = known(notification).unwrap_or_else(|| {
        let unknown = AgentNotification::Unknown {
            kind: notification.kind.to_string().into(),
            notification: compact(&notification.text),
        };
        (AgentEventType::AGENT_EVENT_UNKNOWN, unknown)
    });
    AgentEvent {
        time_ns,
        kind,
        notification,
    }
}

/// JSON without spaces between its parts; anything else as it is.
fn compact(text: &str) -> Box<str> {
    match json::<serde_json::Value>(text) {
        Some(value) => value.to_string().into(),
        None => text.into(),
    }
}

/// The monitor's numbers 3 to 6 and the schema's are in different orders.
fn known(notification: &Notification<'_>) -> Option<(AgentEventType, AgentNotification)> {
    let text = &*notification.text;
    Some(match notification.kind {
        2 => {
            let start: Start = json(text)?;
            let time_ns = timestamp::parse(&start.time);
            (
                AgentEventType::AGENT_STARTED,
                AgentNotification::AgentStart { time_ns },
            )
        }
        3 => (
            AgentEventType::ENDPOINT_REGENERATE_SUCCESS,
            regenerate(json(text)?),
        ),
        4 => (
            AgentEventType::ENDPOINT_REGENERATE_FAILURE,
            regenerate(json(text)?),
        ),
        5 => (AgentEventType::POLICY_UPDATED, policy(json(text)?)),
        6 => (AgentEventType::POLICY_DELETED, policy(json(text)?)),
        7 => (AgentEventType::ENDPOINT_CREATED, update(json(text)?)),
        8 => (AgentEventType::ENDPOINT_DELETED, update(json(text)?)),
        9 => (AgentEventType::IPCACHE_UPSERTED, ip_cache(json(text)?)),
        10 => (AgentEventType::IPCACHE_DELETED, ip_cache(json(text)?)),
        11 => (AgentEventType::SERVICE_UPSERTED, service(json(text)?)),
        12 => {
            let Service { id, .. } = json(text)?;
            (
                AgentEventType::SERVICE_DELETED,
                AgentNotification::ServiceDelete { id },
            )
        }
        _ => return None,
    })
}

fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

fn policy(policy: Policy) -> AgentNotification {
    AgentNotification::PolicyUpdate {
        labels: policy.labels,
        revision: policy.revision,
        rule_count: policy.rule_count,
    }
}

fn regenerate(endpoint: Endpoint) -> AgentNotification {
    AgentNotification::EndpointRegenerate {
        id: endpoint.id,
        labels: endpoint.labels,
        error: endpoint.error,
    }
}

fn update(endpoint: Endpoint) -> AgentNotification {
    AgentNotification::EndpointUpdate {
        id: endpoint.id,
        labels: endpoint.labels,
        error: endpoint.error,
        pod_name: endpoint.pod_name,
        namespace: endpoint.namespace,
    }
}

fn ip(text: Option<Box<str>>) -> Option<IpAddr> {
    text?.parse().ok()
}

fn ip_cache(update: IpCache) -> AgentNotification {
    AgentNotification::IpCache(IpCacheUpdate {
        cidr: update.cidr,
        identity: update.id,
        old_identity: update.old_id,
        host_ip: ip(update.host_ip),
        old_host_ip: ip(update.old_host_ip),
        encrypt_key: update.encrypt_key,
        namespace: update.namespace,
        pod_name: update.pod_name,
    })
}

fn service(service: Service) -> AgentNotification {
    let address = |address: &ServiceAddress| Some((address.ip.parse().ok()?, address.port));
    AgentNotification::ServiceUpsert(ServiceUpsert {
        id: service.id,
        frontend: address(&service.frontend_address),
        backends: service
            .backend_addresses
            .iter()
            .filter_map(address)
            .collect(),
        kind: service.r#type,
        traffic_policy: service.traffic_policy,
        name: service.name,
        namespace: service.namespace,
        ext_traffic_policy: service.ext_traffic_policy,
        int_traffic_policy: service.int_traffic_policy,
    })
}
