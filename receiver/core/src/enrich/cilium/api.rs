//! Answers of the agent's API (`/var/run/cilium/cilium.sock`, base path `/v1`, agents 1.14 to 1.20) → a [`Directory`].
//!
//! Only the keys that are used are read, and all of them may be missing, or null where Go has no list.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use super::update::prefix;
use super::{Directory, LocalEndpoint, labels};
use crate::model::flow::{Pod, Service};

type Text = Box<str>;

/// Go writes an empty list, or a pointer to nothing, as null.
fn maybe_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// One element of `GET /endpoint`, or the answer of `GET /endpoint/{id}`.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub struct Endpoint {
    /// Endpoint id.
    pub(super) id: i64,
    status: Option<EndpointStatus>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct EndpointStatus {
    identity: Option<Identity>,
    #[serde(deserialize_with = "maybe_null")]
    external_identifiers: Identifiers,
    #[serde(deserialize_with = "maybe_null")]
    networking: Networking,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Identifiers {
    k8s_pod_name: Text,
    k8s_namespace: Text,
    /// `namespace/name`, of older agents.
    pod_name: Text,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Networking {
    #[serde(deserialize_with = "maybe_null")]
    addressing: Vec<Addressing>,
    interface_index: i64,
    interface_name: Text,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Addressing {
    ipv4: Text,
    ipv6: Text,
}

/// One element of `GET /identity`, or the answer of `GET /identity/{id}`.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub struct Identity {
    id: u32,
    #[serde(deserialize_with = "maybe_null")]
    labels: Vec<Text>,
}

/// One element of `GET /ip`.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub struct IpEntry {
    #[serde(deserialize_with = "maybe_null")]
    cidr: Text,
    #[serde(deserialize_with = "maybe_null")]
    identity: u32,
    metadata: Option<Metadata>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Metadata {
    namespace: Text,
    name: Text,
}

/// One element of `GET /service`.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub struct ServiceEntry {
    status: Option<ServiceStatus>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct ServiceStatus {
    realized: Option<ServiceSpec>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct ServiceSpec {
    #[serde(deserialize_with = "maybe_null")]
    frontend_address: Frontend,
    flags: Option<Metadata>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Frontend {
    ip: Text,
    port: u16,
    protocol: Text,
    scope: Text,
}

/// One element of `GET /fqdn/cache`.
#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
pub struct Lookup {
    fqdn: Text,
    #[serde(deserialize_with = "maybe_null")]
    ips: Vec<Text>,
    endpoint_id: i64,
    /// `connection` when the name is known no more, but connections by it live on.
    source: Text,
}

/// The answer of `GET /healthz`, as far as it says whose events these are.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub struct Healthz {
    #[serde(deserialize_with = "maybe_null")]
    cilium: Status,
    #[serde(deserialize_with = "maybe_null")]
    cluster: Cluster,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Status {
    /// `1.19.4 (v1.19.4-…)`, with a complaint behind it when something is wrong.
    msg: Text,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Cluster {
    #[serde(rename = "self")]
    itself: Text,
}

impl Healthz {
    /// Major and minor version of the agent, which tell the layout of its events.
    #[must_use]
    pub fn version(&self) -> Option<(u16, u16)> {
        let mut parts = self.cilium.msg.split('.').map(str::parse);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    }

    /// The node as it stands in flows: `cluster/node`.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        Some(&*self.cluster.itself).filter(|name| !name.is_empty())
    }
}

/// The answer of `GET /cgroup-dump-metadata`.
#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
pub struct Cgroups {
    #[serde(deserialize_with = "maybe_null")]
    pod_metadatas: Vec<PodMetadata>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct PodMetadata {
    #[serde(deserialize_with = "maybe_null")]
    containers: Vec<Container>,
    #[serde(deserialize_with = "maybe_null")]
    ips: Vec<Text>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Container {
    cgroup_id: u64,
}

fn addresses(texts: &[Text]) -> Vec<IpAddr> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

impl Directory {
    /// Adds a local endpoint. One without an identity is not ready yet, and left out.
    pub fn add_endpoint(&mut self, endpoint: &Endpoint) {
        let (Ok(id), Some(status)) = (u16::try_from(endpoint.id), &endpoint.status) else {
            return;
        };
        let Some(identity) = &status.identity else {
            return;
        };
        let names = &status.external_identifiers;
        let (namespace, name) = match (names.pod_name.split_once('/'), &*names.k8s_pod_name) {
            (Some(older), "") => older,
            (_, name) => (&*names.k8s_namespace, name),
        };
        let pod = (!name.is_empty()).then(|| {
            Arc::new(Pod {
                namespace: namespace.into(),
                name: name.into(),
                // Owner references are Kubernetes' knowledge, not the agent's.
                workloads: Box::default(),
            })
        });
        let texts = status
            .networking
            .addressing
            .iter()
            .flat_map(|a| [&a.ipv4, &a.ipv6]);
        let link = &status.networking;
        if let Ok(index @ 1..) = u32::try_from(link.interface_index)
            && !link.interface_name.is_empty()
        {
            self.set_interface(index, (*link.interface_name).into());
        }
        let list = identity.labels.iter().map(|label| &**label);
        self.set_endpoint(LocalEndpoint {
            id,
            identity: identity.id,
            pod,
            labels: Arc::new(labels::of(identity.id, list)),
            addresses: texts.filter_map(|text| text.parse().ok()).collect(),
        });
        self.add_identity(identity);
    }

    /// Adds an identity.
    pub fn add_identity(&mut self, identity: &Identity) {
        self.set_identity(identity.id, identity.labels.iter().map(|label| &**label));
    }

    /// Adds an entry of the ip cache.
    pub fn add_ip(&mut self, entry: &IpEntry) {
        let Some((address, length)) = prefix(&entry.cidr) else {
            return;
        };
        let metadata = entry
            .metadata
            .as_ref()
            .filter(|metadata| !metadata.name.is_empty());
        let pod = metadata.map(|metadata| {
            Arc::new(Pod {
                namespace: metadata.namespace.clone(),
                name: metadata.name.clone(),
                ..Pod::default()
            })
        });
        self.set_prefix(address, length, entry.identity, pod);
    }

    /// Replaces the services by the external front ends of this list. Where TCP and UDP share address and port, TCP's is taken, which
    /// Hubble looks up first.
    pub fn replace_services(&mut self, list: &[ServiceEntry]) {
        self.clear_services();
        let realized = |entry: &ServiceEntry| -> Option<(IpAddr, u16, bool, Arc<Service>)> {
            let spec = entry.status.as_ref()?.realized.as_ref()?;
            let front = &spec.frontend_address;
            let external = front.scope.is_empty() || &*front.scope == "external";
            let flags = spec.flags.as_ref().filter(|_| external)?;
            let service = Service {
                name: flags.name.clone(),
                namespace: flags.namespace.clone(),
            };
            let is_udp = front.protocol.eq_ignore_ascii_case("udp");
            Some((
                front.ip.parse().ok()?,
                front.port,
                is_udp,
                Arc::new(service),
            ))
        };
        let mut all: Vec<_> = list.iter().filter_map(realized).collect();
        // The last one set stays.
        all.sort_by_key(|(_, _, is_udp, _)| !is_udp);
        for (address, port, _, service) in all {
            self.set_service(address, port, service);
        }
    }

    /// Replaces the DNS names by those of this list, without trailing dots, sorted. Names that only live on in connections are left
    /// out, as in Hubble.
    pub fn replace_names(&mut self, list: &[Lookup]) {
        let mut names = std::collections::BTreeMap::<(u32, IpAddr), Vec<Text>>::new();
        for lookup in list.iter().filter(|lookup| &*lookup.source != "connection") {
            let Ok(endpoint) = u32::try_from(lookup.endpoint_id) else {
                continue;
            };
            let name = lookup.fqdn.trim_end_matches('.');
            for address in addresses(&lookup.ips) {
                names
                    .entry((endpoint, address))
                    .or_default()
                    .push(name.into());
            }
        }
        self.clear_names();
        for ((endpoint, address), mut list) in names {
            list.sort_unstable();
            list.dedup();
            self.set_names(endpoint, address, list.into());
        }
    }

    /// Replaces the cgroups by those of this answer.
    pub fn replace_cgroups(&mut self, cgroups: &Cgroups) {
        self.clear_cgroups();
        for pod in &cgroups.pod_metadatas {
            for container in &pod.containers {
                self.set_cgroup(container.cgroup_id, addresses(&pod.ips));
            }
        }
    }
}
