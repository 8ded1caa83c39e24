//! What the table tells of connections.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::model::netflow::{Direction, Endpoint, Listener, Process};

mod bounds;
mod endings;
mod grouping;
mod listeners;

const MS: u64 = 1_000_000;

pub(super) fn at(last: u8, port: u16) -> Endpoint {
    (Ipv4Addr::new(10, 0, 0, last), port).into()
}

/// An open outgoing TCP connection of process 7 that the program saw opening.
fn tcp(id: u64, sent: u64, received: u64) -> ConnectionState {
    ConnectionState {
        id,
        boot_time_ns: 100 * MS,
        opened_boot_time_ns: 50 * MS,
        role: Role::Client,
        local: at(1, 40_000 + u16::try_from(id).unwrap()),
        peer: at(2, 443),
        netns: 1,
        owner: owner(7),
        bytes_sent: sent,
        bytes_received: received,
        ..ConnectionState::default()
    }
}

fn udp(id: u64, sent: u64) -> ConnectionState {
    ConnectionState {
        transport: Transport::Udp,
        opened_boot_time_ns: 0,
        role: Role::Unknown,
        packets_sent: sent.div_ceil(1000),
        ..tcp(id, sent, 0)
    }
}

fn closed(state: ConnectionState) -> ConnectionState {
    ConnectionState {
        phase: Phase::Closed,
        boot_time_ns: state.boot_time_ns + 10 * MS,
        ..state
    }
}

fn owner(pid: u32) -> Owner {
    Owner {
        pid,
        ..Owner::default()
    }
}

/// A table with names of its own making: process `p<pid>`.
pub(super) struct Host {
    pub(super) table: FlowTable,
    people: HashMap<u32, Arc<Identity>>,
    asked: u32,
}

impl Host {
    pub(super) fn new(options: Options) -> Self {
        Self {
            table: FlowTable::new(options, Arc::default()),
            people: HashMap::new(),
            asked: 0,
        }
    }

    pub(super) fn see(&mut self, state: ConnectionState) {
        self.event(&KernelEvent::Connection(state));
    }

    pub(super) fn event(&mut self, event: &KernelEvent) {
        self.with_names(|table, names| table.apply(event, |owner, _| names(owner)));
    }

    fn with_names(
        &mut self,
        work: impl FnOnce(&mut FlowTable, &mut dyn FnMut(&Owner) -> Arc<Identity>),
    ) {
        let Self {
            table,
            people,
            asked,
        } = self;
        work(table, &mut |owner| {
            *asked += 1;
            let process = Process {
                pid: owner.pid,
                executable_name: format!("p{}", owner.pid),
                ..Process::default()
            };
            let identity = || {
                Arc::new(Identity {
                    process: process.into(),
                    ..Identity::default()
                })
            };
            people.entry(owner.pid).or_insert_with(identity).clone()
        });
    }

    fn listen(&mut self, transport: Transport, local: Endpoint, listening: bool) {
        self.event(&KernelEvent::Listener(Listener {
            transport,
            netns: 1,
            local,
            owner: owner(1),
            listening,
            ..Listener::default()
        }));
    }

    pub(super) fn flush(&mut self) -> Vec<NetflowRecord> {
        self.with_names(|table, names| table.settle(|owner, _| names(owner)));
        let mut records = Vec::new();
        self.table.flush(1, |record| records.push(record), |_| {});
        records
    }

    /// The only record of the interval.
    fn record(&mut self) -> NetflowRecord {
        let mut records = self.flush();
        assert_eq!(records.len(), 1, "{records:?}");
        records.remove(0)
    }

    /// Connections open at the end of the interval, by the metrics.
    fn active(&mut self) -> u64 {
        let mut active = 0;
        self.table.flush(1, |_| {}, |usage| active += usage.active);
        active
    }
}

fn host() -> Host {
    Host::new(Options::default())
}

/// Opened, closed, bytes written, bytes read.
fn numbers(record: &NetflowRecord) -> [u64; 4] {
    [
        record.tcp_established,
        record.tcp_closed,
        record.bytes_written,
        record.bytes_read,
    ]
}

