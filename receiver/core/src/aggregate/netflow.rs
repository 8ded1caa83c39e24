//! The connection table: observations of the kernel in; at each interval the records and the metric sums of what changed out.
//!
//! An observation carries running totals, so it may be lost, repeated or overtaken by another: a total only ever rises, and what
//! an interval is told is `seen - told`, which is then `told`. So the sum of all intervals is the last total that was seen.
//!
//! | situation | opened | closed | counters |
//! | --- | --- | --- | --- |
//! | open, first seen | 1 | 0 | all so far |
//! | open, first seen, TCP, older than the program | 0 | 0 | none: what it did before belongs to no interval |
//! | open, known | 0 | 0 | difference |
//! | closed, was open | 0 | 1 | difference |
//! | opened and closed in one interval | 1 | 1 | all |
//! | id used again without a close seen | +1 each | +1 each | summed |
//! | a later subflow of Multipath TCP | 0 | 0 | as above |
//! | not seen for [`Options::expire_after_passes`] | 0 | 1 (TCP) | difference |
//! | seen again after that | 1 (TCP) | 0 | difference |
//!
//! The entry of a connection that was not seen for a while is kept as long as there is room: a socket may have no descriptor
//! for a time (in an accept queue, on its way between processes, closed but not finished), and to forget its totals would mean
//! to tell them twice.

mod connection;
mod flows;
mod listeners;
mod ownerless;
mod owners;
mod sums;

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use self::connection::{Connection, Life, is_loopback, is_preexisting};
use self::flows::{Change, Flows};
use self::listeners::Listeners;
use self::owners::Owners;
use crate::aggregate::usage::Usage;
use crate::ledger::{Ledger, Reason, Stage};
use crate::model::netflow::{
    ConnectError, ConnectionState, Identity, KernelEvent, NetflowRecord, Owner, Phase, Role,
    Transport,
};

/// How connections become records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GroupBy {
    /// Those of one process that differ only in the client's port are one flow; the port is written `*`.
    #[default]
    Service,
    /// Each connection is a flow.
    Connection,
}

/// The connection table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How connections become records.
    pub group_by: GroupBy,
    /// With [`GroupBy::Service`]: client ports from this one on are merged away. Default 0: all of them. (DataKit's
    /// `ephemeral_port`.)
    pub mask_ports_from: u16,
    /// Whether connections with a loopback address at either end are kept. Default: yes.
    pub loopback: bool,
    /// Connections that are followed. The numbers of those beyond come all at once, when they close. Default 65,536.
    pub max_connections: usize,
    /// Flows of one interval. What goes beyond is told in one row a transport, `overflow`. Default 65,536.
    pub max_flows: usize,
    /// Intervals in which a connection may be absent before it is taken for closed: its end was lost. Default 6; 0: never,
    /// for a source that does not look at every open connection in every interval.
    pub expire_after_passes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            group_by: GroupBy::default(),
            mask_ports_from: 0,
            loopback: true,
            max_connections: 65_536,
            max_flows: 65_536,
            expire_after_passes: 6,
        }
    }
}

/// What the table holds, and what befell it since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that are followed.
    pub connections: usize,
    /// Processes (and containers) that have any.
    pub owners: usize,
    /// Listening sockets.
    pub listeners: usize,
    /// Connections older than the program that were found.
    pub preexisting: u64,
    /// Connections that were taken for closed because nobody saw them any more.
    pub expired: u64,
    /// Those that were seen again after that.
    pub revived: u64,
    /// Ids that were used again before the end of the old connection was seen.
    pub reused: u64,
    /// Observations that came after the end of their connection.
    pub late: u64,
    /// Connections told in an overflow row, one count for each interval.
    pub overflowed: u64,
}

/// What became of observations since they were booked last.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    received: u64,
    passed: u64,
    unchanged: u64,
    loopback: u64,
    full: u64,
}

/// Ends that are remembered, in each of two intervals, so that an overtaken observation does not raise the dead.
const ENDED_MAX: usize = 16_384;

/// Entries of lost connections are kept this many times as long as it took to call them lost.
const LOST_FACTOR: u32 = 20;

