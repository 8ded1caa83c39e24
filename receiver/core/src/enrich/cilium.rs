//! What the Cilium agent knows about addresses and identities: the tables behind a flow's names.
//!
//! A [`Directory`] is filled from the agent's API and kept fresh by its events; a look-up never waits and never guesses. Names are made
//! when a table is filled, so that a flow takes a reference. The rules are Hubble's (`pkg/hubble/parser/common`).

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::flow::{Endpoint, Labels, Pod, Service};

pub mod accesslog;
pub mod answer;
pub mod api;
mod endpoints;
pub mod flow;
pub mod labels;
mod prefixes;
pub mod redaction;
pub mod requests;
pub mod tracker;
pub mod update;
pub mod workload;

use endpoints::Endpoints;
pub use endpoints::LocalEndpoint;
pub use flow::{Flows, Options};
use prefixes::{Cached, Prefixes, key};

/// Names of one address, for one endpoint, beyond which none is added.
pub const NAMES_MAX: usize = 64;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// One of the tables of a [`Directory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Local endpoints, and the interfaces that lead to them.
    Endpoints,
    /// Labels of identities.
    Identities,
    /// The ip cache.
    Prefixes,
    /// Front ends of services.
    Services,
    /// DNS names.
    Names,
    /// Owners of cgroups.
    Cgroups,
}

/// The tables.
#[derive(Clone, Debug)]
pub struct Directory {
    endpoints: Endpoints,
    prefixes: Prefixes,
    identities: Map<u32, Arc<Labels>>,
    services: Map<(u128, u16), Arc<Service>>,
    names: Map<(u32, u128), Arc<[Box<str>]>>,
    interfaces: Map<u32, Arc<str>>,
    cgroups: Map<u64, Vec<IpAddr>>,
}

impl Default for Directory {
    /// Knows the reserved identities.
    fn default() -> Self {
        let mut directory = Self {
            endpoints: Endpoints::default(),
            prefixes: Prefixes::default(),
            identities: Map::default(),
            services: Map::default(),
            names: Map::default(),
            interfaces: Map::default(),
            cgroups: Map::default(),
        };
        for (number, labels) in RESERVED {
            directory.set_identity(*number, labels.iter().copied());
        }
        directory
    }
}

/// Reserved identities (Cilium `pkg/identity/numericidentity.go`).
const RESERVED: &[(u32, &[&str])] = &[
    (0, &["reserved:unknown"]),
    (1, &["reserved:host"]),
    (2, &["reserved:world"]),
    (3, &["reserved:unmanaged"]),
    (4, &["reserved:health"]),
    (5, &["reserved:init"]),
    (6, &["reserved:remote-node"]),
    (7, &["reserved:kube-apiserver", "reserved:remote-node"]),
    (8, &["reserved:ingress"]),
    (9, &["reserved:world-ipv4"]),
    (10, &["reserved:world-ipv6"]),
];

impl Directory {
    /// Takes a table from a directory that was filled elsewhere, and leaves it the own one.
    pub fn exchange(&mut self, table: Table, with: &mut Self) {
        use std::mem::swap;
        match table {
            Table::Endpoints => {
                self.endpoints.exchange(&mut with.endpoints);
                swap(&mut self.interfaces, &mut with.interfaces);
            }
            Table::Identities => swap(&mut self.identities, &mut with.identities),
            Table::Prefixes => swap(&mut self.prefixes, &mut with.prefixes),
            Table::Services => swap(&mut self.services, &mut with.services),
            Table::Names => swap(&mut self.names, &mut with.names),
            Table::Cgroups => swap(&mut self.cgroups, &mut with.cgroups),
        }
    }

    /// Keeps an endpoint that is gone, for late events, unless its id is taken; addresses of others stay theirs.
    pub fn keep_endpoint(&mut self, id: u16, from: &Self) {
        self.endpoints.keep(id, &from.endpoints);
    }

    /// How many local endpoints, identities, prefixes of the ip cache and services there are.
    #[must_use]
    pub fn counts(&self) -> [usize; 4] {
        [
            self.endpoints.len(),
            self.identities.len(),
            self.prefixes.len(),
            self.services.len(),
        ]
    }

