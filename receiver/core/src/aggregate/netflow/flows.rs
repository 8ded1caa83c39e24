//! What the connections did in the running interval: merged into flows (records) and into series (metrics).
//!
//! Both are filled by the same call with the same numbers, so their totals are equal by construction.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::connection::{Connection, Totals};
use super::owners::Owners;
use super::sums::Sums;
use super::{GroupBy, Options};
use crate::model::netflow::{
    ConnectError, Direction, Endpoint, NetflowRecord, Overflow, Role, Transport,
};

/// What one connection did since it was reported last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    pub(super) delta: Totals,
    pub(super) opened: bool,
    pub(super) closed: bool,
    pub(super) failed: Option<ConnectError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FlowKey {
    local: Endpoint,
    peer: Endpoint,
    netns: u32,
    owner: u32,
    transport: Transport,
    direction: Direction,
    masked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    key: FlowKey,
    role: Role,
    preexisting: bool,
    overflow: bool,
    bytes_sent: u64,
    bytes_received: u64,
    packets_sent: u64,
    packets_received: u64,
    retransmits: u64,
    rtt_us: u64,
    rtt_var_us: u64,
    rtts: u32,
    opened: u64,
    closed: u64,
    failed: [u32; ConnectError::ALL.len()],
}

/// Flows and series of the running interval.
#[derive(Debug)]
pub(super) struct Flows {
    group_by: GroupBy,
    mask_ports_from: u16,
    max_flows: usize,
    hasher: RandomState,
    rows: Vec<Row>,
    row_by_key: HashTable<u32>,
    /// The sums of the metric series.
    pub(super) sums: Sums,
    /// Connections whose change went into an overflow row, since the start.
    pub(super) overflowed: u64,
}

impl Flows {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            group_by: options.group_by,
            mask_ports_from: options.mask_ports_from,
            max_flows: options.max_flows,
            hasher: RandomState::default(),
            rows: Vec::new(),
            row_by_key: HashTable::new(),
            sums: Sums::new(options.max_flows),
            overflowed: 0,
        }
    }

    /// Adds what a connection did. `port_shown`: whether its server port may stand on metrics.
    pub(super) fn add(&mut self, connection: &Connection, port_shown: bool, change: &Change) {
        let number = self.row(connection);
        let row = &mut self.rows[number];
        let Change {
            delta,
            opened,
            closed,
            failed,
        } = *change;
        row.bytes_sent += delta.bytes_sent;
        row.bytes_received += delta.bytes_received;
        row.packets_sent += delta.packets_sent;
        row.packets_received += delta.packets_received;
        row.retransmits += u64::from(delta.retransmits);
        row.opened += u64::from(opened);
        row.closed += u64::from(closed);
        row.preexisting |= connection.preexisting();
        if row.role == Role::Unknown && !row.overflow {
            row.role = connection.role;
        }
        if connection.rtt_us != 0 {
            row.rtt_us += u64::from(connection.rtt_us);
            row.rtt_var_us += u64::from(connection.rtt_var_us);
            row.rtts += 1;
        }
        if let Some(error) = failed {
            row.failed[error as usize] += 1;
        }

        self.sums.add(connection, port_shown, change);
    }

    /// Adds what had no room of its own in the kernel.
    pub(super) fn add_overflow(&mut self, overflow: &Overflow) {
        let number = self.row_of_overflow(overflow.transport);
        let row = &mut self.rows[number];
        row.bytes_sent += overflow.bytes_sent;
        row.bytes_received += overflow.bytes_received;
        row.packets_sent += overflow.packets_sent;
        row.packets_received += overflow.packets_received;
        self.sums.add_overflow(overflow);
    }

    /// Hands out the records and forgets them.
    pub(super) fn take_records(
        &mut self,
        unix_ns: u64,
        owners: &Owners,
        mut give: impl FnMut(NetflowRecord),
    ) {
        self.row_by_key.clear();
        // A quiet interval gives back what a busy one needed.
        self.rows.shrink_to(2 * self.rows.len());
        for row in self.rows.drain(..) {
            give(row.record(unix_ns, owners));
        }
    }

    fn row(&mut self, connection: &Connection) -> usize {
        let key = self.key(connection);
        let hash = self.hasher.hash_one(key);
        let rows = &self.rows;
        if let Some(&number) = self
            .row_by_key
            .find(hash, |&number| rows[number as usize].key == key)
        {
            return number as usize;
        }
        // Beside the flows there is room for one overflow row of each transport.
        let overflow = self.rows.len() >= self.max_flows && key.owner != OVERFLOW;
        if overflow {
            self.overflowed += 1;
            return self.row_of_overflow(connection.transport);
        }
        self.new_row(key, hash, connection.role, false)
    }

    fn row_of_overflow(&mut self, transport: Transport) -> usize {
        let key = FlowKey {
            local: Endpoint::default(),
            peer: Endpoint::default(),
            netns: 0,
            owner: OVERFLOW,
            transport,
            direction: Direction::Unknown,
            masked: false,
        };
        let hash = self.hasher.hash_one(key);
        let rows = &self.rows;
        match self
            .row_by_key
            .find(hash, |&number| rows[number as usize].key == key)
        {
            Some(&number) => number as usize,
            None => self.new_row(key, hash, Role::Unknown, true),
        }
    }

    fn new_row(&mut self, key: FlowKey, hash: u64, role: Role, overflow: bool) -> usize {
        let number = self.rows.len();
        self.rows.push(Row::new(key, role, overflow));
        let (rows, hasher) = (&self.rows, &self.hasher);
        // Options keep the number of flows far below what a u32 counts.
        self.row_by_key
            .insert_unique(hash, u32::try_from(number).unwrap_or(u32::MAX), |&number| {
                hasher.hash_one(rows[number as usize].key)
            });
        number
    }

    fn key(&self, connection: &Connection) -> FlowKey {
        let (mut local, mut peer) = (connection.local, connection.peer);
        let (direction, client_port) = match connection.role {
            Role::Server => (Direction::Incoming, Some(&mut peer.port)),
            Role::Client => (Direction::Outgoing, Some(&mut local.port)),
            // Neither port is known to be the client's.
            Role::Unknown => (Direction::Unknown, None),
        };
        // The kernel merges a server's clients: their port is zero already.
        let client_port = client_port.filter(|port| {
            self.group_by == GroupBy::Service && (**port >= self.mask_ports_from || **port == 0)
        });
        let masked = client_port.is_some();
        if let Some(port) = client_port {
            *port = 0;
        }
        FlowKey {
            local,
            peer,
            netns: connection.netns,
            owner: connection.owner,
            transport: connection.transport,
            direction,
            masked,
        }
    }
}

