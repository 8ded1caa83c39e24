//! What the table tells of connections.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::model::netflow::{Direction, Endpoint, Listener, Process};

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

    fn event(&mut self, event: &KernelEvent) {
        let Self {
            table,
            people,
            asked,
        } = self;
        table.apply(event, |owner, _| {
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
        }));
    }

    fn flush(&mut self) -> Vec<NetflowRecord> {
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

#[test]
fn connections_of_one_service_are_merged_and_their_rtt_averaged() {
    let mut host = host();
    for (id, rtt_us, rtt_var_us) in [(1, 100, 10), (2, 300, 30), (3, 0, 0)] {
        host.see(ConnectionState {
            rtt_us,
            rtt_var_us,
            retransmits: 1,
            ..tcp(id, 10, 1)
        });
    }
    let record = host.record();
    assert_eq!(numbers(&record), [3, 0, 30, 3]);
    assert_eq!(
        (record.rtt_us, record.rtt_var_us, record.retransmits),
        (200, 20, 3)
    );
    assert!(record.client_port_masked);
    assert_eq!((record.local, record.peer), (at(1, 0), at(2, 443)));
}

#[test]
fn the_peer_port_is_merged_away_when_incoming() {
    let mut host = host();
    for id in 1..=2 {
        host.see(ConnectionState {
            role: Role::Server,
            local: at(1, 80),
            peer: at(2, 50_000 + u16::try_from(id).unwrap()),
            ..tcp(id, 1, 1)
        });
    }
    let record = host.record();
    assert_eq!(record.direction, Direction::Incoming);
    assert_eq!((record.local, record.peer), (at(1, 80), at(2, 0)));
    assert_eq!(record.tcp_established, 2);
}

#[test]
fn other_processes_and_namespaces_are_other_flows() {
    let mut host = host();
    host.see(tcp(1, 1, 0));
    host.see(ConnectionState {
        owner: owner(8),
        ..tcp(2, 1, 0)
    });
    host.see(ConnectionState {
        netns: 2,
        ..tcp(3, 1, 0)
    });
    assert_eq!(host.flush().len(), 3);
}

#[test]
fn low_client_ports_are_kept_when_only_high_ones_are_masked() {
    let mut host = Host::new(Options {
        mask_ports_from: 40_002,
        ..Options::default()
    });
    for id in 1..=3 {
        host.see(tcp(id, 1, 0));
    }
    let mut ports: Vec<_> = host
        .flush()
        .iter()
        .map(|record| (record.local.port, record.client_port_masked))
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [(0, true), (40_001, false)]);
}

#[test]
fn each_connection_keeps_its_port_when_grouped_by_connection() {
    let mut host = Host::new(Options {
        group_by: GroupBy::Connection,
        ..Options::default()
    });
    host.see(tcp(1, 1, 0));
    host.see(tcp(2, 1, 0));
    let records = host.flush();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| !record.client_port_masked));
}

#[test]
fn a_listening_port_makes_old_connections_incoming() {
    let accepted = |id, received| ConnectionState {
        opened_boot_time_ns: 0,
        role: Role::Unknown,
        local: at(1, 8080),
        peer: at(2, 50_000),
        ..tcp(id, 0, received)
    };
    let mut host = host();
    host.see(accepted(1, 5));
    // The listener may be seen after the connection.
    host.listen(Transport::Tcp, (Ipv4Addr::UNSPECIFIED, 8080).into(), true);
    host.see(accepted(1, 6));
    let record = host.record();
    assert_eq!(
        (record.direction, record.role),
        (Direction::Incoming, Role::Server)
    );
    // And it stays so when the listener goes away.
    host.listen(Transport::Tcp, (Ipv4Addr::UNSPECIFIED, 8080).into(), false);
    host.see(accepted(1, 7));
    assert_eq!(host.record().direction, Direction::Incoming);
    // Of another connection nothing tells any more.
    host.see(accepted(2, 5));
    host.see(accepted(2, 6));
    let record = host.record();
    assert_eq!(
        (record.direction, record.role),
        (Direction::Outgoing, Role::Unknown)
    );
}

#[test]
fn a_listener_of_another_namespace_address_or_transport_tells_nothing() {
    let old = |received| ConnectionState {
        opened_boot_time_ns: 0,
        role: Role::Unknown,
        local: at(1, 8080),
        peer: at(2, 50_000),
        ..tcp(1, 0, received)
    };
    let mut host = host();
    host.listen(Transport::Udp, at(1, 8080), true);
    host.listen(Transport::Tcp, at(3, 8080), true);
    host.event(&KernelEvent::Listener(Listener {
        transport: Transport::Tcp,
        netns: 2,
        local: at(1, 8080),
        owner: owner(1),
        listening: true,
    }));
    host.see(old(1));
    host.see(old(2));
    assert_eq!(host.record().role, Role::Unknown);
}