/// The connections of this host.
#[derive(Debug)]
pub struct FlowTable {
    options: Options,
    connections: Vec<Connection>,
    by_id: HashMap<u64, u32, RandomState>,
    /// Id and time of connections that ended in this interval, and in the one before.
    ended: [HashMap<u64, u64, RandomState>; 2],
    listeners: Listeners,
    /// Connections that ended in this interval, and no process was seen with them.
    ownerless: HashMap<u64, ConnectionState, RandomState>,
    owners: Owners,
    flows: Flows,
    /// Counts the intervals.
    pass: u32,
    /// A connection found no room since the last flush.
    full: bool,
    counts: Counts,
    stats: Stats,
}

impl FlowTable {
    /// An empty table. `nobody` stands where an owner is unknown: no process, and the resource of the host.
    #[must_use]
    pub fn new(options: Options, nobody: Arc<Identity>) -> Self {
        Self {
            flows: Flows::new(&options),
            owners: Owners::new(nobody),
            options,
            connections: Vec::new(),
            by_id: HashMap::default(),
            ended: [HashMap::default(), HashMap::default()],
            listeners: Listeners::default(),
            ownerless: HashMap::default(),
            pass: 0,
            full: false,
            counts: Counts::default(),
            stats: Stats::default(),
        }
    }

    /// Takes an observation. `identify` is asked once for each connection, and when its owner changes, so the owner is named
    /// while it lives; its second argument is the time of the observation, nanoseconds since boot.
    pub fn apply(
        &mut self,
        event: &KernelEvent,
        mut identify: impl FnMut(&Owner, u64) -> Arc<Identity>,
    ) {
        self.counts.received += 1;
        match event {
            KernelEvent::Connection(state) => self.connection(state, &mut identify),
            KernelEvent::Listener(listener) => {
                if self.listeners.apply(listener, self.pass) {
                    self.counts.passed += 1;
                } else {
                    self.counts.full += 1;
                }
            }
            KernelEvent::Overflow(overflow) => {
                self.counts.passed += 1;
                self.flows.add_overflow(overflow);
            }
        }
    }

    fn connection(
        &mut self,
        state: &ConnectionState,
        identify: &mut impl FnMut(&Owner, u64) -> Arc<Identity>,
    ) {
        if !self.options.loopback && (is_loopback(&state.peer) || is_loopback(&state.local)) {
            self.counts.loopback += 1;
            return;
        }
        if state.transport == Transport::Udp && state.role == Role::Server {
            self.listeners.mark(Transport::Udp, state.local.port);
        }
        self.settle_one(state.id, identify);
        if self.hold(state) {
            return;
        }
        self.apply_state(state, identify);
    }

    fn apply_state(
        &mut self,
        state: &ConnectionState,
        identify: &mut impl FnMut(&Owner, u64) -> Arc<Identity>,
    ) {
        if let Some(&number) = self.by_id.get(&state.id) {
            let number = number as usize;
            match self.connections[number].life_of(state) {
                Life::Same => return self.again(number, state, identify),
                Life::Earlier => return self.late(),
                Life::Later => {
                    self.stats.reused += 1;
                    self.tell_end(number, None);
                    self.remove(number);
                }
            }
        } else if self.has_ended(state) {
            return self.late();
        }
        self.first(state, identify);
    }

    /// An observation of a connection that is not in the table.
    fn first(
        &mut self,
        state: &ConnectionState,
        identify: &mut impl FnMut(&Owner, u64) -> Arc<Identity>,
    ) {
        if state.phase == Phase::Open && self.connections.len() >= self.options.max_connections {
            self.full = true;
            self.counts.full += 1;
            return;
        }
        self.counts.passed += 1;
        self.stats.preexisting += u64::from(is_preexisting(state));
        let identity = identify(&state.owner, state.boot_time_ns);
        let owner = self.owners.intern(identity, state.owner);
        let connection = Connection::new(state, owner, self.pass);
        let number = self.connections.len();
        self.connections.push(connection);
        match state.phase {
            Phase::Open => {
                // Options keep the number of connections far below what a u32 counts.
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                self.by_id.insert(state.id, number);
            }
            Phase::Closed | Phase::Failed => {
                self.end(number, state, false);
                self.connections.pop();
            }
        }
    }

