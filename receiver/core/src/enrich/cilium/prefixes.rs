//! The ip cache: which identity a prefix has, and which pod an address.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::quality::FixedState;

use super::Map;
use crate::model::flow::Pod;

/// What the ip cache has for a prefix.
#[derive(Clone, Debug, Default)]
pub(super) struct Cached {
    pub(super) identity: u32,
    /// Used for single addresses.
    pub(super) pod: Option<Arc<Pod>>,
}

/// The entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes {
    /// By their length, longest first; the length counts from the start of the v4-mapped address.
    by_length: Vec<(u8, Map<u128, Cached>)>,
    /// How many addresses each pod has, by the hash of its name: a pod that has none is gone.
    pods: Map<u64, u32>,
}

/// Addresses of both families in one key space. A v4-mapped IPv6 address is the IPv4 address, as in Hubble.
pub(super) fn key(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn masked(key: u128, length: u8) -> u128 {
    key & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// The length of a single address.
const HOST: u8 = 128;

fn length_of(address: IpAddr, length: u8) -> u8 {
    match address {
        IpAddr::V4(_) => length.min(32) + 96,
        IpAddr::V6(_) => length.min(HOST),
    }
}

fn hash(pod: &Pod) -> u64 {
    FixedState::default().hash_one((&pod.namespace, &pod.name))
}

impl Prefixes {
    pub(super) fn len(&self) -> usize {
        self.by_length.iter().map(|(_, of)| of.len()).sum()
    }

    /// Adds or replaces an entry. Gives the pod that has no address any more.
    pub(super) fn set(&mut self, address: IpAddr, length: u8, cached: Cached) -> Option<Arc<Pod>> {
        let length = length_of(address, length);
        if let (HOST, Some(pod)) = (length, &cached.pod) {
            *self.pods.entry(hash(pod)).or_default() += 1;
        }
        let at = match self
            .by_length
            .binary_search_by(|(known, _)| length.cmp(known))
        {
            Ok(at) => at,
            Err(at) => {
                self.by_length.insert(at, (length, Map::default()));
                at
            }
        };
        let old = self.by_length[at]
            .1
            .insert(masked(key(address), length), cached);
        self.lost(length, old)
    }

    /// Removes an entry. Gives the pod that has no address any more.
    pub(super) fn remove(&mut self, address: IpAddr, length: u8) -> Option<Arc<Pod>> {
        let length = length_of(address, length);
        let of_length = self.by_length.iter_mut();
        let (_, prefixes) = of_length.into_iter().find(|(known, _)| *known == length)?;
        let old = prefixes.remove(&masked(key(address), length));
        self.by_length.retain(|(_, prefixes)| !prefixes.is_empty());
        self.lost(length, old)
    }

    /// The pod of an entry that is no more, if that was its last one.
    fn lost(&mut self, length: u8, old: Option<Cached>) -> Option<Arc<Pod>> {
        let pod = old?.pod.filter(|_| length == HOST)?;
        let count = self.pods.get_mut(&hash(&pod))?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        self.pods.remove(&hash(&pod));
        Some(pod)
    }

    /// Pods that have an address in `before` and none here.
    pub(super) fn pods_gone(&self, before: &Self) -> Vec<Arc<Pod>> {
        let mut gone: Vec<u64> = before.pods.keys().copied().collect();
        gone.retain(|pod| !self.pods.contains_key(pod));
        if gone.is_empty() {
            return Vec::new();
        }
        gone.sort_unstable();
        let mut left: Vec<Option<Arc<Pod>>> = vec![None; gone.len()];
        let hosts = before
            .by_length
            .first()
            .filter(|(length, _)| *length == HOST);
        let pods = hosts.into_iter().flat_map(|(_, hosts)| hosts.values());
        for pod in pods.filter_map(|cached| cached.pod.as_ref()) {
            if let Ok(place) = gone.binary_search(&hash(pod)) {
                left[place] = Some(Arc::clone(pod));
            }
        }
        left.into_iter().flatten().collect()
    }

    /// The entry of exactly this address.
    pub(super) fn at(&self, address: IpAddr) -> Option<&Cached> {
        let (HOST, hosts) = self.by_length.first()? else {
            return None;
        };
        hosts.get(&key(address))
    }

    /// The longest prefix with this address.
    pub(super) fn longest(&self, address: IpAddr) -> Option<&Cached> {
        let key = key(address);
        let shortest = if key >> 32 == 0xffff { 96 } else { 0 };
        let candidates = self
            .by_length
            .iter()
            .take_while(|(length, _)| *length >= shortest);
        candidates
            .filter_map(|(length, prefixes)| prefixes.get(&masked(key, *length)))
            .next()
    }
}
