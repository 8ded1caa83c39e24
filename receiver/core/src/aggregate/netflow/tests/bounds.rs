//! Owners, what is left out, and what happens beyond the bounds of the table.

use super::*;
use crate::model::netflow::Overflow;

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
    // 7 exits: from the next pass on the connection is its child's.
    host.see(by(9, 3));
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
        [(Reason::Loopback, 2)]
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
fn what_had_no_room_in_the_kernel_is_in_the_overflow_row_and_the_overflow_series() {
    let mut host = host();
    host.see(udp(1, 7));
    for _ in 0..2 {
        host.event(&KernelEvent::Overflow(Overflow {
            transport: Transport::Udp,
            bytes_sent: 100,
            bytes_received: 50,
            packets_sent: 3,
            packets_received: 2,
        }));
    }
    let (mut records, mut series) = (Vec::new(), Vec::new());
    host.table.flush(
        1,
        |record| records.push(record),
        |usage| {
            if usage.overflow {
                series.push([
                    usage.bytes_sent,
                    usage.bytes_received,
                    usage.packets_sent,
                    usage.packets_received,
                ]);
            }
        },
    );
    assert_eq!(series, [[200, 100, 6, 4]]);
    let rows: Vec<_> = records.iter().filter(|record| record.overflow).collect();
    assert_eq!((records.len(), rows.len()), (2, 1));
    assert_eq!(
        [
            rows[0].bytes_written,
            rows[0].bytes_read,
            rows[0].packets_written,
            rows[0].packets_read
        ],
        [200, 100, 6, 4]
    );
    // Reported once.
    assert_eq!(host.flush(), []);
    let ledger = Ledger::default();
    host.table.book(&ledger);
    assert_eq!(ledger.entry(Stage::Netflow).held(), 0);
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
