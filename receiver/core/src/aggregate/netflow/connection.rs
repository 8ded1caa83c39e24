//! One entry of the connection table: what was seen of a connection, and what of it was already told.

use std::net::IpAddr;

use crate::model::netflow::{ConnectionState, Endpoint, Role, Transport};

/// Running totals of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) packets_sent: u64,
    pub(super) packets_received: u64,
    pub(super) retransmits: u32,
}

impl Totals {
    pub(super) fn of(state: &ConnectionState) -> Self {
        Self {
            bytes_sent: state.bytes_sent,
            bytes_received: state.bytes_received,
            packets_sent: state.packets_sent,
            packets_received: state.packets_received,
            retransmits: state.retransmits,
        }
    }

    /// A total never goes back: an observation that overtook another one, or a counter that went wrong, takes nothing away.
    fn raise_to(&mut self, other: Self) {
        self.bytes_sent = self.bytes_sent.max(other.bytes_sent);
        self.bytes_received = self.bytes_received.max(other.bytes_received);
        self.packets_sent = self.packets_sent.max(other.packets_sent);
        self.packets_received = self.packets_received.max(other.packets_received);
        self.retransmits = self.retransmits.max(other.retransmits);
    }

    /// What came since `told`.
    pub(super) fn since(self, told: Self) -> Self {
        Self {
            bytes_sent: self.bytes_sent.saturating_sub(told.bytes_sent),
            bytes_received: self.bytes_received.saturating_sub(told.bytes_received),
            packets_sent: self.packets_sent.saturating_sub(told.packets_sent),
            packets_received: self.packets_received.saturating_sub(told.packets_received),
            retransmits: self.retransmits.saturating_sub(told.retransmits),
        }
    }
}

/// How an observation relates to the entry under the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// The same connection.
    Same,
    /// One that had the id before: the observation was overtaken.
    Earlier,
    /// A new one: the end of the old one was never seen.
    Later,
}

/// An entry of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    /// As in [`ConnectionState::opened_boot_time_ns`].
    pub(super) opened_boot_time_ns: u64,
    pub(super) seen: Totals,
    pub(super) told: Totals,
    pub(super) local: Endpoint,
    pub(super) peer: Endpoint,
    pub(super) netns: u32,
    /// Slot in [`super::owners::Owners`].
    pub(super) owner: u32,
    /// The pass in which this owner was last seen to hold the socket.
    pub(super) owner_pass: u32,
    /// The pass in which the connection was last seen.
    pub(super) pass: u32,
    pub(super) rtt_us: u32,
    pub(super) rtt_var_us: u32,
    pub(super) transport: Transport,
    pub(super) role: Role,
    /// Its opening is to be told.
    pub(super) opening: bool,
    /// It was not seen for so many passes that it was told as closed.
    pub(super) lost: bool,
    /// As in [`ConnectionState::part`].
    pub(super) part: bool,
}

// 100,000 of them stay well below 20 MiB; three cache lines are read for one observation.
const _: () = assert!(size_of::<Connection>() <= 168);

impl Connection {
    /// First sight.
    ///
    /// All that a connection did before the program watched belongs to no interval: of a TCP connection that was opened earlier,
    /// the totals at first sight are the base, and it is not told as opened. (Kernel counters of UDP start with our programs.)
    pub(super) fn new(state: &ConnectionState, owner: u32, pass: u32) -> Self {
        let seen = Totals::of(state);
        let preexisting = is_preexisting(state);
        Self {
            id: state.id,
            opened_boot_time_ns: state.opened_boot_time_ns,
            seen,
            told: if preexisting { seen } else { Totals::default() },
            local: state.local,
            peer: state.peer,
            netns: state.netns,
            owner,
            owner_pass: pass,
            pass,
            rtt_us: state.rtt_us,
            rtt_var_us: state.rtt_var_us,
            transport: state.transport,
            role: state.role,
            opening: state.transport == Transport::Tcp && !preexisting && !state.part,
            lost: false,
            part: state.part,
        }
    }

    /// Whether its opening and its end count: it is a TCP connection, and all of it.
    pub(super) fn counts(&self) -> bool {
        self.transport == Transport::Tcp && !self.part
    }

    /// Whether it is a TCP connection that was opened before the program watched.
    pub(super) fn preexisting(&self) -> bool {
        self.transport == Transport::Tcp && self.opened_boot_time_ns == 0
    }

    /// Whether an observation under the same id is of this connection. What either side does not know differs from nothing:
    /// the kernel has forgotten the local port by the time it closes a socket, and a datagram socket may be bound late.
    pub(super) fn life_of(&self, state: &ConnectionState) -> Life {
        let (known, told) = (self.opened_boot_time_ns, state.opened_boot_time_ns);
        if known != 0 && told != 0 && known != told {
            return if told < known {
                Life::Earlier
            } else {
                Life::Later
            };
        }
        let same = self.transport == state.transport
            && compatible(&self.local, &state.local)
            && compatible(&self.peer, &state.peer)
            && (self.netns == state.netns || self.netns == 0 || state.netns == 0);
        if same { Life::Same } else { Life::Later }
    }

    /// Takes over what an observation of the same connection says beyond what is known.
    pub(super) fn update(&mut self, state: &ConnectionState) {
        self.seen.raise_to(Totals::of(state));
        if state.rtt_us != 0 {
            self.rtt_us = state.rtt_us;
            self.rtt_var_us = state.rtt_var_us;
        }
        if self.role == Role::Unknown {
            self.role = state.role;
        }
        complete(&mut self.local, &state.local);
        complete(&mut self.peer, &state.peer);
        if self.netns == 0 {
            self.netns = state.netns;
        }
    }

    /// What is not told yet.
    pub(super) fn pending(&self) -> Totals {
        self.seen.since(self.told)
    }

    /// Whether there is something to tell.
    pub(super) fn changed(&self) -> bool {
        self.opening || self.seen != self.told
    }
}

/// Whether a TCP connection was opened before the program watched.
pub(super) fn is_preexisting(state: &ConnectionState) -> bool {
    state.transport == Transport::Tcp && state.opened_boot_time_ns == 0
}

/// `::` and `0.0.0.0`.
pub(super) fn is_unspecified(address: &[u8; 16]) -> bool {
    matches!(
        address,
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 | 0xff, 0 | 0xff, 0, 0, 0, 0]
    ) && address[10] == address[11]
}

/// 127.0.0.0/8 and `::1`.
pub(super) fn is_loopback(endpoint: &Endpoint) -> bool {
    match endpoint.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    }
}

fn compatible(a: &Endpoint, b: &Endpoint) -> bool {
    (a.port == b.port || a.port == 0 || b.port == 0)
        && (a.address == b.address || is_unspecified(&a.address) || is_unspecified(&b.address))
}

fn complete(known: &mut Endpoint, told: &Endpoint) {
    if known.port == 0 {
        known.port = told.port;
    }
    if known.address != told.address && is_unspecified(&known.address) {
        known.address = told.address;
    }
}