#[test]
fn a_client_of_a_local_listener_is_a_client() {
    let mut host = host();
    host.listen(Transport::Tcp, at(2, 443), true);
    host.see(ConnectionState {
        role: Role::Unknown,
        ..tcp(1, 1, 0)
    });
    assert_eq!(host.record().role, Role::Client);
}

#[test]
fn udp_counts_from_first_sight_and_knows_a_bound_port() {
    let mut host = host();
    host.see(udp(1, 2500));
    let record = host.record();
    assert_eq!((record.bytes_written, record.packets_written), (2500, 3));
    assert_eq!((record.tcp_established, record.tcp_closed), (0, 0));
    assert_eq!(record.direction, Direction::Outgoing);
    assert!(!record.preexisting);

    host.listen(Transport::Udp, at(1, 5353), true);
    host.see(ConnectionState {
        local: at(1, 5353),
        peer: at(2, 999),
        ..udp(2, 10)
    });
    let record = host.record();
    assert_eq!(
        (record.direction, record.role),
        (Direction::Incoming, Role::Server)
    );
    host.see(closed(udp(1, 2501)));
    let record = host.record();
    assert_eq!((record.bytes_written, record.tcp_closed), (1, 0));
}

#[test]
fn failures_are_told_by_reason_and_open_nothing() {
    let mut host = host();
    for (id, error) in [
        (1, Some(ConnectError::Refused)),
        (2, Some(ConnectError::Refused)),
        (3, Some(ConnectError::TimedOut)),
        (4, None),
    ] {
        host.see(ConnectionState {
            phase: Phase::Failed,
            role: Role::Unknown,
            error,
            ..tcp(id, 0, 0)
        });
    }
    let record = host.record();
    assert_eq!(numbers(&record), [0, 0, 0, 0]);
    assert_eq!(
        record.failed,
        [
            (ConnectError::Refused, 2),
            (ConnectError::TimedOut, 1),
            (ConnectError::Other, 1)
        ]
    );
    assert_eq!(record.role, Role::Client);
}

#[test]
fn a_failure_takes_back_an_opening_that_was_not_told() {
    let mut host = host();
    host.see(tcp(1, 0, 0));
    host.see(ConnectionState {
        phase: Phase::Failed,
        error: Some(ConnectError::Unreachable),
        ..tcp(1, 0, 0)
    });
    assert_eq!(numbers(&host.record()), [0, 0, 0, 0]);
    // One that was told as open is closed too, so that the open ones can be counted.
    host.see(tcp(2, 0, 0));
    host.record();
    host.see(ConnectionState {
        phase: Phase::Failed,
        ..tcp(2, 0, 0)
    });
    assert_eq!(numbers(&host.record()), [0, 1, 0, 0]);
}

#[test]
fn a_reset_connection_is_closed_and_failed() {
    let mut host = host();
    host.see(ConnectionState {
        error: Some(ConnectError::Reset),
        ..closed(tcp(1, 5, 0))
    });
    let record = host.record();
    assert_eq!(numbers(&record), [1, 1, 5, 0]);
    assert_eq!(record.failed, [(ConnectError::Reset, 1)]);
}

#[test]
fn a_connection_that_vanishes_is_told_as_closed_once() {
    let mut host = host();
    host.see(tcp(1, 5, 0));
    assert_eq!(numbers(&host.record()), [1, 0, 5, 0]);
    for _ in 0..5 {
        assert_eq!(host.flush(), []);
    }
    assert_eq!(numbers(&host.record()), [0, 1, 0, 0]);
    assert_eq!((host.table.stats().expired, host.active()), (1, 0));
    // It comes back: what was told is not told again.
    host.see(tcp(1, 9, 0));
    assert_eq!(numbers(&host.record()), [1, 0, 4, 0]);
    assert_eq!((host.table.stats().revived, host.active()), (1, 1));
}

#[test]
fn the_end_of_a_vanished_connection_brings_its_last_bytes_and_no_second_end() {
    let mut host = host();
    host.see(tcp(1, 5, 0));
    for _ in 0..7 {
        host.flush();
    }
    host.see(closed(tcp(1, 9, 0)));
    let record = host.record();
    assert_eq!(record.bytes_written, 4);
    assert_eq!(record.tcp_established, record.tcp_closed);
}

#[test]
fn vanished_connections_are_forgotten_in_the_end_and_first_when_room_is_short() {
    let mut host = Host::new(Options {
        max_connections: 2,
        expire_after_passes: 1,
        ..Options::default()
    });
    host.see(tcp(1, 0, 0));
    host.flush();
    host.flush();
    assert_eq!(host.table.stats().connections, 1);
    host.see(tcp(2, 0, 0));
    host.see(tcp(3, 0, 0));
    assert_eq!(host.table.stats().connections, 2, "no room for the third");
    host.flush();
    assert_eq!(host.table.stats().connections, 1);
    for _ in 0..=LOST_FACTOR {
        host.flush();
    }
    assert_eq!(host.table.stats().connections, 0);
}

