//! The endpoints of this node, by id and by address.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;

use super::Map;
use super::prefixes::key;
use crate::model::flow::{Labels, Pod};

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

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Endpoints {
    by_id: Map<u16, Arc<LocalEndpoint>>,
    by_address: Map<u128, Arc<LocalEndpoint>>,
    /// Those that the agent deleted; they are known for late events only.
    gone: HashSet<u16, foldhash::fast::RandomState>,
}

impl Endpoints {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: u16) -> Option<&LocalEndpoint> {
        self.by_id.get(&id).map(Arc::as_ref)
    }

    pub(super) fn at(&self, address: IpAddr) -> Option<&LocalEndpoint> {
        self.by_address.get(&key(address)).map(Arc::as_ref)
    }

    /// Takes the endpoints of others, and leaves them the own ones. Which are gone is known here only.
    pub(super) fn exchange(&mut self, with: &mut Self) {
        std::mem::swap(&mut self.by_id, &mut with.by_id);
        std::mem::swap(&mut self.by_address, &mut with.by_address);
    }

    pub(super) fn set(&mut self, endpoint: LocalEndpoint) {
        self.remove(endpoint.id);
        let endpoint = Arc::new(endpoint);
        for address in &endpoint.addresses {
            self.by_address.insert(key(*address), Arc::clone(&endpoint));
        }
        self.by_id.insert(endpoint.id, endpoint);
    }

    pub(super) fn remove(&mut self, id: u16) {
        self.gone.remove(&id);
        let Some(old) = self.by_id.remove(&id) else {
            return;
        };
        for address in &old.addresses {
            if self.at(*address).is_some_and(|of| of.id == id) {
                self.by_address.remove(&key(*address));
            }
        }
    }

    /// Keeps an endpoint that is gone, unless its id is taken; addresses of others stay theirs.
    pub(super) fn keep(&mut self, id: u16, from: &Self) {
        let gone = from.by_id.get(&id);
        let Some(gone) = gone.filter(|_| !self.by_id.contains_key(&id)) else {
            return;
        };
        for address in &gone.addresses {
            self.by_address
                .entry(key(*address))
                .or_insert_with(|| Arc::clone(gone));
        }
        self.by_id.insert(id, Arc::clone(gone));
    }

    pub(super) fn mark_gone(&mut self, id: u16) {
        self.gone.insert(id);
    }

    /// An address has a new owner: an endpoint that is gone, or is of another pod, has it no longer.
    pub(super) fn release(&mut self, address: IpAddr, owner: Option<&Pod>) {
        let Some(local) = self.at(address) else {
            return;
        };
        if self.gone.contains(&local.id) {
            self.take(address);
        } else if let Some(owner) = owner {
            self.give(address, owner);
        }
    }

    /// An address belongs to this pod: an endpoint of another one has it no longer.
    pub(super) fn give(&mut self, address: IpAddr, owner: &Pod) {
        let is_other = |of: &Pod| (&of.namespace, &of.name) != (&owner.namespace, &owner.name);
        let local = self.at(address).and_then(|local| local.pod.as_deref());
        if local.is_some_and(is_other) {
            self.take(address);
        }
    }

    /// Takes an address from its endpoint.
    fn take(&mut self, address: IpAddr) {
        let Some(local) = self.by_address.remove(&key(address)) else {
            return;
        };
        let mut rest = LocalEndpoint::clone(&local);
        rest.addresses.retain(|known| key(*known) != key(address));
        let rest = Arc::new(rest);
        for known in &rest.addresses {
            if let Some(of) = self.by_address.get_mut(&key(*known))
                && of.id == rest.id
            {
                *of = Arc::clone(&rest);
            }
        }
        if let Some(of) = self.by_id.get_mut(&rest.id) {
            *of = rest;
        }
    }
}
