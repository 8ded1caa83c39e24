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

/// Applies a notification, and says what is to be asked.
pub fn apply(event: &AgentEvent, directory: &mut Directory) -> Refresh {
    let endpoint =
        |id: u64, refresh: fn(u16) -> Refresh| u16::try_from(id).map_or(Refresh::None, refresh);
    match (&event.notification, event.kind) {
        (AgentNotification::AgentStart { .. }, _) => Refresh::All,
        (
            AgentNotification::EndpointRegenerate { id, .. },
            AgentEventType::ENDPOINT_REGENERATE_SUCCESS,
        ) => endpoint(*id, Refresh::Endpoint),
        (AgentNotification::EndpointUpdate { id, .. }, AgentEventType::ENDPOINT_CREATED) => {
            endpoint(*id, Refresh::Endpoint)
        }
        (AgentNotification::EndpointUpdate { id, .. }, AgentEventType::ENDPOINT_DELETED) => {
            endpoint(*id, Refresh::EndpointGone)
        }
        (AgentNotification::IpCache(update), kind) => ip_cache(update, kind, directory),
        (AgentNotification::ServiceUpsert(_) | AgentNotification::ServiceDelete { .. }, _) => {
            Refresh::Services
        }
        _ => Refresh::None,
    }
}

fn ip_cache(update: &IpCacheUpdate, kind: AgentEventType, directory: &mut Directory) -> Refresh {
    let Some((address, length)) = prefix(&update.cidr) else {
        return Refresh::None;
    };
    if kind == AgentEventType::IPCACHE_DELETED {
        directory.remove_prefix(address, length);
        return Refresh::None;
    }
    let pod = (!update.pod_name.is_empty()).then(|| {
        Arc::new(Pod {
            namespace: update.namespace.clone(),
            name: update.pod_name.clone(),
            ..Pod::default()
        })
    });
    directory.set_prefix(address, length, update.identity, pod);
    if directory.labels(update.identity).is_some() {
        Refresh::None
    } else {
        Refresh::Identity(update.identity)
    }
}

/// `10.0.0.0/8`, or an address alone.
#[must_use]
pub fn prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv6() { 128 } else { 32 };
    let length = length.map_or(Ok(most), str::parse).ok()?;
    (length <= most).then_some((address, length))
}
