//! Ports that are listened on: what makes a connection incoming that was accepted before the program started.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::connection::is_unspecified;
use crate::model::netflow::{Endpoint, Listener, Role, Transport};

/// Listening sockets that are remembered. A host with more of them is told fewer roles of connections older than the program.
const LISTENERS_MAX: usize = 65_536;

/// `::` stands for all addresses of both families.
const ANY: [u8; 16] = [0; 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    local: Endpoint,
    netns: u32,
    transport: Transport,
}

/// The listening sockets of all network namespaces.
#[derive(Debug)]
pub(super) struct Listeners {
    /// With the pass in which each was last seen.
    open: HashMap<Key, u32, RandomState>,
    /// One bit a port: it has been listened on, somewhere on this host, since the start.
    ports: [Box<[u64; 1024]>; 2],
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            open: HashMap::default(),
            ports: [Box::new([0; 1024]), Box::new([0; 1024])],
        }
    }
}

impl Listeners {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there was room for it.
    pub(super) fn apply(&mut self, listener: &Listener, pass: u32) -> bool {
        let key = key(listener.transport, listener.netns, &listener.local);
        if !listener.listening {
            self.open.remove(&key);
            return true;
        }
        self.mark(listener.transport, key.local.port);
        if self.open.len() < LISTENERS_MAX || self.open.contains_key(&key) {
            self.open.insert(key, pass);
            return true;
        }
        // Full: those that were not seen for two passes are gone without a word.
        self.open.retain(|_, seen| pass.wrapping_sub(*seen) <= 2);
        if self.open.len() < LISTENERS_MAX {
            self.open.insert(key, pass);
            return true;
        }
        false
    }

    /// Remembers that a port is served on this host, listener or not: UDP has none.
    pub(super) fn mark(&mut self, transport: Transport, port: u16) {
        let (word, bit) = (port >> 6, port & 63);
        self.ports[transport as usize][usize::from(word)] |= 1 << bit;
    }

    /// The role of the process at `local`, if a listening port tells it.
    pub(super) fn role(
        &self,
        transport: Transport,
        netns: u32,
        local: &Endpoint,
        peer: &Endpoint,
    ) -> Role {
        if self.listens(transport, netns, local) {
            Role::Server
        } else if self.listens(transport, netns, peer) {
            Role::Client
        } else {
            Role::Unknown
        }
    }

    fn listens(&self, transport: Transport, netns: u32, end: &Endpoint) -> bool {
        if end.port == 0 || !self.was_listened_on(transport, end.port) {
            return false;
        }
        let any = Endpoint {
            address: ANY,
            port: end.port,
        };
        self.open.contains_key(&key(transport, netns, end))
            || self.open.contains_key(&key(transport, netns, &any))
    }

    /// Whether the port is, or since the start was, listened on anywhere on this host.
    pub(super) fn was_listened_on(&self, transport: Transport, port: u16) -> bool {
        self.ports[transport as usize][usize::from(port >> 6)] & (1 << (port & 63)) != 0
    }
}

fn key(transport: Transport, netns: u32, local: &Endpoint) -> Key {
    let address = if is_unspecified(&local.address) {
        ANY
    } else {
        local.address
    };
    Key {
        local: Endpoint {
            address,
            port: local.port,
        },
        netns,
        transport,
    }
}