#[test]
fn an_open_connection_is_told_once_and_then_by_difference() {
    let mut host = host();
    host.see(tcp(1, 10, 20));
    assert_eq!(numbers(&host.record()), [1, 0, 10, 20]);
    host.see(tcp(1, 15, 20));
    assert_eq!(numbers(&host.record()), [0, 0, 5, 0]);
    host.see(closed(tcp(1, 16, 22)));
    assert_eq!(numbers(&host.record()), [0, 1, 1, 2]);
    assert_eq!(host.table.stats().connections, 0);
}

#[test]
fn an_unchanged_connection_emits_nothing() {
    let mut host = host();
    host.see(tcp(1, 10, 20));
    host.record();
    host.see(tcp(1, 10, 20));
    assert_eq!(host.flush(), []);
}

#[test]
fn a_connection_opened_and_closed_inside_an_interval_is_told_whole() {
    let mut host = host();
    host.see(closed(tcp(1, 3, 4)));
    assert_eq!(numbers(&host.record()), [1, 1, 3, 4]);
}

#[test]
fn a_tuple_used_again_inside_an_interval_counts_each_time() {
    let mut host = host();
    host.see(closed(tcp(1, 1, 0)));
    host.see(ConnectionState {
        opened_boot_time_ns: 120 * MS,
        boot_time_ns: 130 * MS,
        ..closed(tcp(1, 2, 0))
    });
    assert_eq!(numbers(&host.record()), [2, 2, 3, 0]);
}

#[test]
fn an_id_used_again_without_a_close_is_two_connections() {
    let mut host = host();
    host.see(tcp(1, 5, 0));
    host.see(ConnectionState {
        opened_boot_time_ns: 60 * MS,
        ..tcp(1, 2, 0)
    });
    assert_eq!(numbers(&host.record()), [2, 1, 7, 0]);
    assert_eq!(host.table.stats().reused, 1);

    // Without times the tuple tells.
    host.see(ConnectionState {
        opened_boot_time_ns: 0,
        peer: at(9, 443),
        ..tcp(1, 100, 0)
    });
    assert_eq!(numbers(&host.record()), [0, 1, 0, 0]);
    assert_eq!(host.table.stats().preexisting, 1);
}

#[test]
fn what_a_connection_did_before_the_program_started_is_in_no_interval() {
    let old = |sent| ConnectionState {
        opened_boot_time_ns: 0,
        ..tcp(1, sent, 0)
    };
    let mut host = host();
    host.see(old(1_000_000));
    assert_eq!(host.flush(), [], "found, but it did nothing yet");
    assert_eq!(host.active(), 1);
    host.see(old(1_000_007));
    let record = host.record();
    assert_eq!(numbers(&record), [0, 0, 7, 0]);
    assert!(record.preexisting);
    host.see(closed(old(1_000_008)));
    assert_eq!(numbers(&host.record()), [0, 1, 1, 0]);
}

#[test]
fn counters_that_go_backwards_take_nothing_away() {
    let mut host = host();
    host.see(tcp(1, 10, 20));
    host.record();
    host.see(tcp(1, 4, 25));
    assert_eq!(numbers(&host.record()), [0, 0, 0, 5]);
    host.see(tcp(1, 12, 25));
    assert_eq!(numbers(&host.record()), [0, 0, 2, 0]);
}

#[test]
fn the_forgotten_port_of_a_closing_socket_is_remembered() {
    let mut host = Host::new(Options {
        group_by: GroupBy::Connection,
        ..Options::default()
    });
    host.see(tcp(1, 10, 0));
    host.see(closed(ConnectionState {
        local: at(1, 0),
        owner: Owner::default(),
        ..tcp(1, 11, 0)
    }));
    let record = host.record();
    assert_eq!(record.local, at(1, 40_001));
    assert_eq!(record.process.pid, 7);
    assert_eq!(numbers(&record), [1, 1, 11, 0]);
}

#[test]
fn an_observation_overtaken_by_the_end_is_ignored() {
    let mut host = host();
    host.see(closed(tcp(1, 10, 0)));
    host.see(tcp(1, 9, 0));
    assert_eq!(numbers(&host.record()), [1, 1, 10, 0]);
    host.see(tcp(1, 9, 0));
    assert_eq!(host.flush(), [], "also in the next interval");
    assert_eq!((host.table.stats().late, host.active()), (2, 0));
}
