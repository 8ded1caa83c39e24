//! Keeps a [`Directory`] fresh: the agent's notifications, applied as they come, and what else must then be asked of its API.

use std::net::IpAddr;
use std::sync::Arc;

use super::Directory;
use crate::model::cilium::{AgentEvent, AgentNotification, IpCacheUpdate};
use crate::model::flow::{AgentEventType, Pod};

/// What a notification leaves to be asked (paths of the agent's API under `/v1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refresh {
    /// Nothing.
    None,
    /// Everything: the agent started.
    All,
    /// `GET /endpoint/{id}`: created, or its labels and identity may have changed.
    Endpoint(u16),
    /// Forget this endpoint after a grace time, for events that are still under way.
    EndpointGone(u16),
    /// `GET /identity/{id}`: its labels are not known.
    Identity(u32),
    /// `GET /service`.
    Services,
    /// `GET /cgroup-dump-metadata`: a socket event of a cgroup that is not known.
    Cgroups,
    /// `GET /fqdn/cache`.
    Names,
}

/// A pod came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodChange {
    /// It is there, perhaps again.
    There(Arc<Pod>),
    /// It is gone.
    Gone(Arc<Pod>),
}

/// Applies a notification, and gives what is to be asked. Adds to `pods` which came and went.
pub fn apply(event: &AgentEvent, directory: &mut Directory, pods: &mut Vec<PodChange>) -> Refresh {
    let endpoint =
        |id: u64, refresh: fn(u16) -> Refresh| u16::try_from(id).map_or(Refresh::None, refresh);
    match (&event.notification, event.kind) {
        (AgentNotification::AgentStart { .. }, _) => Refresh::All,
        (
            AgentNotification::EndpointRegenerate { id, .. },
            AgentEventType::ENDPOINT_REGENERATE_SUCCESS,
        ) => endpoint(*id, Refresh::Endpoint),
        (
            AgentNotification::EndpointUpdate {
                id,
                pod_name,
                namespace,
                ..
            },
            kind,
        ) => {
            let pod = named(namespace, pod_name);
            match kind {
                AgentEventType::ENDPOINT_CREATED => {
                    pods.extend(pod.map(PodChange::There));
                    endpoint(*id, Refresh::Endpoint)
                }
                AgentEventType::ENDPOINT_DELETED => {
                    pods.extend(pod.map(PodChange::Gone));
                    if let Ok(id) = u16::try_from(*id) {
                        directory.mark_gone(id);
                    }
                    endpoint(*id, Refresh::EndpointGone)
                }
                _ => Refresh::None,
            }
        }
        (AgentNotification::IpCache(update), kind) => ip_cache(update, kind, directory, pods),
        (AgentNotification::ServiceUpsert(_) | AgentNotification::ServiceDelete { .. }, _) => {
            Refresh::Services
        }
        _ => Refresh::None,
    }
}

fn named(namespace: &str, name: &str) -> Option<Arc<Pod>> {
    (!name.is_empty()).then(|| {
        Arc::new(Pod {
            namespace: namespace.into(),
            name: name.into(),
            ..Pod::default()
        })
    })
}

fn ip_cache(
    update: &IpCacheUpdate,
    kind: AgentEventType,
    directory: &mut Directory,
    pods: &mut Vec<PodChange>,
) -> Refresh {
    let Some((address, length)) = prefix(&update.cidr) else {
        return Refresh::None;
    };
    if kind == AgentEventType::IPCACHE_DELETED {
        pods.extend(
            directory
                .remove_prefix(address, length)
                .map(PodChange::Gone),
        );
        return Refresh::None;
    }
    let pod = named(&update.namespace, &update.pod_name);
    if length == bits(address) {
        directory.release(address, pod.as_deref());
    }
    let gone = directory.set_prefix(address, length, update.identity, pod.clone());
    pods.extend(gone.map(PodChange::Gone));
    pods.extend(pod.map(PodChange::There));
    if directory.labels(update.identity).is_some() {
        Refresh::None
    } else {
        Refresh::Identity(update.identity)
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

/// `10.0.0.0/8`, or an address alone.
#[must_use]
pub fn prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let length = length.map_or(Ok(bits(address)), str::parse).ok()?;
    (length <= bits(address)).then_some((address, length))
}