#[test]
fn one_of_several_owners_is_kept_while_it_holds_the_socket() {
    let by = |pid, sent| ConnectionState {
        owner: owner(pid),
        ..tcp(1, sent, 0)
    };
    let mut host = host();
    for sent in 0..3 {
        host.see(by(7, sent));
        host.see(by(9, sent));
        assert_eq!(host.record().process.pid, 7);
    }
    assert_eq!(host.asked, 1);
    // 7 exits: the child is told once it is clear that nobody else is left.
    host.see(by(9, 3));
    assert_eq!(host.record().process.pid, 7);
    host.see(by(9, 4));
    let record = host.record();
    assert_eq!((record.process.pid, record.bytes_written), (9, 1));
}

#[test]
fn an_owner_that_becomes_known_late_gets_the_whole_interval() {
    let mut host = host();
    host.see(ConnectionState {
        owner: Owner::default(),
        ..tcp(1, 5, 0)
    });
    host.see(tcp(1, 6, 0));
    let record = host.record();
    assert_eq!((record.process.pid, record.bytes_written), (7, 6));
}

#[test]
fn loopback_can_be_left_out() {
    let mut host = Host::new(Options {
        loopback: false,
        ..Options::default()
    });
    for address in ["127.0.0.9:80", "[::1]:80"] {
        host.see(ConnectionState {
            peer: address.parse::<std::net::SocketAddr>().unwrap().into(),
            ..tcp(1, 1, 1)
        });
    }
    assert_eq!(host.flush(), []);
    let ledger = Ledger::default();
    host.table.book(&ledger);
    assert_eq!(
        ledger.entry(Stage::Netflow).dropped,
        [(Reason::Filtered, 2)]
    );
}

#[test]
fn beyond_the_flows_one_row_of_each_transport_keeps_the_totals() {
    let mut host = Host::new(Options {
        group_by: GroupBy::Connection,
        max_flows: 2,
        ..Options::default()
    });
    for id in 1..=5 {
        host.see(tcp(id, 10, 1));
    }
    host.see(udp(6, 7));
    let records = host.flush();
    assert_eq!(records.len(), 4);
    let overflow: Vec<_> = records.iter().filter(|record| record.overflow).collect();
    assert_eq!(numbers(overflow[0]), [3, 0, 30, 3]);
    assert_eq!(overflow[0].peer, Endpoint::default());
    assert_eq!(overflow[0].process.pid, 0);
    assert_eq!(overflow[1].bytes_written, 7);
    assert_eq!(host.table.stats().overflowed, 4);
}

#[test]
fn a_connection_that_had_no_room_is_told_whole_when_it_closes() {
    let mut host = Host::new(Options {
        max_connections: 1,
        ..Options::default()
    });
    host.see(tcp(1, 1, 0));
    host.see(tcp(2, 5, 0));
    host.see(tcp(2, 6, 0));
    assert_eq!(numbers(&host.record()), [1, 0, 1, 0]);
    host.see(closed(tcp(2, 9, 0)));
    assert_eq!(numbers(&host.record()), [1, 1, 9, 0]);
    let ledger = Ledger::default();
    host.table.book(&ledger);
    let entry = ledger.entry(Stage::Netflow);
    assert_eq!(entry.dropped, [(Reason::TableFull, 2)]);
    assert_eq!((entry.received, entry.held()), (4, 0));
}

#[test]
fn server_ports_on_metrics_are_well_known_or_listened_on_here() {
    let mut host = host();
    host.listen(Transport::Tcp, at(9, 5000), true);
    for (id, port) in [(1, 443), (2, 5000), (3, 6000)] {
        host.see(ConnectionState {
            peer: at(2, port),
            ..tcp(id, 1, 0)
        });
    }
    let mut ports = Vec::new();
    host.table.flush(
        1,
        |_| {},
        |usage| ports.push((usage.server_port, usage.active)),
    );
    assert_eq!(ports, [(Some(443), 1), (Some(5000), 1), (None, 1)]);
}

#[test]
fn owners_without_connections_are_forgotten() {
    let mut host = host();
    for pid in 1..100 {
        host.see(closed(ConnectionState {
            owner: owner(pid),
            ..tcp(u64::from(pid), 1, 0)
        }));
    }
    host.flush();
    host.flush();
    assert_eq!(host.table.stats().owners, 1);
    host.see(tcp(1, 1, 0));
    assert_eq!(host.record().process.executable_name, "p7");
}

#[test]
fn the_memory_of_a_peak_is_given_back() {
    let mut host = host();
    for id in 1..20_000 {
        host.see(tcp(id, 1, 0));
    }
    let peak = host.table.connections.capacity();
    for id in 1..20_000 {
        host.see(closed(tcp(id, 1, 0)));
    }
    host.flush();
    assert!(host.table.connections.capacity() < peak / 4);
    host.see(tcp(20_000, 1, 0));
    assert_eq!(host.table.stats().connections, 1);
}
