//! Which connections are one flow, and what is written of the ports.

use super::*;

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
fn clients_that_the_kernel_merged_are_written_as_merged() {
    let mut host = Host::new(Options {
        mask_ports_from: 1024,
        ..Options::default()
    });
    host.see(ConnectionState {
        role: Role::Server,
        local: at(1, 53),
        peer: at(2, 0),
        ..udp(1, 10)
    });
    let record = host.record();
    assert!(record.client_port_masked, "{record:?}");
    assert_eq!((record.local, record.peer), (at(1, 53), at(2, 0)));
}