    /// An observation of a connection that is in the table.
    fn again(
        &mut self,
        number: usize,
        state: &ConnectionState,
        identify: &mut impl FnMut(&Owner, u64) -> Arc<Identity>,
    ) {
        self.owner(number, state, identify);
        let connection = &mut self.connections[number];
        connection.pass = self.pass;
        if connection.lost {
            connection.lost = false;
            connection.opening = connection.counts();
            self.stats.revived += 1;
        }
        connection.update(state);
        if state.phase == Phase::Open {
            if connection.changed() {
                self.counts.passed += 1;
            } else {
                self.counts.unchanged += 1;
            }
            return;
        }
        self.counts.passed += 1;
        let was_told = !self.connections[number].opening;
        self.end(number, state, was_told);
        self.remove(number);
    }

    /// One socket may be held by several processes: the first that is seen with it in a pass has it.
    fn owner(
        &mut self,
        number: usize,
        state: &ConnectionState,
        identify: &mut impl FnMut(&Owner, u64) -> Arc<Identity>,
    ) {
        if state.owner.pid == 0 {
            return;
        }
        let connection = &mut self.connections[number];
        let known = &self.owners.get(connection.owner).owner;
        if known.pid == state.owner.pid {
            connection.owner_pass = self.pass;
            if known.comm == state.owner.comm {
                return;
            }
        } else if known.pid != 0 && connection.owner_pass == self.pass {
            return;
        }
        let identity = identify(&state.owner, state.boot_time_ns);
        let owner = self.owners.intern(identity, state.owner);
        if owner != connection.owner {
            // What happened until now was the old owner's, if it had one.
            if known_owner(&self.owners, connection) {
                self.tell(number);
            }
            self.connections[number].owner = owner;
        }
        self.connections[number].owner_pass = self.pass;
    }

    /// Tells the end that `state` reports, and remembers it. `was_told`: an earlier interval knows it as open.
    fn end(&mut self, number: usize, state: &ConnectionState, was_told: bool) {
        match state.phase {
            Phase::Open | Phase::Closed => self.tell_end(number, state.error),
            Phase::Failed => {
                let connection = &mut self.connections[number];
                connection.opening = false;
                if connection.role == Role::Unknown {
                    // Only who connects can fail to.
                    connection.role = Role::Client;
                }
                let change = Change {
                    delta: connection.pending(),
                    opened: false,
                    closed: was_told && connection.counts() && !connection.lost,
                    failed: (!connection.part).then(|| state.error.unwrap_or(ConnectError::Other)),
                };
                if change.failed.is_some() || change.closed || connection.changed() {
                    self.add(number, change);
                }
            }
        }
        let ended = &mut self.ended[0];
        if ended.len() < ENDED_MAX {
            ended.insert(state.id, state.boot_time_ns);
        }
    }

    fn tell_end(&mut self, number: usize, error: Option<ConnectError>) {
        let connection = &self.connections[number];
        // Of a lost one the end was told already.
        let closed = connection.counts() && !connection.lost;
        let change = Change {
            delta: connection.pending(),
            opened: connection.opening,
            closed,
            failed: error.filter(|_| connection.counts()),
        };
        if closed || change.failed.is_some() || connection.changed() {
            self.add(number, change);
        }
    }

    /// Tells what is not told yet of a connection that goes on.
    fn tell(&mut self, number: usize) {
        let connection = &self.connections[number];
        if connection.changed() {
            let change = Change {
                delta: connection.pending(),
                opened: connection.opening,
                ..Change::default()
            };
            self.add(number, change);
        }
    }

    fn add(&mut self, number: usize, change: Change) {
        let connection = &mut self.connections[number];
        resolve_role(connection, &self.listeners);
        let port_shown = port_shown(connection, &self.listeners);
        self.flows.add(connection, port_shown, &change);
        connection.told = connection.seen;
        connection.opening = false;
    }