    /// Adds or replaces a local endpoint.
    pub fn set_endpoint(&mut self, endpoint: LocalEndpoint) {
        self.endpoints.set(endpoint);
    }

    /// Removes a local endpoint.
    pub fn remove_endpoint(&mut self, id: u16) {
        self.endpoints.remove(id);
    }

    /// A local endpoint is known for late events only: the next owner of an address of its takes it.
    pub fn mark_gone(&mut self, id: u16) {
        self.endpoints.mark_gone(id);
    }

    /// The ip cache has a new owner for an address: a local endpoint that is gone, or is of another pod, has it no longer.
    pub fn release(&mut self, address: IpAddr, owner: Option<&Pod>) {
        self.endpoints.release(address, owner);
    }

    /// Releases the addresses of an endpoint that the ip cache has for other pods.
    pub fn release_taken(&mut self, id: u16) {
        let addresses = self
            .endpoints
            .get(id)
            .map(|local| local.addresses.clone())
            .unwrap_or_default();
        for address in addresses {
            if let Some(owner) = self.prefixes.at(address).and_then(|c| c.pod.as_deref()) {
                self.endpoints.give(address, owner);
            }
        }
    }

    /// Adds or replaces an identity. Of a local identity's `cidr:` labels only the longest prefix stays.
    pub fn set_identity<'a>(&mut self, number: u32, labels: impl IntoIterator<Item = &'a str>) {
        self.identities
            .insert(number, Arc::new(labels::of(number, labels)));
    }

    /// Forgets an identity.
    pub fn remove_identity(&mut self, number: u32) {
        self.identities.remove(&number);
    }

    /// Adds or replaces an entry of the ip cache. `length` is in bits of the address's own family; the pod is used for single addresses.
    /// Gives the pod that has no address any more.
    pub fn set_prefix(
        &mut self,
        address: IpAddr,
        length: u8,
        identity: u32,
        pod: Option<Arc<Pod>>,
    ) -> Option<Arc<Pod>> {
        self.prefixes.set(address, length, Cached { identity, pod })
    }

    /// Removes an entry of the ip cache. Gives the pod that has no address any more.
    pub fn remove_prefix(&mut self, address: IpAddr, length: u8) -> Option<Arc<Pod>> {
        self.prefixes.remove(address, length)
    }

    /// Pods that have an address in `before` and none here.
    #[must_use]
    pub fn pods_gone(&self, before: &Self) -> Vec<Arc<Pod>> {
        self.prefixes.pods_gone(&before.prefixes)
    }

    /// Adds or replaces the service whose external front end this is.
    pub fn set_service(&mut self, address: IpAddr, port: u16, service: Arc<Service>) {
        self.services.insert((key(address), port), service);
    }

    /// Forgets all services, before a new list of them.
    pub fn clear_services(&mut self) {
        self.services.clear();
    }

    /// Sets the names by which endpoint `id` looked up `address`, without trailing dots.
    pub fn set_names(&mut self, id: u32, address: IpAddr, names: Arc<[Box<str>]>) {
        self.names.insert((id, key(address)), names);
    }

    /// Adds a name by which endpoint `id` looked up `address`, without trailing dot. False when it was known, or there are [`NAMES_MAX`].
    pub fn add_name(&mut self, id: u32, address: IpAddr, name: &str) -> bool {
        let names = self.names.entry((id, key(address))).or_default();
        if names.len() >= NAMES_MAX {
            return false;
        }
        let Err(place) = names.binary_search_by(|known| (**known).cmp(name)) else {
            return false;
        };
        let (before, after) = names.split_at(place);
        let name = [Box::from(name)];
        *names = [before, &name, after].concat().into();
        true
    }

    /// Forgets a name by which endpoint `id` looked up `address`.
    pub fn remove_name(&mut self, id: u32, address: IpAddr, name: &str) {
        let at = (id, key(address));
        if let Some(names) = self.names.get_mut(&at) {
            let others = names.iter().filter(|known| &***known != name);
            *names = others.cloned().collect();
            if names.is_empty() {
                self.names.remove(&at);
            }
        }
    }

    /// Forgets all DNS names, before a new list of them.
    pub fn clear_names(&mut self) {
        self.names.clear();
    }

    /// Names a network interface of the node.
    pub fn set_interface(&mut self, index: u32, name: Arc<str>) {
        self.interfaces.insert(index, name);
    }

    /// Names the node's other interfaces too, if these are the node's: then one that leads to an endpoint is among them.
    pub fn add_links(&mut self, links: &[(u32, String)]) {
        let is_known = |(index, name): &(u32, String)| {
            self.interface(*index).as_deref() == Some(name.as_str())
        };
        if links.iter().any(is_known) {
            for (index, name) in links {
                self.set_interface(*index, name.as_str().into());
            }
        }
    }

    /// Sets the addresses of the pod that owns a cgroup.
    pub fn set_cgroup(&mut self, id: u64, addresses: Vec<IpAddr>) {
        self.cgroups.insert(id, addresses);
    }

    /// Forgets all cgroups, before a new list of them.
    pub fn clear_cgroups(&mut self) {
        self.cgroups.clear();
    }

    /// The local endpoint with this id.
    #[must_use]
    pub fn endpoint(&self, id: u16) -> Option<&LocalEndpoint> {
        self.endpoints.get(id)
    }

    /// The local endpoint with this address.
    #[must_use]
    pub fn endpoint_at(&self, address: IpAddr) -> Option<&LocalEndpoint> {
        self.endpoints.at(address)
    }

    /// The labels of an identity.
    #[must_use]
    pub fn labels(&self, identity: u32) -> Option<&Arc<Labels>> {
        self.identities.get(&identity)
    }

    /// The pod with exactly this address, by the ip cache.
    #[must_use]
    pub fn pod_at(&self, address: IpAddr) -> Option<&Arc<Pod>> {
        self.prefixes.at(address)?.pod.as_ref()
    }

    /// The security identity of an address: of the longest prefix in the ip cache.
    #[must_use]
    pub fn identity_at(&self, address: IpAddr) -> Option<u32> {
        self.prefixes.longest(address).map(|cached| cached.identity)
    }

    /// The service with this front end.
    #[must_use]
    pub fn service(&self, address: Option<IpAddr>, port: u16) -> Option<Arc<Service>> {
        if self.services.is_empty() {
            return None;
        }
        self.services.get(&(key(address?), port)).cloned()
    }

    /// By which names endpoint `id` knows an address.
    #[must_use]
    pub fn names(&self, id: u32, address: Option<IpAddr>) -> Option<Arc<[Box<str>]>> {
        if id == 0 || self.names.is_empty() {
            return None;
        }
        self.names.get(&(id, key(address?))).cloned()
    }

    /// The name of a network interface.
    #[must_use]
    pub fn interface(&self, index: u32) -> Option<Arc<str>> {
        self.interfaces.get(&index).cloned()
    }

    /// The first address of the pod that owns a cgroup, in the wanted family.
    #[must_use]
    pub fn cgroup_address(&self, id: u64, ipv6: bool) -> Option<IpAddr> {
        self.cgroups
            .get(&id)?
            .iter()
            .copied()
            .find(|address| address.is_ipv6() == ipv6)
    }

    /// One end of a flow. The identity that the datapath enforced always wins over what user space knows now.
    #[must_use]
    pub fn resolve(&self, address: Option<IpAddr>, datapath_identity: u32) -> Endpoint {
        let or_datapath = |identity: u32| match datapath_identity {
            0 => identity,
            enforced => enforced,
        };
        if let Some(local) = address.and_then(|address| self.endpoint_at(address)) {
            return Endpoint {
                id: u32::from(local.id),
                identity: or_datapath(local.identity),
                pod: local.pod.clone(),
                labels: Some(Arc::clone(&local.labels)),
            };
        }
        let cached = match (datapath_identity, address) {
            (0, Some(address)) => self.identity_at(address).unwrap_or(0),
            _ => 0,
        };
        let identity = or_datapath(cached);
        Endpoint {
            id: 0,
            identity,
            pod: address.and_then(|address| self.pod_at(address)).cloned(),
            labels: self.labels(identity).cloned(),
        }
    }
}

#[cfg(test)]
mod tests;
