//! Which end began: told by listening ports, on this host and before the program started.

use super::*;

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
        (Direction::Unknown, Role::Unknown)
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
        ..Listener::default()
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
fn ports_that_are_both_listened_on_tell_nothing() {
    let mut host = host();
    let state = |id, received| ConnectionState {
        opened_boot_time_ns: 0,
        role: Role::Unknown,
        local: at(1, 5000),
        peer: at(1, 6000),
        ..tcp(id, 0, received)
    };
    host.listen(Transport::Tcp, at(1, 5000), true);
    host.listen(Transport::Tcp, (Ipv4Addr::UNSPECIFIED, 6000).into(), true);
    host.see(state(1, 5));
    host.see(state(1, 6));
    let record = host.record();
    assert_eq!(
        (record.direction, record.role),
        (Direction::Unknown, Role::Unknown)
    );
    assert!(
        !record.client_port_masked,
        "no port is known as the client's"
    );
    assert_eq!((record.local.port, record.peer.port), (5000, 6000));
}

#[test]
fn udp_counts_from_first_sight_and_knows_a_bound_port() {
    let mut host = host();
    host.see(udp(1, 2500));
    let record = host.record();
    assert_eq!((record.bytes_written, record.packets_written), (2500, 3));
    assert_eq!((record.tcp_established, record.tcp_closed), (0, 0));
    assert_eq!(record.direction, Direction::Unknown);
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