    /// Ends the interval, after [`Self::settle`]: gives a record for each flow that did something in it, and the sums of each metric series, those
    /// without change but with open connections included. `unix_ns` is the end of the interval.
    pub fn flush(
        &mut self,
        unix_ns: u64,
        record: impl FnMut(NetflowRecord),
        usage: impl FnMut(&Usage<'_>),
    ) {
        let nobody = self.owners.nobody();
        self.settle(|_, _| Arc::clone(&nobody));
        let lost_after = self.options.expire_after_passes;
        let forgotten_after = lost_after.saturating_mul(LOST_FACTOR);
        let mut number = 0;
        while let Some(connection) = self.connections.get(number) {
            let absent = self.pass.wrapping_sub(connection.pass);
            if connection.lost {
                if self.full || absent > forgotten_after {
                    self.remove(number);
                    continue;
                }
            } else if lost_after > 0 && absent >= lost_after {
                self.stats.expired += 1;
                self.tell_end(number, None);
                self.connections[number].lost = true;
            } else {
                self.tell(number);
                let connection = &mut self.connections[number];
                if connection.counts() {
                    resolve_role(connection, &self.listeners);
                    let port_shown = port_shown(connection, &self.listeners);
                    self.flows.sums.add_active(connection, port_shown);
                }
            }
            self.owners.mark(self.connections[number].owner);
            number += 1;
        }
        self.flows.take_records(unix_ns, &self.owners, record);
        self.flows.sums.take(&self.owners, usage);
        self.owners.sweep();
        self.listeners.end_pass();
        let [now, before] = &mut self.ended;
        std::mem::swap(now, before);
        now.clear();
        // After a peak the memory goes back.
        if self.connections.capacity() > 4 * self.connections.len().max(1024) {
            self.connections.shrink_to(2 * self.connections.len());
            self.by_id.shrink_to(2 * self.connections.len());
        }
        self.full = false;
        self.pass = self.pass.wrapping_add(1);
    }

    /// Gives the sums of each metric series since the interval began, as [`FlowTable::flush`] would now; changes nothing.
    /// Connections that it would take for lost are still open here.
    pub fn usage_so_far(&self, usage: impl FnMut(&Usage<'_>)) {
        let mut sums = self.flows.sums.clone();
        for connection in self
            .connections
            .iter()
            .filter(|connection| !connection.lost)
        {
            let mut connection = *connection;
            resolve_role(&mut connection, &self.listeners);
            let port_shown = port_shown(&connection, &self.listeners);
            if connection.changed() {
                let change = Change {
                    delta: connection.pending(),
                    opened: connection.opening,
                    ..Change::default()
                };
                sums.add(&connection, port_shown, &change);
            }
            if connection.counts() {
                sums.add_active(&connection, port_shown);
            }
        }
        sums.take(&self.owners, usage);
    }

    /// Books the observations taken since the last call.
    pub fn book(&mut self, ledger: &Ledger) {
        let counts = std::mem::take(&mut self.counts);
        ledger.received(Stage::Netflow, counts.received);
        ledger.passed(Stage::Netflow, counts.passed);
        for (reason, count) in [
            (Reason::Unchanged, counts.unchanged),
            (Reason::Loopback, counts.loopback),
            (Reason::TableFull, counts.full),
        ] {
            ledger.dropped(Stage::Netflow, reason, count);
        }
    }

    /// What the table holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            connections: self.connections.len(),
            owners: self.owners.len(),
            listeners: self.listeners.len(),
            overflowed: self.flows.overflowed,
            ..self.stats
        }
    }

    fn late(&mut self) {
        self.stats.late += 1;
        self.counts.unchanged += 1;
    }

    /// Whether the observation is of a connection whose end was seen.
    fn has_ended(&self, state: &ConnectionState) -> bool {
        let opened = if state.opened_boot_time_ns == 0 {
            state.boot_time_ns
        } else {
            state.opened_boot_time_ns
        };
        self.ended
            .iter()
            .filter_map(|ended| ended.get(&state.id))
            .any(|ended| opened <= *ended)
    }

    fn remove(&mut self, number: usize) {
        let gone = self.connections.swap_remove(number);
        self.by_id.remove(&gone.id);
        if let Some(moved) = self.connections.get(number)
            && let Some(place) = self.by_id.get_mut(&moved.id)
        {
            *place = u32::try_from(number).unwrap_or(u32::MAX);
        }
    }
}

fn known_owner(owners: &Owners, connection: &Connection) -> bool {
    owners.get(connection.owner).owner.pid != 0
}

/// A listening port tells what the kernel did not; what was told stays, even when the listener goes away.
fn resolve_role(connection: &mut Connection, listeners: &Listeners) {
    if connection.role == Role::Unknown {
        connection.role = listeners.role(
            connection.transport,
            connection.netns,
            &connection.local,
            &connection.peer,
        );
    }
}

/// Whether the server's port may stand on metrics: well-known, or listened on by this host.
fn port_shown(connection: &Connection, listeners: &Listeners) -> bool {
    let port = connection.peer.port;
    port < 1024 || listeners.was_listened_on(connection.transport, port)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