/// The owner number of overflow rows: no slot has it, so it stands for nobody.
const OVERFLOW: u32 = u32::MAX;

impl Row {
    fn new(key: FlowKey, role: Role, overflow: bool) -> Self {
        Self {
            key,
            role,
            preexisting: false,
            overflow,
            bytes_sent: 0,
            bytes_received: 0,
            packets_sent: 0,
            packets_received: 0,
            retransmits: 0,
            rtt_us: 0,
            rtt_var_us: 0,
            rtts: 0,
            opened: 0,
            closed: 0,
            failed: [0; _],
        }
    }

    fn record(&self, unix_ns: u64, owners: &Owners) -> NetflowRecord {
        let identity = &owners.get(self.key.owner).identity;
        let mean = |sum: u64| {
            let mean = sum.checked_div(u64::from(self.rtts)).unwrap_or(0);
            u32::try_from(mean).unwrap_or(u32::MAX)
        };
        NetflowRecord {
            unix_ns,
            transport: self.key.transport,
            direction: self.key.direction,
            role: self.role,
            local: self.key.local,
            peer: self.key.peer,
            client_port_masked: self.key.masked,
            overflow: self.overflow,
            peer_nat: None,
            peer_domain: None,
            local_kubernetes: None,
            peer_kubernetes: None,
            process: identity.process.clone(),
            netns: self.key.netns,
            preexisting: self.preexisting,
            bytes_read: self.bytes_received,
            bytes_written: self.bytes_sent,
            packets_read: self.packets_received,
            packets_written: self.packets_sent,
            retransmits: self.retransmits,
            rtt_us: mean(self.rtt_us),
            rtt_var_us: mean(self.rtt_var_us),
            tcp_closed: self.closed,
            tcp_established: self.opened,
            failed: ConnectError::ALL
                .into_iter()
                .zip(self.failed)
                .filter(|(_, count)| *count > 0)
                .map(|(error, count)| (error, count.into()))
                .collect(),
            resource: identity.resource.clone(),
        }
    }
}
