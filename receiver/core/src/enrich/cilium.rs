//! What the Cilium agent knows about addresses and identities: the tables behind a flow's names.
//!
//! A [`Directory`] is filled from the agent's API and kept fresh by its events; a look-up never waits and never guesses. Names are made
//! when a table is filled, so that a flow takes a reference. The rules are Hubble's (`pkg/hubble/parser/common`).

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::flow::{Endpoint, Labels, Pod, Service};

pub mod accesslog;
pub mod api;
pub mod flow;
pub mod labels;
pub mod redaction;
pub mod requests;
pub mod update;
pub mod workload;

pub use flow::{Flows, Options};

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

/// An endpoint of this node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LocalEndpoint {
    /// Endpoint id.
    pub id: u16,
    /// Security identity.
    pub identity: u32,
    /// Pod with its workload; absent for the host and health endpoints.
    pub pod: Option<Arc<Pod>>,
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// What the ip cache says of a prefix.
#[derive(Clone, Debug, Default)]
struct Cached {
    identity: u32,
    /// Of host prefixes only.
    pod: Option<Arc<Pod>>,
}

/// The tables.
#[derive(Clone, Debug)]
pub struct Directory {
    endpoints: Map<u16, Arc<LocalEndpoint>>,
    endpoints_by_address: Map<u128, Arc<LocalEndpoint>>,
    /// Prefixes by their length, longest first; the length counts from the start of the v4-mapped address.
    prefixes: Vec<(u8, Map<u128, Cached>)>,
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
            endpoints: Map::default(),
            endpoints_by_address: Map::default(),
            prefixes: Vec::new(),
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

/// Addresses of both families in one key space. A v4-mapped IPv6 address is the IPv4 address, as in Hubble.
fn key(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn masked(key: u128, length: u8) -> u128 {
    key & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

impl Directory {
    /// Takes a table from a directory that was filled elsewhere, and leaves it the own one.
    pub fn exchange(&mut self, table: Table, with: &mut Self) {
        use std::mem::swap;
        match table {
            Table::Endpoints => {
                swap(&mut self.endpoints, &mut with.endpoints);
                swap(
                    &mut self.endpoints_by_address,
                    &mut with.endpoints_by_address,
                );
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
        let Some(gone) = from
            .endpoints
            .get(&id)
            .filter(|_| !self.endpoints.contains_key(&id))
        else {
            return;
        };
        for address in &gone.addresses {
            self.endpoints_by_address
                .entry(key(*address))
                .or_insert_with(|| Arc::clone(gone));
        }
        self.endpoints.insert(id, Arc::clone(gone));
    }

    /// How many local endpoints, identities, prefixes of the ip cache and services there are.
    #[must_use]
    pub fn counts(&self) -> [usize; 4] {
        let prefixes = self.prefixes.iter().map(|(_, of)| of.len()).sum();
        [
            self.endpoints.len(),
            self.identities.len(),
            prefixes,
            self.services.len(),
        ]
    }

    /// Adds or replaces a local endpoint.
    pub fn set_endpoint(&mut self, endpoint: LocalEndpoint) {
        self.remove_endpoint(endpoint.id);
        let endpoint = Arc::new(endpoint);
        for address in &endpoint.addresses {
            self.endpoints_by_address
                .insert(key(*address), Arc::clone(&endpoint));
        }
        self.endpoints.insert(endpoint.id, endpoint);
    }

    /// Removes a local endpoint.
    pub fn remove_endpoint(&mut self, id: u16) {
        let Some(old) = self.endpoints.remove(&id) else {
            return;
        };
        for address in &old.addresses {
            if self
                .endpoints_by_address
                .get(&key(*address))
                .is_some_and(|e| e.id == id)
            {
                self.endpoints_by_address.remove(&key(*address));
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
    pub fn set_prefix(
        &mut self,
        address: IpAddr,
        length: u8,
        identity: u32,
        pod: Option<Arc<Pod>>,
    ) {
        let length = Self::prefix_length(address, length);
        let at = match self
            .prefixes
            .binary_search_by(|(known, _)| length.cmp(known))
        {
            Ok(at) => at,
            Err(at) => {
                self.prefixes.insert(at, (length, Map::default()));
                at
            }
        };
        self.prefixes[at]
            .1
            .insert(masked(key(address), length), Cached { identity, pod });
    }

    /// Removes an entry of the ip cache.
    pub fn remove_prefix(&mut self, address: IpAddr, length: u8) {
        let length = Self::prefix_length(address, length);
        if let Some((_, prefixes)) = self.prefixes.iter_mut().find(|(known, _)| *known == length) {
            prefixes.remove(&masked(key(address), length));
        }
        self.prefixes.retain(|(_, prefixes)| !prefixes.is_empty());
    }

    fn prefix_length(address: IpAddr, length: u8) -> u8 {
        match address {
            IpAddr::V4(_) => length.min(32) + 96,
            IpAddr::V6(_) => length.min(128),
        }
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

    /// Forgets all DNS names, before a new list of them.
    pub fn clear_names(&mut self) {
        self.names.clear();
    }

    /// Names a network interface of the node.
    pub fn set_interface(&mut self, index: u32, name: Arc<str>) {
        self.interfaces.insert(index, name);
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
        self.endpoints.get(&id).map(Arc::as_ref)
    }

    /// The local endpoint with this address.
    #[must_use]
    pub fn endpoint_at(&self, address: IpAddr) -> Option<&LocalEndpoint> {
        self.endpoints_by_address
            .get(&key(address))
            .map(Arc::as_ref)
    }

    /// The labels of an identity.
    #[must_use]
    pub fn labels(&self, identity: u32) -> Option<&Arc<Labels>> {
        self.identities.get(&identity)
    }

    /// The pod with exactly this address, by the ip cache.
    #[must_use]
    pub fn pod_at(&self, address: IpAddr) -> Option<&Arc<Pod>> {
        let (128, hosts) = self.prefixes.first()? else {
            return None;
        };
        hosts.get(&key(address))?.pod.as_ref()
    }

    /// The security identity of an address: of the longest prefix in the ip cache.
    #[must_use]
    pub fn identity_at(&self, address: IpAddr) -> Option<u32> {
        let key = key(address);
        let shortest = if key >> 32 == 0xffff { 96 } else { 0 };
        let candidates = self
            .prefixes
            .iter()
            .take_while(|(length, _)| *length >= shortest);
        candidates
            .filter_map(|(length, prefixes)| prefixes.get(&masked(key, *length)))
            .map(|cached| cached.identity)
            .next()
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
