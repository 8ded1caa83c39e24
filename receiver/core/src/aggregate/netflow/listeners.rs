//! Ports that are listened on: what makes a connection incoming that was accepted before the program started.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::connection::is_unspecified;
use crate::model::netflow::{ConnectionState, Endpoint, Listener, Owner, Role, Transport};

/// Pairs of listening socket and process that are remembered. On a host with more of them fewer connections that end before anybody
/// was seen with them have an owner.
const HOLDERS_MAX: usize = 65_536;

/// `::` stands for all addresses of both families.
const ANY: [u8; 16] = [0; 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    local: Endpoint,
    netns: u32,
    transport: Transport,
}

/// A process that holds a listening socket.
#[derive(Clone, Copy, Debug)]
struct Holder {
    /// The listening socket: several may share an address and port (SO_REUSEPORT).
    socket: u64,
    owner: Owner,
    /// As in [`Listener::credentials`].
    credentials: u32,
    /// The pass in which it was last seen.
    pass: u32,
    /// The socket was closed in that pass.
    closed: bool,
}

/// The listening sockets of all network namespaces.
#[derive(Debug)]
pub(super) struct Listeners {
    open: HashMap<Key, Vec<Holder>, RandomState>,
    /// How many holders there are.
    holders: usize,
    /// Where sockets were closed in this pass; their connections may still come to an end.
    closed: Vec<Key>,
    /// One bit a port: it has been listened on, somewhere on this host, since the start.
    ports: [Box<[u64; 1024]>; 2],
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            open: HashMap::default(),
            holders: 0,
            closed: Vec::new(),
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
        let is_it = |holder: &Holder| holder.socket == listener.id;
        if !listener.listening {
            if let Some(holders) = self.open.get_mut(&key) {
                for holder in holders.iter_mut().filter(|holder| is_it(holder)) {
                    (holder.closed, holder.pass) = (true, pass);
                }
                self.closed.push(key);
            }
            return true;
        }
        self.mark(listener.transport, key.local.port);
        let seen = Holder {
            socket: listener.id,
            owner: listener.owner,
            credentials: listener.credentials,
            pass,
            closed: false,
        };
        if let Some(holders) = self.open.get_mut(&key) {
            let same = |holder: &&mut Holder| {
                is_it(holder) && (holder.owner.pid == seen.owner.pid || seen.owner.pid == 0)
            };
            if let Some(holder) = holders.iter_mut().find(same) {
                // A look without an owner describes the socket, not its holder.
                if seen.owner.pid != 0 {
                    *holder = seen;
                }
                return true;
            }
            // Somebody was seen with a socket, so who was not seen for two passes is gone.
            let before = holders.len();
            holders.retain(|holder| is_recent(holder, pass));
            self.holders -= before - holders.len();
        }
        if self.holders >= HOLDERS_MAX {
            self.forget(|holder| is_recent(holder, pass));
            if self.holders >= HOLDERS_MAX {
                return false;
            }
        }
        self.open.entry(key).or_default().push(seen);
        self.holders += 1;
        true
    }

    /// The pass is over: what was closed in it is forgotten.
    pub(super) fn end_pass(&mut self) {
        for key in std::mem::take(&mut self.closed) {
            if let Some(holders) = self.open.get_mut(&key) {
                let before = holders.len();
                holders.retain(|holder| !holder.closed);
                self.holders -= before - holders.len();
                if holders.is_empty() {
                    self.open.remove(&key);
                }
            }
        }
    }

    fn forget(&mut self, keep: impl Fn(&Holder) -> bool) {
        self.open.retain(|_, holders| {
            holders.retain(&keep);
            !holders.is_empty()
        });
        self.holders = self.open.values().map(Vec::len).sum();
    }

    /// Remembers that a port is served on this host, listener or not: UDP has none.
    pub(super) fn mark(&mut self, transport: Transport, port: u16) {
        let (word, bit) = (port >> 6, port & 63);
        self.ports[transport as usize][usize::from(word)] |= 1 << bit;
    }

    /// The role of the process at `local`, if a listening port gives it; if both ends' ports are listened on, neither does.
    pub(super) fn role(
        &self,
        transport: Transport,
        netns: u32,
        local: &Endpoint,
        peer: &Endpoint,
    ) -> Role {
        let listens = |end| {
            let holders = self.holders_at(transport, netns, end);
            holders.iter().any(|holder| !holder.closed)
        };
        match (listens(local), listens(peer)) {
            (true, false) => Role::Server,
            (false, true) => Role::Client,
            (true, true) | (false, false) => Role::Unknown,
        }
    }

    /// The process that accepted this connection, as far as its listeners tell without doubt: the one whose credentials it was
    /// accepted with; of a connection that was not accepted, the only one that could have.
    pub(super) fn acceptor(&self, state: &ConnectionState, pass: u32) -> Option<Owner> {
        let holders = self.holders_at(state.transport, state.netns, &state.local);
        let named = |holder: &&Holder| holder.owner.pid != 0;
        let seen = holders
            .iter()
            .any(|holder| named(&holder) && is_recent(holder, pass));
        let mut candidates = holders.iter().filter(|holder| {
            named(holder)
                && (is_recent(holder, pass) || !seen)
                && (state.acceptor == 0 || state.acceptor == holder.credentials)
        });
        let first = candidates.next()?;
        candidates
            .all(|other| other.owner.pid == first.owner.pid)
            .then_some(first.owner)
    }

    fn holders_at(&self, transport: Transport, netns: u32, end: &Endpoint) -> &[Holder] {
        if end.port == 0 || !self.was_listened_on(transport, end.port) {
            return &[];
        }
        let any = Endpoint {
            address: ANY,
            port: end.port,
        };
        let at = |end| self.open.get(&key(transport, netns, end));
        at(end).or_else(|| at(&any)).map_or(&[], Vec::as_slice)
    }

    /// Whether the port is, or since the start was, listened on anywhere on this host.
    pub(super) fn was_listened_on(&self, transport: Transport, port: u16) -> bool {
        self.ports[transport as usize][usize::from(port >> 6)] & (1 << (port & 63)) != 0
    }
}

/// Seen in this pass or in the one before.
fn is_recent(holder: &Holder, pass: u32) -> bool {
    pass.wrapping_sub(holder.pass) <= 1
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
