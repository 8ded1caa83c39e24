//! Ports that are listened on: what makes a connection incoming that was accepted before the program started.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::connection::is_unspecified;
use crate::model::netflow::{Endpoint, Listener, Owner, Role, Transport};

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

#[derive(Clone, Copy, Debug)]
struct Open {
    /// The pass in which it was last seen.
    pass: u32,
    owner: Owner,
}

/// The listening sockets of all network namespaces.
#[derive(Debug)]
pub(super) struct Listeners {
    open: HashMap<Key, Open, RandomState>,
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
        let open = Open {
            pass,
            owner: listener.owner,
        };
        if self.open.len() < LISTENERS_MAX || self.open.contains_key(&key) {
            self.open.insert(key, open);
            return true;
        }
        // Full: those that were not seen for two passes are gone without a word.
        self.open
            .retain(|_, seen| pass.wrapping_sub(seen.pass) <= 2);
        if self.open.len() < LISTENERS_MAX {
            self.open.insert(key, open);
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
        self.open(transport, netns, end).is_some()
    }

    /// Who listens there.
    pub(super) fn owner(&self, transport: Transport, netns: u32, end: &Endpoint) -> Option<Owner> {
        self.open(transport, netns, end).map(|open| open.owner)
    }

    fn open(&self, transport: Transport, netns: u32, end: &Endpoint) -> Option<&Open> {
        if end.port == 0 || !self.was_listened_on(transport, end.port) {
            return None;
        }
        let any = Endpoint {
            address: ANY,
            port: end.port,
        };
        let at = |end| self.open.get(&key(transport, netns, end));
        at(end).or_else(|| at(&any))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::aggregate::netflow::{FlowTable, Options};
    use crate::model::netflow::{ConnectionState, Identity, KernelEvent, Phase, Process};

    /// The process that the record of one ended connection names.
    fn process_of(ended: ConnectionState) -> u32 {
        let mut table = FlowTable::new(Options::default(), Arc::default());
        let mut identify = |owner: &Owner, _| {
            let process = Process {
                pid: owner.pid,
                ..Process::default()
            };
            Arc::new(Identity {
                process: process.into(),
                ..Identity::default()
            })
        };
        let listener = Listener {
            transport: Transport::Tcp,
            netns: 1,
            local: Endpoint {
                address: ANY,
                port: 80,
            },
            owner: Owner {
                pid: 9,
                ..Owner::default()
            },
            listening: true,
        };
        table.apply(&KernelEvent::Listener(listener), &mut identify);
        table.apply(&KernelEvent::Connection(ended), &mut identify);
        let mut pids = Vec::new();
        table.flush(1, |record| pids.push(record.process.pid), |_| {});
        assert_eq!(pids.len(), 1);
        pids[0]
    }

    #[test]
    fn a_connection_that_ended_before_anybody_was_seen_with_it_is_its_listeners() {
        let ended = ConnectionState {
            id: 1,
            phase: Phase::Closed,
            boot_time_ns: 2,
            opened_boot_time_ns: 1,
            role: Role::Server,
            local: ([10, 0, 0, 1].into(), 80).into(),
            peer: ([10, 0, 0, 2].into(), 50_000).into(),
            netns: 1,
            ..ConnectionState::default()
        };
        assert_eq!(process_of(ended), 9);
        let elsewhere = ConnectionState { netns: 2, ..ended };
        assert_eq!(process_of(elsewhere), 0, "another network namespace");
        let outgoing = ConnectionState {
            role: Role::Client,
            ..ended
        };
        assert_eq!(process_of(outgoing), 0, "who connects did not accept");
    }
}
