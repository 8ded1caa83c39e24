//! What the connections did in the running interval, by metric series.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::connection::Connection;
use super::flows::Change;
use super::owners::{NOBODY, Owners};
use crate::aggregate::usage::{Rtts, Usage};
use crate::model::netflow::{ConnectError, Overflow, Role, Transport};

/// What distinguishes one series from another, below the resource: packed into one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Facts {
    owner: u32,
    /// Zero: not shown.
    server_port: u16,
    transport: Transport,
    role: Role,
    ipv4: bool,
    overflow: bool,
}

#[derive(Clone, Debug)]
struct Cell {
    facts: Facts,
    counts: Counts,
}

/// Sums of one series in one interval.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    bytes_sent: u64,
    bytes_received: u64,
    packets_sent: u64,
    packets_received: u64,
    retransmits: u64,
    opened: u64,
    closed: u64,
    failed: [u64; ConnectError::ALL.len()],
    active: u64,
    rtts: Rtts,
}

/// The sums of the metric series in the running interval.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    max: usize,
    cells: Vec<Cell>,
    cell_by_facts: HashMap<Facts, u32, RandomState>,
}

impl Sums {
    /// `max`: series beside one overflow series of each transport.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            cells: Vec::new(),
            cell_by_facts: HashMap::default(),
        }
    }

    /// Adds what a connection did. `port_shown`: whether its server port may stand on metrics.
    pub(super) fn add(&mut self, connection: &Connection, port_shown: bool, change: &Change) {
        let Change {
            delta,
            opened,
            closed,
            failed,
        } = *change;
        let counts = self.counts(connection, port_shown);
        counts.bytes_sent += delta.bytes_sent;
        counts.bytes_received += delta.bytes_received;
        counts.packets_sent += delta.packets_sent;
        counts.packets_received += delta.packets_received;
        counts.retransmits += u64::from(delta.retransmits);
        counts.opened += u64::from(opened);
        counts.closed += u64::from(closed);
        if connection.rtt_us != 0 {
            counts.rtts.record(connection.rtt_us);
        }
        if let Some(error) = failed {
            counts.failed[error as usize] += 1;
        }
    }

    /// Adds what had no room of its own in the kernel.
    pub(super) fn add_overflow(&mut self, overflow: &Overflow) {
        let counts = self.cell(Facts {
            owner: NOBODY,
            server_port: 0,
            transport: overflow.transport,
            role: Role::Unknown,
            ipv4: true,
            overflow: true,
        });
        counts.bytes_sent += overflow.bytes_sent;
        counts.bytes_received += overflow.bytes_received;
        counts.packets_sent += overflow.packets_sent;
        counts.packets_received += overflow.packets_received;
    }

    /// Counts a connection that is open at the end of the interval.
    pub(super) fn add_active(&mut self, connection: &Connection, port_shown: bool) {
        self.counts(connection, port_shown).active += 1;
    }

    /// Hands out the sums of the series and forgets them.
    pub(super) fn take(&mut self, owners: &Owners, mut give: impl FnMut(&Usage<'_>)) {
        self.cell_by_facts.clear();
        for Cell { facts, counts } in self.cells.drain(..) {
            give(&Usage {
                identity: &owners.get(facts.owner).identity,
                transport: facts.transport,
                ipv4: facts.ipv4,
                role: facts.role,
                server_port: (facts.server_port != 0).then_some(facts.server_port),
                overflow: facts.overflow,
                bytes_sent: counts.bytes_sent,
                bytes_received: counts.bytes_received,
                packets_sent: counts.packets_sent,
                packets_received: counts.packets_received,
                retransmits: counts.retransmits,
                opened: counts.opened,
                closed: counts.closed,
                failed: counts.failed,
                active: counts.active,
                rtts: counts.rtts,
            });
        }
    }

    fn counts(&mut self, connection: &Connection, port_shown: bool) -> &mut Counts {
        let server_port = match connection.role {
            Role::Server => connection.local.port,
            Role::Client if port_shown => connection.peer.port,
            Role::Client | Role::Unknown => 0,
        };
        let mut facts = Facts {
            owner: connection.owner,
            server_port,
            transport: connection.transport,
            role: connection.role,
            ipv4: connection.peer.ip().is_ipv4(),
            overflow: false,
        };
        if self.cells.len() >= self.max && !self.cell_by_facts.contains_key(&facts) {
            facts = Facts {
                owner: NOBODY,
                server_port: 0,
                role: Role::Unknown,
                overflow: true,
                ..facts
            };
        }
        self.cell(facts)
    }

    fn cell(&mut self, facts: Facts) -> &mut Counts {
        let next = self.cells.len();
        let number = *self
            .cell_by_facts
            .entry(facts)
            .or_insert_with(|| u32::try_from(next).unwrap_or(u32::MAX))
            as usize;
        if number == next {
            self.cells.push(Cell {
                facts,
                counts: Counts::default(),
            });
        }
        &mut self.cells[number].counts
    }
}
